/* Integers from step to step: QDQ patterns become nodes that take and give 8-bit tensors.
 *
 * Quantize and dequantize between a product and the addition of a residual go first (their saturation stays,
 * as a Clip), so that the float rules can fuse the addition; then each product between Dequantize and
 * Quantize becomes one node:
 *
 * QuantizedConv, QuantizedMatMul: inputs x, weights (int8), bias (float32) or none, scales of the weights
 * (float32, one for each output channel), then the operand of an ADD among the post-ops, 8-bit where the
 * result is. Attributes: those of the product; x_scale, x_zero_point; y_scale, y_zero_point where the result
 * is 8-bit; r_scale, r_zero_point of an 8-bit operand. QuantizedAdd: inputs a, b; attributes a_scale …
 * y_zero_point; post-op RELU or none. */
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"

struct quantisation {
    float scale;
    int32_t zero_point;
};

static bool quantisation_of(const struct node *node, struct quantisation *ret) {
    return dequantises_tensor(node, &ret->scale, &ret->zero_point);
}

static struct node *dequantiser(const struct value *value, struct quantisation *ret) {
    struct node *node = producer_of(value, "DequantizeLinear");
    return node && !node->inputs[0]->constant && quantisation_of(node, ret) ? node : NULL;
}

/* The QuantizeLinear that alone uses the value. */
static struct node *quantiser(const struct value *value, struct quantisation *ret) {
    struct node *node = only_user(value);
    return node && node_is(node, "QuantizeLinear") && quantisation_of(node, ret) &&
                   (node->outputs[0]->dtype == DTYPE_U8 || node->outputs[0]->dtype == DTYPE_I8)
               ? node
               : NULL;
}

static bool is_product(const struct node *node) {
    return node_is(node, "Conv") || node_is(node, "MatMul") || node_is(node, "Gemm");
}

bool has_integer_weights(const struct node *node) {
    const struct node *weights = producer_of(node_input(node, 1), "DequantizeLinear");
    struct quantisation source;
    return is_product(node) && weights && weights->inputs[0]->constant &&
           weights->inputs[0]->constant->dtype == DTYPE_I8 && dequantiser(node->inputs[0], &source) != NULL;
}

static struct value *scalar_constant(struct graph *graph, float number) {
    struct shape shape = {.rank = 0};
    float *data = arena_allocate(graph->arena, sizeof *data);
    if (!data)
        return NULL;
    *data = number;
    return graph_add_constant(graph, "", DTYPE_F32, &shape, data);
}

/* Conv -> Quantize -> Dequantize -> Add: the pair becomes a Clip to what the integers could hold. */
bool drop_pair_before_add(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantisation first, second;
    struct node *user = node_is(node, "DequantizeLinear") ? only_user(node->outputs[0]) : NULL;
    struct node *quantize =
        user && node_is(user, "Add") ? producer_of(node->inputs[0], "QuantizeLinear") : NULL;
    if (!quantize || only_user(quantize->outputs[0]) != node || !quantisation_of(quantize, &first) ||
        !quantisation_of(node, &second) || first.scale != second.scale ||
        first.zero_point != second.zero_point)
        return true;
    struct node *product = quantize->inputs[0]->producer;
    struct value *other = other_input(user, node->outputs[0]);
    struct quantisation residual;
    if (!product || !has_integer_weights(product) || product->post_op_count ||
        only_user(quantize->inputs[0]) == NULL || !dequantiser(other, &residual) ||
        !shape_equal(&other->shape, &node->outputs[0]->shape))
        return true;
    bool is_signed = quantize->outputs[0]->dtype == DTYPE_I8;
    float low = (float)((is_signed ? -128 : 0) - first.zero_point) * first.scale;
    float high = (float)((is_signed ? 127 : 255) - first.zero_point) * first.scale;
    struct value *inputs[3] = {quantize->inputs[0], scalar_constant(graph, low),
                               scalar_constant(graph, high)};
    if (!inputs[1] || !inputs[2])
        return false;
    *ret_resume = replace_by(graph, node, "Clip", 13, inputs, 3, node->outputs[0]);
    return *ret_resume != NULL;
}

static bool set_quantisation(struct graph *graph, struct node *node, char prefix,
                             struct quantisation quantisation) {
    const char scale[] = {prefix, '_', 's', 'c', 'a', 'l', 'e', 0};
    char zero_point[] = "?_zero_point";
    zero_point[0] = prefix;
    return node_set_float(graph, node, scale, quantisation.scale) &&
           node_set_int(graph, node, zero_point, quantisation.zero_point);
}

/* At most one operand, and that an addition of a tensor of the result's shape. *ret_operand NULL: none. */
static bool posts_fit(const struct node *node, struct value **ret_operand) {
    *ret_operand = NULL;
    for (int i = 0; i < node->post_op_count; i++) {
        const struct post_op *post = &node->post_ops[i];
        if (post->input < 0)
            continue;
        if (*ret_operand || post->kind != POST_ADD ||
            !shape_equal(&node->inputs[post->input]->shape, &node->outputs[0]->shape))
            return false;
        *ret_operand = node->inputs[post->input];
    }
    return true;
}

