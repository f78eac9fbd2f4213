/* For tests: small networks with made-up weights, built through graph.h. Everything belongs to the graph. */
#pragma once
#include <stdarg.h>
#include <stdio.h>

#include "inputs.h"
#include "interpreter.h"

static inline struct value *network_floats(struct graph *graph, uint32_t seed, float scale, int rank, ...) {
    struct shape shape = {.rank = rank};
    va_list dims;
    va_start(dims, rank);
    for (int i = 0; i < rank; i++)
        shape.dims[i] = va_arg(dims, int);
    va_end(dims);
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(graph, (size_t)count * sizeof *data);
    fill_floats(data, count, seed);
    for (int64_t i = 0; i < count; i++)
        data[i] *= scale;
    char name[32];
    snprintf(name, sizeof name, "constant%d", graph->value_count);
    return graph_add_constant(graph, name, DTYPE_F32, &shape, data);
}

static inline struct value *network_scalar(struct graph *graph, float number) {
    struct shape shape = {.rank = 0};
    float *data = graph_own_memory(graph, sizeof *data);
    *data = number;
    char name[32];
    snprintf(name, sizeof name, "scalar%d", graph->value_count);
    return graph_add_constant(graph, name, DTYPE_F32, &shape, data);
}

static inline struct value *network_ints(struct graph *graph, int count, ...) {
    struct shape shape = {.rank = 1, .dims = {count}};
    int64_t *data = graph_own_memory(graph, (size_t)count * sizeof *data);
    va_list numbers;
    va_start(numbers, count);
    for (int i = 0; i < count; i++)
        data[i] = va_arg(numbers, int);
    va_end(numbers);
    char name[32];
    snprintf(name, sizeof name, "ints%d", graph->value_count);
    return graph_add_constant(graph, name, DTYPE_I64, &shape, data);
}

/* A node of one output; inputs end with NULL. */
static inline struct value *network_node(struct graph *graph, const char *op_type, ...) {
    struct value *inputs[NODE_INPUTS], *output;
    va_list list;
    va_start(list, op_type);
    int count = inputs_gather(list, inputs);
    va_end(list);

    char name[32];
    snprintf(name, sizeof name, "value%d", graph->value_count);
    output = graph_add_value(graph, name);
    graph_add_node(graph, NULL, "", op_type, NULL, inputs, count, &output, 1);
    return output;
}

static inline struct value *network_conv(struct graph *graph, struct value *input, int inputs, int outputs,
                                         int kernel, int stride, int group) {
    struct value *weights = network_floats(graph, (uint32_t)graph->value_count, 1.5f / (float)kernel, 4,
                                           outputs, inputs / group, kernel, kernel);
    struct value *bias = network_floats(graph, (uint32_t)graph->value_count, 0.1f, 1, outputs);
    struct value *result = network_node(graph, "Conv", input, weights, bias, NULL);
    int64_t strides[2] = {stride, stride}, pads[4] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    node_set_ints(graph, result->producer, "strides", strides, 2);
    node_set_ints(graph, result->producer, "pads", pads, 4);
    node_set_int(graph, result->producer, "group", group);
    return result;
}

static inline struct graph *network_begin(struct value **ret_input, int rank, ...) {
    struct graph *graph = graph_create();
    graph_add_import(graph, "", 17);
    *ret_input = graph_add_value(graph, "input");
    (*ret_input)->dtype = DTYPE_F32;
    (*ret_input)->shape.rank = rank;
    va_list dims;
    va_start(dims, rank);
    for (int i = 0; i < rank; i++)
        (*ret_input)->shape.dims[i] = va_arg(dims, int);
    va_end(dims);
    graph_add_input(graph, *ret_input);
    return graph;
}

static inline struct graph *network_end(struct graph *graph, struct value *output) {
    struct error error;
    graph_add_output(graph, output);
    if (operators_bind(graph, &error))
        return graph;
    fprintf(stderr, "%s\n", error.message);
    graph_free(graph);
    return NULL;
}

/* Convolutions with activations, a residual, depthwise and grouped ones, pooling, a gate, a classifier: [n,
 * 3, h, w] -> [n, 10]. */
