/* Gradients of matrix products, sums and normalisations. */
#include "ops/family.h"
#include "ops/gradient.h"

/* a x b, each perhaps transposed. */
static struct value *product(struct gradient *gradient, struct value *a, bool turn_a, struct value *b,
                             bool turn_b) {
    struct value *inputs[] = {a, b};
    struct node *node = gradient_node(gradient, "", "Gemm", inputs, 2);
    if (!node)
        return NULL;
    if (!node_set_int(gradient->graph, node, "transA", turn_a) ||
        !node_set_int(gradient->graph, node, "transB", turn_b)) {
        node_memory_error(gradient->node, gradient->error);
        return NULL;
    }
    return gradient_value(gradient, node);
}

bool gradient_gemm(struct gradient *gradient) {
    const struct node *node = gradient->node;
    bool turn_a = node_int(node, "transA", 0), turn_b = node_int(node, "transB", 0);
    struct value *a = node->inputs[0], *b = node->inputs[1];
    struct value *g = gradient_scaled(gradient, gradient->outputs[0], node_float(node, "alpha", 1));
    if (!g)
        return false;

    if (gradient->wanted[0])
        gradient->inputs[0] =
            turn_a ? product(gradient, b, turn_b, g, true) : product(gradient, g, false, b, !turn_b);
    if (gradient->wanted[1])
        gradient->inputs[1] =
            turn_b ? product(gradient, g, true, a, turn_a) : product(gradient, a, !turn_a, g, false);
    if (node->input_count > 2 && gradient->wanted[2])
        gradient->inputs[2] = gradient_sum_to(
            gradient, gradient_scaled(gradient, gradient->outputs[0], node_float(node, "beta", 1)),
            &node->inputs[2]->shape);

    for (int i = 0; i < node->input_count; i++)
        if (gradient->wanted[i] && !gradient->inputs[i])
            return false;
    return true;
}

/* The last two axes change places. */
static struct value *turned(struct gradient *gradient, struct value *value) {
    int64_t order[LIMIT_TENSOR_RANK];
    int rank = value->shape.rank;
    for (int i = 0; i < rank; i++)
        order[i] = i < rank - 2 ? i : 2 * rank - 3 - i;
    struct node *node = gradient_node(gradient, "", "Transpose", &value, 1);
    if (node && !node_set_ints(gradient->graph, node, "perm", order, (size_t)rank)) {
        node_memory_error(gradient->node, gradient->error);
        return NULL;
    }
    return gradient_value(gradient, node);
}

static struct value *as_matrix(struct gradient *gradient, struct value *value) {
    const struct shape *shape = &value->shape;
    const struct shape flat = {
        .rank = 2, .dims = {shape_product(shape, 0, shape->rank - 1), shape->dims[shape->rank - 1]}};
    return gradient_shaped(gradient, value, &flat);
}

bool gradient_matmul(struct gradient *gradient) {
    const struct node *node = gradient->node;
    struct value *a = node->inputs[0], *b = node->inputs[1], *g = gradient->outputs[0];
    if (a->shape.rank < 2 || b->shape.rank < 2)
        return node_error(node, gradient->error, "a product with a vector has no gradient");

    if (b->shape.rank == 2) { /* all matrices of a at once */
        struct value *rows = as_matrix(gradient, a), *flat = as_matrix(gradient, g);
        if (!rows || !flat)
            return false;
        if (gradient->wanted[0])
            gradient->inputs[0] =
                gradient_shaped(gradient, product(gradient, flat, false, b, true), &a->shape);
        if (gradient->wanted[1])
            gradient->inputs[1] = product(gradient, rows, true, flat, false);
    } else {
        if (gradient->wanted[0])
            gradient->inputs[0] = gradient_sum_to(
                gradient, gradient_apply(gradient, "MatMul", g, turned(gradient, b)), &a->shape);
        if (gradient->wanted[1])
            gradient->inputs[1] = gradient_sum_to(
                gradient, gradient_apply(gradient, "MatMul", turned(gradient, a), g), &b->shape);
    }
    return (!gradient->wanted[0] || gradient->inputs[0]) && (!gradient->wanted[1] || gradient->inputs[1]);
}

/* ---- Sums along axes ---- */

