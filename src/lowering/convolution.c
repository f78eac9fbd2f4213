/* Conv and ConvTranspose, with what follows them fused in. */
#include <string.h>

#include "lowering/lowering.h"

void lower_window(const struct node *node, struct convolution_spec *spec) {
    const struct shape *source = &spec->source, *destination = &spec->destination, *weights = &spec->weights;
    int spatial = source->rank - 2;
    const int64_t *ints;

    for (int i = 0; i < spatial; i++) {
        spec->strides[i] = node_ints(node, "strides", &ints) ? ints[i] : 1;
        spec->dilations[i] = node_ints(node, "dilations", &ints) ? ints[i] : 1;
        size_t pads = node_ints(node, "pads", &ints);
        spec->pads_begin[i] = pads ? ints[i] : 0;
        int64_t reach = (weights->dims[2 + i] - 1) * spec->dilations[i] + 1;
        int64_t out = destination->dims[2 + i], in = source->dims[2 + i];
        if (spec->transposed) { /* in and out change places */
            int64_t swap = out;
            out = in;
            in = swap;
        }
        int64_t total = (out - 1) * spec->strides[i] + reach - in;
        const char *automatic = node_string(node, "auto_pad", "NOTSET");
        if (strcmp(automatic, "SAME_UPPER") == 0)
            spec->pads_begin[i] = total > 0 ? total / 2 : 0;
        else if (strcmp(automatic, "SAME_LOWER") == 0)
            spec->pads_begin[i] = total > 0 ? total - total / 2 : 0;
        else if (strcmp(automatic, "VALID") == 0)
            spec->pads_begin[i] = 0;
        spec->pads_end[i] =
            total - spec->pads_begin[i]; /* may be negative: pixels at the end that no window reaches */
    }
}

struct fusion {
    struct post_list list;
    int residual; /* which post is the sum with the destination's former content; -1: none */
    struct value *residual_value;
};

/* The one post-op that adds a tensor of the result's shape may become oneDNN's sum: it accumulates where the
 * residual lies. */
static void choose_residual(struct lowering *lowering, struct node *node, struct fusion *fusion) {
    fusion->residual = -1;
    for (int i = 0, position = -1; i < node->post_op_count; i++) {
        const struct post_op *post = &node->post_ops[i];
        struct primitive_post activation[LOWER_ACTIVATION];
        position += lower_activation(post, activation);
        if (post->kind != POST_ADD ||
            !shape_equal(&node->inputs[post->input]->shape, &node->outputs[0]->shape))
            continue;
        struct value *value = node->inputs[post->input];
        const struct plan_tensor *tensor = lowering->lowered[value->id].tensors[0];
        if (!tensor || !lower_may_overwrite(lowering, node, value, tensor) ||
            tensor->dtype != lowering->compute)
            continue;
        fusion->residual = position;
        fusion->residual_value = value;
        fusion->list.posts[position] = (struct primitive_post){.kind = POST_SUM, .alpha = 1};
        fusion->list.operands[position] = NULL;
        return;
    }
}

/* 3x3 with stride 1 over enough pixels that the larger weights are worth packing and reading. */
bool lower_suits_winograd(const struct node *node) {
    const struct value *weights = node_input(node, 1), *output = node->outputs[0];
    const int64_t *ints;
    if (!node_is(node, "Conv") || !weights->constant || weights->shape.rank != 4 ||
        node_int(node, "group", 1) != 1 || node->inputs[0]->dtype != DTYPE_F32 ||
        output->shape.dims[2] * output->shape.dims[3] < 14 * 14)
        return false;

    for (int i = 0; i < 2; i++)
        if (weights->shape.dims[i] < 32 || weights->shape.dims[2 + i] != 3 ||
            (node_ints(node, "strides", &ints) && ints[i] != 1) ||
            (node_ints(node, "dilations", &ints) && ints[i] != 1))
            return false;
    return true;
}

static bool is_winograd(const struct primitive *primitive) {
    return strstr(primitive_kernel(primitive), "wino") != NULL;
}

