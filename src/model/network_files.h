/* The ONNX files of a folder: which of them is the network, and what the others are called. Any thread.
 *
 * Looked for in the folder itself, in onnx/ (Hugging Face) and in the subfolder with the highest number
 * (NAME/3/model.onnx, as Triton, OpenVINO's server and TensorFlow Serving have it); of files that are called
 * the same, the first counts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/name.h"

struct network_file {
    char
        variant[MODEL_NAME_PART + 1]; /* "" of model.onnx, "int8" of model_int8.onnx, "resnet" of resnet.onnx;
                                         "" also where that cannot be a name */
    char *path;                       /* from the folder: "onnx/model_int8.onnx" */
    uint64_t bytes;
};

/* A zeroed struct is an empty list. */
struct network_files {
    struct network_file *files; /* [count], sorted by path */
    size_t count;
};

/* False when memory is out; a folder that cannot be read has none. */
bool network_files_read(const char *folder, struct network_files *ret);
void network_files_release(struct network_files *list);

/* The one that is meant where none is named: model.onnx; the only one; else model_quantized.onnx. NULL: none
 * is. */
const struct network_file *network_files_usual(const struct network_files *list);
/* The file of a variant; "int8" is also model_quantized.onnx. NULL: there is none. */
const struct network_file *network_files_find(const struct network_files *list, const char *variant);
/* "a.onnx, b.onnx" for messages, cut where it does not fit. */
void network_files_name(const struct network_files *list, char *ret, size_t size);

/* The subfolder of `folder` with the highest number: "3"; "" where there is none. */
void network_files_version(const char *folder, char *ret, size_t size);
