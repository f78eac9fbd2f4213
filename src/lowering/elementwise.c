/* Activations, additions and products of tensors, softmax. */
#include <math.h>
#include <string.h>

#include "lowering/lowering.h"
#include "passes/passes.h"

static bool is_float_tensor(const struct plan_tensor *tensor) {
    return tensor->layout && (tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_BF16);
}

/* The node's own function as a post-op; false where its parameters are not constants. */
static bool function_of(const struct node *node, struct primitive_post *ret) {
    *ret = (struct primitive_post){0};
    if (node_is(node, "Relu"))
        ret->kind = PRIMITIVE_POST_RELU;
    else if (node_is(node, "LeakyRelu"))
        *ret = (struct primitive_post){PRIMITIVE_POST_RELU, node_float(node, "alpha", 0.01f), 0};
    else if (node_is(node, "Sigmoid"))
        ret->kind = PRIMITIVE_POST_SIGMOID;
    else if (node_is(node, "Tanh"))
        ret->kind = PRIMITIVE_POST_TANH;
    else if (node_is(node, "HardSwish"))
        ret->kind = PRIMITIVE_POST_HARDSWISH;
    else if (node_is(node, "Swish"))
        *ret = (struct primitive_post){PRIMITIVE_POST_SWISH, 1, 0};
    else if (node_is(node, "Exp"))
        ret->kind = PRIMITIVE_POST_EXP;
    else if (node_is(node, "Elu"))
        *ret = (struct primitive_post){PRIMITIVE_POST_ELU, node_float(node, "alpha", 1), 0};
    else if (node_is(node, "Gelu"))
        ret->kind = strcmp(node_string(node, "approximate", "none"), "tanh") == 0 ? PRIMITIVE_POST_GELU_TANH
                                                                                  : PRIMITIVE_POST_GELU_ERF;
    else if (node_is(node, "Clip") && node->opset >= 11) {
        float low = -3.402823466e38f, high = 3.402823466e38f;
        if ((node_input(node, 1) && !value_scalar(node->inputs[1], &low)) ||
            (node_input(node, 2) && !value_scalar(node->inputs[2], &high)))
            return false;
        *ret = (struct primitive_post){PRIMITIVE_POST_CLIP, low, high};
    } else
        return false;
    return true;
}

bool lower_elementwise(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *output = node->outputs[0];
    struct primitive_post posts[1 + LOWER_POSTS];
    struct plan_tensor *operands[LOWER_POSTS];
    struct plan_tensor *source = lower_dense(lowering, input, error);
    if (!source)
        return false;
    if (input->dtype != DTYPE_F32 || !is_float_tensor(source) || !function_of(node, &posts[0]) ||
        shape_elements(&output->shape) == 0)
        return true;
    int count;
    if (!lower_posts(lowering, node, source->layout, posts + 1, operands, &count, error))
        return false;
    struct error refused;
    const struct primitive *primitive =
        primitive_elementwise(plan->pool, source->layout, source->layout, posts, count + 1, &refused);
    if (!primitive)
        return node->post_op_count
                   ? error_set(error, refused.code, "node %s: %s", node->name, refused.message)
                   : true;
    struct plan_tensor *destination =
        lower_may_overwrite(lowering, node, input, source)
            ? plan_add_view(plan, source, &output->shape, source->layout)
            : plan_add_tensor(plan, source->dtype, &output->shape, source->layout);
    if (!destination)
        return lower_no_memory(error);
    struct plan_tensor *tensors[2] = {source, destination};
    const enum primitive_argument roles[2] = {ARGUMENT_SOURCE, ARGUMENT_DESTINATION};
    *ret_done = true;
    if (!lower_primitive(lowering, node, lower_action(lowering, node), primitive, tensors, roles, 2, operands,
                         count, error))
        return false;
    lower_define(lowering, output, destination);
    return true;
}

/* The operand that has the result's shape comes first; the other is broadcast to it. */
static bool order_operands(const struct node *node, struct value **ret_full, struct value **ret_other) {
    struct value *a = node->inputs[0], *b = node->inputs[1];
    const struct shape *result = &node->outputs[0]->shape;
    bool swap = !shape_equal(&a->shape, result) || (a->constant && shape_equal(&b->shape, result));
    *ret_full = swap ? b : a;
    *ret_other = swap ? a : b;
    return shape_equal(&(*ret_full)->shape, result);
}

