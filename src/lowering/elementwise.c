/* Activations, additions and products of tensors, softmax. */
#include <math.h>
#include <string.h>

#include "lowering/lowering.h"
#include "passes/passes.h"

static bool is_float_tensor(const struct plan_tensor *tensor) {
    return tensor->layout && (tensor->dtype == DTYPE_F32 || tensor->dtype == DTYPE_BF16);
}

/* An activation by itself: one pass over the elements, or two (POST_HARDSIGMOID), in the layout that they
 * have. */
bool lower_elementwise(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0], *output = node->outputs[0];
    struct post_op function;

    if (input->dtype != DTYPE_F32 || node->post_op_count || !node_post_op(node, &function) ||
        shape_elements(&output->shape) == 0)
        return true;
    if (function.kind == POST_STEPS)
        return lower_rounding(lowering, node, ret_done, error);

    struct plan_tensor *tensor = lower_dense(lowering, input, error);
    if (!tensor)
        return false;
    if (!is_float_tensor(tensor))
        return true;

    struct primitive_post passes[LOWER_ACTIVATION];
    const struct primitive *primitives[LOWER_ACTIVATION];
    struct error refused;
    int count = lower_activation(&function, passes);
    for (int i = 0; i < count; i++) {
        primitives[i] = primitive_elementwise(lowering->plan->pool, tensor->layout, &passes[i], 1, &refused);
        if (!primitives[i])
            return true;
    }

    *ret_done = true;
    for (int i = 0; i < count; i++) {
        struct plan_tensor *result =
            i == 0 ? lower_result_like(lowering, node, input, tensor, error) : tensor;
        if (!result)
            return false;
        const struct primitive_step step = {
            .action = node->op_type, .primitive = primitives[i], .source = tensor, .destination = result};
        if (!lower_primitive(lowering, node, &step, error))
            return false;
        tensor = result;
    }

    lower_define(lowering, output, tensor);
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

/* An addition or multiplication as one primitive: what goes in, and what is fused to it. */
struct binary {
    struct plan_tensor *first, *second;
    struct post_list posts;
    const struct primitive *primitive;
};

/* *ret.primitive NULL: oneDNN has none for the layout of `first`, and `refused` says why. */
static bool describe_binary(struct lowering *lowering, struct node *node, struct value *other,
                            struct binary *ret, struct error *refused, struct error *error) {
    const struct layout *layout = ret->first->layout;

    ret->second = second_operand(lowering, other, ret->first, error);
    if (!ret->second || !lower_posts(lowering, node, layout, &ret->posts, error))
        return false;

    const struct binary_spec spec = {.kind = node->op->post,
                                     .a = layout,
                                     .b = ret->second->layout,
                                     .destination = layout,
                                     .posts = ret->posts.posts,
                                     .post_count = ret->posts.count};
    ret->primitive = primitive_binary(lowering->plan->pool, &spec, refused);

    return true;
}

bool lower_binary(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *full, *other, *output = node->outputs[0];
    if (output->dtype != DTYPE_F32 || output->shape.rank < 1 || shape_elements(&output->shape) == 0 ||
        !order_operands(node, &full, &other))
        return true;

    struct binary binary = {.first = lower_dense(lowering, full, error)};
    struct plan_tensor *currently = binary.first ? lower_current(lowering, other, error) : NULL;
    if (!currently)
        return false;

    bool scalar = other->shape.rank == 0 && other->dtype == DTYPE_F32;
    if (!is_float_tensor(binary.first) || (!scalar && !is_float_tensor(currently)))
        return true;

    struct error refused;
    if (!describe_binary(lowering, node, other, &binary, &refused, error))
        return false;

    if (!binary.primitive && !layout_is_plain(binary.first->layout)) {
        binary.first = lower_plain(lowering, full, binary.first->dtype, error);
        if (!binary.first || !describe_binary(lowering, node, other, &binary, &refused, error))
            return false;
    }

    if (!binary.primitive)
        return node->post_op_count
                   ? error_set(error, refused.code, "node %s: %s", node->name, refused.message)
                   : true;

    struct plan_tensor *destination = lower_result_like(lowering, node, full, binary.first, error);
    if (!destination)
        return false;

    const struct primitive_step step = {.action = lower_action(lowering, node),
                                        .primitive = binary.primitive,
                                        .source = binary.first,
                                        .source_1 = binary.second,
                                        .destination = destination,
                                        .posts = &binary.posts};
    *ret_done = true;
    if (!lower_primitive(lowering, node, &step, error))
        return false;

    lower_define(lowering, output, destination);
    return true;
}

