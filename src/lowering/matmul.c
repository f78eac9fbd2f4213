/* Gemm and MatMul, with what follows them fused in. */
#include <string.h>

#include "lowering/lowering.h"

const struct layout *lower_matrix_view(struct primitive_pool *pool, const struct shape *stored,
                                       bool transpose) {
    int64_t strides[2] = {stored->dims[1], 1};
    struct shape shape = *stored;

    if (transpose) {
        shape.dims[0] = stored->dims[1];
        shape.dims[1] = stored->dims[0];
        strides[0] = 1;
        strides[1] = stored->dims[1];
    }

    return layout_strided(pool, DTYPE_F32, &shape, strides);
}

struct weighted_matmul {
    struct matmul_spec spec;
    bool inner;                /* inner product: weights are [n, k] */
    const struct layout *from; /* the constant as the primitive's axes have it */
    const char *role;
    struct post_list posts;
};

/* Add operands seen as the 2-d destination sees them. */
static bool flatten_operands(struct lowering *lowering, struct weighted_matmul *matmul, struct error *error) {
    struct plan *plan = lowering->plan;
    const struct shape *destination = &matmul->spec.destination;

    for (int i = 0; i < matmul->posts.count; i++) {
        struct plan_tensor *operand = matmul->posts.operands[i];
        if (!operand)
            continue;
        int64_t columns = operand->shape.dims[operand->shape.rank - 1];
        int64_t rows = columns ? shape_elements(&operand->shape) / columns : 0;
        struct shape shape = {.rank = 2, .dims = {rows, columns}};
        if (!plan_tensor_is_plain(operand) || (rows != 1 && rows != destination->dims[0]))
            return error_set(error, ERROR_INTERNAL, "an operand of a matmul cannot be flattened");
        const struct layout *layout = layout_plain(plan->pool, operand->dtype, &shape);
        matmul->posts.operands[i] = plan_add_view(plan, operand, &shape, layout);
        if (!matmul->posts.operands[i])
            return lower_no_memory(error);
        matmul->posts.posts[i].operand = layout;
    }

    return true;
}

static const struct primitive *choose_primitive(struct lowering *lowering, struct weighted_matmul *matmul,
                                                const struct value *weights, struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    const struct packed_weights *packed =
        weights_find(lowering->plan->weights, weights->constant->data, matmul->role, NULL);
    if (packed && layout_dtype(packed->layout) == matmul->spec.weights_dtype) {
        struct error ignored;
        matmul->spec.weights_layout = layout_copy(pool, packed->layout);
        const struct primitive *primitive = matmul->inner
                                                ? primitive_inner_product(pool, &matmul->spec, &ignored)
                                                : primitive_matmul(pool, &matmul->spec, &ignored);
        if (primitive && !primitive_is_slow(primitive))
            return primitive;
        matmul->spec.weights_layout = NULL;
    }

    return matmul->inner ? primitive_inner_product(pool, &matmul->spec, error)
                         : primitive_matmul(pool, &matmul->spec, error);
}

