/* Where the files of a model are. Any thread. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct model_files {
    char *network; /* the ONNX file */
    char *folder;  /* where config.json, preprocessor_config.json and the labels are looked for */
    char *name;    /* NAME or NAME:VARIANT: the folder's, or the file's where that is not model*.onnx */
};

/* `path`: a folder or an .onnx file. `variant`: "int8" and the like; NULL: the plain network. ERROR_NOT_FOUND
 * names the file that is missing. */
bool model_files_find(const char *path, const char *variant, struct model_files *ret, struct error *error);
void model_files_release(struct model_files *files);
