/* Fold batch normalisation, and arithmetic with a constant for each channel, into the weights of the
 * convolution or matrix product before it: (W x + b) s + t = (s W) x + (s b + t). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/rewrite.h"

/* A node with weights, seen as y[channel] = … weights[outer][channel][inner] … + bias[channel]. */
struct affine_target {
    struct node *node;
    int64_t channels; /* of the result, in total */
    int64_t outer, n, inner;
    int64_t outer_per_group; /* channel = outer / outer_per_group * n + index */
    int rank;                /* of the result; 1 where only the last axis is known */
    int axes_after;          /* axes after the channels' */
    bool takes_bias;
};

/* result = scale * x + shift, by channel. */
struct affine {
    double *scale, *shift; /* [channels] */
};

static bool bias_fits(const struct node *node, int64_t channels, bool may_be_scalar) {
    int64_t count = 0;
    const struct value *bias = node_input(node, 2);
    if (!bias)
        return true;

    return constant_floats(bias, &count) && (count == channels || (may_be_scalar && count == 1));
}

static bool describe_convolution(struct node *node, const struct shape *shape, struct affine_target *ret) {
    bool transposed = node_is(node, "ConvTranspose");
    int64_t group = node_int(node, "group", 1), inner = 1;
    if (shape->rank < 3 || group < 1 || shape->dims[0] % group)
        return false;

    for (int i = transposed ? 2 : 1; i < shape->rank; i++)
        inner *= shape->dims[i];

    int64_t n = shape->dims[transposed ? 1 : 0];
    *ret = (struct affine_target){.node = node,
                                  .channels = transposed ? n * group : n,
                                  .outer = transposed ? shape->dims[0] : 1,
                                  .n = n,
                                  .inner = inner,
                                  .outer_per_group = transposed ? shape->dims[0] / group : 1,
                                  .rank = shape->rank,
                                  .axes_after = shape->rank - 2,
                                  .takes_bias = true};

    return ret->outer_per_group > 0 && bias_fits(node, ret->channels, false);
}

static bool describe_product(struct node *node, const struct shape *shape, struct affine_target *ret) {
    if (shape->rank != 2)
        return false;
    bool gemm = node_is(node, "Gemm"), rows = gemm && node_int(node, "transB", 0);
    int64_t n = shape->dims[rows ? 0 : 1], k = shape->dims[rows ? 1 : 0];

    *ret = (struct affine_target){.node = node,
                                  .channels = n,
                                  .outer = rows ? 1 : k,
                                  .n = n,
                                  .inner = rows ? k : 1,
                                  .outer_per_group = rows || !k ? 1 : k,
                                  .rank = gemm ? 2 : 1,
                                  .takes_bias = gemm};
    return !gemm || bias_fits(node, n, true);
}

static bool describe_target(struct node *node, struct affine_target *ret) {
    int64_t count = 0;
    if (!node || node->post_op_count || node->input_count < 2 || !constant_floats(node->inputs[1], &count) ||
        count < 1)
        return false;

    const struct shape *shape = &node->inputs[1]->constant->shape;
    if (node_is(node, "Conv") || node_is(node, "ConvTranspose"))
        return describe_convolution(node, shape, ret);
    if (node_is(node, "Gemm") || node_is(node, "MatMul"))
        return describe_product(node, shape, ret);

    return false;
}

/* How far apart a constant's numbers for neighbouring channels of the result are: 0 for a scalar, 1 for one a
 * channel, -1 for anything else. */
static int channel_step(const struct affine_target *target, const struct shape *shape, int64_t count) {
    if (count == 1)
        return shape->rank <= target->rank ? 0 : -1;
    int axis = shape->rank - 1 - target->axes_after;
    if (shape->rank > target->rank || axis < 0 || shape->dims[axis] != target->channels ||
        count != target->channels)
        return -1;

    return 1;
}

static bool read_batch_norm(const struct node *node, const struct affine_target *target,
                            struct affine *affine) {
    const float *parameters[4];
    for (int i = 0; i < 4; i++) {
        int64_t count = 0;
        parameters[i] = constant_floats(node_input(node, i + 1), &count);
        if (!parameters[i] || count != target->channels)
            return false;
    }

    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || node->outputs[i]->is_output))
            return false;

    if (node_int(node, "training_mode", 0) || !node_int(node, "spatial", 1) || !target->takes_bias)
        return false;

    double epsilon = node_float(node, "epsilon", 1e-5f);
    for (int64_t c = 0; c < target->channels; c++) {
        affine->scale[c] = parameters[0][c] / sqrt(parameters[3][c] + epsilon);
        affine->shift[c] = parameters[1][c] - parameters[2][c] * affine->scale[c];
    }

    return true;
}

enum arithmetic { ARITHMETIC_NONE, MULTIPLY, DIVIDE, ADD, SUBTRACT };

static enum arithmetic arithmetic_of(const struct node *node) {
    if (node->input_count != 2 || !node_is_elementwise(node))
        return ARITHMETIC_NONE;

    return node_is(node, "Mul")   ? MULTIPLY
           : node_is(node, "Div") ? DIVIDE
           : node_is(node, "Add") ? ADD
           : node_is(node, "Sub") ? SUBTRACT
                                  : ARITHMETIC_NONE;
}

