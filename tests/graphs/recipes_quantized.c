/* Steps of quantized graphs: QuantizeLinear and DequantizeLinear around what runs in integers. */
#include <math.h>
#include <stdlib.h>

#include "graphs.h"

/* x quantized for what it holds, some of it saturated, and back. */
struct value *recipe_quantize(struct random_graph *g, struct value *x) {
    enum dtype dtype = random_percent(&g->random, 60) ? DTYPE_U8 : DTYPE_I8;
    float largest = graph_largest(g, x), scale = (largest > 0 ? largest : 1) / 127;
    int middle = dtype == DTYPE_U8 ? 128 : 0, shift = (int)random_range(&g->random, -3, 3);

    scale *= 0.9f + 0.1f * random_unit(&g->random);
    struct value *step = graph_number(g, scale), *zero = graph_byte_number(g, dtype, middle + shift);
    struct value *q = graph_grow(g, "QuantizeLinear", x, step, zero, NULL);

    g->quantized = true;
    return q ? graph_grow(g, "DequantizeLinear", q, step, zero, NULL) : NULL;
}

/* A value that was quantized: a young one as it is, or another made so. */
static struct value *quantized_value(struct random_graph *g, struct value *x) {
    return x->producer && node_is(x->producer, "DequantizeLinear") ? x : recipe_quantize(g, x);
}

static struct value *quantized_weights(struct random_graph *g, float size, int rank, const int64_t *dims,
                                       int axis) {
    struct value *floats = graph_floats(g, 0, rank, dims);
    struct shape shape = floats->shape;
    int64_t count = shape_elements(&shape);
    int8_t *data = graph_own_memory(g->graph, (size_t)count);
    char name[32];

    for (int64_t i = 0; i < count; i++)
        data[i] = (int8_t)random_range(&g->random, -127, 127);
    snprintf(name, sizeof name, "weights%d", g->graph->value_count);
    struct value *weights = graph_add_constant(g->graph, name, DTYPE_I8, &shape, data);

    bool per_channel = random_percent(&g->random, 60);
    struct value *scales = per_channel ? graph_vector(g, 0, dims[axis]) : graph_number(g, 0);
    for (int64_t i = 0; i < shape_elements(&scales->shape); i++)
        ((float *)scales->constant->data)[i] = size / 127 * (1 + 0.5f * random_unit(&g->random));

    struct node *node = graph_begin_node(g, "DequantizeLinear", (struct value *[]){weights, scales}, 2, 1);
    if (!node)
        return NULL;
    if (per_channel)
        node_set_int(g->graph, node, "axis", axis);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

/* Whole steps of x_scale times the weights' scale, as quantizers write them, dequantized. */
static struct value *activation(struct random_graph *g, struct value *x) {
    static const char *const names[] = {"Relu", "Relu", "HardSwish", "Sigmoid", "LeakyRelu", "Tanh"};
    int64_t kind = random_range(&g->random, 0, 9);

    if (kind < 5)
        return x;
    if (kind < 6)
        return graph_grow(g, "Clip", x, graph_number(g, 0), graph_number(g, 1.5f), NULL);
    return graph_grow(g, names[random_range(&g->random, 0, 5)], x, NULL);
}

static struct value *conv(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank != 4)
        return NULL;
    x = quantized_value(g, x);
    if (!x)
        return NULL;

    int64_t channels = x->shape.dims[1], kernel = random_percent(&g->random, 50) ? 1 : 3;
    int64_t groups = random_percent(&g->random, 25) ? channels : 1;
    const int64_t dims[4] = {random_percent(&g->random, 60) ? channels
                                                            : groups * random_range(&g->random, 1, 2) * 8,
                             channels / groups, kernel, kernel};
    const int64_t pads[4] = {kernel / 2, kernel / 2, kernel / 2, kernel / 2};
    struct value *weights =
        quantized_weights(g, 1.7f / sqrtf((float)(dims[1] * kernel * kernel)), 4, dims, 0);
    if (!weights)
        return NULL;

    struct value *inputs[3] = {x, weights,
                               random_percent(&g->random, 60) ? graph_vector(g, 0.5f, dims[0]) : NULL};
    struct node *node = graph_begin_node(g, "Conv", inputs, inputs[2] ? 3 : 2, 1);
    if (!node)
        return NULL;
    node_set_ints(g->graph, node, "pads", pads, 4);
    node_set_int(g->graph, node, "group", groups);
    return graph_end_node(g, node) ? activation(g, node->outputs[0]) : NULL;
}

