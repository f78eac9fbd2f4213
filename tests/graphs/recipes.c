/* What random graphs consist of: one function for each kind of step. */
#include <math.h>
#include <string.h>

#include "graphs.h"

#define COUNT(list) ((int64_t)(sizeof(list) / sizeof *(list)))
#define ANY(g, list) (list)[random_range(&(g)->random, 0, COUNT(list) - 1)]

/* --- Element by element --------------------------------------------------------------------------------- */

static struct value *unary(struct random_graph *g) {
    static const char *const names[] = {
        "Relu",     "LeakyRelu",   "Sigmoid", "Tanh", "HardSwish", "Elu", "Abs", "Erf",  "Softplus",
        "Softsign", "HardSigmoid", "Selu",    "Mish", "Neg",       "Sin", "Cos", "Celu", "Identity"};
    return graph_grow(g, ANY(g, names), graph_pick(g), NULL);
}

static struct value *clip(struct random_graph *g) {
    float low = random_unit(&g->random);
    return graph_grow(g, "Clip", graph_pick(g), graph_number(g, low),
                      graph_number(g, low + fabsf(random_unit(&g->random)) * 2), NULL);
}

/* Away from where they have poles. */
static struct value *guarded(struct random_graph *g) {
    static const char *const names[] = {"Sqrt", "Log", "Reciprocal"};
    struct value *x = graph_grow(g, "Abs", graph_pick(g), NULL);

    x = x ? graph_grow(g, "Add", x, graph_number(g, 0.3f), NULL) : NULL;
    return x ? graph_grow(g, ANY(g, names), x, NULL) : NULL;
}

static struct value *exponential(struct random_graph *g) {
    struct value *x = graph_pick(g);
    return graph_largest(g, x) < 4 ? graph_grow(g, "Exp", x, NULL) : NULL;
}

/* Not continuous: no number of x may be near a whole one. */
static struct value *rounding(struct random_graph *g) {
    static const char *const names[] = {"Floor", "Ceil"};
    struct value *x = graph_pick(g);
    const struct tensor *tensor = g->tensors[x->id];

    for (int64_t i = 0; i < shape_elements(&tensor->shape); i++) {
        float number = ((float *)tensor->data)[i];
        if (fabsf(number - rintf(number)) < 1e-3f)
            return NULL;
    }
    g->jumps = true;
    return graph_grow(g, ANY(g, names), x, NULL);
}

/* A constant that is broadcast to `shape`: its last axes, each of 1 or whole; often one number a channel. */
static struct value *broadcast_constant(struct random_graph *g, const struct shape *shape) {
    int64_t dims[LIMIT_TENSOR_RANK];
    int rank = (int)random_range(&g->random, 0, shape->rank);
    bool channels = shape->rank > 1 && random_percent(&g->random, 30);

    if (channels)
        rank = shape->rank - (int)random_range(&g->random, 0, 1);
    for (int i = 0; i < rank; i++) {
        int axis = shape->rank - rank + i;
        bool whole = channels ? axis == 1 : random_percent(&g->random, 60);
        dims[i] = whole ? shape->dims[axis] : 1;
    }
    return graph_floats(g, 2, rank, dims);
}

/* A value of the pool that is broadcast to (or with) `x`, or NULL. */
static struct value *partner(struct random_graph *g, const struct value *x) {
    if (random_percent(&g->random, 70))
        return graph_pick_alike(g, x);
    struct value *y = graph_pick(g);
    int common = x->shape.rank < y->shape.rank ? x->shape.rank : y->shape.rank;

    for (int i = 1; i <= common; i++) {
        int64_t a = x->shape.dims[x->shape.rank - i], b = y->shape.dims[y->shape.rank - i];
        if (a != b && a != 1 && b != 1)
            return NULL;
    }
    return y;
}

