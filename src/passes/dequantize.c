/* A quantized graph as the float graph that it stands for. Rounding to 8 bits stays, for passes_fuse;
 * rounding to 16 bits is left out. */
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

/* The range that quantized values stand for: QuantizeLinear saturates, and networks rely on it. */
struct range {
    float low, high;
};

static bool integer_range(enum dtype dtype, double *ret_low, double *ret_high) {
    switch (dtype) {

    case DTYPE_U16:
        *ret_low = 0, *ret_high = 65535;
        return true;
    case DTYPE_I16:
        *ret_low = -32768, *ret_high = 32767;
        return true;
    default:
        return false;
    }
}

/* Of a QuantizeLinear with one constant scale for the whole tensor. */
static bool quantized_range(const struct node *node, struct range *ret) {
    int64_t count = 0;
    const float *scale = constant_floats(node_input(node, 1), &count);
    const struct value *zero = node_input(node, 2);
    double low, high, middle = 0;

    if (!scale || count != 1 || !(scale[0] > 0) || (zero && !zero->constant))
        return false;
    if (!integer_range(node->outputs[0]->dtype, &low, &high))
        return false;

    if (zero && shape_elements(&zero->constant->shape) == 1)
        middle = tensor_get_f64(zero->constant, 0);
    *ret = (struct range){(float)((low - middle) * scale[0]), (float)((high - middle) * scale[0])};

    return true;
}

static bool clip_range(const struct node *node, struct range *ret) {
    struct post_op post;
    if (!node_post_op(node, &post) || post.kind != POST_CLIP)
        return false;

    *ret = (struct range){post.alpha, post.beta};
    return true;
}

/* The value's elements cannot leave the range, apart from rounding at its ends. */
static bool stays_within(const struct value *value, struct range range) {
    struct range known;
    const struct node *node = value->producer;
    float slack = (range.high - range.low) * 2e-5f; /* about one step of 65535 */

    for (int steps = 0; node && steps < 8; steps++) {
        if (node_has(node, OP_UNIT_RANGE))
            return range.low <= slack && range.high >= 1 - slack;
        if (clip_range(node, &known))
            return known.low >= range.low - slack && known.high <= range.high + slack;

        bool keeps = node_has(node, OP_KEEPS_VALUES) ||
                     (node_has(node, OP_KEEPS_RANGE) && range.low <= 0 && range.high >= 0);
        node = keeps && node_data_inputs(node) == 1 && node->inputs[0] ? node->inputs[0]->producer : NULL;
    }

    return false;
}

/* Clip(value) before `node`, or the value itself if it cannot leave the range. */
static struct value *add_clip(struct graph *graph, struct node *node, struct value *value,
                              struct range range) {
    if (stays_within(value, range))
        return value;

    float *low, *high;
    struct shape scalar = {.rank = 0};
    struct value *low_value = graph_add_floats(graph, &scalar, &low);
    struct value *high_value = low_value ? graph_add_floats(graph, &scalar, &high) : NULL;
    struct value *result = high_value ? graph_add_value(graph, "") : NULL;
    if (!result)
        return NULL;

    *low = range.low;
    *high = range.high;

    bool attributes = graph_opset(graph, "") < 11;
    struct value *inputs[] = {value, low_value, high_value};
    struct node *clip = operator_add_node(graph, node, "", "Clip", graph_opset(graph, ""), inputs,
                                          attributes ? 1 : 3, result);
    if (!clip || (attributes && (!node_set_float(graph, clip, "min", range.low) ||
                                 !node_set_float(graph, clip, "max", range.high))))
        return NULL;

    result->dtype = DTYPE_F32;
    result->shape = value->shape;

    return result;
}

/* Replace every DequantizeLinear of the result of `quantize` by its input, clipped. */
static bool bypass_pair(struct graph *graph, struct node *quantize, struct error *error) {
    struct value *quantized = quantize->outputs[0], *clipped = NULL;
    struct range range;
    if (!quantized || !quantize->inputs[0] || !quantized_range(quantize, &range))
        return true;

    for (int i = quantized->use_count - 1; i >= 0; i--) {
        struct node *dequantize = quantized->uses[i].node;
        if (quantized->uses[i].input != 0 || !dequantizes_again(dequantize, quantize))
            continue;

        if (!clipped)
            clipped = add_clip(graph, quantize, quantize->inputs[0], range);
        if (!clipped)
            return node_memory_error(quantize, error);

        node_bypass(graph, dequantize,
                    clipped); /* one that must stay, for it makes an output, is not changed */
        if (i > quantized->use_count)
            i = quantized->use_count;
    }

    return true;
}

bool passes_dequantize(struct graph *graph, struct error *error) {
    size_t budget = graph_fold_budget(graph);
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (node_is(node, "DequantizeLinear") &&
            node_fold(graph, node, FOLD_LIMIT, &budget, error) == FOLD_FAILED)
            return false;
    }

    for (struct node *node = graph->first; node; node = node->next)
        if (node_is(node, "QuantizeLinear") && !bypass_pair(graph, node, error))
            return false;

    graph_remove_dead_nodes(graph);
    return true;
}