static inline struct graph *network_convolutional(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 3, -1, -1);
    x = network_node(g, "Relu", network_conv(g, x, 3, 32, 3, 2, 1), NULL);
    struct value *y = network_node(g, "Relu", network_conv(g, x, 32, 48, 1, 1, 1), NULL);
    y = network_node(g, "Clip", network_conv(g, y, 48, 48, 3, 1, 48), network_scalar(g, 0),
                     network_scalar(g, 6), NULL);
    x = network_node(g, "Relu", network_node(g, "Add", network_conv(g, y, 48, 32, 1, 1, 1), x, NULL), NULL);
    struct value *gate = network_node(g, "GlobalAveragePool", x, NULL);
    gate = network_node(g, "Sigmoid", network_conv(g, gate, 32, 32, 1, 1, 1), NULL);
    x = network_node(g, "Mul", x, gate, NULL);
    struct value *pooled = network_node(g, "MaxPool", x, NULL);
    int64_t two[2] = {2, 2};
    node_set_ints(g, pooled->producer, "kernel_shape", two, 2);
    node_set_ints(g, pooled->producer, "strides", two, 2);
    struct value *left = network_conv(g, pooled, 32, 16, 3, 1, 2),
                 *right = network_conv(g, pooled, 32, 16, 1, 1, 1);
    x = network_node(g, "Concat", left, right, NULL);
    node_set_int(g, x->producer, "axis", 1);
    x = network_node(g, "Flatten", network_node(g, "GlobalAveragePool", x, NULL), NULL);
    return network_end(g, network_node(g, "Gemm", x, network_floats(g, 5, 0.3f, 2, 32, 10),
                                       network_floats(g, 6, 0.1f, 1, 10), NULL));
}

/* EfficientNet v2's first kind of block: what a convolution reads is also what is added to its activation.
 * [n, 24, h, w] -> the same. */
static inline struct graph *network_direct_residual(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 24, -1, -1);
    x = network_node(g, "Relu", network_conv(g, x, 24, 24, 1, 1, 1), NULL);
    for (int i = 0; i < 2; i++) {
        struct value *y = network_conv(g, x, 24, 24, 3, 1, 1);
        y = network_node(g, "Mul", y, network_node(g, "Sigmoid", y, NULL), NULL);
        x = network_node(g, "Add", y, x, NULL);
    }
    return network_end(g, x);
}

/* What is added lies row-major, as the caller gave it, and the convolution's result with its channels
 * innermost. [n, 64, h, w] -> the same. */
static inline struct graph *network_row_major_operand(void) {
    struct value *input;
    struct graph *g = network_begin(&input, 4, -1, 64, -1, -1);
    struct value *x = network_node(g, "Relu", network_conv(g, input, 64, 64, 3, 1, 1), NULL);
    return network_end(g, network_node(g, "Add", network_conv(g, x, 64, 64, 1, 1, 1), input, NULL));
}

/* Halves change places, of row-major channels and of such as a convolution leaves: slices have gaps. [n, 32,
 * h, w] -> the same. */
static inline struct graph *network_swapped_halves(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 32, -1, -1);
    for (int i = 0; i < 2; i++) {
        x = network_node(g, "Relu", x, NULL);
        struct value *inputs[2] = {x, network_ints(g, 2, 16, 16)}, *halves[2];
        for (int half = 0; half < 2; half++) {
            char name[32];
            snprintf(name, sizeof name, "half%d", g->value_count);
            halves[half] = graph_add_value(g, name);
        }
        struct node *split = graph_add_node(g, NULL, "", "Split", NULL, inputs, 2, halves, 2);
        node_set_int(g, split, "axis", 1);
        x = network_node(g, "Concat", halves[1], halves[0], NULL);
        node_set_int(g, x->producer, "axis", 1);
        x = network_conv(g, x, 32, 32, 3, 1, 1);
    }
    return network_end(g, x);
}

static inline struct value *network_batch_norm(struct graph *g, struct value *x, int channels) {
    struct value *variance = network_floats(g, 11, 0.1f, 1, channels);
    for (int i = 0; i < channels; i++)
        ((float *)variance->constant->data)[i] += 1;
    return network_node(g, "BatchNormalization", x, network_floats(g, 12, 1, 1, channels),
                        network_floats(g, 13, 0.5f, 1, channels), network_floats(g, 14, 0.5f, 1, channels),
                        variance, NULL);
}

/* DenseNet's block: batch norm before the convolutions, where nothing takes it in, with and without an
 * activation; channels that blocks of 16 divide, and such as they do not. [n, 32, h, w] -> [n, 5, h, w] */
