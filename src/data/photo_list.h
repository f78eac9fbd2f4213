/* The photos of a folder and their classes; nothing is decoded. Any thread. */
#pragma once
#include <stddef.h>

#include "base/error.h"
#include "model/model.h"

#define LABEL_OFFSET_AUTO (-2147483647 - 1) /* 1 where the model's first class is a background, else 0 */

/* Where photos and their classes are looked for. */
struct photo_source {
    const char *folder; /* photos right in it, or in folders called as the model calls its classes */
    const char *labels; /* lines "photo <tab> class"; NULL: folder/labels.tsv, where that names photos */
    int label_offset;   /* added to the numbers of such classes */
};

struct photo_file {
    char *name;      /* relative to the folder, or absolute where a list says so */
    int class_index; /* as the model counts; -1: not known */
};

struct photo_list {
    char *folder;
    struct photo_file *files; /* [count], sorted by name */
    size_t count;
    char **unknown; /* [unknown_count] folders that are no class of the model */
    size_t unknown_count;
    int label_offset; /* that was added to the numbers of a list */
};

/* Every image (.jpg .jpeg .png .webp) right in the folder and in the folders in it, its class set where it is
 * known; without a model none is. ERROR_NOT_FOUND: no such folder, or no image in it; ERROR_INVALID: a list
 * that names no class; ERROR_TOO_LARGE: more than LIMIT_PHOTOS. */
bool photo_list_read(const struct photo_source *source, const struct model *model, struct photo_list *ret,
                     struct error *error);

/* Only photos with a class: all that the list of classes names, wherever they are, or those in folders that
 * are a class. ERROR_NOT_FOUND: there are none. */
bool photo_list_read_labelled(const struct photo_source *source, const struct model *model,
                              struct photo_list *ret, struct error *error);
void photo_list_release(struct photo_list *list);

/* Keep `limit` of the photos (0: all), evenly spread, so that every class keeps its share. */
void photo_list_thin(struct photo_list *list, size_t limit);

/* A file's path, malloc'ed; NULL when memory is out. */
char *photo_list_path(const struct photo_list *list, size_t index);
