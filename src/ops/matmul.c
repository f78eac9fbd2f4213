/* MatMul and Gemm: https://onnx.ai/onnx/operators/onnx__MatMul.html, …__Gemm.html. */
#include "ops/matmul.h"
#include "ops/gradient.h"

#include <string.h>

#include "ops/binary.h"
#include "ops/product.h"

bool matmul_shape_make(const struct node *node, const struct shape *a, const struct shape *b,
                       struct matmul_shape *ret, struct error *error) {
    struct shape left = *a, right = *b, batch;
    char text[2][SHAPE_TEXT];
    if (left.rank < 1 || right.rank < 1)
        return node_error(node, error, "a scalar has no matrix product");

    if (left.rank == 1)
        left = (struct shape){.rank = 2, .dims = {1, a->dims[0]}};
    if (right.rank == 1)
        right = (struct shape){.rank = 2, .dims = {b->dims[0], 1}};
    ret->rows = left.dims[left.rank - 2];
    ret->depth = left.dims[left.rank - 1];
    ret->columns = right.dims[right.rank - 1];

    bool fits = right.dims[right.rank - 2] == ret->depth;
    ret->left_batch = left;
    ret->left_batch.rank -= 2;
    ret->right_batch = right;
    ret->right_batch.rank -= 2;
    if (!fits || !shape_broadcast(&ret->left_batch, &ret->right_batch, &batch))
        return node_error(node, error, "shapes %s and %s do not fit together",
                          shape_format(a, text[0], SHAPE_TEXT), shape_format(b, text[1], SHAPE_TEXT));

    ret->batch = batch;
    ret->result = batch;
    if (a->rank > 1)
        ret->result.dims[ret->result.rank++] = ret->rows;
    if (b->rank > 1)
        ret->result.dims[ret->result.rank++] = ret->columns;

    return true;
}

/* Where each pair of matrices starts: [2][batch], malloc'ed. */
static int64_t *batch_offsets(const struct matmul_shape *shape, int64_t batch) {
    int64_t *offsets = malloc(((size_t)batch * 2 + 1) * sizeof *offsets);
    if (!offsets)
        return NULL;

    int64_t strides[2][LIMIT_TENSOR_RANK];
    const struct shape *operands[2] = {&shape->left_batch, &shape->right_batch};
    for (int k = 0; k < 2; k++)
        shape_strides(operands[k], strides[k]);

    for (int64_t i = 0; i < batch; i++) {
        int64_t starts[2] = {0, 0}, left = i;
        for (int d = shape->batch.rank - 1; d >= 0; d--) {
            int64_t position = left % shape->batch.dims[d];
            left /= shape->batch.dims[d];
            for (int k = 0; k < 2; k++) {
                int own = d - (shape->batch.rank - operands[k]->rank);
                if (own >= 0 && operands[k]->dims[own] != 1)
                    starts[k] += position * strides[k][own];
            }
        }

        offsets[i] = starts[0] * shape->rows * shape->depth;
        offsets[batch + i] = starts[1] * shape->depth * shape->columns;
    }

    return offsets;
}

bool matmul_run(const struct node *node, const struct matmul_shape *s, enum dtype dtype, const void *a,
                const void *b, bool b_transposed, void *c, struct error *error) {
    int64_t batch = shape_elements(&s->batch);
    if (batch == 0 || s->rows == 0 || s->columns == 0)
        return true;

    cleanup(freep) int64_t *offsets = batch_offsets(s, batch);
    if (!offsets)
        return node_memory_error(node, error);

    const int64_t *right = offsets + batch;
    bool done = false;

    if (dtype == DTYPE_F32)
        done = product_f32(s->rows, s->depth, s->columns, batch, a, offsets, b, right, b_transposed, c);
    else if (dtype == DTYPE_F64)
        done = product_f64(s->rows, s->depth, s->columns, batch, a, offsets, b, right, b_transposed, c);
    else if (dtype == DTYPE_I32 || dtype == DTYPE_U32)
        done = product_i32(s->rows, s->depth, s->columns, batch, a, offsets, b, right, b_transposed, c);
    else if (dtype == DTYPE_I64 || dtype == DTYPE_U64)
        done = product_i64(s->rows, s->depth, s->columns, batch, a, offsets, b, right, b_transposed, c);
    else
        return node_error(node, error, "type %s is not supported", dtype_name(dtype));

    return done || node_memory_error(node, error);
}

#define MATMUL_TYPES (TYPES_FLOAT | TYPE(I32) | TYPE(U32) | TYPE(I64) | TYPE(U64))

static bool matmul_infer(struct node *node, struct error *error) {
    struct matmul_shape shape;
    return node_want_types(node, 0, MATMUL_TYPES, error) && node_want_same_type(node, 1, 0, error) &&
           matmul_shape_make(node, node_shape(node, 0), node_shape(node, 1), &shape, error) &&
           infer_output(node, 0, node_dtype(node, 0), &shape.result, error);
}

static bool matmul_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    struct matmul_shape shape;
    return matmul_shape_make(node, &inputs[0].shape, &inputs[1].shape, &shape, error) &&
           matmul_run(node, &shape, outputs[0].dtype, inputs[0].data, inputs[1].data, false, outputs[0].data,
                      error);
}