static struct value *matmul(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 2 || x->shape.rank > 4)
        return NULL;
    x = quantized_value(g, x);
    if (!x)
        return NULL;

    int64_t depth = x->shape.dims[x->shape.rank - 1];
    const int64_t dims[2] = {depth, random_percent(&g->random, 40) ? depth : random_range(&g->random, 1, 24)};
    struct value *weights = quantized_weights(g, 1.7f / sqrtf((float)depth), 2, dims, 1);
    struct value *y = weights ? graph_grow(g, "MatMul", x, weights, NULL) : NULL;
    if (y && random_percent(&g->random, 60))
        y = graph_grow(g, "Add", y, graph_vector(g, 0.5f, dims[1]), NULL);
    return y ? activation(g, y) : NULL;
}

/* Sums of what was quantized, or of a product that was not. */
static struct value *residual(struct random_graph *g) {
    struct value *x = random_percent(&g->random, 60) ? conv(g) : graph_pick(g);
    struct value *y = x ? graph_pick_alike(g, x) : NULL;
    if (!y)
        return NULL;

    x = random_percent(&g->random, 60) ? quantized_value(g, x) : x;
    y = random_percent(&g->random, 80) ? quantized_value(g, y) : y;
    struct value *sum = x && y ? graph_grow(g, "Add", x, y, NULL) : NULL;
    return sum && random_percent(&g->random, 50) ? graph_grow(g, "Relu", sum, NULL) : sum;
}

/* Numbers pass unchanged: with the same scale on both sides it may happen on bytes. */
static struct value *movement(struct random_graph *g) {
    struct value *x = graph_pick(g);
    x = quantized_value(g, x);
    if (!x)
        return NULL;

    struct node *quantize = x->producer;
    struct value *step = quantize->inputs[1], *zero = quantize->inputs[2], *y = NULL;
    int64_t half[1] = {x->shape.rank > 1 ? (x->shape.dims[1] + 1) / 2 : 1}, none[1] = {0}, one[1] = {1};
    struct node *node;

    switch (random_range(&g->random, 0, 2)) {
    case 0:
        if (x->shape.rank > 1)
            y = graph_grow(g, "Slice", x, graph_ints(g, 1, none), graph_ints(g, 1, half),
                           graph_ints(g, 1, one), NULL);
        break;
    case 1:
        if (x->shape.rank > 2)
            y = graph_grow(g, "GlobalMaxPool", x, NULL);
        break;
    default:
        node = graph_begin_node(g, "Concat", (struct value *[]){x, x}, 2, 1);
        if (node)
            node_set_int(g->graph, node, "axis", x->shape.rank > 1);
        y = node && graph_end_node(g, node) ? node->outputs[0] : NULL;
    }
    if (!y)
        return NULL;
    struct value *q = graph_grow(g, "QuantizeLinear", y, step, zero, NULL);
    return q ? graph_grow(g, "DequantizeLinear", q, step, zero, NULL) : NULL;
}

struct value *recipe_any_quantized(struct random_graph *g) {
    static const graph_recipe recipes[] = {conv, conv, conv, matmul, matmul, residual, residual, movement};

    for (int tries = 0; tries < 10; tries++) {
        struct value *made = recipes[random_range(&g->random, 0, 7)](g);
        if (made && random_percent(&g->random, 80))
            made = recipe_quantize(g, made);
        if (made)
            return made;
    }
    return NULL;
}
