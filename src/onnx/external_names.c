#include "onnx/external_names.h"

#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "onnx/tensor_proto.h"

/* The messages in which tensors may stand. */
enum holder { MODEL, GRAPH, NODE, ATTRIBUTE, FUNCTION, TENSOR };

static const struct {
    enum holder outer;
    uint32_t field;
    enum holder inner;
} paths[] = {
    {MODEL, 7, GRAPH},       {MODEL, 25, FUNCTION},  {FUNCTION, 7, NODE},    {GRAPH, 1, NODE},
    {GRAPH, 5, TENSOR},      {NODE, 5, ATTRIBUTE},   {ATTRIBUTE, 5, TENSOR}, {ATTRIBUTE, 6, GRAPH},
    {ATTRIBUTE, 10, TENSOR}, {ATTRIBUTE, 11, GRAPH},
};

struct external_search {
    bool (*found)(void *context, const char *name);
    void *context;
    struct error *error;
};

static bool tell_name(const struct external_search *search, struct protobuf tensor) {
    struct protobuf location;
    char name[LIMIT_NAME_BYTES + 1];
    if (!tensor_proto_location(tensor, &location, search->error))
        return false;

    size_t size = (size_t)(location.end - location.at);
    if (!size || !protobuf_is_name(&location))
        return true;
    memcpy(name, location.at, size);
    name[size] = 0;
    return search->found(search->context, name);
}

/* As deep as protobuf_next goes. */
static bool walk(const struct external_search *search, struct protobuf message,
                 enum holder kind) { // NOLINT(misc-no-recursion)
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&message, &field, search->error)) > 0)
        for (size_t i = 0; field.wire == WIRE_BYTES && i < sizeof paths / sizeof *paths; i++) {
            if (paths[i].outer != kind || paths[i].field != field.number)
                continue;
            if (paths[i].inner == TENSOR ? !tell_name(search, field.bytes)
                                         : !walk(search, field.bytes, paths[i].inner))
                return false;
        }

    return step == 0;
}

bool onnx_external_names(const char *path, bool (*found)(void *context, const char *name), void *context,
                         struct error *error) {
    const struct external_search search = {found, context, error};
    struct file_map map;
    if (!file_map_open(path, LIMIT_MODEL_BYTES, &map, error))
        return false;

    bool done = walk(&search, (struct protobuf){map.bytes, map.bytes, map.bytes + map.size, 0}, MODEL);
    file_map_close(&map);
    return done;
}
