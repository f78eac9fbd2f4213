/* What an open GGUF holds. Used inside gguf/ only. */
#pragma once
#include "base/file.h"
#include "gguf/cursor.h"

/* Of a name, for a message: no more than fits a line. */
#define SHOWN(text) (int)((text).size < 80 ? (text).size : 80), (text).bytes

struct gguf {
    char *name;
    struct file_map *maps; /* [map_count]; none for memory of the caller */
    size_t map_count;
    struct gguf_value *values; /* [value_count], sorted; those of the first file */
    size_t value_count;
    struct gguf_tensor *tensors; /* [tensor_count], sorted */
    size_t tensor_count;
};

int gguf_text_compare(struct gguf_text a, struct gguf_text b);
/* Sort the keys; ERROR_MODEL where one comes twice. */
bool gguf_sort_values(struct gguf *gguf, struct error *error);