/* [rows, k] x constant: the common case of Gemm and of MatMul with weights. */
static bool emit_weighted(struct lowering *lowering, struct node *node, struct weighted_matmul *matmul,
                          struct value *bias, const struct shape *result, struct error *error) {
    struct plan *plan = lowering->plan;
    struct matmul_spec *spec = &matmul->spec;
    struct value *weights = node->inputs[1];
    struct plan_tensor *source = lower_plain(lowering, node->inputs[0], lowering->compute, error);
    if (!source)
        return false;

    spec->source_layout = layout_plain(plan->pool, spec->source_dtype, &spec->source);
    spec->destination_layout = layout_plain(plan->pool, spec->destination_dtype, &spec->destination);
    source = plan_add_view(plan, source, &spec->source, spec->source_layout);
    if (!source || !spec->destination_layout)
        return lower_no_memory(error);

    const struct primitive *primitive = choose_primitive(lowering, matmul, weights, error);
    if (!primitive)
        return error_prefix(error, "node %s", node->name);

    struct plan_tensor *packed = lower_weights(
        lowering, weights, matmul->from, primitive_layout(primitive, ARGUMENT_WEIGHTS), matmul->role, error);
    struct plan_tensor *offset = bias ? lower_plain(lowering, bias, DTYPE_F32, error) : NULL;
    if (!packed || (bias && !offset))
        return false;

    if (offset) {
        offset = plan_add_view(plan, offset, layout_shape(primitive_layout(primitive, ARGUMENT_BIAS)),
                               primitive_layout(primitive, ARGUMENT_BIAS));
        if (!offset)
            return lower_no_memory(error);
    }

    const struct layout *layout = layout_plain(plan->pool, spec->destination_dtype, result);
    struct plan_tensor *whole = plan_add_tensor(plan, spec->destination_dtype, result, layout);
    struct plan_tensor *destination =
        whole ? plan_add_view(plan, whole, &spec->destination, spec->destination_layout) : NULL;
    if (!destination)
        return lower_no_memory(error);

    const struct primitive_step step = {.action = lower_action(lowering, node),
                                        .primitive = primitive,
                                        .source = source,
                                        .weights = packed,
                                        .bias = offset,
                                        .destination = destination,
                                        .posts = &matmul->posts,
                                        .flops = 2.0 * (double)spec->destination.dims[0] *
                                                 (double)spec->destination.dims[1] *
                                                 (double)spec->source.dims[1]};
    if (!lower_primitive(lowering, node, &step, error))
        return false;

    lower_define(lowering, node->outputs[0], whole);
    return true;
}

/* Few rows: weights stream by once, and the inner product's layout suits; many rows: the matmul's. */
static void describe_weighted(struct lowering *lowering, struct weighted_matmul *matmul, int64_t rows,
                              int64_t depth, const struct value *weights, bool transposed) {
    struct primitive_pool *pool = lowering->plan->pool;
    struct matmul_spec *spec = &matmul->spec;
    const struct shape *stored = &weights->shape;
    int64_t columns = transposed ? stored->dims[0] : stored->dims[1];
    matmul->inner = rows <= 16;
    matmul->role = matmul->inner ? "inner" : "";
    matmul->from = lower_matrix_view(pool, stored, matmul->inner ? !transposed : transposed);
    spec->source = (struct shape){.rank = 2, .dims = {rows, depth}};
    spec->destination = (struct shape){.rank = 2, .dims = {rows, columns}};
    spec->weights = matmul->inner ? (struct shape){.rank = 2, .dims = {columns, depth}}
                                  : (struct shape){.rank = 2, .dims = {depth, columns}};
    spec->source_dtype = spec->weights_dtype = spec->destination_dtype = lowering->compute;
    spec->bias_dtype = DTYPE_F32;
    spec->posts = matmul->posts.posts;
}

static bool bias_is_row(const struct value *bias, int64_t columns) {
    return bias && bias->constant && bias->dtype == DTYPE_F32 && shape_elements(&bias->shape) == columns &&
           (columns == 1 || bias->shape.dims[bias->shape.rank - 1] == columns);
}

/* Y = alpha A' B' + beta C (Gemm-13) */
bool lower_gemm(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *a = node->inputs[0], *b = node->inputs[1], *c = node_input(node, 2);
    struct value *output = node->outputs[0];
    float beta = node_float(node, "beta", 1);
    if (!b->constant || a->dtype != DTYPE_F32 || node_int(node, "transA", 0) ||
        node_float(node, "alpha", 1) != 1 || shape_elements(&output->shape) == 0 || a->shape.dims[1] == 0)
        return true;

    bool fused_bias = c && beta == 1 && bias_is_row(c, output->shape.dims[1]);
    if (c && beta != 0 && !fused_bias)
        return true;

    struct weighted_matmul matmul = {0};
    describe_weighted(lowering, &matmul, a->shape.dims[0], a->shape.dims[1], b,
                      node_int(node, "transB", 0) != 0);
    matmul.spec.has_bias = fused_bias;
    if (!lower_posts(lowering, node, layout_plain(lowering->plan->pool, lowering->compute, &output->shape),
                     &matmul.posts, error) ||
        !flatten_operands(lowering, &matmul, error))
        return false;

    matmul.spec.post_count = matmul.posts.count;
    *ret_done = true;
    return emit_weighted(lowering, node, &matmul, fused_bias ? c : NULL, &output->shape, error);
}