/* The target's result x is input `position` of the node, the other is the constant c. */
static bool read_arithmetic(const struct node *node, int position, const struct affine_target *target,
                            struct affine *affine) {
    int64_t count = 0;
    enum arithmetic arithmetic = arithmetic_of(node);
    const struct value *other = node_input(node, 1 - position);
    const float *numbers = constant_floats(other, &count);
    if (!numbers || node->opset < 7) /* before 7, broadcasting had attributes */
        return false;

    int step = channel_step(target, &other->constant->shape, count);
    bool shifts = arithmetic == ADD || arithmetic == SUBTRACT;
    if (step < 0 || (shifts && !target->takes_bias) || (arithmetic == DIVIDE && position == 1))
        return false;

    for (int64_t channel = 0; channel < target->channels; channel++) {
        double c = numbers[channel * step], scale = 1, shift = 0;
        if (arithmetic == MULTIPLY)
            scale = c;
        else if (arithmetic == DIVIDE)
            scale = 1 / c;
        else if (arithmetic == ADD)
            shift = c;
        else if (position == 0) /* x - c */
            shift = -c;
        else /* c - x */
            scale = -1, shift = c;

        affine->scale[channel] = scale;
        affine->shift[channel] = shift;
    }

    return true;
}

static bool affine_is_finite(const struct affine *affine, int64_t channels) {
    for (int64_t c = 0; c < channels; c++)
        if (!isfinite((float)affine->scale[c]) || !isfinite((float)affine->shift[c]))
            return false;
    return true;
}

static bool scale_weights(struct graph *graph, const struct affine_target *target,
                          const struct affine *affine) {
    bool same = true;
    for (int64_t c = 0; c < target->channels; c++)
        same = same && affine->scale[c] == 1;

    if (same)
        return true;
    float *weights = node_writable_floats(graph, target->node, 1);
    if (!weights)
        return false;

    int64_t rows = target->outer * target->n;
#pragma omp parallel for if (rows * target->inner > 1 << 18)
    for (int64_t row = 0; row < rows; row++) {
        int64_t channel = row / target->n / target->outer_per_group * target->n + row % target->n;
        float scale = (float)affine->scale[channel], *weight = weights + row * target->inner;
        for (int64_t i = 0; i < target->inner; i++)
            weight[i] *= scale;
    }

    return true;
}

static bool change_bias(struct graph *graph, const struct affine_target *target,
                        const struct affine *affine) {
    struct value *old = node_input(target->node, 2);
    int64_t count = 0;
    const float *numbers = constant_floats(old, &count);
    bool empty = !numbers;

    for (int64_t c = 0; c < target->channels && empty; c++)
        empty = affine->shift[c] == 0;

    if (empty)
        return true;

    float *bias;
    bool gemm = node_is(target->node, "Gemm");
    double beta = gemm ? node_float(target->node, "beta", 1) : 1;
    struct value *value = graph_add_floats(graph, &(struct shape){1, {target->channels}}, &bias);
    if (!value)
        return false;

    for (int64_t c = 0; c < target->channels; c++) {
        double number = numbers ? beta * numbers[count == 1 ? 0 : c] : 0;
        bias[c] = (float)(number * affine->scale[c] + affine->shift[c]);
    }

    if (!node_set_input(graph, target->node, 2, value) ||
        (beta != 1 && !node_set_float(graph, target->node, "beta", 1)))
        return false;

    if (old)
        value_release_constant(graph, old);

    return true;
}

/* 1: folded, and the node removed; 0: it stays; -1: memory is out. */
static int fold_into(struct graph *graph, struct node *node, int position) {
    struct affine_target target;
    if (!describe_target(sole_producer(node_input(node, position)), &target))
        return 0;

    struct affine affine = {calloc((size_t)target.channels, sizeof(double)),
                            calloc((size_t)target.channels, sizeof(double))};
    int result = affine.scale && affine.shift ? 0 : -1;
    bool fits = result == 0 &&
                (node_is(node, "BatchNormalization") ? read_batch_norm(node, &target, &affine)
                                                     : read_arithmetic(node, position, &target, &affine));

    if (fits && affine_is_finite(&affine, target.channels)) {
        bool done = scale_weights(graph, &target, &affine) && change_bias(graph, &target, &affine) &&
                    node_bypass(graph, node, target.node->outputs[0]);
        result = done ? 1 : -1;
    }

    free(affine.scale);
    free(affine.shift);

    return result;
}

/* How many inputs of the node, from the first on, may be the value that it scales and shifts. */
static int affine_inputs(const struct node *node) {
    if (node->post_op_count || node->output_count < 1 || !node->outputs[0])
        return 0;
    if (node_is(node, "BatchNormalization"))
        return 1;

    return arithmetic_of(node) == ARITHMETIC_NONE ? 0 : 2;
}

bool passes_fold_affine(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first, *next; node; node = next) {
        int result = 0, inputs = affine_inputs(node);
        next = node->next;

        for (int i = 0; i < inputs && !result; i++)
            result = fold_into(graph, node, i);

        if (result < 0)
            return error_set(error, ERROR_MEMORY, "not enough memory to fold node %s into its weights",
                             node->name);
    }

    return true;
}