static size_t added_bytes(const struct primitive *primitive, const struct convolution_spec *spec) {
    size_t packed = layout_bytes(primitive_layout(primitive, ARGUMENT_WEIGHTS));
    size_t plain = (size_t)shape_elements(&spec->weights) * sizeof(float);
    return packed > plain ? packed - plain : 0;
}

/* Winograd's algorithm where it suits and its weights still fit; NULL elsewhere. */
static const struct primitive *choose_winograd(struct lowering *lowering, const struct node *node,
                                               const struct convolution_spec *spec) {
    if (!lowering->blocked || !lower_suits_winograd(node))
        return NULL;

    struct error ignored;
    struct convolution_spec fast = *spec;
    fast.winograd = true;
    fast.weights_layout = NULL;
    const struct primitive *primitive = primitive_convolution(lowering->plan->pool, &fast, &ignored);

    return primitive && is_winograd(primitive) && added_bytes(primitive, spec) <= lowering->winograd_budget
               ? primitive
               : NULL;
}

/* In a network of blocked tensors, stay blocked: changing to channels last and back costs more than a kernel
 * gains. */
static const struct primitive *choose_blocked(struct lowering *lowering, const struct convolution_spec *spec,
                                              const struct plan_tensor *source) {
    struct primitive_pool *pool = lowering->plan->pool;
    if (!lowering->blocked || spec->source.rank != 4 || spec->source_dtype != DTYPE_F32 || !source->layout)
        return NULL;

    int64_t pixels = spec->destination.dims[2] * spec->destination.dims[3];
    if (spec->weights.dims[2] > 1 && pixels <= 14 * 14)
        return NULL; /* so few that the channels-last kernel is faster even with the changes */

    struct error ignored;
    struct convolution_spec same = *spec;

    if (layout_is_blocked(source->layout))
        same.source_layout = source->layout;
    same.destination_layout = layout_blocked(pool, DTYPE_F32, &spec->destination);
    const struct primitive *primitive =
        same.destination_layout ? primitive_convolution(pool, &same, &ignored) : NULL;

    return primitive && !primitive_is_slow(primitive) ? primitive : NULL;
}

/* Make the primitive: with the weights as another plan packed them if that is as good, else with a free
 * choice. */
static const struct primitive *choose_primitive(struct lowering *lowering, const struct node *node,
                                                struct convolution_spec *spec,
                                                const struct plan_tensor *source, struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    const struct value *weights = node->inputs[1];
    const struct primitive *preferred = choose_winograd(lowering, node, spec);
    if (preferred)
        return preferred;

    const struct packed_weights *packed =
        weights->constant ? weights_find(lowering->plan->weights, weights->constant->data, "", NULL) : NULL;
    const struct primitive *primitive = NULL;

    if (packed && layout_dtype(packed->layout) == spec->weights_dtype) {
        struct error ignored;
        spec->weights_layout = layout_copy(pool, packed->layout);
        primitive = primitive_convolution(pool, spec, &ignored);
        if (primitive && !primitive_is_slow(primitive))
            return primitive;
        spec->weights_layout = NULL;
    }

    preferred = choose_blocked(lowering, spec, source);
    if (preferred)
        return preferred;

    primitive = primitive_convolution(pool, spec, error);
    if (!primitive || spec->source_layout || !source->layout)
        return primitive;

    const struct layout *chosen = primitive_layout(primitive, ARGUMENT_SOURCE);
    if (layout_is_channels_last(source->layout) && layout_dtype(source->layout) == spec->source_dtype &&
        !layout_equal(chosen, source->layout)) { /* stay as we are, if a fast kernel takes that */
        struct error ignored;
        struct convolution_spec same = *spec;
        same.source_layout = source->layout;
        same.destination_layout = layout_channels_last(pool, spec->destination_dtype, &spec->destination);
        const struct primitive *other = primitive_convolution(pool, &same, &ignored);
        if (other && !primitive_is_slow(other))
            return other;
    }

    return primitive;
}

