/* From what a person types to a model on disk. Any thread. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

#define MODEL_DEFAULT_NAME "animals"
#define MODEL_ROOTS 4

/* The folders that hold model folders, best first: the person's own (directory.h), those installed beside the
 * program
 * (../share/guichet/models), those of the source tree it was built in (../models). Only those that exist. */
struct model_roots {
    char *paths[MODEL_ROOTS];
    int count;
};
void model_roots_find(struct model_roots *ret);
void model_roots_release(struct model_roots *roots);

/* A path of a folder or an .onnx file, or a name to look up in the roots; either with ":variant" behind it.
 * NULL is the default model. Sets *ret_path, and *ret_variant (NULL where there is none): malloc'ed, for
 * model_load. ERROR_NOT_FOUND says where it was looked for. */
bool model_find(const char *name, char **ret_path, char **ret_variant, struct error *error);