static struct value *binary(struct random_graph *g) {
    static const char *const names[] = {"Add", "Add", "Add", "Mul",  "Mul",
                                        "Sub", "Min", "Max", "Mean", "Sum"};
    struct value *x = graph_pick(g), *y = partner(g, x);

    if (!y)
        y = broadcast_constant(g, &x->shape);
    bool swap = random_percent(&g->random, 30);
    return graph_grow(g, ANY(g, names), swap ? y : x, swap ? x : y, NULL);
}

static struct value *division(struct random_graph *g) {
    struct value *x = graph_pick(g), *y = graph_pick_alike(g, x);

    y = graph_grow(g, "Sigmoid", y ? y : x, NULL);
    y = y ? graph_grow(g, "Add", y, graph_number(g, 0.4f), NULL) : NULL;
    return y ? graph_grow(g, "Div", x, y, NULL) : NULL;
}

static struct value *prelu(struct random_graph *g) {
    struct value *x = graph_pick(g);
    int64_t dims[LIMIT_TENSOR_RANK];

    if (x->shape.rank < 2)
        return NULL;
    for (int i = 1; i < x->shape.rank; i++)
        dims[i - 1] = i == 1 ? x->shape.dims[1] : 1;
    return graph_grow(g, "PRelu", x, graph_floats(g, 1, x->shape.rank - 1, dims), NULL);
}

static struct value *selection(struct random_graph *g) {
    struct value *x = graph_pick(g), *y = graph_pick_alike(g, x);
    struct shape shape = x->shape;
    int64_t count = shape_elements(&shape);
    uint8_t *data = graph_own_memory(g->graph, (size_t)count);

    for (int64_t i = 0; i < count; i++)
        data[i] = random_percent(&g->random, 50);
    struct value *condition = graph_add_constant(g->graph, "condition", DTYPE_BOOL, &shape, data);
    return graph_grow(g, "Where", condition, x, y ? y : graph_number(g, 0.5f), NULL);
}

/* What exporters write for one function. */
static struct value *pattern(struct random_graph *g) {
    struct value *x = graph_pick(g), *y;

    switch (random_range(&g->random, 0, 2)) {
    case 0: /* swish */
        y = graph_grow(g, "Sigmoid", x, NULL);
        return y ? graph_grow(g, "Mul", x, y, NULL) : NULL;
    case 1: /* gelu */
        y = graph_grow(g, "Div", x, graph_number(g, 1.41421354f), NULL);
        y = y ? graph_grow(g, "Erf", y, NULL) : NULL;
        y = y ? graph_grow(g, "Add", y, graph_number(g, 1), NULL) : NULL;
        y = y ? graph_grow(g, "Mul", x, y, NULL) : NULL;
        return y ? graph_grow(g, "Mul", y, graph_number(g, 0.5f), NULL) : NULL;
    default: /* hard swish */
        y = graph_grow(g, "Add", x, graph_number(g, 3), NULL);
        y = y ? graph_grow(g, "Clip", y, graph_number(g, 0), graph_number(g, 6), NULL) : NULL;
        y = y ? graph_grow(g, "Mul", x, y, NULL) : NULL;
        return y ? graph_grow(g, "Div", y, graph_number(g, 6), NULL) : NULL;
    }
}

/* --- Parts and moves ------------------------------------------------------------------------------------ */

static int any_axis(struct random_graph *g, const struct value *x) {
    return x->shape.rank > 1 && random_percent(&g->random, 60)
               ? 1
               : (int)random_range(&g->random, 0, x->shape.rank - 1);
}

