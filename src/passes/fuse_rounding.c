/* The rounding of a quantized network that is computed in floats: QuantizeLinear and DequantizeLinear become
 * one node, Steps (input x; attributes lowest and step), which takes each number to the nearest of the 256
 * that the integers stand for. It fuses to the product before it. */
#include "ops/operator.h"
#include "passes/fuse.h"

struct steps {
    float lowest, step; /* the numbers are lowest * step, (lowest + 1) * step … (lowest + 255) * step */
};

/* Of a QuantizeLinear to 8 bits with one constant scale for the whole tensor. */
static bool steps_of(const struct node *quantize, struct steps *ret) {
    const struct value *input = quantize->inputs[0];
    enum dtype dtype = quantize->outputs[0]->dtype;
    int32_t zero_point;
    if ((dtype != DTYPE_U8 && dtype != DTYPE_I8) || input->constant || input->dtype != DTYPE_F32 ||
        input->shape.rank < 1 || shape_elements(&input->shape) <= 0 ||
        !dequantizes_tensor(quantize, &ret->step, &zero_point))
        return false;

    ret->lowest = (float)((dtype == DTYPE_I8 ? -128 : 0) - zero_point);
    return true;
}

/* A Relu or Clip right before the steps takes away no more than they do: what it cuts off, they round to the
 * same number. */
static bool covers(const struct node *node, const struct steps *steps) {
    struct post_op post;
    float half = steps->step / 2, low = steps->lowest * steps->step,
          high = (steps->lowest + 255) * steps->step;
    if (!node_post_op(node, &post))
        return false;
    if (post.kind == POST_RELU)
        return post.alpha == 0 && low > -half;
    return post.kind == POST_CLIP && post.alpha < low + half && post.beta > high - half;
}

static struct value *add_steps(struct graph *graph, struct node *quantize, const struct steps *steps) {
    struct value *x = quantize->inputs[0], *made = graph_add_value(graph, quantize->outputs[0]->name);
    if (x->producer && only_user(x) && !x->producer->post_op_count && covers(x->producer, steps))
        x = x->producer->inputs[0];

    struct node *node =
        made ? operator_add_node(graph, quantize, OPERATORS_OWN, "Steps", OWN, &x, 1, made) : NULL;
    if (!node || !node_set_float(graph, node, "lowest", steps->lowest) ||
        !node_set_float(graph, node, "step", steps->step))
        return NULL;

    made->dtype = DTYPE_F32;
    made->shape = x->shape;
    return made;
}

bool join_rounding(struct graph *graph, struct node *node, struct node **ret_resume) {
    struct steps steps;
    if (!node_is(node, "QuantizeLinear") || !steps_of(node, &steps))
        return true;

    struct value *quantized = node->outputs[0], *rounded = NULL;
    struct node *next = node->next;
    for (int i = quantized->use_count - 1; i >= 0; i--) {
        struct node *dequantize = quantized->uses[i].node;
        if (quantized->uses[i].input != 0 || !dequantizes_again(dequantize, node) ||
            (rounded && rounded->is_output && dequantize->outputs[0]->is_output))
            continue;

        if (!rounded && !(rounded = add_steps(graph, node, &steps)))
            return false;
        next = next == dequantize ? next->next : next;
        if (!graph_replace_value(graph, dequantize->outputs[0], rounded))
            return false;
        graph_remove_node(graph, dequantize);
        i = i > quantized->use_count ? quantized->use_count : i;
    }

    if (rounded)
        *ret_resume = next ? next : rounded->producer;
    if (rounded)
        remove_if_dead(graph, node);
    return true;
}
