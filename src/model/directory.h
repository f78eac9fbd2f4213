/* Where a person's models live, and what a model may be called. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* $GUICHET_MODELS, else $XDG_DATA_HOME/guichet/models, else ~/.local/share/guichet/models. malloc'ed; NULL
 * when there is neither a variable nor a home (or no memory). */
char *model_directory_default(void);

/* A name that is safe as a folder, in an address and in a label of a metric: letters, digits, '-', '_' and
 * '.', beginning with a letter or digit, at most MODEL_NAME_BYTES - 1 of them. */
#define MODEL_NAME_BYTES 65
bool model_name_valid(const char *name);

/* model_int8.onnx is the variant "int8". */
struct model_variant {
    char *name;
    uint64_t bytes; /* of its network, and of what lies beside all of them */
};

/* A model folder as it lies on the disk; nothing of it is loaded. Bytes leave out what bake wrote. */
struct model_folder {
    char *name, *path;
    uint64_t bytes;                 /* as a variant's, of the plain network */
    struct model_variant *variants; /* [variant_count], sorted by name */
    size_t variant_count;
    int64_t changed; /* newest modification time of its files, nanoseconds since 1970 */
};

struct model_folder_list {
    struct model_folder *folders; /* [count], sorted by name */
    size_t count;
};

/* The folders below `directory` that hold model.onnx or onnx/model.onnx and have a valid name; folders with
 * other names (a pull under way begins with a dot) are not looked at. No such directory: an empty list. At
 * most LIMIT_MODEL_FOLDERS. Any thread. */
bool model_directory_list(const char *directory, struct model_folder_list *ret, struct error *error);
void model_folder_list_release(struct model_folder_list *list);