static bool matmul_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, matmul_wide);
}

/* --- Gemm: alpha a' b' + beta c --- */

static bool gemm_shape(const struct node *node, const struct shape *a, const struct shape *b,
                       struct matmul_shape *ret, struct error *error) {
    struct shape left = *a, right = *b;
    if (node_int(node, "transA", 0))
        left = (struct shape){.rank = 2, .dims = {a->dims[1], a->dims[0]}};
    if (node_int(node, "transB", 0))
        right = (struct shape){.rank = 2, .dims = {b->dims[1], b->dims[0]}};

    return matmul_shape_make(node, &left, &right, ret, error);
}

static bool gemm_infer(struct node *node, struct error *error) {
    struct matmul_shape shape;
    struct shape broadcast;

    if (!node_want_types(node, 0, MATMUL_TYPES, error) || !node_want_same_type(node, 1, 0, error) ||
        !node_want_same_type(node, 2, 0, error) || !node_want_rank(node, 0, 2, 2, error) ||
        !node_want_rank(node, 1, 2, 2, error) ||
        !gemm_shape(node, node_shape(node, 0), node_shape(node, 1), &shape, error))
        return false;

    const struct shape *c = node_shape(node, 2);
    char text[SHAPE_TEXT];
    if (c && (!shape_broadcast(c, &shape.result, &broadcast) || !shape_equal(&broadcast, &shape.result)))
        return node_error(node, error, "input 2 of shape %s does not broadcast to the result",
                          shape_format(c, text, sizeof text));

    return infer_output(node, 0, node_dtype(node, 0), &shape.result, error);
}

static void scale_all(enum dtype dtype, void *data, int64_t count, float by) {
    if (by == 1)
        return;
    binary_kernel *kernel = binary_kernel_find(BINARY_MUL, dtype);
    double factor[1];

    elements_convert(DTYPE_F32, &by, dtype, factor, 1);
    kernel(data, 1, factor, 0, data, count);
}

/* result += beta * c */
static bool gemm_add(const struct node *node, const struct tensor *c, const struct tensor *result,
                     struct error *error) {
    size_t bytes = tensor_bytes(c);
    cleanup(freep) void *scaled = malloc(bytes + 1);
    if (!scaled)
        return node_memory_error(node, error);

    memcpy(scaled, c->data, bytes);
    scale_all(c->dtype, scaled, shape_elements(&c->shape), node_float(node, "beta", 1));
    binary_run(binary_kernel_find(BINARY_ADD, c->dtype), c->dtype, result->data, &result->shape, scaled,
               &c->shape, result->data, &result->shape, dtype_size(c->dtype));

    return true;
}

static bool gemm_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    const struct tensor *a = &inputs[0], *result = &outputs[0];
    struct matmul_shape shape;
    if (!gemm_shape(node, &a->shape, &inputs[1].shape, &shape, error))
        return false;

    const void *left = a->data;
    cleanup(freep) void *transposed = NULL;

    if (node_int(node, "transA", 0)) {
        if (!(transposed = malloc(tensor_bytes(a) + 1)))
            return node_memory_error(node, error);
        int64_t dims[2] = {shape.rows, shape.depth}, from[2] = {1, shape.rows}, to[2] = {shape.depth, 1};
        strided_copy(dtype_size(a->dtype), 2, dims, a->data, from, transposed, to);
        left = transposed;
    }

    if (!matmul_run(node, &shape, result->dtype, left, inputs[1].data, node_int(node, "transB", 0) != 0,
                    result->data, error))
        return false;

    scale_all(result->dtype, result->data, shape_elements(&result->shape), node_float(node, "alpha", 1));

    return node->input_count < 3 || !inputs[2].data || gemm_add(node, &inputs[2], result, error);
}

static bool gemm_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, gemm_wide);
}

static int matmul_axis_kept(const struct node *node, int axis) {
    int rank = node_shape(node, 0)->rank;
    return axis < rank - 1 && node_shape(node, 1)->rank == 2 ? axis : -1;
}

static int gemm_axis_kept(const struct node *node, int axis) {
    const struct shape *c = node_shape(node, 2);
    bool apart = node_int(node, "transA", 0) == 0 && (!c || c->rank < 2 || c->dims[0] == 1);
    return axis == 0 && apart ? 0 : -1;
}

#define MATMUL_NAMES "floats, int32, uint32, int64, uint64"

const struct op_def matmul_operators[] = {
    {.op_type = "MatMul",
     .differentiate = gradient_matmul,
     .since = 1,
     .inputs = {2, 2},
     .traits = OP_HEAVY,
     .integer_form = "QuantizedMatMul",
     .axis_kept = matmul_axis_kept,
     .types = MATMUL_NAMES,
     FUNCTIONS(matmul)},
    {.op_type = "Gemm",
     .differentiate = gradient_gemm,
     .since = 1,
     .inputs = {2, 3},
     .bias_input = 2,
     .traits = OP_HEAVY,
     .integer_form = "QuantizedMatMul",
     .axis_kept = gemm_axis_kept,
     .types = MATMUL_NAMES,
     FUNCTIONS(gemm)},
    {0},
};