static struct value *split(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 1)
        return NULL;
    int axis = any_axis(g, x), parts = (int)random_range(&g->random, 2, 3);
    int64_t size = x->shape.dims[axis], sizes[3];

    if (size < parts)
        return NULL;
    bool even = size % parts == 0 && random_percent(&g->random, 70);
    for (int i = 0, left = (int)size; i < parts; i++) {
        sizes[i] = even             ? size / parts
                   : i == parts - 1 ? left
                                    : random_range(&g->random, 1, left - parts + i + 1);
        left -= (int)sizes[i];
    }
    struct value *inputs[2] = {x, graph_ints(g, parts, sizes)};
    struct node *node = graph_begin_node(g, "Split", inputs, 2, parts);
    if (!node)
        return NULL;

    node_set_int(g->graph, node, "axis", axis);
    return graph_end_node(g, node) ? node->outputs[random_range(&g->random, 0, parts - 1)] : NULL;
}

static struct value *slice(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 1)
        return NULL;
    int64_t axis = any_axis(g, x), size = x->shape.dims[axis], step = random_range(&g->random, 1, 4) / 2;
    int64_t start = random_range(&g->random, 0, size - 1), end = random_range(&g->random, start + 1, size);

    step = step ? step : 1;
    if (random_percent(&g->random, 10)) {
        int64_t swap = start - 1;
        start = end - 1;
        end = swap < 0 ? -size - 1 : swap;
        step = -step;
    }
    return graph_grow(g, "Slice", x, graph_ints(g, 1, &start), graph_ints(g, 1, &end),
                      graph_ints(g, 1, &axis), graph_ints(g, 1, &step), NULL);
}

