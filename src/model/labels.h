/* Inside model/: what a model's classes are called. */
#pragma once
#include "base/arena.h"
#include "base/error.h"

#define IMAGENET_CLASSES 1000
extern const char *const imagenet_labels[IMAGENET_CLASSES];

struct label_language {
    const char *code;   /* "fr" */
    const char **names; /* [labels.count], NULL where it has none */
};

/* Lives in the arena it was loaded with. */
struct labels {
    int count;
    const char **names;               /* [count] short, English; never NULL */
    const char **full;                /* [count] as id2label has them, NULL where there is none */
    const char **wnids;               /* [count] WordNet ids, NULL where there is none */
    struct label_language *languages; /* [language_count] */
    int language_count;
};

/* config.json's id2label and id2wnid, and labels_<language>.json, of a folder. id2label may
 * be a list. Without labels, 1000 (or 1001, with a background first)
 * classes are ImageNet's, and others "class 17". ERROR_MODEL names file and field. */
bool labels_load(const char *folder, int classes, struct arena *arena, struct labels *ret,
                 struct error *error);

/* The class of a short or full name, one of its comma-separated synonyms, or a WordNet id; '_' stands for a
 * space and case does not matter. -1 where there is none. */
int labels_find(const struct labels *labels, const char *name);
