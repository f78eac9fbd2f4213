/* Where the files of a model are, and so of which kind it is. Any thread. */
#pragma once
#include <stdbool.h>

#include "base/error.h"
#include "model/language_files.h"

enum model_kind {
    MODEL_NETWORK,  /* ONNX: a classifier of photos, or any other network; its inputs and outputs tell */
    MODEL_LANGUAGE, /* GGUF */
};

struct model_files {
    enum model_kind kind;
    char *network; /* the ONNX file; of a language model the GGUF file, or the first that it was split into */
    char
        *folder; /* where config.json, preprocessor_config.json, guichet.json and the labels are looked for */
    char *name;  /* NAME or NAME:VARIANT: the folder's, or the file's where that is not model*.onnx */
};

/* `path`: a folder, an .onnx or .gguf file, or one that begins as GGUF does. A folder with .onnx
 * files is a network; one without, and with .gguf files, a language model. `variant`: "int8", "Q4_0" and the
 * like; NULL: network_files_usual, or the language model's usual file: guichet.json's "variant", else
 * language_files_default. ERROR_NOT_FOUND names the file that is missing, and what there is. */
bool model_files_find(const char *path, const char *variant, struct model_files *ret, struct error *error);
void model_files_release(struct model_files *files);

/* Does the folder hold a model in another's format? *ret_what names it, and the remedy. */
bool model_folder_has_foreign(const char *folder, const char **ret_what);

/* Whose verbs these are: ERROR_INVALID, with the verbs to use, where the model is of another kind. */
bool model_files_check(const struct model_files *files, enum model_kind kind, struct error *error);

/* Does the file begin as GGUF does? */
bool model_file_is_gguf(const char *path);

/* The .gguf files of a folder. False when memory is out; a folder that cannot be read has none. */
bool model_folder_language_files(const char *folder, struct language_files *ret);
/* The file of a list of at least one that is meant without a variant. NULL where guichet.json is damaged, or
 * names a file that is missing. */
const struct language_file *model_folder_usual_file(const char *folder, const struct language_files *list,
                                                    struct error *error);
