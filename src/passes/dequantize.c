/* A quantised graph in floats: what it says without the rounding. */
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

/* The range that the quantised values stand for: QuantizeLinear saturates, and networks rely on it. */
struct range {
    float low, high;
};

static bool integer_range(enum dtype dtype, double *ret_low, double *ret_high) {
    switch (dtype) {
    case DTYPE_U8:
        *ret_low = 0, *ret_high = 255;
        return true;
    case DTYPE_I8:
        *ret_low = -128, *ret_high = 127;
        return true;
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
    if (!integer_range(zero ? zero->constant->dtype : DTYPE_U8, &low, &high))
        return false;
    if (zero && shape_elements(&zero->constant->shape) == 1)
        middle = tensor_get_f64(zero->constant, 0);
    *ret = (struct range){(float)((low - middle) * scale[0]), (float)((high - middle) * scale[0])};
    return true;
}

static bool clip_range(const struct node *node, struct range *ret) {
    int64_t low_count = 0, high_count = 0;
    const float *low = constant_floats(node_input(node, 1), &low_count),
                *high = constant_floats(node_input(node, 2), &high_count);
    if (!node_is(node, "Clip") || !low || !high || low_count != 1 || high_count != 1)
        return false;
    *ret = (struct range){*low, *high};
    return true;
}

/* The value's elements cannot leave the range anyway (but for a rounding of its ends). */
static bool stays_within(const struct value *value, struct range range) {
    static const char *const keeping[] = {"MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Flatten",
                                          "Squeeze", "Unsqueeze",   "Transpose",         "Identity"};
    struct range known;
    const struct node *node = value->producer;
    float slack = (range.high - range.low) * 0.004f; /* one step of 255 */
    for (int steps = 0; node && steps < 8; steps++) {
        if (node_is(node, "Sigmoid") || node_is(node, "Softmax"))
            return range.low <= slack && range.high >= 1 - slack;
        if (clip_range(node, &known))
            return known.low >= range.low - slack && known.high <= range.high + slack;
        bool keeps = false;
        for (size_t i = 0; i < sizeof keeping / sizeof *keeping; i++)
            keeps = keeps || node_is(node, keeping[i]);
        /* A pool's padding counts as zero: inside, where zero is. */
        keeps = keeps && (!node_is(node, "AveragePool") || (range.low <= 0 && range.high >= 0));
        node = keeps && node->input_count && node->inputs[0] ? node->inputs[0]->producer : NULL;
    }
    return false;
}

static bool no_memory(const struct node *node, struct error *error) {
    return error_set(error, ERROR_MEMORY, "node %s (%s): no memory to write it in floats", node->name,
                     node->op_type);
}

/* Clip(value) before `node`; the value itself where it cannot leave the range. */
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
    struct node *clip = graph_add_node(graph, node, "", "Clip", NULL, inputs, attributes ? 1 : 3, &result, 1);
    if (!clip || (attributes && (!node_set_float(graph, clip, "min", range.low) ||
                                 !node_set_float(graph, clip, "max", range.high))))
        return NULL;
    clip->operator= operator_find("", "Clip", clip->opset);
    result->dtype = DTYPE_F32;
    result->shape = value->shape;
    return result;
}

static bool is_inverse(const struct node *dequantize, const struct node *quantize) {
    const struct value *zero = node_input(dequantize, 2), *other = node_input(quantize, 2);
    return node_is(dequantize, "DequantizeLinear") &&
           constants_equal(node_input(dequantize, 1), node_input(quantize, 1)) &&
           (constants_equal(zero, other) || (!zero && constant_is_zero(other) && other->dtype == DTYPE_U8) ||
            (!other && constant_is_zero(zero)));
}

/* Every DequantizeLinear of what `quantize` makes takes the clipped float instead. */
static bool bypass_pair(struct graph *graph, struct node *quantize, struct error *error) {
    struct value *quantized = quantize->outputs[0], *clipped = NULL;
    struct range range;
    if (!quantized || !quantize->inputs[0] || !quantized_range(quantize, &range))
        return true;
    for (int i = quantized->use_count - 1; i >= 0; i--) {
        struct node *dequantize = quantized->uses[i].node;
        if (quantized->uses[i].input != 0 || !is_inverse(dequantize, quantize))
            continue;
        if (!clipped)
            clipped = add_clip(graph, quantize, quantize->inputs[0], range);
        if (!clipped)
            return no_memory(quantize, error);
        node_bypass(graph, dequantize, clipped); /* an output that may not go stays as it is */
        if (i > quantized->use_count)
            i = quantized->use_count;
    }
    return true;
}

static bool bind_new_nodes(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first; node; node = node->next) {
        if (node->operator)
            continue;
        node->operator= operator_find(node->domain, node->op_type, node->opset);
        if (!node->operator)
            return node_error(node, error, "opset %d of this operator is not supported", node->opset);
    }
    return true;
}

bool passes_dequantize(struct graph *graph, struct error *error) {
    if (!passes_expand_qoperators(graph, error) || !bind_new_nodes(graph, error))
        return false;
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