/* Both operands are made at run time: [batch…, m, k] x [batch…, k, n]. */
static bool lower_batched(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *a = node->inputs[0], *b = node->inputs[1], *output = node->outputs[0];
    if (a->shape.rank != b->shape.rank || a->shape.rank < 2 || node->post_op_count)
        return true;

    struct plan_tensor *left = lower_current(lowering, a, error), *right = lower_current(lowering, b, error);
    if (!left || !right)
        return false;
    if (!left->layout || !right->layout)
        return true;

    if (left->dtype != lowering->compute || left->memory == PLAN_MEMORY_CONSTANT)
        left = lower_plain(lowering, a, lowering->compute, error);
    if (right->dtype != lowering->compute || right->memory == PLAN_MEMORY_CONSTANT)
        right = lower_plain(lowering, b, lowering->compute, error);
    if (!left || !right)
        return false;

    struct matmul_spec spec = {
        .source = a->shape,
        .weights = b->shape,
        .destination = output->shape,
        .source_dtype = lowering->compute,
        .weights_dtype = lowering->compute,
        .destination_dtype = lowering->compute,
        .source_layout = left->layout,
        .weights_layout = right->layout,
        .destination_layout = layout_plain(plan->pool, lowering->compute, &output->shape),
    };
    struct error refused;
    const struct primitive *primitive = primitive_matmul(plan->pool, &spec, &refused);
    if (!primitive || primitive_is_slow(primitive)) {
        left = lower_plain(lowering, a, lowering->compute, error);
        right = lower_plain(lowering, b, lowering->compute, error);
        if (!left || !right)
            return false;
        spec.source_layout = left->layout;
        spec.weights_layout = right->layout;
        primitive = primitive_matmul(plan->pool, &spec, &refused);
        if (!primitive)
            return true;
    }

    struct plan_tensor *destination =
        plan_add_tensor(plan, lowering->compute, &output->shape, spec.destination_layout);
    if (!destination)
        return lower_no_memory(error);

    const struct primitive_step step = {.action = node->op_type,
                                        .primitive = primitive,
                                        .source = left,
                                        .weights = right,
                                        .destination = destination,
                                        .flops = 2.0 * (double)shape_elements(&output->shape) *
                                                 (double)a->shape.dims[a->shape.rank - 1]};
    if (!lower_primitive(lowering, node, &step, error))
        return false;

    lower_define(lowering, output, destination);
    *ret_done = true;
    return true;
}

/* The first post-op, an addition, is the primitive's bias instead. */
static void drop_first(struct post_list *posts) {
    size_t rest = (size_t)--posts->count;

    memmove(posts->posts, posts->posts + 1, rest * sizeof *posts->posts);
    memmove(posts->operands, posts->operands + 1, rest * sizeof(struct plan_tensor *));
}

bool lower_matmul(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *a = node->inputs[0], *b = node->inputs[1], *output = node->outputs[0];
    if (a->dtype != DTYPE_F32 || shape_elements(&output->shape) == 0 || shape_elements(&a->shape) == 0)
        return true;
    if (!b->constant || b->shape.rank != 2 || a->shape.rank < 2)
        return lower_batched(lowering, node, ret_done, error);

    struct weighted_matmul matmul = {0};
    int64_t depth = a->shape.dims[a->shape.rank - 1];
    describe_weighted(lowering, &matmul, shape_elements(&a->shape) / depth, depth, b, false);
    struct value *bias = NULL;

    if (node->post_op_count && node->post_ops[0].kind == POST_ADD &&
        bias_is_row(node->inputs[node->post_ops[0].input], b->shape.dims[1]))
        bias = node->inputs[node->post_ops[0].input];

    matmul.spec.has_bias = bias != NULL;
    if (!lower_posts(lowering, node, layout_plain(lowering->plan->pool, lowering->compute, &output->shape),
                     &matmul.posts, error))
        return false;

    if (bias)
        drop_first(&matmul.posts);
    if (!flatten_operands(lowering, &matmul, error))
        return false;

    matmul.spec.post_count = matmul.posts.count;
    *ret_done = true;
    return emit_weighted(lowering, node, &matmul, bias, &output->shape, error);
}
