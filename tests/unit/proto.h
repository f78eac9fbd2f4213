/* A tiny protobuf writer for tests: models byte by byte, right or wrong on purpose, without the product's own
 * writer. */
#pragma once
#include <assert.h>
#include <stdint.h>
#include <string.h>

#define PROTO_ROOM 65536

struct proto {
    uint8_t bytes[PROTO_ROOM];
    size_t size;
};

static inline void proto_varint(struct proto *p, uint64_t value) {
    do {
        assert(p->size < PROTO_ROOM);
        p->bytes[p->size++] = (uint8_t)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
    } while (value);
}

static inline void proto_int(struct proto *p, int number, int64_t value) {
    proto_varint(p, (uint64_t)number << 3);
    proto_varint(p, (uint64_t)value);
}

static inline void proto_bytes(struct proto *p, int number, const void *bytes, size_t size) {
    proto_varint(p, (uint64_t)number << 3 | 2);
    proto_varint(p, size);
    assert(size <= PROTO_ROOM - p->size);
    memcpy(p->bytes + p->size, bytes, size);
    p->size += size;
}

static inline void proto_string(struct proto *p, int number, const char *text) {
    proto_bytes(p, number, text, strlen(text));
}

static inline void proto_message(struct proto *p, int number, const struct proto *inner) {
    proto_bytes(p, number, inner->bytes, inner->size);
}

static inline void proto_fixed32(struct proto *p, int number, float value) {
    proto_varint(p, (uint64_t)number << 3 | 5);
    memcpy(p->bytes + p->size, &value, 4);
    p->size += 4;
}

/* ValueInfoProto of a float32 tensor; a dimension of -1 is symbolic. */
static inline void proto_value_info(struct proto *graph, int number, const char *name, const int64_t *dims,
                                    int rank) {
    static struct proto shape, dim, tensor, type, info;
    shape.size = tensor.size = type.size = info.size = 0;
    for (int i = 0; i < rank; i++) {
        dim.size = 0;
        if (dims[i] == -1)
            proto_string(&dim, 2, "N");
        else
            proto_int(&dim, 1, dims[i]);
        proto_message(&shape, 1, &dim);
    }
    proto_int(&tensor, 1, 1);
    proto_message(&tensor, 2, &shape);
    proto_message(&type, 1, &tensor);
    proto_string(&info, 1, name);
    proto_message(&info, 2, &type);
    proto_message(graph, number, &info);
}

/* NodeProto; names end with NULL. `attribute` may be NULL. */
static inline void proto_node(struct proto *graph, const char *op_type, const char *name,
                              const char *const *inputs, const char *const *outputs,
                              const struct proto *attribute) {
    static struct proto node;
    node.size = 0;
    for (; *inputs; inputs++)
        proto_string(&node, 1, *inputs);
    for (; *outputs; outputs++)
        proto_string(&node, 2, *outputs);
    if (name)
        proto_string(&node, 3, name);
    proto_string(&node, 4, op_type);
    if (attribute)
        proto_message(&node, 5, attribute);
    proto_message(graph, 1, &node);
}

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ModelProto around a graph. */
static inline void proto_model(struct proto *model, int ir_version, int opset, const struct proto *graph) {
    struct proto import = {.size = 0};
    model->size = 0;
    proto_int(model, 1, ir_version);
    proto_string(model, 2, "test");
    proto_string(&import, 1, "");
    proto_int(&import, 2, opset);
    proto_message(model, 8, &import);
    if (graph)
        proto_message(model, 7, graph);
}