static struct value *gather(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 1)
        return NULL;
    int axis = any_axis(g, x), count = (int)random_range(&g->random, 1, 3);
    int64_t indices[3], size = x->shape.dims[axis];
    struct shape scalar = {.rank = 0};

    for (int i = 0; i < count; i++)
        indices[i] = random_range(&g->random, -size, size - 1);
    struct value *index = graph_ints(g, count, indices);
    if (x->shape.rank > 1 && random_percent(&g->random, 50))
        index = graph_add_constant(g->graph, "index", DTYPE_I64, &scalar, index->constant->data);

    struct node *node = graph_begin_node(g, "Gather", (struct value *[]){x, index}, 2, 1);
    if (!node)
        return NULL;
    node_set_int(g->graph, node, "axis", axis);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *concat(struct random_graph *g) {
    struct value *x = graph_pick(g), *inputs[3] = {x};
    if (x->shape.rank < 1)
        return NULL;
    int axis = any_axis(g, x), count = 1;

    for (int tries = 0; tries < 12 && count < 3; tries++) {
        struct value *y = graph_pick(g);
        struct shape shape = y->shape;
        if (shape.rank == x->shape.rank)
            shape.dims[axis] = x->shape.dims[axis];
        if (shape_equal(&shape, &x->shape))
            inputs[count++] = y;
    }
    struct node *node = graph_begin_node(g, "Concat", inputs, count, 1);
    if (!node)
        return NULL;
    node_set_int(g->graph, node, "axis", axis);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *transpose(struct random_graph *g) {
    struct value *x = graph_pick(g);
    int rank = x->shape.rank;
    int64_t order[LIMIT_TENSOR_RANK];

    if (rank < 2)
        return NULL;
    for (int i = 0; i < rank; i++)
        order[i] = i;
    for (int i = random_percent(&g->random, 80); i < rank - 1; i++) { /* mostly the batch stays */
        int64_t other = random_range(&g->random, i, rank - 1), swap = order[i];
        order[i] = order[other];
        order[other] = swap;
    }
    struct node *node = graph_begin_node(g, "Transpose", &x, 1, 1);
    if (!node)
        return NULL;
    node_set_ints(g->graph, node, "perm", order, (size_t)rank);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

/* x and what comes of it in another order of axes, turned back and added: mixers and residual 1-D blocks. */
static struct value *turned_residual(struct random_graph *g) {
    static const char *const between[] = {"Relu", "Tanh", "Softplus", "Erf", "Neg"};
    struct value *x = graph_pick(g), *y = transpose(g);

    if (!y || y->producer->inputs[0] != x)
        return y;
    const int64_t *order;
    int64_t inverse[LIMIT_TENSOR_RANK];
    size_t rank = node_ints(y->producer, "perm", &order);
    for (size_t i = 0; i < rank; i++)
        inverse[order[i]] = (int64_t)i;

    y = graph_grow(g, ANY(g, between), y, NULL);
    struct node *node = y ? graph_begin_node(g, "Transpose", &y, 1, 1) : NULL;
    if (!node)
        return NULL;
    node_set_ints(g->graph, node, "perm", inverse, rank);
    if (!graph_end_node(g, node))
        return NULL;
    return graph_grow(g, "Add", x, node->outputs[0], NULL);
}

/* Two axes become one, or one becomes two. */
static struct value *reshape(struct random_graph *g) {
    struct value *x = graph_pick(g);
    int64_t dims[LIMIT_TENSOR_RANK + 1];
    int rank = x->shape.rank, axis = rank > 1 ? (int)random_range(&g->random, 0, rank - 2) : 0, count = 0;
    bool merge = rank > 2 && random_percent(&g->random, 50);

    if (rank < 1 || rank > 5)
        return NULL;
    for (int i = 0; i < rank; i++) {
        int64_t size = x->shape.dims[i], part = random_range(&g->random, 2, 4);
        if (merge && i == axis) {
            dims[count++] = size * x->shape.dims[++i];
        } else if (!merge && i == axis && size % part == 0) {
            dims[count++] = size / part;
            dims[count++] = part;
        } else {
            dims[count++] = size;
        }
    }
    if (dims[0] == x->shape.dims[0])
        dims[0] = 0; /* the batch may be free */
    return graph_grow(g, "Reshape", x, graph_ints(g, count, dims), NULL);
}

static struct value *squeeze(struct random_graph *g) {
    struct value *x = graph_pick(g);
    int64_t axis = random_range(&g->random, 1, x->shape.rank > 1 ? x->shape.rank : 1);

    for (int i = 1; i < x->shape.rank; i++)
        if (x->shape.dims[i] == 1 && random_percent(&g->random, 70))
            return graph_grow(g, "Squeeze", x, graph_ints(g, 1, (int64_t[]){i}), NULL);
    return x->shape.rank >= 1 && x->shape.rank < 5
               ? graph_grow(g, "Unsqueeze", x, graph_ints(g, 1, &axis), NULL)
               : NULL;
}

static struct value *pad(struct random_graph *g) {
    static const char *const modes[] = {"constant", "edge", "reflect"};
    struct value *x = graph_pick(g);
    int rank = x->shape.rank;
    int64_t pads[2 * LIMIT_TENSOR_RANK] = {0};

    if (rank < 2)
        return NULL;
    for (int i = 1; i < rank; i++)
        for (int side = 0; side < 2; side++)
            pads[side * rank + i] = x->shape.dims[i] > 1 ? random_range(&g->random, 0, 1) : 0;
    struct value *inputs[2] = {x, graph_ints(g, 2 * rank, pads)};
    struct node *node = graph_begin_node(g, "Pad", inputs, 2, 1);
    if (!node)
        return NULL;
    node_set_text(g, node, "mode", ANY(g, modes));
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *expand(struct random_graph *g) {
    struct value *x = graph_pick(g);
    int64_t dims[LIMIT_TENSOR_RANK];

    if (x->shape.rank < 1)
        return NULL;
    for (int i = 0; i < x->shape.rank; i++)
        dims[i] = i > 0 && x->shape.dims[i] == 1 ? random_range(&g->random, 1, 4) : 1;
    return graph_grow(g, random_percent(&g->random, 50) ? "Expand" : "Tile", x,
                      graph_ints(g, x->shape.rank, dims), NULL);
}

/* --- Windows and products ------------------------------------------------------------------------------- */

/* Kernel, strides, dilations and pads that fit x; returns the kernel's size in ret. */
static void set_window(struct random_graph *g, struct node *node, const struct value *x,
                       const int64_t *kernel, bool dilated) {
    int64_t strides[3] = {1, 1, 1}, dilations[3] = {1, 1, 1}, pads[6] = {0};
    int axes = x->shape.rank - 2;

    for (int i = 0; i < axes; i++) {
        strides[i] = random_percent(&g->random, 70) ? 1 : 2;
        dilations[i] = dilated && random_percent(&g->random, 15) ? 2 : 1;
        pads[i] = random_percent(&g->random, 60) ? kernel[i] / 2 : 0;
        pads[axes + i] = random_percent(&g->random, 90) ? pads[i] : 0;
    }
    node_set_ints(g->graph, node, "strides", strides, (size_t)axes);
    node_set_ints(g->graph, node, "pads", pads, 2 * (size_t)axes);
    if (dilated)
        node_set_ints(g->graph, node, "dilations", dilations, (size_t)axes);
}

static int64_t any_groups(struct random_graph *g, int64_t channels) {
    int64_t kind = random_range(&g->random, 0, 9);

    if (kind < 6)
        return 1;
    if (kind < 8)
        return channels;
    for (int64_t groups = 2; groups <= 4; groups++)
        if (channels % groups == 0 && random_percent(&g->random, 60))
            return groups;
    return 1;
}

static struct value *conv(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 3 || x->shape.rank > 4)
        return NULL;
    int64_t inputs = x->shape.dims[1], groups = any_groups(g, inputs), dims[4];
    bool same = random_percent(&g->random, 50);

    dims[0] = same ? inputs : groups * random_range(&g->random, 1, 24 / groups + 1);
    dims[1] = inputs / groups;
    int64_t kernel = random_percent(&g->random, 50) ? 1 : 3, depth = dims[1];
    for (int i = 2; i < x->shape.rank; i++)
        depth *= dims[i] = kernel;

    struct value *weights = graph_floats(g, 1.7f / sqrtf((float)depth), x->shape.rank, dims);
    struct value *given[3] = {x, weights,
                              random_percent(&g->random, 60) ? graph_vector(g, 0.5f, dims[0]) : NULL};
    struct node *node = graph_begin_node(g, "Conv", given, given[2] ? 3 : 2, 1);
    if (!node)
        return NULL;
    node_set_int(g->graph, node, "group", groups);
    set_window(g, node, x, dims + 2, true);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *conv_residual(struct random_graph *g) {
    static const char *const after[] = {"Relu", "Sigmoid", "HardSwish", "Tanh", "Elu"};
    struct value *y = conv(g), *x = y ? graph_pick_alike(g, y) : NULL;

    if (y && !x && shape_equal(&y->shape, &y->producer->inputs[0]->shape))
        x = y->producer->inputs[0];
    if (y && random_percent(&g->random, 40))
        y = graph_grow(g, ANY(g, after), y, NULL);
    y = x && y ? graph_grow(g, "Add", y, x, NULL) : y;
    return y && random_percent(&g->random, 50) ? graph_grow(g, ANY(g, after), y, NULL) : y;
}

static struct value *conv_transpose(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank != 4)
        return NULL;
    int64_t kernel = random_range(&g->random, 1, 3);
    const int64_t dims[4] = {x->shape.dims[1], random_range(&g->random, 1, 12), kernel, kernel};
    struct value *inputs[2] = {x, graph_floats(g, 1 / sqrtf((float)dims[0]), 4, dims)};
    struct node *node = graph_begin_node(g, "ConvTranspose", inputs, 2, 1);

    if (!node)
        return NULL;
    const int64_t strides[2] = {random_range(&g->random, 1, 2), random_range(&g->random, 1, 2)};
    node_set_ints(g->graph, node, "strides", strides, 2);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *pool(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 3 || x->shape.rank > 4)
        return NULL;
    bool average = random_percent(&g->random, 50);
    struct node *node = graph_begin_node(g, average ? "AveragePool" : "MaxPool", &x, 1, 1);
    int64_t kernel[3];
    if (!node)
        return NULL;

    for (int i = 2; i < x->shape.rank; i++)
        kernel[i - 2] = random_range(&g->random, 1, x->shape.dims[i] < 3 ? x->shape.dims[i] : 3);
    node_set_ints(g->graph, node, "kernel_shape", kernel, (size_t)x->shape.rank - 2);
    set_window(g, node, x, kernel, false);
    node_set_int(g->graph, node, "ceil_mode", random_percent(&g->random, 20));
    if (average)
        node_set_int(g->graph, node, "count_include_pad", random_percent(&g->random, 50));
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *global_pool(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 3)
        return NULL;
    struct value *y =
        graph_grow(g, random_percent(&g->random, 50) ? "GlobalAveragePool" : "GlobalMaxPool", x, NULL);

    if (y && random_percent(&g->random, 50)) { /* squeeze and excite */
        y = graph_grow(g, "Sigmoid", y, NULL);
        return y ? graph_grow(g, "Mul", x, y, NULL) : NULL;
    }
    return y;
}

static struct value *matmul(struct random_graph *g) {
    struct value *x = graph_pick(g), *y;
    int rank = x->shape.rank;
    if (rank < 2)
        return NULL;

    if (random_percent(&g->random, 30)) { /* x x' */
        int64_t order[LIMIT_TENSOR_RANK];
        struct node *node = graph_begin_node(g, "Transpose", &x, 1, 1);
        if (!node)
            return NULL;
        for (int i = 0; i < rank; i++)
            order[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
        node_set_ints(g->graph, node, "perm", order, (size_t)rank);
        y = graph_end_node(g, node) ? graph_grow(g, "MatMul", x, node->outputs[0], NULL) : NULL;
        return y ? graph_grow(g, "Mul", y, graph_number(g, 0.1f), NULL) : NULL;
    }
    const int64_t dims[2] = {x->shape.dims[rank - 1], random_range(&g->random, 1, 24)};
    y = graph_grow(g, "MatMul", x, graph_floats(g, 1.7f / sqrtf((float)dims[0]), 2, dims), NULL);
    return y && random_percent(&g->random, 60) ? graph_grow(g, "Add", y, graph_vector(g, 0.5f, dims[1]), NULL)
                                               : y;
}

static struct value *gemm(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 2)
        return NULL;
    if (x->shape.rank != 2)
        x = graph_grow(g, "Flatten", x, NULL);
    if (!x)
        return NULL;

    bool transposed = random_percent(&g->random, 50);
    int64_t depth = x->shape.dims[1], columns = random_range(&g->random, 1, 24);
    const int64_t dims[2] = {transposed ? columns : depth, transposed ? depth : columns};
    struct value *inputs[3] = {x, graph_floats(g, 1.7f / sqrtf((float)depth), 2, dims),
                               graph_vector(g, 0.5f, columns)};
    struct node *node = graph_begin_node(g, "Gemm", inputs, random_percent(&g->random, 70) ? 3 : 2, 1);
    if (!node)
        return NULL;
    node_set_int(g->graph, node, "transB", transposed);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

/* --- Normalization and reduction ------------------------------------------------------------------------ */

static struct value *batch_norm(struct random_graph *g) {
    struct value *x = graph_pick(g);
    if (x->shape.rank < 2)
        return NULL;
    int64_t channels = x->shape.dims[1];
    struct value *variance = graph_vector(g, 0.4f, channels);

    for (int64_t c = 0; c < channels; c++)
        ((float *)variance->constant->data)[c] += 1;
    return graph_grow(g, "BatchNormalization", x, graph_vector(g, 1, channels),
                      graph_vector(g, 0.5f, channels), graph_vector(g, 0.5f, channels), variance, NULL);
}

/* Where all numbers are nearly alike, a norm only shows their rounding. */
static struct value *norm(struct random_graph *g) {
    struct value *x = graph_pick(g);
    int rank = x->shape.rank;
    if (rank < 3)
        return NULL;
    bool instance = random_percent(&g->random, 40);
    int64_t count = x->shape.dims[instance ? 1 : rank - 1];
    struct value *inputs[3] = {x, graph_vector(g, 1, count), graph_vector(g, 0.5f, count)};
    struct node *node =
        graph_begin_node(g, instance ? "InstanceNormalization" : "LayerNormalization", inputs, 3, 1);

    if (!node)
        return NULL;
    node_set_float(g->graph, node, "epsilon", 0.1f);
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *softmax(struct random_graph *g) {
    static const char *const names[] = {"Softmax", "Softmax", "LogSoftmax"};
    struct value *x = graph_pick(g);
    if (x->shape.rank < 1)
        return NULL;
    struct node *node = graph_begin_node(g, ANY(g, names), &x, 1, 1);

    if (!node)
        return NULL;
    node_set_int(g->graph, node, "axis", random_range(&g->random, -1, x->shape.rank - 1));
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *reduce(struct random_graph *g) {
    static const char *const names[] = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1"};
    struct value *x = graph_pick(g);
    if (x->shape.rank < 2)
        return NULL;
    int64_t axes[2] = {random_range(&g->random, 1, x->shape.rank - 1), x->shape.rank - 1};
    int count = axes[0] != axes[1] && random_percent(&g->random, 40) ? 2 : 1;
    struct value *inputs[2] = {x, graph_ints(g, count, axes)};
    struct node *node = graph_begin_node(g, ANY(g, names), inputs, 2, 1);

    if (!node)
        return NULL;
    node_set_int(g->graph, node, "keepdims", random_percent(&g->random, 60));
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

static struct value *resize(struct random_graph *g) {
    static const char *const modes[] = {"nearest", "linear", "linear", "cubic"};
    struct value *x = graph_pick(g);
    if (x->shape.rank != 4)
        return NULL;
    const float scales[4] = {1, 1, (float)random_range(&g->random, 1, 2),
                             (float)random_range(&g->random, 1, 2)};
    struct value *factors = graph_vector(g, 0, 4);
    struct value *inputs[3] = {x, NULL, factors};

    memcpy(factors->constant->data, scales, sizeof scales);
    struct node *node = graph_begin_node(g, "Resize", inputs, 3, 1);
    if (!node)
        return NULL;
    node_set_text(g, node, "mode", ANY(g, modes));
    return graph_end_node(g, node) ? node->outputs[0] : NULL;
}

/* --- All of them ---------------------------------------------------------------------------------------- */

struct value *recipe_any(struct random_graph *g) {
    static const struct {
        graph_recipe recipe;
        int weight;
    } recipes[] = {
        {unary, 12},  {clip, 4},          {guarded, 3},         {exponential, 2}, {rounding, 2},
        {binary, 18}, {division, 2},      {prelu, 2},           {selection, 3},   {pattern, 4},
        {split, 10},  {slice, 8},         {gather, 6},          {concat, 6},      {transpose, 5},
        {reshape, 6}, {squeeze, 3},       {turned_residual, 4}, {pad, 3},         {expand, 2},
        {conv, 8},    {conv_residual, 6}, {conv_transpose, 1},  {pool, 6},        {global_pool, 3},
        {matmul, 5},  {gemm, 3},          {batch_norm, 4},      {norm, 5},        {softmax, 3},
        {reduce, 4},  {resize, 2},
    };
    int64_t total = 0;

    for (int64_t i = 0; i < COUNT(recipes); i++)
        total += recipes[i].weight;
    for (int tries = 0; tries < 20; tries++) {
        int64_t left = random_range(&g->random, 0, total - 1), i = 0;
        while (left >= recipes[i].weight)
            left -= recipes[i++].weight;

        struct value *made = recipes[i].recipe(g);
        if (made)
            return made;
    }
    return NULL;
}