static inline struct graph *network_dense_block(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 32, -1, -1);
    for (int i = 0; i < 2; i++) {
        int channels = 32 + 32 * i;
        struct value *y = network_node(g, "Relu", network_batch_norm(g, x, channels), NULL);
        x = network_node(g, "Concat", x, network_conv(g, y, channels, 32, 3, 1, 1), NULL);
        node_set_int(g, x->producer, "axis", 1);
    }
    x = network_node(g, "Relu", network_conv(g, x, 96, 5, 1, 1, 1), NULL);
    return network_end(g, network_batch_norm(g, x, 5));
}

static inline struct value *network_permute(struct graph *g, struct value *x, int count, ...) {
    int64_t permutation[8];
    va_list axes;
    va_start(axes, count);
    for (int i = 0; i < count; i++)
        permutation[i] = va_arg(axes, int);
    va_end(axes);
    struct value *y = network_node(g, "Transpose", x, NULL);
    node_set_ints(g, y->producer, "perm", permutation, (size_t)count);
    return y;
}

/* Layer normalisation and GELU written out, attention with a bias, windows that are cut and put back: [n, 8,
 * 8, 32] -> [n, 8, 8, 32]. */
static inline struct graph *network_transformer(void) {
    struct value *input;
    struct graph *g = network_begin(&input, 4, -1, 8, 8, 32);
    struct value *mean = network_node(g, "ReduceMean", input, NULL);
    int64_t last = -1;
    node_set_ints(g, mean->producer, "axes", &last, 1);
    struct value *centred = network_node(g, "Sub", input, mean, NULL);
    struct value *variance =
        network_node(g, "ReduceMean", network_node(g, "Pow", centred, network_scalar(g, 2), NULL), NULL);
    node_set_ints(g, variance->producer, "axes", &last, 1);
    struct value *deviation =
        network_node(g, "Sqrt", network_node(g, "Add", variance, network_scalar(g, 1e-5f), NULL), NULL);
    struct value *x = network_node(g, "Div", centred, deviation, NULL);
    x = network_node(g, "Mul", x, network_floats(g, 1, 1, 1, 32), NULL);
    x = network_node(g, "Add", x, network_floats(g, 2, 0.1f, 1, 32), NULL);
    /* windows of 4 x 4 */
    x = network_node(g, "Reshape", x, network_ints(g, 6, -1, 2, 4, 2, 4, 32), NULL);
    x = network_permute(g, x, 6, 0, 1, 3, 2, 4, 5);
    x = network_node(g, "Reshape", x, network_ints(g, 3, -1, 16, 32), NULL);
    x = network_node(g, "Add", network_node(g, "MatMul", x, network_floats(g, 3, 0.3f, 2, 32, 96), NULL),
                     network_floats(g, 4, 0.1f, 1, 96), NULL);
    x = network_permute(g, network_node(g, "Reshape", x, network_ints(g, 5, -1, 16, 3, 4, 8), NULL), 5, 2, 0,
                        3, 1, 4);
    struct value *parts[3];
    for (int i = 0; i < 3; i++) {
        struct value *index = network_scalar(g, 0);
        int64_t *number = graph_own_memory(g, sizeof *number);
        *number = i;
        struct shape scalar = {.rank = 0};
        char name[16];
        snprintf(name, sizeof name, "index%d", i);
        index = graph_add_constant(g, name, DTYPE_I64, &scalar, number);
        parts[i] = network_node(g, "Gather", x, index, NULL);
        node_set_int(g, parts[i]->producer, "axis", 0);
    }
    struct value *q = network_node(g, "Mul", parts[0], network_scalar(g, 0.35f), NULL);
    struct value *scores = network_node(g, "MatMul", q, network_permute(g, parts[1], 4, 0, 1, 3, 2), NULL);
    scores = network_node(g, "Add", scores, network_floats(g, 5, 1, 4, 1, 4, 16, 16), NULL);
    struct value *attention = network_node(g, "Softmax", scores, NULL);
    node_set_int(g, attention->producer, "axis", -1);
    x = network_permute(g, network_node(g, "MatMul", attention, parts[2], NULL), 4, 0, 2, 1, 3);
    x = network_node(g, "Reshape", x, network_ints(g, 3, -1, 16, 32), NULL);
    x = network_node(g, "MatMul", x, network_floats(g, 6, 0.3f, 2, 32, 32), NULL);
    /* and back */
    x = network_node(g, "Reshape", x, network_ints(g, 6, -1, 2, 2, 4, 4, 32), NULL);
    x = network_permute(g, x, 6, 0, 1, 3, 2, 4, 5);
    x = network_node(g, "Reshape", x, network_ints(g, 4, -1, 8, 8, 32), NULL);
    x = network_node(g, "Add", input, x, NULL);
    struct value *h =
        network_node(g, "Add", network_node(g, "MatMul", x, network_floats(g, 7, 0.3f, 2, 32, 64), NULL),
                     network_floats(g, 8, 0.1f, 1, 64), NULL);
    struct value *erf =
        network_node(g, "Erf", network_node(g, "Div", h, network_scalar(g, 1.41421354f), NULL), NULL);
    erf = network_node(g, "Add", erf, network_scalar(g, 1), NULL);
    h = network_node(g, "Mul", network_node(g, "Mul", h, erf, NULL), network_scalar(g, 0.5f), NULL);
    h = network_node(g, "MatMul", h, network_floats(g, 9, 0.3f, 2, 64, 32), NULL);
    return network_end(g, network_node(g, "Add", x, h, NULL));
}

