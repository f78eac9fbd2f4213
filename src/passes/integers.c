/* Make a quantized graph ready to run in integers, once, at load: weights become signed and symmetric, other
 * constants float. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

/* A DequantizeLinear with one constant scale and zero point for the whole tensor, of 8-bit integers. */
bool dequantizes_tensor(const struct node *node, float *ret_scale, int32_t *ret_zero_point) {
    const struct value *zero = node ? node_input(node, 2) : NULL;
    if (!node || !value_scalar(node_input(node, 1), ret_scale) || !(*ret_scale > 0) ||
        (zero && (!zero->constant || shape_elements(&zero->constant->shape) != 1)))
        return false;

    *ret_zero_point = zero ? (int32_t)tensor_get_i64(zero->constant, 0) : 0;
    return true;
}

bool dequantizes_again(const struct node *dequantize, const struct node *quantize) {
    const struct value *zero = node_input(dequantize, 2), *other = node_input(quantize, 2);
    return node_is(dequantize, "DequantizeLinear") &&
           constants_equal(node_input(dequantize, 1), node_input(quantize, 1)) &&
           (constants_equal(zero, other) || (!zero && constant_is_zero(other)) ||
            (!other && constant_is_zero(zero)));
}

/* The axis of the weights that counts output channels; -1: the node is not a product that runs in integers.
 */
static int channel_axis(const struct node *node) {
    const struct node *weights = producer_of(node_input(node, 1), "DequantizeLinear");
    if (!weights || !weights->inputs[0]->constant)
        return -1;

    const struct shape *shape = &weights->inputs[0]->constant->shape;
    enum dtype dtype = weights->inputs[0]->constant->dtype;
    if (dtype != DTYPE_I8 && dtype != DTYPE_U8)
        return -1;
    if (node_is(node, "Conv"))
        return shape->rank >= 3 && shape->rank <= 5 ? 0 : -1;
    if (node_is(node, "MatMul"))
        return shape->rank == 2 ? 1 : -1;

    bool plain = node_is(node, "Gemm") && shape->rank == 2 && !node_int(node, "transA", 0) &&
                 node_float(node, "alpha", 1) == 1 && node_float(node, "beta", 1) == 1;
    return plain ? (node_int(node, "transB", 0) ? 0 : 1) : -1;
}

/* Weights channel by channel: (q - zero_point) in [-255, 255], and their scale. */
struct weight_channels {
    int64_t count, inner, outer; /* element (o, c, i) lies at (o * count + c) * inner + i */
    const struct tensor *weights, *scales, *zero_points;
    bool per_channel;
};

static bool describe_channels(const struct node *dequantize, int axis, struct weight_channels *ret) {
    const struct value *scales = node_input(dequantize, 1), *zero_points = node_input(dequantize, 2);
    const struct tensor *weights = dequantize->inputs[0]->constant;
    *ret = (struct weight_channels){weights->shape.dims[axis],
                                    1,
                                    1,
                                    weights,
                                    scales->constant,
                                    zero_points ? zero_points->constant : NULL,
                                    false};

    for (int i = 0; i < weights->shape.rank; i++)
        *(i < axis ? &ret->outer : &ret->inner) *= i == axis ? 1 : weights->shape.dims[i];

    if (!scales->constant || scales->constant->dtype != DTYPE_F32 || (zero_points && !zero_points->constant))
        return false;
    int64_t given = shape_elements(&scales->constant->shape);
    int64_t stated = node_int(dequantize, "axis", 1);

    stated += stated < 0 ? weights->shape.rank : 0;
    ret->per_channel = given > 1;

    return given == 1 || (given == ret->count && stated == axis && scales->constant->shape.rank == 1);
}

static int32_t weight_at(const struct tensor *weights, int64_t index) {
    return weights->dtype == DTYPE_I8 ? ((const int8_t *)weights->data)[index]
                                      : ((const uint8_t *)weights->data)[index];
}

static int32_t zero_point_of(const struct weight_channels *channels, int64_t channel) {
    if (!channels->zero_points)
        return 0;
    bool single = shape_elements(&channels->zero_points->shape) == 1;
    return (int32_t)tensor_get_i64(channels->zero_points, single ? 0 : channel);
}

/* Signed, and without zero points, already. */
static bool is_symmetric(const struct weight_channels *channels) {
    for (int64_t c = 0; c < channels->count; c++)
        if (zero_point_of(channels, c) != 0)
            return false;
    return channels->weights->dtype == DTYPE_I8;
}

/* Weights less their zero point fit 8 signed bits in every channel. */
static bool fits_bytes(const struct weight_channels *channels) {
    if (is_symmetric(channels))
        return true;

    for (int64_t c = 0; c < channels->count; c++) {
        int32_t zero = zero_point_of(channels, c);
        for (int64_t o = 0; o < channels->outer; o++)
            for (int64_t i = 0; i < channels->inner; i++) {
                int64_t at = (o * channels->count + c) * channels->inner + i;
                int32_t q = weight_at(channels->weights, at) - zero;
                if (q < -128 || q > 127)
                    return false;
            }
    }

    return true;
}

