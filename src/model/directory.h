/* The directory of a user's models, and what is in it. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/folder.h"

/* $GUICHET_MODELS, else $XDG_DATA_HOME/guichet/models, else ~/.local/share/guichet/models. malloc'ed; NULL
 * where none of the variables is set, or memory is out. */
char *model_directory_default(void);

/* model_int8.onnx is the variant "int8"; stories-Q4_0.gguf "Q4_0", where there are several such files. */
struct model_variant {
    char *name;
    uint64_t bytes; /* of its network, and of the files that all variants share */
};

/* A model folder on the disk; nothing of it is loaded. Sizes leave out what bake wrote. */
struct model_folder {
    enum model_kind kind;
    char *name, *path;
    uint64_t bytes;                 /* of what is meant without a variant: as a variant's */
    struct model_variant *variants; /* [variant_count], sorted by name */
    size_t variant_count;
    char *usual;    /* the variant that is meant where none is named; NULL: none of them */
    uint64_t stamp; /* see model_folder_stamp */
};

struct model_folder_list {
    struct model_folder *folders; /* [count], sorted by name */
    size_t count;
};

/* The folders in `directory` that have networks (network_files.h) or .gguf files, or another's model, which
 * cannot be loaded, so that it is told of; names that begin with a dot (an unfinished pull) are ignored.
 * Where a folder's name cannot be a model's ("my cats"), the model is called by what is left of it
 * ("my-cats"). No such directory: an empty list. ERROR_TOO_LARGE: more than LIMIT_MODEL_FOLDERS. */
bool model_directory_list(const char *directory, struct model_folder_list *ret, struct error *error);
void model_folder_list_release(struct model_folder_list *list);

/* A number that differs after any of the folder's files was replaced, written to, added or removed: it is
 * made of their names, sizes, times and inodes. What bake wrote does not count, nor what begins with a dot. 0
 * where the folder cannot be read. */
uint64_t model_folder_stamp(const char *path);