static inline struct value *network_bytes(struct graph *graph, enum dtype dtype, int rank,
                                          const int64_t *dims, uint32_t seed, int32_t fixed) {
    struct shape shape = {.rank = rank};
    if (rank)
        memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    int64_t count = shape_elements(&shape);
    uint8_t *data = graph_own_memory(graph, (size_t)count + 1);
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = rank ? (uint8_t)(seed >> 16) : (uint8_t)fixed;
    }
    char name[32];
    snprintf(name, sizeof name, "bytes%d", graph->value_count);
    return graph_add_constant(graph, name, dtype, &shape, data);
}

/* Quantised and back: one scale and zero point for the tensor. */
static inline struct value *network_qdq(struct graph *g, struct value *x, enum dtype dtype, float scale,
                                        int zero) {
    struct value *step = network_scalar(g, scale), *zero_point = network_bytes(g, dtype, 0, NULL, 0, zero);
    return network_node(g, "DequantizeLinear", network_node(g, "QuantizeLinear", x, step, zero_point, NULL),
                        step, zero_point, NULL);
}

/* Weights of `weights_dtype`, a scale for each output channel (or one), dequantised. */
static inline struct value *network_quantized_conv(struct graph *g, struct value *x, int inputs, int outputs,
                                                   int kernel, int group, enum dtype weights_dtype,
                                                   int zero) {
    const int64_t dims[4] = {outputs, inputs / group, kernel, kernel};
    bool per_channel = weights_dtype == DTYPE_I8;
    struct value *q = network_bytes(g, weights_dtype, 4, dims, (uint32_t)g->value_count, 0);
    struct value *scales = per_channel ? network_floats(g, 3, 0, 1, outputs) : network_scalar(g, 0.002f);
    for (int i = 0; per_channel && i < outputs; i++)
        ((float *)scales->constant->data)[i] = 0.001f + 0.0001f * (float)i;
    struct value *weights = per_channel
                                ? network_node(g, "DequantizeLinear", q, scales, NULL)
                                : network_node(g, "DequantizeLinear", q, scales,
                                               network_bytes(g, weights_dtype, 0, NULL, 0, zero), NULL);
    if (per_channel)
        node_set_int(g, weights->producer, "axis", 0);
    struct value *bias = network_floats(g, (uint32_t)g->value_count, 0.2f, 1, outputs);
    struct value *result = network_node(g, "Conv", x, weights, bias, NULL);
    int64_t pads[4] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    node_set_ints(g, result->producer, "pads", pads, 4);
    node_set_int(g, result->producer, "group", group);
    return result;
}

/* QDQ as quantisers write it: signed and unsigned, symmetric and not, a residual, pools, a classifier. [n, 3,
 * 16, 16] -> [n, 10] */