/* The second operand in a layout (and the rank) that goes with the first's. */
static struct plan_tensor *second_operand(struct lowering *lowering, struct value *value,
                                          const struct plan_tensor *first, struct error *error) {
    struct plan *plan = lowering->plan;
    if (shape_equal(&value->shape, &first->shape)) {
        const struct layout *layout = layout_retype(plan->pool, first->layout, first->dtype);
        return layout ? lower_in_layout(lowering, value, layout, error) : NULL;
    }
    enum dtype dtype =
        value->shape.rank == 0 ? DTYPE_F32 : first->dtype; /* a scalar has no layout to be converted by */
    struct plan_tensor *plain = lower_plain(lowering, value, dtype, error);
    if (!plain || plain->shape.rank == first->shape.rank)
        return plain;
    struct shape shape = {.rank = first->shape.rank};
    for (int i = 0; i < shape.rank; i++) {
        int from = i - (shape.rank - plain->shape.rank);
        shape.dims[i] = from < 0 ? 1 : plain->shape.dims[from];
    }
    return plan_add_view(plan, plain, &shape, layout_plain(plan->pool, plain->dtype, &shape));
}

bool lower_binary(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *full, *other, *output = node->outputs[0];
    if (output->dtype != DTYPE_F32 || output->shape.rank < 1 || shape_elements(&output->shape) == 0 ||
        !order_operands(node, &full, &other))
        return true;
    struct plan_tensor *first = lower_dense(lowering, full, error);
    struct plan_tensor *currently = first ? lower_current(lowering, other, error) : NULL;
    if (!currently)
        return false;
    bool scalar = other->shape.rank == 0 && other->dtype == DTYPE_F32;
    if (!is_float_tensor(first) || (!scalar && !is_float_tensor(currently)))
        return true;
    struct plan_tensor *second = second_operand(lowering, other, first, error);
    if (!second)
        return false;
    struct primitive_post posts[LOWER_POSTS];
    struct plan_tensor *operands[LOWER_POSTS];
    int count;
    if (!lower_posts(lowering, node, first->layout, posts, operands, &count, error))
        return false;
    struct error refused;
    const struct primitive *primitive =
        primitive_binary(plan->pool, node_is(node, "Add") ? PRIMITIVE_POST_ADD : PRIMITIVE_POST_MULTIPLY,
                         first->layout, second->layout, first->layout, posts, count, &refused);
    if (!primitive)
        return node->post_op_count
                   ? error_set(error, refused.code, "node %s: %s", node->name, refused.message)
                   : true;
    struct plan_tensor *destination =
        lower_may_overwrite(lowering, node, full, first)
            ? plan_add_view(plan, first, &output->shape, first->layout)
            : plan_add_tensor(plan, first->dtype, &output->shape, first->layout);
    if (!destination)
        return lower_no_memory(error);
    struct plan_tensor *tensors[3] = {first, second, destination};
    const enum primitive_argument roles[3] = {ARGUMENT_SOURCE, ARGUMENT_SOURCE_1, ARGUMENT_DESTINATION};
    *ret_done = true;
    if (!lower_primitive(lowering, node, lower_action(lowering, node), primitive, tensors, roles, 3, operands,
                         count, error))
        return false;
    lower_define(lowering, output, destination);
    return true;
}

/* A vector of channels seen as [1, c, 1, …] beside a tensor: blocked where that is. Padded blocks are
 * excluded. */
static const struct layout *channel_layout(struct primitive_pool *pool, const struct layout *beside,
                                           const struct shape *shape) {
    return layout_is_blocked(beside) ? layout_blocked(pool, DTYPE_F32, shape)
                                     : layout_plain(pool, DTYPE_F32, shape);
}