bool gradient_reduce(struct gradient *gradient) {
    const struct node *node = gradient->node;
    const struct shape *x = &node->inputs[0]->shape, *y = &node->outputs[0]->shape;
    int axes_input = node->input_count > 1 ? 1 : -1;
    bool flags[LIMIT_TENSOR_RANK] = {false}, given = false;
    if (!node_is(node, "ReduceSum") && !node_is(node, "ReduceMean"))
        return node_error(node, gradient->error, "it has no gradient: this network cannot be trained");
    if (!node_read_axes(node, axes_input, x->rank, flags, &given, gradient->error))
        return false;
    if (!given && node_int(node, "noop_with_empty_axes", 0))
        return (gradient->inputs[0] = gradient->outputs[0]) != NULL;

    struct shape kept = *x;
    for (int i = 0; i < x->rank; i++)
        if (!given || flags[i])
            kept.dims[i] = 1;
    double share = (double)shape_elements(y) / (double)shape_elements(x);
    struct value *g =
        gradient_scaled(gradient, gradient->outputs[0], node_is(node, "ReduceMean") ? share : 1);
    gradient->inputs[0] = gradient_expanded(gradient, gradient_shaped(gradient, g, &kept), x);
    return gradient->inputs[0] != NULL;
}

/* The sum along the node's axis. */
static struct value *sum_along(struct gradient *gradient, struct value *value) {
    bool axes[LIMIT_TENSOR_RANK] = {false};
    axes[node_along_axis(gradient->node)] = true;
    return gradient_sum(gradient, value, axes);
}

/* Before opset 13, Softmax looks along all axes from its own on: the same for the last one. */
static bool is_along_one_axis(const struct gradient *gradient) {
    const struct node *node = gradient->node;
    return node->opset >= 13 || node_along_axis(node) == node->inputs[0]->shape.rank - 1 ||
           node_error(node, gradient->error, "the gradient along several axes is not known");
}

bool gradient_softmax(struct gradient *gradient) {
    struct value *y = gradient->node->outputs[0], *g = gradient->outputs[0];
    if (!is_along_one_axis(gradient))
        return false;

    struct value *product = gradient_apply(gradient, "Mul", g, y);
    struct value *sum = product ? sum_along(gradient, product) : NULL;
    struct value *rest = sum ? gradient_apply(gradient, "Sub", g, sum) : NULL;
    return rest && (gradient->inputs[0] = gradient_apply(gradient, "Mul", rest, y));
}

bool gradient_log_softmax(struct gradient *gradient) {
    struct value *g = gradient->outputs[0];
    if (!is_along_one_axis(gradient))
        return false;

    struct value *shares = gradient_apply(gradient, "Exp", gradient->node->outputs[0], NULL);
    struct value *sum = sum_along(gradient, g);
    struct value *part = shares && sum ? gradient_apply(gradient, "Mul", shares, sum) : NULL;
    return part && (gradient->inputs[0] = gradient_apply(gradient, "Sub", g, part));
}

/* ---- Normalisations ---- */

static struct value *constant(struct gradient *gradient, double number) {
    const struct shape scalar = {.rank = 0};
    float *data = arena_allocate(gradient->graph->arena, sizeof *data);
    if (data)
        *data = (float)number;
    struct value *value = data ? graph_add_constant(gradient->graph, "", DTYPE_F32, &scalar, data) : NULL;
    if (!value)
        node_memory_error(gradient->node, gradient->error);
    return value;
}

/* 1 / sqrt(variance + epsilon) */
static struct value *inverse_deviation(struct gradient *gradient, struct value *variance, double epsilon) {
    struct value *more = variance ? constant(gradient, epsilon) : NULL;
    struct value *sum = more ? gradient_apply(gradient, "Add", variance, more) : NULL;
    struct value *root = sum ? gradient_apply(gradient, "Sqrt", sum, NULL) : NULL;
    return root ? gradient_apply(gradient, "Reciprocal", root, NULL) : NULL;
}

/* Layer normalisation looks along several axes at the end. */
struct layer_norm {
    struct gradient *gradient;
    bool axes[LIMIT_TENSOR_RANK];
    int64_t count;
};

static struct value *mean(const struct layer_norm *norm, struct value *value) {
    return value ? gradient_scaled(norm->gradient, gradient_sum(norm->gradient, value, norm->axes),
                                   1.0 / (double)norm->count)
                 : NULL;
}

