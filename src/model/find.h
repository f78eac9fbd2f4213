/* From what a user types to a model on disk. Any thread. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "model/folder.h"

#define MODEL_DEFAULT_NAME "animals"
#define MODEL_DEFAULT_LANGUAGE "tales"
#define MODEL_ROOTS 4

/* The directories of model folders that exist, in the order in which they are searched: the user's own
 * (directory.h), the installed one (../share/guichet/models from the program), and the source tree's
 * (../models). */
struct model_roots {
    char *paths[MODEL_ROOTS];
    int count;
};
void model_roots_find(struct model_roots *ret);
void model_roots_release(struct model_roots *roots);

/* `name`: the path of a folder, an .onnx or a .gguf file, or a name to look up in the roots, each perhaps
 * with
 * ":variant"; NULL: the default model. *ret_path and *ret_variant (NULL where there is none) are for
 * model_load; malloc'ed. ERROR_NOT_FOUND: there is no such model. */
bool model_find(const char *name, char **ret_path, char **ret_variant, struct error *error);
/* The same, to the files (folder.h). */
bool model_find_files(const char *name, struct model_files *ret, struct error *error);

/* The name of the language model that is meant where none is named: `tales` where it is installed, else the
 * first of the roots, by name. malloc'ed; NULL: there is none, or memory is out. */
char *model_find_language(void);
