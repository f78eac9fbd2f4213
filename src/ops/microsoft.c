/* Operators of com.microsoft that optimised exports hold: FusedMatMul, BiasGelu, FastGelu,
 * SkipLayerNormalization. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
#include <math.h>
#include <string.h>

#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/normalize.h"

/* --- FusedMatMul: alpha times the product of two tensors, each with its last two dimensions swapped on
 * demand --- */

static bool fused_check(const struct node *node, struct error *error) {
    return (!node_int(node, "transBatchA", 0) && !node_int(node, "transBatchB", 0)) ||
           node_error(node, error, "transBatchA and transBatchB are not supported");
}

static struct shape swapped(const struct shape *shape, bool swap) {
    struct shape result = *shape;
    if (swap && shape->rank >= 2) {
        result.dims[shape->rank - 1] = shape->dims[shape->rank - 2];
        result.dims[shape->rank - 2] = shape->dims[shape->rank - 1];
    }
    return result;
}

static bool fused_shape(const struct node *node, const struct shape *a, const struct shape *b,
                        struct matmul_shape *ret, struct error *error) {
    struct shape left = swapped(a, node_int(node, "transA", 0) != 0);
    struct shape right = swapped(b, node_int(node, "transB", 0) != 0);
    return matmul_shape_make(node, &left, &right, ret, error);
}

static bool fused_infer(struct node *node, struct error *error) {
    struct matmul_shape shape;
    return node_want_types(node, 0, TYPES_FLOAT, error) && node_want_same_type(node, 1, 0, error) &&
           fused_shape(node, node_shape(node, 0), node_shape(node, 1), &shape, error) &&
           infer_output(node, 0, node_dtype(node, 0), &shape.result, error);
}

/* A copy with the last two dimensions swapped, malloc'ed. */
static void *swapped_copy(const struct tensor *tensor) {
    int rank = tensor->shape.rank;
    struct shape to = swapped(&tensor->shape, true);
    int64_t from[LIMIT_TENSOR_RANK], strides[LIMIT_TENSOR_RANK];
    void *copy = malloc(tensor_bytes(tensor) + 64);
    if (!copy)
        return NULL;

    shape_strides(&tensor->shape, from);
    shape_strides(&to, strides);

    int64_t last = from[rank - 1];
    from[rank - 1] = from[rank - 2];
    from[rank - 2] = last;
    strided_copy(dtype_size(tensor->dtype), rank, to.dims, tensor->data, from, copy, strides);

    return copy;
}

static bool fused_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    struct matmul_shape shape;
    bool left_swapped = node_int(node, "transA", 0) && inputs[0].shape.rank >= 2;
    bool right_swapped = node_int(node, "transB", 0) && inputs[1].shape.rank >= 2;
    cleanup(freep) void *left = left_swapped ? swapped_copy(&inputs[0]) : NULL;
    if (left_swapped && !left)
        return node_memory_error(node, error);
    if (!fused_shape(node, &inputs[0].shape, &inputs[1].shape, &shape, error) ||
        !matmul_run(node, &shape, outputs[0].dtype, left ? left : inputs[0].data, inputs[1].data,
                    right_swapped, outputs[0].data, error))
        return false;

    normalize_run(&outputs[0], &outputs[0], 0, shape_elements(&outputs[0].shape),
                  (double)node_float(node, "alpha", 1), 0);

    return true;
}

static bool fused_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, fused_wide);
}

/* --- BiasGelu and FastGelu: GELU of x + bias, by erf and by tanh --- */

static bool gelu_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    return node_want_types(node, 0, TYPES_F32, error) && node_want_same_type(node, 1, 0, error) &&
           node_want_rank(node, 0, 1, LIMIT_TENSOR_RANK, error) &&
           node_want_vector(node, 1, x->dims[x->rank - 1], error) && infer_same(node, error);
}

