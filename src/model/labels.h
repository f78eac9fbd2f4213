/* Inside model/: the names of a model's classes. Any thread. */
#pragma once
#include "base/arena.h"
#include "base/error.h"

#define IMAGENET_CLASSES 1000
extern const char *const imagenet_labels[IMAGENET_CLASSES];
extern const char *const imagenet_labels_fr[IMAGENET_CLASSES]; /* no two alike */

struct label_language {
    const char *code;   /* "fr" */
    const char **names; /* [labels.count], NULL where it has none */
};

/* Belongs to the arena that it was loaded into. */
struct labels {
    int count;
    const char *source; /* the file and field that they are from, or what is assumed */
    const char **names; /* [count] English; never NULL. Short where the full one is certain to be a
                           list of synonyms, and no other class has the same short one */
    const char **full;  /* [count] as id2label has them, NULL where there is none */
    const char **wnids; /* [count] WordNet ids, NULL where there is none */
    const char *
        *imagenet; /* [count] numbers of ImageNet's classes by id2imagenet, NULL where there is none */
    struct label_language *languages; /* [language_count] */
    int language_count;
    int imagenet_shift; /* classes before ImageNet's 1000 (0, or 1: "background"); -1: they are others */
};

/* From id2label (an object or a list), else timm's label_names, a list `labels` or label2id, and id2wnid and
 * id2imagenet of the folder's config.json, and its labels_<language>.json. Without labels, 1000 classes (or
 * 1001, the first being "background") are ImageNet's, and others "class 17". ImageNet's classes have French
 * names in any case. ERROR_MODEL names the file and a field that is wrong. */
bool labels_load(const char *folder, int classes, struct arena *arena, struct labels *ret,
                 struct error *error);

/* The class with this WordNet id, short or full name, or synonym (where the label is a list of them); '_' is
 * a space, and case does not matter. -1 where there is none. */
int labels_find(const struct labels *labels, const char *name);