static bool has_layout_operands(const struct fusion *fusion) {
    for (int i = 0; i < fusion->list.count; i++) {
        const struct primitive_post *post = &fusion->list.posts[i];
        if ((post->kind == POST_ADD || post->kind == POST_MULTIPLY) && !post->operand)
            return false;
    }
    return true;
}

static bool reorder_between(struct lowering *lowering, const struct node *node, struct plan_tensor *from,
                            struct plan_tensor *to, struct error *error) {
    const struct primitive *primitive =
        primitive_reorder(lowering->plan->pool, from->layout, to->layout, error);
    const struct primitive_step step = {
        .action = "reorder", .primitive = primitive, .source = from, .destination = to};
    return primitive && lower_primitive(lowering, node, &step, error);
}

/* Weights that are computed, or an input: packed at each run. */
static struct plan_tensor *lower_made_weights(struct lowering *lowering, const struct node *node,
                                              struct value *value, const struct layout *from,
                                              const struct layout *wanted, struct error *error) {
    struct plan *plan = lowering->plan;
    struct plan_tensor *plain = lower_plain(lowering, value, DTYPE_F32, error);
    if (!plain)
        return NULL;

    struct plan_tensor *seen = plan_add_view(plan, plain, layout_shape(from), from);
    if (seen && layout_equal(from, wanted))
        return seen;
    struct plan_tensor *packed =
        !seen ? NULL : plan_add_tensor(plan, layout_dtype(wanted), layout_shape(wanted), wanted);
    if (!packed) {
        lower_no_memory(error);
        return NULL;
    }
    return reorder_between(lowering, node, seen, packed, error) ? packed : NULL;
}

static bool emit(struct lowering *lowering, struct node *node, struct convolution_spec *spec,
                 struct fusion *fusion, const struct primitive *primitive, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *output = node->outputs[0];
    struct plan_tensor *source =
        lower_in_layout(lowering, node->inputs[0], primitive_layout(primitive, ARGUMENT_SOURCE), error);
    const struct layout *from = primitive_convolution_weights(plan->pool, spec),
                        *wanted = primitive_layout(primitive, ARGUMENT_WEIGHTS);
    struct plan_tensor *weights = NULL;
    if (source && node->inputs[1]->constant)
        weights = lower_weights(lowering, node->inputs[1], from, wanted,
                                is_winograd(primitive) ? "winograd" : "", error);
    else if (source)
        weights = lower_made_weights(lowering, node, node->inputs[1], from, wanted, error);

    if (is_winograd(primitive))
        lowering->winograd_budget -= added_bytes(primitive, spec);
    struct plan_tensor *bias =
        spec->has_bias ? lower_plain(lowering, node_input(node, 2), DTYPE_F32, error) : NULL;
    if (!weights || (spec->has_bias && !bias))
        return false;

    const struct layout *layout = primitive_layout(primitive, ARGUMENT_DESTINATION);
    struct plan_tensor *destination;

    if (fusion->residual >= 0) {
        struct plan_tensor *residual =
            lower_to_overwrite(lowering, node, fusion->residual_value, layout, error);
        if (!residual)
            return false;
        destination = plan_add_view(plan, residual, &output->shape, layout);
    } else {
        destination = plan_add_tensor(plan, spec->destination_dtype, &output->shape, layout);
    }

    if (!destination)
        return lower_no_memory(error);

    double kernel = (double)shape_elements(&spec->weights) / (double)spec->weights.dims[0];
    const struct primitive_step step = {
        .action = lower_action(lowering, node),
        .primitive = primitive,
        .source = source,
        .weights = weights,
        .bias = bias,
        .destination = destination,
        .posts = &fusion->list,
        .flops = 2 * kernel * (double)shape_elements(spec->transposed ? &spec->source : &spec->destination)};
    if (!lower_primitive(lowering, node, &step, error))
        return false;

    lower_define(lowering, output, destination);
    return true;
}

/* Operands as large as the result lie as it does. oneDNN has fast kernels for such only, and its gemm reads
 * others wrongly. */
