/* Integers from step to step: QDQ patterns become nodes that take and give 8-bit tensors.
 *
 * Quantize and dequantize between a product and the addition of a residual go first (their rounding stays, as
 * a post-op), so that the float rules can fuse the addition; then each product between Dequantize and
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

struct quantization {
    float scale;
    int32_t zero_point;
};

static bool quantization_of(const struct node *node, struct quantization *ret) {
    return dequantizes_tensor(node, &ret->scale, &ret->zero_point);
}

static struct node *dequantizer(const struct value *value, struct quantization *ret) {
    struct node *node = producer_of(value, "DequantizeLinear");
    return node && !node->inputs[0]->constant && quantization_of(node, ret) ? node : NULL;
}

/* The QuantizeLinear that is the value's only user. */
static struct node *quantizer(const struct value *value, struct quantization *ret) {
    struct node *node = only_user(value);
    return node && node_is(node, "QuantizeLinear") && quantization_of(node, ret) &&
                   (node->outputs[0]->dtype == DTYPE_U8 || node->outputs[0]->dtype == DTYPE_I8)
               ? node
               : NULL;
}

bool has_integer_weights(const struct node *node) {
    const struct node *weights = producer_of(node_input(node, 1), "DequantizeLinear");
    struct quantization source;
    return node_has(node, OP_HEAVY) && node->op->integer_form && weights && weights->inputs[0]->constant &&
           weights->inputs[0]->constant->dtype == DTYPE_I8 && dequantizer(node->inputs[0], &source) != NULL;
}

/* What the sum goes through next keeps its unit: nothing, or Relu. */
static bool keeps_unit(const struct node *add) {
    const struct node *user = only_user(add->outputs[0]);
    struct post_op post;

    return !user || !node_post_op(user, &post) || !post_op_is_activation(post.kind) || post.kind == POST_RELU;
}

/* Conv -> Quantize -> Dequantize -> Add: the pair becomes a post-op that rounds to the steps that it has. */
bool drop_pair_before_add(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantization first, second;
    struct node *user = node_is(node, "DequantizeLinear") ? only_user(node->outputs[0]) : NULL;
    struct node *quantize =
        user && node_is(user, "Add") ? producer_of(node->inputs[0], "QuantizeLinear") : NULL;
    if (!quantize || only_user(quantize->outputs[0]) != node || !quantization_of(quantize, &first) ||
        !quantization_of(node, &second) || first.scale != second.scale ||
        first.zero_point != second.zero_point)
        return true;

    enum dtype dtype = quantize->outputs[0]->dtype;
    struct node *product = quantize->inputs[0]->producer;
    struct value *other = other_input(user, node->outputs[0]),
                 *bias = product ? node_input(product, 2) : NULL;
    struct quantization residual;

    if (!product || !has_integer_weights(product) || product->post_op_count || (bias && !bias->constant) ||
        only_user(quantize->inputs[0]) == NULL || !dequantizer(other, &residual) ||
        !shape_equal(&other->shape, &node->outputs[0]->shape) || !keeps_unit(user) ||
        (dtype != DTYPE_U8 && dtype != DTYPE_I8))
        return true;

    int32_t lowest = (dtype == DTYPE_I8 ? -128 : 0) - first.zero_point;
    product->post_ops[product->post_op_count++] =
        (struct post_op){POST_STEPS, (float)lowest, first.scale, -1};

    *ret_resume = node->next ? node->next : product;
    if (!graph_replace_value(graph, node->outputs[0], product->outputs[0]))
        return false;
    remove_if_dead(graph, node);

    return true;
}

static bool set_quantization(struct graph *graph, struct node *node, char prefix,
                             struct quantization quantization) {
    const char scale[] = {prefix, '_', 's', 'c', 'a', 'l', 'e', 0};
    char zero_point[] = "?_zero_point";
    zero_point[0] = prefix;

    return node_set_float(graph, node, scale, quantization.scale) &&
           node_set_int(graph, node, zero_point, quantization.zero_point);
}

/* At most one post-op has an operand: the addition of a tensor of the result's shape. *ret_operand NULL:
 * none. */
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

