/* Normalisation by the root of the mean square: ONNX's RMSNormalization, and what ONNX Runtime writes for it,
 * SimplifiedLayerNormalization (in ONNX's domain) and SkipSimplifiedLayerNormalization.
 * https://onnx.ai/onnx/operators/onnx__RMSNormalization.html */
#include <math.h>
#include <string.h>

#include "ops/normalize.h"

/* Rows of `width` elements, each divided by its root mean square; `ret_scale` [rows] or NULL. */
static void rms_rows(const struct tensor *x, const struct tensor *y, int64_t rows, int64_t width,
                     double epsilon, float *ret_scale) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t row = 0; row < rows; row++) {
        double mean, variance;
        run_statistics(x, row * width, width, &mean, &variance);
        double scale = 1 / sqrt(variance + mean * mean + epsilon);
        normalize_run(x, y, row * width, width, scale, 0);
        if (ret_scale)
            ret_scale[row] = (float)scale;
    }
}

static bool rms_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0), both;
    int axis;
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_same_type(node, 1, 0, error) ||
        !node_axis(node, node_int(node, "axis", -1), shape.rank, &axis, error) || !infer_same(node, error))
        return false;
    if (!shape_broadcast(&shape, node_shape(node, 1), &both) || !shape_equal(&shape, &both))
        return node_error(node, error, "the scale does not broadcast to the input");

    for (int i = axis; i < shape.rank; i++)
        shape.dims[i] = 1;
    return infer_output(node, 1, DTYPE_F32, &shape, error);
}

static bool rms_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                     struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", -1), x->rank, &axis, error))
        return false;

    rms_rows(&inputs[0], &outputs[0], shape_product(x, 0, axis), shape_product(x, axis, x->rank),
             (double)node_float(node, "epsilon", 1e-5f), node->output_count > 1 ? outputs[1].data : NULL);
    normalize_scale(&outputs[0], &inputs[1], NULL);
    return true;
}

static bool rms_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    return compute_widened(node, inputs, outputs, error, rms_wide);
}

/* --- SkipSimplifiedLayerNormalization: input, skip, gamma, bias; output 3 is the sum that is normalised ---
 */

static bool skip_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    struct shape both;
    if (!node_want_types(node, 0, TYPES_F32, error) || !node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error))
        return false;
    if (!shape_broadcast(x, node_shape(node, 1), &both) || !shape_equal(x, &both))
        return node_error(node, error, "the skip does not broadcast to the input");

    for (int i = 1; i < 4; i++) {
        const struct shape *vector = node_shape(node, i);
        if (!node_want_same_type(node, i, 0, error))
            return false;
        if (i > 1 && vector && (vector->rank != 1 || vector->dims[0] != x->dims[x->rank - 1]))
            return node_error(node, error, "input %d is no vector of %lld elements", i,
                              (long long)x->dims[x->rank - 1]);
    }

    struct shape statistics = *x;
    statistics.dims[x->rank - 1] = 1;
    return infer_same(node, error) && infer_output(node, 1, DTYPE_F32, &statistics, error) &&
           infer_output(node, 2, DTYPE_F32, &statistics, error) &&
           infer_output(node, 3, node_dtype(node, 0), x, error);
}

static bool skip_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    const struct tensor *y = &outputs[0];
    int64_t width = y->shape.dims[y->shape.rank - 1], rows = shape_product(&y->shape, 0, y->shape.rank - 1);

    binary_run(binary_kernel_find(BINARY_ADD, DTYPE_F32), DTYPE_F32, inputs[0].data, &inputs[0].shape,
               inputs[1].data, &inputs[1].shape, y->data, &y->shape, sizeof(float));
    if (node->input_count > 3)
        normalize_scale(y, NULL, &inputs[3]);
    if (node->output_count > 3 && outputs[3].data)
        memcpy(outputs[3].data, y->data, tensor_bytes(y));
    if (node->output_count > 1 && outputs[1].data)
        memset(outputs[1].data, 0, tensor_bytes(&outputs[1]));

    rms_rows(y, y, rows, width, (double)node_float(node, "epsilon", 1e-12f),
             node->output_count > 2 ? outputs[2].data : NULL);
    normalize_scale(y, &inputs[2], NULL);
    return true;
}

static bool skip_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, skip_wide);
}

const struct op_def rms_operators[] = {
    {.op_type = "RMSNormalization",
     .since = 23,
     .inputs = {2, 2},
     .default_axis = -1,
     .traits = OP_ALONG_AXIS,
     .types = NAMES_FLOAT,
     FUNCTIONS(rms)},
    {.op_type = "SimplifiedLayerNormalization",
     .since = 1,
     .inputs = {2, 2},
     .outputs = {1, 2},
     .default_axis = -1,
     .traits = OP_ALONG_AXIS,
     .types = NAMES_FLOAT,
     FUNCTIONS(rms)},
    {.domain = MICROSOFT,
     .op_type = "SkipSimplifiedLayerNormalization",
     .since = 1,
     .inputs = {3, 4},
     .outputs = {1, 4},
     .types = NAMES_F32,
     FUNCTIONS(skip)},
    {0},
};