static bool operands_fit(struct primitive_pool *pool, const struct fusion *fusion,
                         const struct primitive *primitive) {
    const struct layout *result = primitive_layout(primitive, ARGUMENT_DESTINATION);

    for (int i = 0; i < fusion->list.count; i++) {
        const struct layout *operand = fusion->list.posts[i].operand;
        if (operand && shape_equal(layout_shape(operand), layout_shape(result)) &&
            !layout_identical(operand, layout_retype(pool, result, layout_dtype(operand))))
            return false;
    }
    return true;
}

static bool has_large_operand(const struct fusion *fusion, const struct convolution_spec *spec) {
    for (int i = 0; i < fusion->list.count; i++) {
        const struct layout *operand = fusion->list.posts[i].operand;
        if (operand && shape_equal(layout_shape(operand), &spec->destination))
            return true;
    }
    return false;
}

/* oneDNN's gemm, on channels last and in groups, reads an operand of the result's size at the first group's
 * place for every group. */
static bool reads_groups_wrongly(const struct convolution_spec *spec, const struct primitive *primitive) {
    return spec->groups > 1 && strstr(primitive_kernel(primitive), "gemm") &&
           layout_is_channels_last(primitive_layout(primitive, ARGUMENT_DESTINATION));
}

/* The layouts that the convolution would choose if it were alone, and the operands brought to them. */
static const struct primitive *choose_before_operands(struct lowering *lowering, struct node *node,
                                                      struct convolution_spec *spec, struct fusion *fusion,
                                                      const struct plan_tensor *source, struct error *error) {
    struct convolution_spec alone = *spec;
    alone.post_count = 0;
    alone.weights_layout = NULL;
    const struct primitive *primitive = choose_primitive(lowering, node, &alone, source, error);
    if (!primitive)
        return NULL;

    struct primitive_pool *pool = lowering->plan->pool;
    bool plain = reads_groups_wrongly(spec, primitive);
    spec->source_layout = plain ? layout_plain(pool, spec->source_dtype, &spec->source)
                                : primitive_layout(primitive, ARGUMENT_SOURCE);
    spec->destination_layout = plain ? layout_plain(pool, spec->destination_dtype, &spec->destination)
                                     : primitive_layout(primitive, ARGUMENT_DESTINATION);
    spec->weights_layout = NULL;
    if (!lower_posts(lowering, node, spec->destination_layout, &fusion->list, error))
        return NULL;

    choose_residual(lowering, node, fusion);
    return choose_primitive(lowering, node, spec, source, error);
}

/* The zeros of padded channels, times an infinity, are NaN: such convolutions run on layouts without padding.
 * NULL: oneDNN has none. */
static const struct primitive *choose_unpadded(struct lowering *lowering, struct convolution_spec *spec,
                                               const struct primitive *primitive, struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    if (!layout_is_padded(primitive_layout(primitive, ARGUMENT_SOURCE)) &&
        !layout_is_padded(primitive_layout(primitive, ARGUMENT_DESTINATION)))
        return primitive;

    spec->weights_layout = NULL;
    spec->source_layout = layout_plain(pool, spec->source_dtype, &spec->source);
    spec->destination_layout = layout_plain(pool, spec->destination_dtype, &spec->destination);
    return primitive_convolution(pool, spec, error);
}