static bool gelu_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int64_t width = shape->dims[shape->rank - 1], count = shape_elements(shape);
    const float *bias = node->input_count > 1 ? inputs[1].data : NULL;
    bool fast = *(const bool *)node->op->family;

#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; i++) {
        float x = ((const float *)inputs[0].data)[i] + (bias ? bias[i % width] : 0);
        ((float *)outputs[0].data)[i] = fast
                                            ? x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))) / 2
                                            : x * (1 + erff(x * (float)M_SQRT1_2)) / 2;
    }

    return true;
}

static bool gelu_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, gelu_wide);
}

/* --- SkipLayerNormalization: input, skip, gamma, beta, bias; output 3 is the sum before it is normalised ---
 */

static bool skip_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0), *skip = node_shape(node, 1);
    struct shape both;
    if (!node_want_types(node, 0, TYPES_F32, error) || !node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error))
        return false;
    if (!shape_broadcast(x, skip, &both) || !shape_equal(x, &both))
        return node_error(node, error, "the skip does not broadcast to the input");

    for (int i = 1; i < 5; i++)
        if (!node_want_same_type(node, i, 0, error) ||
            (i > 1 && !node_want_vector(node, i, x->dims[x->rank - 1], error)))
            return false;

    struct shape statistics = *x;
    statistics.dims[x->rank - 1] = 1;

    return infer_same(node, error) && infer_output(node, 1, DTYPE_F32, &statistics, error) &&
           infer_output(node, 2, DTYPE_F32, &statistics, error) &&
           infer_output(node, 3, node_dtype(node, 0), x, error);
}

static bool skip_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    const struct tensor *y = &outputs[0];
    const struct shape *shape = &y->shape;
    int64_t width = shape->dims[shape->rank - 1], rows = shape_product(shape, 0, shape->rank - 1);
    double epsilon = (double)node_float(node, "epsilon", 1e-12f);

    binary_run(binary_kernel_find(BINARY_ADD, DTYPE_F32), DTYPE_F32, inputs[0].data, shape, inputs[1].data,
               &inputs[1].shape, y->data, shape, sizeof(float));
    if (node->input_count > 4)
        normalize_scale(y, NULL, &inputs[4]);
    if (node->output_count > 3 && outputs[3].data)
        memcpy(outputs[3].data, y->data, tensor_bytes(y));
    for (int64_t row = 0; row < rows; row++) {
        double mean, variance;
        run_statistics(y, row * width, width, &mean, &variance);

        double scale = 1 / sqrt(variance + epsilon);
        normalize_run(y, y, row * width, width, scale, -mean * scale);
        if (node->output_count > 1 && outputs[1].data)
            ((float *)outputs[1].data)[row] = (float)mean;
        if (node->output_count > 2 && outputs[2].data)
            ((float *)outputs[2].data)[row] = (float)scale;
    }

    normalize_scale(y, &inputs[2], node->input_count > 3 ? &inputs[3] : NULL);

    return true;
}

static bool skip_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, skip_wide);
}

const struct op_def microsoft_operators[] = {
    {.domain = MICROSOFT,
     .op_type = "FusedMatMul",
     .since = 1,
     .inputs = {2, 2},
     .traits = OP_HEAVY,
     .types = NAMES_FLOAT,
     .check = fused_check,
     FUNCTIONS(fused)},
    {.domain = MICROSOFT,
     .op_type = "BiasGelu",
     .since = 1,
     .inputs = {2, 2},
     .types = NAMES_F32,
     .family = &(const bool){false},
     FUNCTIONS(gelu)},
    {.domain = MICROSOFT,
     .op_type = "FastGelu",
     .since = 1,
     .inputs = {1, 2},
     .types = NAMES_F32,
     .family = &(const bool){true},
     FUNCTIONS(gelu)},
    {.domain = MICROSOFT,
     .op_type = "SkipLayerNormalization",
     .since = 1,
     .inputs = {3, 5},
     .outputs = {1, 4},
     .types = NAMES_F32,
     FUNCTIONS(skip)},
    {0},
};