static inline struct graph *network_quantized(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 3, 16, 16);
    x = network_qdq(g, x, DTYPE_U8, 2.0f / 255, 128);
    x = network_node(g, "Relu", network_quantized_conv(g, x, 3, 32, 3, 1, DTYPE_I8, 0), NULL);
    x = network_qdq(g, x, DTYPE_U8, 0.01f, 0);
    struct value *y =
        network_node(g, "Relu", network_quantized_conv(g, x, 32, 32, 3, 32, DTYPE_U8, 121), NULL);
    y = network_qdq(g, y, DTYPE_U8, 0.02f, 0);
    y = network_qdq(g, network_quantized_conv(g, y, 32, 32, 1, 1, DTYPE_I8, 0), DTYPE_U8, 0.05f, 117);
    x = network_qdq(g, network_node(g, "Relu", network_node(g, "Add", y, x, NULL), NULL), DTYPE_U8, 0.03f, 0);
    struct value *pooled = network_node(g, "MaxPool", x, NULL);
    int64_t two[2] = {2, 2};
    node_set_ints(g, pooled->producer, "kernel_shape", two, 2);
    node_set_ints(g, pooled->producer, "strides", two, 2);
    x = network_qdq(g, pooled, DTYPE_U8, 0.03f, 0);
    struct value *left =
        network_qdq(g, network_quantized_conv(g, x, 32, 16, 1, 1, DTYPE_I8, 0), DTYPE_I8, 0.04f, -3);
    struct value *right =
        network_qdq(g, network_quantized_conv(g, x, 32, 16, 3, 2, DTYPE_I8, 0), DTYPE_I8, 0.04f, -3);
    x = network_qdq(g, network_node(g, "Add", left, right, NULL), DTYPE_I8, 0.06f, 5);
    struct value *positive = network_qdq(g, network_node(g, "Relu", x, NULL), DTYPE_U8, 0.03f, 0);
    x = network_qdq(g, network_node(g, "Add", x, positive, NULL), DTYPE_I8, 0.09f, -7);
    x = network_node(g, "Flatten", network_node(g, "GlobalAveragePool", x, NULL), NULL);
    x = network_qdq(g, x, DTYPE_U8, 0.02f, 100);
    const int64_t dims[2] = {10, 16};
    struct value *weights = network_node(g, "DequantizeLinear", network_bytes(g, DTYPE_I8, 2, dims, 9, 0),
                                         network_scalar(g, 0.01f), NULL);
    x = network_node(g, "Gemm", x, weights, network_floats(g, 6, 0.1f, 1, 10), NULL);
    node_set_int(g, x->producer, "transB", 1);
    return network_end(g, x);
}

static inline struct value *network_quantized_matmul(struct graph *g, struct value *x, int inputs,
                                                     int outputs) {
    const int64_t dims[2] = {inputs, outputs};
    struct value *q = network_bytes(g, DTYPE_I8, 2, dims, (uint32_t)g->value_count, 0);
    struct value *weights = network_node(g, "DequantizeLinear", q, network_scalar(g, 0.002f), NULL);
    return network_node(g, "Add", network_node(g, "MatMul", x, weights, NULL),
                        network_floats(g, (uint32_t)g->value_count, 0.2f, 1, outputs), NULL);
}

/* Integers and floats side by side, as quantisers leave them that keep some operators out: sums that are read
 * both ways, integers added to floats, and both on three axes. [n, 3, 16, 16] -> [n, 64, 32] */
static inline struct graph *network_half_quantized(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 3, 16, 16);
    x = network_qdq(g, x, DTYPE_U8, 2.0f / 255, 128);
    x = network_node(g, "Relu", network_quantized_conv(g, x, 3, 32, 3, 1, DTYPE_I8, 0), NULL);
    x = network_qdq(g, x, DTYPE_U8, 0.01f, 0);
    struct value *sum =
        network_node(g, "Add", network_quantized_conv(g, x, 32, 32, 1, 1, DTYPE_I8, 0), x, NULL);
    struct value *both = network_node(g, "Relu", sum, NULL);
    struct value *weights = network_floats(g, 8, 0.1f, 4, 32, 32, 1, 1);
    struct value *plain = network_node(g, "Conv", both, weights, NULL);
    x = network_qdq(g, both, DTYPE_U8, 0.02f, 0);
    x = network_node(g, "Add", network_quantized_conv(g, x, 32, 32, 1, 1, DTYPE_I8, 0), plain, NULL);
    struct value *pooled = network_node(g, "MaxPool", x, NULL);
    int64_t two[2] = {2, 2};
    node_set_ints(g, pooled->producer, "kernel_shape", two, 2);
    node_set_ints(g, pooled->producer, "strides", two, 2);
    x = network_node(g, "Reshape", pooled, network_ints(g, 3, 0, 32, 64), NULL);
    x = network_node(g, "Transpose", x, NULL);
    int64_t order[3] = {0, 2, 1};
    node_set_ints(g, x->producer, "perm", order, 3);
    struct value *rows = network_qdq(g, x, DTYPE_I8, 0.04f, -5);
    struct value *y = network_node(g, "Add", network_quantized_matmul(g, rows, 32, 32), rows, NULL);
    y = network_qdq(g, y, DTYPE_U8, 0.05f, 110);
    return network_end(g, network_node(g, "Add", network_quantized_matmul(g, y, 32, 32), x, NULL));
}
