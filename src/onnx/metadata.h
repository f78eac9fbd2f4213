/* The metadata of an ONNX file: what its exporter wrote beside the network. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"

struct onnx_property {
    const char *key, *value; /* NUL-terminated, never NULL */
};

struct onnx_metadata {
    struct onnx_property *properties; /* [count], in the file's order; in the arena */
    size_t count;
};

/* Read only the metadata_props of the file, at most LIMIT_METADATA of LIMIT_METADATA_BYTES each; longer ones
 * are left out. ERROR_MODEL names the byte where the file is damaged. */
bool onnx_metadata_read(const char *path, struct arena *arena, struct onnx_metadata *ret,
                        struct error *error);
/* The same from memory, which may go afterwards. */
bool onnx_metadata_read_memory(const void *bytes, size_t size, struct arena *arena, struct onnx_metadata *ret,
                               struct error *error);
/* The first value of this key; NULL where there is none. */
const char *onnx_metadata_find(const struct onnx_metadata *metadata, const char *key);