/* A vector of channels seen as [1, c, 1, …] of a tensor: blocked where that is. Padded blocks are
 * excluded. */
static const struct layout *channel_layout(struct primitive_pool *pool, const struct layout *tensor,
                                           const struct shape *shape) {
    return layout_is_blocked(tensor) ? layout_blocked(pool, DTYPE_F32, shape)
                                     : layout_plain(pool, DTYPE_F32, shape);
}

/* What the channels of a batch norm are multiplied by and shifted by. */
static bool describe_batch_norm(struct lowering *lowering, const struct node *node,
                                const struct layout *tensor, struct plan_tensor **ret) {
    struct plan *plan = lowering->plan;
    int64_t channels = node->outputs[0]->shape.dims[1];
    struct shape shape = {.rank = node->outputs[0]->shape.rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = i == 1 ? channels : 1;

    const struct layout *layout = channel_layout(plan->pool, tensor, &shape);
    float *factors[2];

    for (int i = 0; i < 2; i++) {
        factors[i] = plan_own_memory(plan, (size_t)channels * sizeof(float));
        ret[i] = factors[i] && layout ? plan_add_constant(plan, DTYPE_F32, &shape, layout, factors[i]) : NULL;
        if (!ret[i])
            return false;
    }

    double epsilon = node_float(node, "epsilon", 1e-5f), of[4];
    for (int64_t c = 0; c < channels; c++) {
        for (int i = 0; i < 4; i++)
            of[i] = tensor_get_f64(node->inputs[1 + i]->constant, c);
        double scale = of[0] / sqrt(of[3] + epsilon);
        factors[0][c] = (float)scale;
        factors[1][c] = (float)(of[1] - of[2] * scale);
    }

    return true;
}

struct channel_affine {
    struct plan_tensor *source, *scale;
    struct post_list posts; /* the shift, and what is fused */
    const struct primitive *primitive;
};

/* Multiply, add, and what is fused, on x in `layout`. *ret.primitive NULL: oneDNN has none, or a slow one. */
static bool describe_affine(struct lowering *lowering, struct node *node, const struct layout *layout,
                            struct channel_affine *ret, struct error *error) {
    struct plan_tensor *affine[2];
    struct post_list fused;
    struct error refused;

    ret->source = lower_in_layout(lowering, node->inputs[0], layout, error);
    if (!ret->source || !lower_posts(lowering, node, layout, &fused, error))
        return false;
    if (!describe_batch_norm(lowering, node, layout, affine))
        return lower_no_memory(error);

    ret->scale = affine[0];
    ret->posts = (struct post_list){.posts = {{.kind = POST_ADD, .operand = affine[1]->layout}},
                                    .operands = {affine[1]},
                                    .count = 1 + fused.count};
    memcpy(ret->posts.posts + 1, fused.posts, (size_t)fused.count * sizeof *fused.posts);
    memcpy(ret->posts.operands + 1, fused.operands, (size_t)fused.count * sizeof(struct plan_tensor *));

    const struct binary_spec spec = {.kind = POST_MULTIPLY,
                                     .a = layout,
                                     .b = affine[0]->layout,
                                     .destination = layout,
                                     .posts = ret->posts.posts,
                                     .post_count = ret->posts.count};
    ret->primitive = primitive_binary(lowering->plan->pool, &spec, &refused);

    return true;
}

/* y = x * scale + shift for each channel (BatchNormalization-15), and what is fused to it: a multiplication
 * with post-ops, in the layout that x has, or with the channels innermost. */
bool lower_batch_norm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0];
    if (!passes_batch_norm_is_constant(node))
        return true;

    struct channel_affine affine = {.primitive = NULL};
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

    struct plan_tensor *destination = lower_result_like(lowering, node, input, affine.source, error);
    if (!destination)
        return false;

    const struct primitive_step step = {.action = lower_action(lowering, node),
                                        .primitive = affine.primitive,
                                        .source = affine.source,
                                        .source_1 = affine.scale,
                                        .destination = destination,
                                        .posts = &affine.posts};
    *ret_done = true;
    if (!lower_primitive(lowering, node, &step, error))
        return false;

    lower_define(lowering, node->outputs[0], destination);
    return true;
}

bool lower_softmax(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0];
    int axis = node_along_axis(node);
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
        primitive_softmax(lowering->plan->pool, source->layout, axis, &refused);
    if (!primitive)
        return true;

    *ret_done = true;
    return lower_one_to_one(lowering, node, primitive, source, error);
}