/* MatMul's bias is its first post-op: taken out of the list. */
static struct value *take_bias(struct node *node) {
    if (!node_is(node, "MatMul"))
        return node_input(node, 2);
    if (!node->post_op_count || node->post_ops[0].kind != POST_ADD ||
        !node->inputs[node->post_ops[0].input]->constant)
        return NULL;
    struct value *bias = node->inputs[node->post_ops[0].input];
    node->post_op_count--;
    memmove(node->post_ops, node->post_ops + 1, sizeof *node->post_ops * (size_t)node->post_op_count);
    return bias;
}

bool quantise_product(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantisation x, y = {0, 0}, r = {1, 0};
    if (!has_integer_weights(node))
        return true;
    struct node *source = dequantiser(node->inputs[0], &x), *weights = node->inputs[1]->producer;
    struct value *bias = take_bias(node), *operand;
    if (!posts_fit(node, &operand))
        return true;
    struct node *quantize = quantiser(node->outputs[0], &y), *residual = dequantiser(operand, &r);
    if (operand && !residual)
        quantize = NULL; /* the sum happens where the result lies: both are bytes, or both are floats */
    if (!quantize)
        residual = NULL;
    struct value *result = quantize ? quantize->outputs[0] : node->outputs[0];
    struct value *inputs[5] = {source->inputs[0], weights->inputs[0], bias, weights->inputs[1],
                               residual ? residual->inputs[0] : operand};
    struct node *made = replace_by(graph, quantize ? quantize : node,
                                   node_is(node, "Conv") ? "QuantizedConv" : "QuantizedMatMul", 1, inputs,
                                   operand ? 5 : 4, result);
    if (!made)
        return false;
    made->attributes = node->attributes;
    made->attribute_count = node->attribute_count;
    made->post_op_count = node->post_op_count;
    memcpy(made->post_ops, node->post_ops, sizeof made->post_ops);
    for (int i = 0; i < made->post_op_count; i++)
        if (made->post_ops[i].input >= 0)
            made->post_ops[i].input = 4;
    *ret_resume = made;
    return set_quantisation(graph, made, 'x', x) && (!quantize || set_quantisation(graph, made, 'y', y)) &&
           (!residual || set_quantisation(graph, made, 'r', r));
}

bool quantise_add(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantisation a, b, y;
    if (!node_is(node, "Add") || node->post_op_count > 1 ||
        (node->post_op_count == 1 && node->post_ops[0].kind != POST_RELU))
        return true;
    struct node *left = dequantiser(node->inputs[0], &a), *right = dequantiser(node->inputs[1], &b);
    struct node *quantize = quantiser(node->outputs[0], &y);
    if (!left || !right || !quantize || !shape_equal(&node->inputs[0]->shape, &node->inputs[1]->shape) ||
        shape_elements(&node->outputs[0]->shape) <= 0 || node->outputs[0]->shape.rank < 1)
        return true;
    struct value *inputs[2] = {left->inputs[0], right->inputs[0]};
    struct post_op post = node->post_ops[0];
    int posts = node->post_op_count;
    struct node *made = replace_by(graph, quantize, "QuantizedAdd", 1, inputs, 2, quantize->outputs[0]);
    if (!made)
        return false;
    made->post_ops[0] = post;
    made->post_op_count = posts;
    *ret_resume = made;
    return set_quantisation(graph, made, 'a', a) && set_quantisation(graph, made, 'b', b) &&
           set_quantisation(graph, made, 'y', y);
}

static bool keeps_numbers(const struct node *node) {
    static const char *const names[] = {"MaxPool", "Reshape",   "Flatten", "Transpose",
                                        "Squeeze", "Unsqueeze", "Slice",   "Concat"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (node_is(node, names[i]))
            return node->output_count == 1 && !node->post_op_count;
    return false;
}

/* Dequantize -> MaxPool (or what only moves elements) -> Quantize of the same scale: done on the integers. */
bool quantise_movement(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantisation x, y;
    if (!keeps_numbers(node))
        return true;
    struct node *quantize = quantiser(node->outputs[0], &y);
    int inputs = node_is(node, "Concat") ? node->input_count : 1;
    struct value *sources[64];
    if (!quantize || inputs > 64)
        return true;
    for (int i = 0; i < inputs; i++) {
        struct node *source = dequantiser(node->inputs[i], &x);
        if (!source || x.scale != y.scale || x.zero_point != y.zero_point ||
            source->inputs[0]->dtype != quantize->outputs[0]->dtype)
            return true;
        sources[i] = source->inputs[0];
    }
    for (int i = 0; i < inputs; i++) {
        struct node *source = node->inputs[i]->producer;
        if (!node_set_input(graph, node, i, sources[i]))
            return false;
        remove_if_dead(graph, source);
    }
    node->outputs[0]->dtype = quantize->outputs[0]->dtype;
    *ret_resume = node->next ? node->next : graph->first;
    if (*ret_resume == quantize)
        *ret_resume = quantize->next ? quantize->next : node;
    if (!graph_replace_value(graph, quantize->outputs[0], node->outputs[0]))
        return false;
    remove_if_dead(graph, quantize);
    return true;
}