/* scale, divided by the deviation, times (g - mean(g) - normal * mean(g * normal)), g being of the scaled. */
static struct value *by_layer(const struct layer_norm *norm, struct value *g, struct value *normal,
                              struct value *inverse) {
    struct gradient *gradient = norm->gradient;
    struct value *product = g && normal ? gradient_apply(gradient, "Mul", g, normal) : NULL;
    struct value *slope = mean(norm, product), *level = mean(norm, g);
    struct value *tilt = slope ? gradient_apply(gradient, "Mul", normal, slope) : NULL;
    struct value *rest = level ? gradient_apply(gradient, "Sub", g, level) : NULL;
    rest = rest && tilt ? gradient_apply(gradient, "Sub", rest, tilt) : NULL;
    return rest && inverse ? gradient_apply(gradient, "Mul", rest, inverse) : NULL;
}

bool gradient_layer_norm(struct gradient *gradient) {
    const struct node *node = gradient->node;
    struct value *x = node->inputs[0], *scale = node->inputs[1], *g = gradient->outputs[0];
    struct layer_norm norm = {.gradient = gradient, .count = 1};
    for (int i = node_along_axis(node); i < x->shape.rank; i++) {
        norm.axes[i] = true;
        norm.count *= x->shape.dims[i];
    }

    struct value *level = mean(&norm, x);
    struct value *centred = level ? gradient_apply(gradient, "Sub", x, level) : NULL;
    struct value *square = centred ? gradient_apply(gradient, "Mul", centred, centred) : NULL;
    struct value *inverse =
        inverse_deviation(gradient, mean(&norm, square), node_float(node, "epsilon", 1e-5f));
    struct value *normal = inverse ? gradient_apply(gradient, "Mul", centred, inverse) : NULL;
    if (!normal)
        return false;

    if (gradient->wanted[0])
        gradient->inputs[0] = by_layer(&norm, gradient_apply(gradient, "Mul", g, scale), normal, inverse);
    if (gradient->wanted[1])
        gradient->inputs[1] =
            gradient_sum_to(gradient, gradient_apply(gradient, "Mul", g, normal), &scale->shape);
    if (node->input_count > 2 && gradient->wanted[2])
        gradient->inputs[2] = gradient_sum_to(gradient, g, &node->inputs[2]->shape);

    for (int i = 0; i < node->input_count; i++)
        if (gradient->wanted[i] && !gradient->inputs[i])
            return false;
    return true;
}

/* A value a channel, as [channels, 1, …] to be broadcast. */
static struct value *by_channel(struct gradient *gradient, struct value *value) {
    struct shape shape = {.rank = gradient->node->inputs[0]->shape.rank - 1};
    if (!value)
        return NULL;
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = i ? 1 : value->shape.dims[0];
    return gradient_shaped(gradient, value, &shape);
}

/* With statistics that stay as they are. */
bool gradient_batch_norm(struct gradient *gradient) {
    const struct node *node = gradient->node;
    struct value *const *in = node->inputs, *g = gradient->outputs[0];
    bool axes[LIMIT_TENSOR_RANK];
    for (int i = 0; i < LIMIT_TENSOR_RANK; i++)
        axes[i] = i != 1;
    if (gradient->wanted[3] || gradient->wanted[4] || node_int(node, "training_mode", 0))
        return node_error(node, gradient->error, "its statistics cannot be trained");

    struct value *inverse = inverse_deviation(gradient, in[4], node_float(node, "epsilon", 1e-5f));
    struct value *factor = inverse ? gradient_apply(gradient, "Mul", in[1], inverse) : NULL;
    if (gradient->wanted[0] && factor)
        gradient->inputs[0] = gradient_apply(gradient, "Mul", g, by_channel(gradient, factor));
    if (gradient->wanted[1] && inverse) {
        struct value *centred = gradient_apply(gradient, "Sub", in[0], by_channel(gradient, in[3]));
        struct value *normal =
            centred ? gradient_apply(gradient, "Mul", centred, by_channel(gradient, inverse)) : NULL;
        struct value *product = normal ? gradient_apply(gradient, "Mul", g, normal) : NULL;
        gradient->inputs[1] = gradient_shaped(gradient, gradient_sum(gradient, product, axes), &in[1]->shape);
    }
    if (gradient->wanted[2])
        gradient->inputs[2] = gradient_shaped(gradient, gradient_sum(gradient, g, axes), &in[2]->shape);

    for (int i = 0; i < 3; i++)
        if (gradient->wanted[i] && !gradient->inputs[i])
            return false;
    return true;
}
