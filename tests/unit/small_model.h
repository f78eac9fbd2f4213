/* For tests of onnx/: a small ONNX file in memory, field by field. Functions are static: one program each. */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "onnx/onnx.h"
#include "proto.h"

static struct proto graph, model, tensor, attribute;

static inline struct graph *read_model(struct error *error) {
    *error = (struct error){0};
    /* On the heap in its exact size, so that sanitizers detect overruns. */
    uint8_t *bytes = malloc(model.size ? model.size : 1);
    memcpy(bytes, model.bytes, model.size);

    struct graph *result = onnx_graph_read_memory("m.onnx", bytes, model.size, error);
    if (result) /* the graph points into the bytes: they go with it */
        graph_own_memory(result, 1), free(result->owned[result->owned_count - 1]),
            result->owned[result->owned_count - 1] = bytes;
    else
        free(bytes);
    return result;
}

static inline void add_tensor(const char *name, int data_type, const int64_t *dims, int rank) {
    tensor.size = 0;
    for (int i = 0; i < rank; i++)
        proto_int(&tensor, 1, dims[i]);
    proto_int(&tensor, 2, data_type);
    proto_string(&tensor, 8, name);
}

static inline void small_graph(void) {
    graph.size = 0;

    attribute.size = 0;
    proto_string(&attribute, 1, "pads");
    proto_int(&attribute, 20, 7);
    for (int i = 0; i < 4; i++)
        proto_int(&attribute, 8, i - 1);

    /* Written last first: the reader sorts. */
    proto_node(&graph, "Relu", NULL, NAMES("t"), NAMES("y"), NULL);
    proto_node(&graph, "Mul", "scale", NAMES("x", "w", ""), NAMES("t"), &attribute);

    proto_string(&graph, 2, "small");
    float weight[3] = {1, 2, 3};
    add_tensor("w", 1, (int64_t[]){3}, 1);
    proto_bytes(&tensor, 9, weight, sizeof weight);
    proto_message(&graph, 5, &tensor);

    proto_value_info(&graph, 11, "x", (int64_t[]){-1, 3}, 2);
    proto_value_info(&graph, 11, "w", (int64_t[]){3}, 1);
    proto_value_info(&graph, 12, "y", (int64_t[]){-1, 3}, 2);
    proto_value_info(&graph, 13, "t", (int64_t[]){-5, 3}, 2);
    proto_value_info(&graph, 13, "gone", (int64_t[]){1}, 1);
}