/* MatMul's bias is its first post-op: take it out of the list. */
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

/* The step to the result's unit is a linear function after the post-ops; a primitive has room for one such
 * (see share_parameters in fuse.c), and HardSigmoid is another. */
static bool ends_with_linear(const struct node *node) {
    for (int i = 0; i < node->post_op_count; i++)
        if (node->post_ops[i].kind == POST_HARDSIGMOID)
            return false;
    return true;
}

/* The first node after `node` that is none of `gone` (which may hold NULL). What replaces `node` may come
 * later in the graph, and what lies between is looked at, too. */
static struct node *next_without(const struct node *node, const struct node *const *gone, int count) {
    struct node *next = node->next;

    for (int i = 0; next && i < count; i++)
        if (next == gone[i]) {
            next = next->next;
            i = -1;
        }
    return next;
}

bool quantize_product(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantization x, y = {0, 0}, r = {1, 0};
    if (!has_integer_weights(node))
        return true;

    struct node *source = dequantizer(node->inputs[0], &x), *weights = node->inputs[1]->producer;
    struct value *bias = take_bias(node), *operand;
    if (!posts_fit(node, &operand))
        return true;

    struct node *quantize = quantizer(node->outputs[0], &y), *residual = dequantizer(operand, &r);
    if (!ends_with_linear(node))
        quantize = NULL;
    if (operand && !residual)
        quantize = NULL; /* the sum happens where the result lies: both are bytes, or both are floats */
    if (!quantize)
        residual = NULL;

    const struct node *gone[] = {quantize, source, weights, residual};
    struct node *next = next_without(node, gone, 4);
    struct value *result = quantize ? quantize->outputs[0] : node->outputs[0];
    struct value *inputs[5] = {source->inputs[0], weights->inputs[0], bias, weights->inputs[1],
                               residual ? residual->inputs[0] : operand};
    struct node *made = replace_by(graph, quantize ? quantize : node, node->op->integer_form, OWN, inputs,
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

    *ret_resume = next ? next : made;

    return set_quantization(graph, made, 'x', x) && (!quantize || set_quantization(graph, made, 'y', y)) &&
           (!residual || set_quantization(graph, made, 'r', r));
}

bool quantize_add(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantization a, b, y;
    if (!node_is(node, "Add") || node->post_op_count > 1 ||
        (node->post_op_count == 1 && node->post_ops[0].kind != POST_RELU))
        return true;

    struct node *left = dequantizer(node->inputs[0], &a), *right = dequantizer(node->inputs[1], &b);
    struct node *quantize = quantizer(node->outputs[0], &y);
    if (!left || !right || !quantize || !shape_equal(&node->inputs[0]->shape, &node->inputs[1]->shape) ||
        shape_elements(&node->outputs[0]->shape) <= 0 || node->outputs[0]->shape.rank < 1)
        return true;

    struct value *inputs[2] = {left->inputs[0], right->inputs[0]};
    struct post_op post = node->post_ops[0];
    int posts = node->post_op_count;
    const struct node *gone[] = {quantize, left, right};
    struct node *next = next_without(node, gone, 3);
    struct node *made =
        replace_by(graph, quantize, node->op->integer_form, OWN, inputs, 2, quantize->outputs[0]);
    if (!made)
        return false;

    made->post_ops[0] = post;
    made->post_op_count = posts;
    *ret_resume = next ? next : made;

    return set_quantization(graph, made, 'a', a) && set_quantization(graph, made, 'b', b) &&
           set_quantization(graph, made, 'y', y);
}

/* Dequantize -> MaxPool (or anything that keeps values) -> Quantize of the same scale: on the integers. */
bool quantize_movement(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct quantization x, y;
    if (!node_has(node, OP_KEEPS_VALUES) || node->output_count != 1 || node->post_op_count)
        return true;

    struct node *quantize = quantizer(node->outputs[0], &y);
    int inputs = node_data_inputs(node);
    struct value *sources[64];
    if (!quantize || inputs > 64)
        return true;

    for (int i = 0; i < inputs; i++) {
        struct node *source = dequantizer(node->inputs[i], &x);
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