bool lower_convolution_gradient(struct lowering *lowering, struct node *node, bool *ret_done,
                                struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *x = node->inputs[0], *g = node->inputs[1], *output = node->outputs[0];
    int rank = x->shape.rank;
    if (rank < 3 || rank > 5 || !shape_elements(&x->shape) || !shape_elements(&g->shape) ||
        !shape_elements(&output->shape))
        return true;

    struct convolution_spec spec = {.source = x->shape,
                                    .weights = output->shape,
                                    .destination = g->shape,
                                    .groups = node_int(node, "group", 1)};
    struct error refused;
    lower_window(node, &spec);
    const struct primitive *primitive = primitive_convolution_gradient(plan->pool, &spec, &refused);
    const struct layout *plain = primitive_convolution_weights(plan->pool, &spec);
    if (!primitive || primitive_is_slow(primitive) || !plain)
        return true;

    const struct layout *layout = primitive_layout(primitive, ARGUMENT_DESTINATION);
    struct plan_tensor *source =
        lower_in_layout(lowering, x, primitive_layout(primitive, ARGUMENT_SOURCE), error);
    struct plan_tensor *gradient =
        source ? lower_in_layout(lowering, g, primitive_layout(primitive, ARGUMENT_SOURCE_1), error) : NULL;
    if (!gradient)
        return false;

    struct plan_tensor *whole =
        plan_add_tensor(plan, DTYPE_F32, &output->shape, layout_plain(plan->pool, DTYPE_F32, &output->shape));
    struct plan_tensor *back = whole ? plan_add_view(plan, whole, layout_shape(plain), plain) : NULL;
    struct plan_tensor *made =
        layout_equal(plain, layout) ? back : plan_add_tensor(plan, DTYPE_F32, layout_shape(layout), layout);
    if (!back || !made)
        return lower_no_memory(error);

    const struct primitive_step step = {.action = node->op_type,
                                        .primitive = primitive,
                                        .source = source,
                                        .source_1 = gradient,
                                        .destination = made,
                                        .flops = 2 * (double)shape_elements(&g->shape) *
                                                 (double)shape_elements(&output->shape) /
                                                 (double)output->shape.dims[0]};
    if (!lower_primitive(lowering, node, &step, error) ||
        (made != back && !reorder_between(lowering, node, made, back, error)))
        return false;

    *ret_done = true;
    lower_define(lowering, output, whole);
    return true;
}

bool lower_convolution(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *source = node->inputs[0], *weights = node->inputs[1], *output = node->outputs[0];
    int rank = source->shape.rank;
    if (rank < 3 || rank > 5 || weights->dtype != DTYPE_F32 || source->dtype != DTYPE_F32 ||
        shape_elements(&output->shape) == 0)
        return true;

    struct convolution_spec spec = {
        .source = source->shape,
        .weights = weights->shape,
        .destination = output->shape,
        .groups = node_int(node, "group", 1),
        .transposed = node_is(node, "ConvTranspose"),
        .has_bias = node_input(node, 2) != NULL,
        .source_dtype = lowering->compute,
        .weights_dtype = lowering->compute,
        .destination_dtype = lowering->compute,
        .bias_dtype = DTYPE_F32,
    };
    if (!weights->constant && lowering->exact)
        return true;

    lower_window(node, &spec);
    struct plan_tensor *current = lower_current(lowering, source, error);
    if (!current)
        return false;

    struct fusion fusion = {0};
    if (!lower_posts(lowering, node, NULL, &fusion.list, error))
        return false;

    choose_residual(lowering, node, &fusion);
    if (!has_layout_operands(&fusion))
        return error_set(error, ERROR_INTERNAL, "node %s: an operand has no layout", node->name);

    spec.posts = fusion.list.posts;
    spec.post_count = fusion.list.count;
    struct error refused;
    const struct primitive *primitive = choose_primitive(lowering, node, &spec, current, &refused);
    if (has_large_operand(&fusion, &spec) &&
        (!primitive || primitive_is_slow(primitive) ||
         !operands_fit(lowering->plan->pool, &fusion, primitive) || reads_groups_wrongly(&spec, primitive)))
        primitive = choose_before_operands(lowering, node, &spec, &fusion, current, &refused);
    if (lowering->exact && primitive)
        primitive = choose_unpadded(lowering, &spec, primitive, &refused);

    if (!primitive && node->post_op_count == 0)
        return true; /* oneDNN has none for this: the reference kernel computes it */
    if (!primitive)
        return error_set(error, refused.code, "node %s: %s", node->name, refused.message);

    *ret_done = true;
    return emit(lowering, node, &spec, &fusion, primitive, error);
}