/* What the channels of a batch norm are multiplied by and shifted by. */
static bool describe_batch_norm(struct lowering *lowering, const struct node *node,
                                const struct layout *beside, struct plan_tensor **ret) {
    struct plan *plan = lowering->plan;
    int64_t channels = node->outputs[0]->shape.dims[1];
    struct shape shape = {.rank = node->outputs[0]->shape.rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = i == 1 ? channels : 1;
    const struct layout *layout = channel_layout(plan->pool, beside, &shape);
    float *numbers[2];
    for (int i = 0; i < 2; i++) {
        numbers[i] = plan_own_memory(plan, (size_t)channels * sizeof(float));
        ret[i] = numbers[i] && layout ? plan_add_constant(plan, DTYPE_F32, &shape, layout, numbers[i]) : NULL;
        if (!ret[i])
            return false;
    }
    double epsilon = node_float(node, "epsilon", 1e-5f), of[4];
    for (int64_t c = 0; c < channels; c++) {
        for (int i = 0; i < 4; i++)
            of[i] = tensor_get_f64(node->inputs[1 + i]->constant, c);
        double scale = of[0] / sqrt(of[3] + epsilon);
        numbers[0][c] = (float)scale;
        numbers[1][c] = (float)(of[1] - of[2] * scale);
    }
    return true;
}

struct channel_affine {
    struct plan_tensor *source, *scale, *operands[1 + LOWER_POSTS]; /* operands[0]: the shift */
    const struct primitive *primitive;
    int count; /* of post-ops, the shift among them */
};

/* Multiply, add, and what is fused, on x in `layout`. *ret.primitive NULL: oneDNN has none, or a slow one. */
static bool describe_affine(struct lowering *lowering, struct node *node, const struct layout *layout,
                            struct channel_affine *ret, struct error *error) {
    struct primitive_post posts[1 + LOWER_POSTS];
    struct plan_tensor *affine[2];
    struct error refused;
    ret->source = lower_in_layout(lowering, node->inputs[0], layout, error);
    if (!ret->source ||
        !lower_posts(lowering, node, layout, posts + 1, ret->operands + 1, &ret->count, error))
        return false;
    if (!describe_batch_norm(lowering, node, layout, affine))
        return lower_no_memory(error);
    posts[0] = (struct primitive_post){.kind = PRIMITIVE_POST_ADD, .operand = affine[1]->layout};
    ret->scale = affine[0];
    ret->operands[0] = affine[1];
    ret->count++;
    ret->primitive = primitive_binary(lowering->plan->pool, PRIMITIVE_POST_MULTIPLY, layout,
                                      affine[0]->layout, layout, posts, ret->count, &refused);
    return true;
}

/* y = x * scale + shift for each channel (BatchNormalization-15), and what is fused to it: a multiplication
 * with post-ops, in the layout that x has, or with the channels innermost. */
bool lower_batch_norm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *output = node->outputs[0];
    if (!passes_batch_norm_is_constant(node))
        return true;
    struct channel_affine affine;
    struct plan_tensor *current = lower_dense(lowering, input, error);
    const struct layout *layout = current ? current->layout : NULL;
    if (current && (!is_float_tensor(current) || layout_is_padded(layout)))
        layout = layout_channels_last(plan->pool, lowering->compute, &input->shape);
    if (!layout || !describe_affine(lowering, node, layout, &affine, error))
        return layout ? false : lower_no_memory(error);
    if (!affine.primitive || primitive_is_slow(affine.primitive)) {
        layout = layout_channels_last(plan->pool, current->dtype, &input->shape);
        if (!layout || !describe_affine(lowering, node, layout, &affine, error))
            return layout ? false : lower_no_memory(error);
    }
    if (!affine.primitive)
        return error_set(error, ERROR_INTERNAL, "node %s: no fast step for it", node->name);
    struct plan_tensor *destination =
        lower_may_overwrite(lowering, node, input, affine.source)
            ? plan_add_view(plan, affine.source, &output->shape, layout)
            : plan_add_tensor(plan, affine.source->dtype, &output->shape, layout);
    if (!destination)
        return lower_no_memory(error);
    struct plan_tensor *tensors[3] = {affine.source, affine.scale, destination};
    const enum primitive_argument roles[3] = {ARGUMENT_SOURCE, ARGUMENT_SOURCE_1, ARGUMENT_DESTINATION};
    *ret_done = true;
    if (!lower_primitive(lowering, node, lower_action(lowering, node), affine.primitive, tensors, roles, 3,
                         affine.operands, affine.count, error))
        return false;
    lower_define(lowering, output, destination);
    return true;
}

bool lower_softmax(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0];
    int64_t axis = node_int(node, "axis", node->opset >= 13 ? -1 : 1);
    if (axis < 0)
        axis += input->shape.rank;
    bool last = axis == input->shape.rank - 1; /* older versions flatten what follows the axis */
    if (input->dtype != DTYPE_F32 || !last || shape_elements(&input->shape) == 0)
        return true;
    struct plan_tensor *source = lower_current(lowering, input, error);
    if (!source)
        return false;
    if (!is_float_tensor(source))
        return true;
    source = lower_plain(lowering, input, source->dtype, error);
    if (!source)
        return false;
    struct error refused;
    const struct primitive *primitive =
        primitive_softmax(lowering->plan->pool, source->layout, source->layout, (int)axis, false, &refused);
    if (!primitive)
        return true;
    *ret_done = true;
    return lower_one_to_one(lowering, node, primitive, source, error);
}
