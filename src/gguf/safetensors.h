/* Folders of safetensors files, as Hugging Face's models come: tensors over memory maps.
 * https://github.com/huggingface/safetensors#format
 *
 * A hostile file costs an error: headers are JSON of bounded size and depth, offsets and shapes are checked
 * against what the file has. Immutable after opening: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linear/block_type.h"

struct safetensor {
    const char *name;
    enum block_type type; /* F32, F16 or BF16 */
    int rank;             /* 0 … 4 */
    uint64_t dims[4];     /* outermost first, as PyTorch has them */
    const uint8_t *bytes; /* [size]; of no alignment */
    size_t size;
};

struct safetensors;

/* The files of a folder: those that model.safetensors.index.json names, else model.safetensors. ERROR_MODEL
 * names the file and what is wrong; ERROR_NOT_FOUND: there are none. */
struct safetensors *safetensors_open(const char *folder, struct error *error);
/* One file from memory, which must outlive it; `name` is for messages. */
struct safetensors *safetensors_open_memory(const char *name, const uint8_t *bytes, size_t size,
                                            struct error *error);
void safetensors_free(struct safetensors *tensors);
size_t safetensors_count(const struct safetensors *tensors);
const struct safetensor *safetensors_get(const struct safetensors *tensors, size_t index); /* by name */
/* NULL: there is none of that name. */
const struct safetensor *safetensors_find(const struct safetensors *tensors, const char *name);