/* Signed weights and a scale for every channel. A channel whose weights less their zero point do not fit 8
 * signed bits is rounded again, with a scale of its own: at most half a step. */
static void make_symmetric(const struct weight_channels *channels, int8_t *weights, float *scales) {
    for (int64_t c = 0; c < channels->count; c++) {
        int32_t zero = zero_point_of(channels, c), largest = 0;
        for (int64_t o = 0; o < channels->outer; o++)
            for (int64_t i = 0; i < channels->inner; i++) {
                int32_t q =
                    weight_at(channels->weights, (o * channels->count + c) * channels->inner + i) - zero;
                if (abs(q) > largest && q != -128)
                    largest = abs(q);
            }

        float shrink = largest > 127 ? 127.0f / (float)largest : 1;
        for (int64_t o = 0; o < channels->outer; o++)
            for (int64_t i = 0; i < channels->inner; i++) {
                int64_t at = (o * channels->count + c) * channels->inner + i;
                float q = rintf((float)(weight_at(channels->weights, at) - zero) * shrink);
                weights[at] = (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
            }

        scales[c] = (float)tensor_get_f64(channels->scales, channels->per_channel ? c : 0) / shrink;
    }
}

/* Give the node a DequantizeLinear of its own over symmetric weights. False when memory is out. */
static bool rewrite_weights(struct graph *graph, struct node *node, int axis) {
    struct node *old = node->inputs[1]->producer;
    struct weight_channels channels;
    if (!describe_channels(old, axis, &channels) || is_symmetric(&channels))
        return true;

    struct shape vector = {.rank = 1, .dims = {channels.count}};
    float *scales = NULL;
    struct value *scales_value = graph_add_floats(graph, &vector, &scales);
    int8_t *weights = graph_own_memory(graph, (size_t)shape_elements(&channels.weights->shape) + 1);
    struct value *made = graph_add_value(graph, node->inputs[1]->name);
    if (!scales_value || !weights || !made)
        return false;

    make_symmetric(&channels, weights, scales);
    struct value *inputs[2] = {
        graph_add_constant(graph, old->inputs[0]->name, DTYPE_I8, &channels.weights->shape, weights),
        scales_value};
    struct node *fresh =
        inputs[0] ? operator_add_node(graph, node, "", "DequantizeLinear", 13, inputs, 2, made) : NULL;
    if (!fresh || !node_set_int(graph, fresh, "axis", axis))
        return false;

    fresh->name = old->name;
    made->dtype = DTYPE_F32;
    made->shape = channels.weights->shape;
    if (!node_set_input(graph, node, 1, made))
        return false;

    remove_if_dead(graph, old);

    return true;
}

static bool takes_integers(const struct node *node) {
    float scale;
    int32_t zero_point;
    const struct node *source = producer_of(node_input(node, 0), "DequantizeLinear");
    const struct value *bias =
        node->op && node->op->bias_input ? node_input(node, node->op->bias_input) : NULL;
    bool biased = bias && !bias->constant;
    const struct node *bias_source = biased ? producer_of(bias, "DequantizeLinear") : NULL;
    struct weight_channels channels;
    int axis = channel_axis(node);

    return axis >= 0 && describe_channels(node->inputs[1]->producer, axis, &channels) &&
           dequantizes_tensor(source, &scale, &zero_point) &&
           (!biased || (bias_source && bias_source->inputs[0]->constant));
}

bool passes_integers_are_exact(const struct graph *graph) {
    for (const struct node *node = graph->first; node; node = node->next) {
        struct weight_channels channels;
        if (takes_integers(node) &&
            describe_channels(node->inputs[1]->producer, channel_axis(node), &channels) &&
            !fits_bytes(&channels))
            return false;
    }
    return true;
}

bool passes_prepare_integers(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first; node; node = node->next)
        if (takes_integers(node) && !rewrite_weights(graph, node, channel_axis(node)))
            return error_set(error, ERROR_MEMORY, "node %s: not enough memory for its weights", node->name);

    size_t budget = graph_fold_budget(graph);
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (!node_is(node, "DequantizeLinear") || !node->inputs[0]->constant)
            continue;

        bool weights = true;
        for (int i = 0; i < node->outputs[0]->use_count; i++) {
            const struct use *use = &node->outputs[0]->uses[i];
            weights = weights && use->input == 1 && takes_integers(use->node);
        }

        if ((!weights || !node->outputs[0]->use_count) &&
            node_fold(graph, node, FOLD_LIMIT, &budget, error) == FOLD_FAILED)
            return false;
    }

    graph_remove_dead_nodes(graph);
    return true;
}
