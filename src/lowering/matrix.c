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

struct product {
    struct matmul_spec spec;
    bool inner;                /* inner product: weights are [n, k] */
    const struct layout *from; /* the constant as the primitive's axes have it */
    const char *role;
    struct primitive_post posts[LOWER_POSTS];
    struct plan_tensor *operands[LOWER_POSTS];
    int count;
};

/* Add operands seen as the 2-d destination sees them. */
static bool flatten_operands(struct lowering *lowering, struct product *product, struct error *error) {
    struct plan *plan = lowering->plan;
    const struct shape *destination = &product->spec.destination;
    for (int i = 0; i < product->count; i++) {
        struct plan_tensor *operand = product->operands[i];
        if (!operand)
            continue;
        int64_t columns = operand->shape.dims[operand->shape.rank - 1];
        int64_t rows = columns ? shape_elements(&operand->shape) / columns : 0;
        struct shape shape = {.rank = 2, .dims = {rows, columns}};
        if (!plan_tensor_is_plain(operand) || (rows != 1 && rows != destination->dims[0]))
            return error_set(error, ERROR_INTERNAL, "an operand of a matrix product cannot be flattened");
        const struct layout *layout = layout_plain(plan->pool, operand->dtype, &shape);
        product->operands[i] = plan_add_view(plan, operand, &shape, layout);
        if (!product->operands[i])
            return lower_no_memory(error);
        product->posts[i].operand = layout;
    }
    return true;
}

static const struct primitive *choose_primitive(struct lowering *lowering, struct product *product,
                                                const struct value *weights, struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    const struct packed_weights *packed =
        weights_find(lowering->plan->weights, weights->constant->data, product->role, NULL);
    if (packed && layout_dtype(packed->layout) == product->spec.weights_dtype) {
        struct error ignored;
        product->spec.weights_layout = layout_copy(pool, packed->layout);
        const struct primitive *primitive = product->inner
                                                ? primitive_inner_product(pool, &product->spec, &ignored)
                                                : primitive_matmul(pool, &product->spec, &ignored);
        if (primitive && !primitive_is_slow(primitive))
            return primitive;
        product->spec.weights_layout = NULL;
    }
    return product->inner ? primitive_inner_product(pool, &product->spec, error)
                          : primitive_matmul(pool, &product->spec, error);
}

/* [rows, k] x constant: the common case of Gemm and of MatMul with weights. */
static bool emit_product(struct lowering *lowering, struct node *node, struct product *product,
                         struct value *bias, const struct shape *result, struct error *error) {
    struct plan *plan = lowering->plan;
    struct matmul_spec *spec = &product->spec;
    struct value *weights = node->inputs[1];
    struct plan_tensor *source = lower_plain(lowering, node->inputs[0], lowering->compute, error);
    if (!source)
        return false;
    spec->source_layout = layout_plain(plan->pool, spec->source_dtype, &spec->source);
    spec->destination_layout = layout_plain(plan->pool, spec->destination_dtype, &spec->destination);
    source = plan_add_view(plan, source, &spec->source, spec->source_layout);
    if (!source || !spec->destination_layout)
        return lower_no_memory(error);
    const struct primitive *primitive = choose_primitive(lowering, product, weights, error);
    if (!primitive)
        return error_prefix(error, "node %s", node->name);
    struct plan_tensor *packed =
        lower_weights(lowering, weights, product->from, primitive_layout(primitive, ARGUMENT_WEIGHTS),
                      product->role, error);
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
    struct plan_tensor *tensors[4] = {source, packed, destination, offset};
    const enum primitive_argument roles[4] = {ARGUMENT_SOURCE, ARGUMENT_WEIGHTS, ARGUMENT_DESTINATION,
                                              ARGUMENT_BIAS};
    struct step *step = lower_primitive(lowering, node, lower_action(lowering, node), primitive, tensors,
                                        roles, offset ? 4 : 3, product->operands, product->count, error);
    if (!step)
        return false;
    step->flops = 2.0 * (double)spec->destination.dims[0] * (double)spec->destination.dims[1] *
                  (double)spec->source.dims[1];
    lower_define(lowering, node->outputs[0], whole);
    return true;
}

