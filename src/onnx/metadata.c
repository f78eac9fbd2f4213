#include "onnx/metadata.h"

#include <string.h>

#include "base/limits.h"
#include "onnx/foreign.h"
#include "onnx/protobuf.h"

enum { MODEL_METADATA = 14, ENTRY_KEY = 1, ENTRY_VALUE = 2 };

/* A copy of the bytes as a string; NULL where they are too long or hold a NUL. */
static const char *copy_text(const struct protobuf *bytes, struct arena *arena) {
    size_t size = (size_t)(bytes->end - bytes->at);
    if (size > LIMIT_METADATA_BYTES || (size && memchr(bytes->at, 0, size)))
        return NULL;
    return size ? arena_copy_string(arena, (const char *)bytes->at, size) : "";
}

static bool read_entry(struct protobuf entry, struct arena *arena, struct onnx_metadata *metadata,
                       struct error *error) {
    const char *key = "", *value = "";
    struct protobuf_field field;
    int found;

    while ((found = protobuf_next(&entry, &field, error)) > 0) {
        if (field.wire != WIRE_BYTES)
            continue;
        if (field.number == ENTRY_KEY)
            key = copy_text(&field.bytes, arena);
        else if (field.number == ENTRY_VALUE)
            value = copy_text(&field.bytes, arena);
    }

    if (found < 0)
        return false;
    if (key && value)
        metadata->properties[metadata->count++] = (struct onnx_property){key, value};
    return true;
}

bool onnx_metadata_read_memory(const void *bytes, size_t size, struct arena *arena, struct onnx_metadata *ret,
                               struct error *error) {
    struct protobuf message = {.base = bytes, .at = bytes, .end = (const uint8_t *)bytes + size};
    struct onnx_metadata metadata = {0};
    struct protobuf_field field;
    int found;
    metadata.properties = arena_allocate_array(arena, LIMIT_METADATA, sizeof *metadata.properties);
    if (!metadata.properties)
        return error_set(error, ERROR_MEMORY, "not enough memory for a network's metadata");

    while ((found = protobuf_next(&message, &field, error)) > 0)
        if (field.number == MODEL_METADATA && field.wire == WIRE_BYTES && metadata.count < LIMIT_METADATA &&
            !read_entry(field.bytes, arena, &metadata, error))
            return false;

    if (found < 0)
        return false;
    *ret = metadata;
    return true;
}

bool onnx_metadata_read(const char *path, struct arena *arena, struct onnx_metadata *ret,
                        struct error *error) {
    struct file_map map;
    if (!onnx_map_open(path, &map, error))
        return false;

    bool done = onnx_metadata_read_memory(map.bytes, map.size, arena, ret, error);
    file_map_close(&map);
    return done || error_prefix(error, "%s", path);
}

const char *onnx_metadata_find(const struct onnx_metadata *metadata, const char *key) {
    for (size_t i = 0; i < metadata->count; i++)
        if (strcmp(metadata->properties[i].key, key) == 0)
            return metadata->properties[i].value;
    return NULL;
}
