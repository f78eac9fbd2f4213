/* Inside model/: where the files of a model lie. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct model_files {
    char *network; /* the ONNX file */
    char *folder;  /* where config.json, preprocessor_config.json and the labels are looked for */
    char *name;    /* the folder's name (or the file's, where that says more), ":variant" behind it */
};

/* `path`: a folder or an .onnx file. `variant`: NULL, or "int8" and the like. ERROR_NOT_FOUND names what was
 * looked for. */
bool model_files_find(const char *path, const char *variant, struct model_files *ret, struct error *error);
void model_files_release(struct model_files *files);