/* Few rows: weights stream by once, and the inner product's layout suits; many rows: the matrix product's. */
static void describe_product(struct lowering *lowering, struct product *product, int64_t rows, int64_t depth,
                             const struct value *weights, bool transposed) {
    struct primitive_pool *pool = lowering->plan->pool;
    struct matmul_spec *spec = &product->spec;
    const struct shape *stored = &weights->shape;
    int64_t columns = transposed ? stored->dims[0] : stored->dims[1];
    product->inner = rows <= 16;
    product->role = product->inner ? "inner" : "";
    product->from = lower_matrix_view(pool, stored, product->inner ? !transposed : transposed);
    spec->source = (struct shape){.rank = 2, .dims = {rows, depth}};
    spec->destination = (struct shape){.rank = 2, .dims = {rows, columns}};
    spec->weights = product->inner ? (struct shape){.rank = 2, .dims = {columns, depth}}
                                   : (struct shape){.rank = 2, .dims = {depth, columns}};
    spec->source_dtype = spec->weights_dtype = spec->destination_dtype = lowering->compute;
    spec->bias_dtype = DTYPE_F32;
    spec->posts = product->posts;
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
    struct product product = {0};
    describe_product(lowering, &product, a->shape.dims[0], a->shape.dims[1], b,
                     node_int(node, "transB", 0) != 0);
    product.spec.has_bias = fused_bias;
    if (!lower_posts(lowering, node, layout_plain(lowering->plan->pool, lowering->compute, &output->shape),
                     product.posts, product.operands, &product.count, error) ||
        !flatten_operands(lowering, &product, error))
        return false;
    product.spec.post_count = product.count;
    *ret_done = true;
    return emit_product(lowering, node, &product, fused_bias ? c : NULL, &output->shape, error);
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
    if (left->dtype != lowering->compute || left->place == PLACE_CONSTANT)
        left = lower_plain(lowering, a, lowering->compute, error);
    if (right->dtype != lowering->compute || right->place == PLACE_CONSTANT)
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
    struct plan_tensor *tensors[3] = {left, right, destination};
    const enum primitive_argument roles[3] = {ARGUMENT_SOURCE, ARGUMENT_WEIGHTS, ARGUMENT_DESTINATION};
    struct step *step =
        lower_primitive(lowering, node, node->op_type, primitive, tensors, roles, 3, NULL, 0, error);
    if (!step)
        return false;
    step->flops = 2.0 * (double)shape_elements(&output->shape) * (double)a->shape.dims[a->shape.rank - 1];
    lower_define(lowering, output, destination);
    *ret_done = true;
    return true;
}

bool lower_matmul(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *a = node->inputs[0], *b = node->inputs[1], *output = node->outputs[0];
    if (a->dtype != DTYPE_F32 || shape_elements(&output->shape) == 0 || shape_elements(&a->shape) == 0)
        return true;
    if (!b->constant || b->shape.rank != 2 || a->shape.rank < 2)
        return lower_batched(lowering, node, ret_done, error);
    struct product product = {0};
    int64_t depth = a->shape.dims[a->shape.rank - 1];
    describe_product(lowering, &product, shape_elements(&a->shape) / depth, depth, b, false);
    int first = 0;
    struct value *bias = NULL;
    if (node->post_op_count && node->post_ops[0].kind == POST_ADD &&
        bias_is_row(node->inputs[node->post_ops[0].input], b->shape.dims[1])) {
        bias = node->inputs[node->post_ops[0].input];
        first = 1;
    }
    product.spec.has_bias = bias != NULL;
    if (!lower_posts(lowering, node, layout_plain(lowering->plan->pool, lowering->compute, &output->shape),
                     product.posts, product.operands, &product.count, error))
        return false;
    product.count -= first; /* the bias is no post-op */
    memmove(product.posts, product.posts + first, sizeof *product.posts * (size_t)product.count);
    memmove(product.operands, product.operands + first, sizeof *product.operands * (size_t)product.count);
    if (!flatten_operands(lowering, &product, error))
        return false;
    product.spec.post_count = product.count;
    *ret_done = true;
    return emit_product(lowering, node, &product, bias, &output->shape, error);
}
