/* More normalisations: GroupNormalization, MeanVarianceNormalization, LpNormalization.
 * https://onnx.ai/onnx/operators/onnx__GroupNormalization.html and its neighbours. */
#include <math.h>
#include <string.h>

#include "ops/conv.h"
#include "ops/normalize.h"

/* --- GroupNormalization: scale and bias are one a group before opset 21, then one a channel --- */

static bool group_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    int64_t groups = node_int(node, "num_groups", 0);

    if (!node_want_types(node, 0, TYPES_FLOAT, error) ||
        !node_want_rank(node, 0, 3, LIMIT_TENSOR_RANK, error))
        return false;
    if (groups < 1 || x->dims[1] % groups)
        return node_error(node, error, "%lld channels cannot be divided into %lld groups",
                          (long long)x->dims[1], (long long)groups);

    int64_t values = node->opset < 21 ? groups : x->dims[1];
    return node_want_same_type(node, 1, 0, error) && node_want_same_type(node, 2, 0, error) &&
           node_want_vector(node, 1, values, error) && node_want_vector(node, 2, values, error) &&
           infer_same(node, error);
}

static bool group_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int64_t groups = node_int(node, "num_groups", 1), channels = x->dims[1], members = channels / groups;
    int64_t size = shape_product(x, 2, x->rank);
    double epsilon = (double)node_float(node, "epsilon", 1e-5f);

#pragma omp parallel for schedule(static) if (x->dims[0] * channels * size > PARALLEL_ELEMENTS)
    for (int64_t group = 0; group < x->dims[0] * groups; group++) {
        double mean, variance;
        run_statistics(&inputs[0], group * members * size, members * size, &mean, &variance);
        for (int64_t m = 0; m < members; m++) {
            int64_t plane = group * members + m, at = node->opset < 21 ? group % groups : plane % channels;
            double scale = tensor_get_f64(&inputs[1], at) / sqrt(variance + epsilon);
            normalize_run(&inputs[0], &outputs[0], plane * size, size, scale,
                          tensor_get_f64(&inputs[2], at) - mean * scale);
        }
    }

    return true;
}

static bool group_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, group_wide);
}

/* --- MeanVarianceNormalization: (x - mean) / (deviation + 1e-9) over axes, by default all but the channels
 * --- */

static bool variance_axes(const struct node *node, int rank, bool *ret_axes, struct error *error) {
    bool given;
    if (!node_read_axes(node, -1, rank, ret_axes, &given, error))
        return false;

    for (int i = 0; i < rank && !given; i++)
        ret_axes[i] = i != 1;

    return true;
}

static bool variance_infer(struct node *node, struct error *error) {
    bool axes[LIMIT_TENSOR_RANK];
    return node_want_types(node, 0, TYPES_F32, error) &&
           variance_axes(node, node_shape(node, 0)->rank, axes, error) && infer_same(node, error);
}

/* Which statistics an element belongs to: its index along the axes that are kept. */
static int64_t kept_index(const struct shape *shape, const bool *axes, int64_t number) {
    int64_t index = 0, stride = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        if (!axes[i]) {
            index += number % shape->dims[i] * stride;
            stride *= shape->dims[i];
        }
        number /= shape->dims[i];
    }

    return index;
}

static bool variance_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    bool axes[LIMIT_TENSOR_RANK];
    if (!variance_axes(node, shape->rank, axes, error))
        return false;

    int64_t total = shape_elements(shape), kept = 1;
    for (int i = 0; i < shape->rank; i++)
        kept *= axes[i] ? 1 : shape->dims[i];

    if (!total)
        return true;

    int64_t members = total / kept;
    double count = (double)members;
    cleanup(freep) double *sums = calloc((size_t)kept * 2 + 1, sizeof *sums);
    if (!sums)
        return node_memory_error(node, error);

    const float *x = inputs[0].data;
    double *squares = sums + kept;
    for (int64_t i = 0; i < total; i++)
        sums[kept_index(shape, axes, i)] += (double)x[i] / count;

    for (int64_t i = 0; i < total; i++) {
        int64_t at = kept_index(shape, axes, i);
        squares[at] += ((double)x[i] - sums[at]) * ((double)x[i] - sums[at]) / count;
    }

    for (int64_t i = 0; i < total; i++) {
        int64_t at = kept_index(shape, axes, i);
        ((float *)outputs[0].data)[i] = (float)(((double)x[i] - sums[at]) / (sqrt(squares[at]) + 1e-9));
    }

    return true;
}

static bool variance_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, variance_wide);
}

/* --- LpNormalization --- */

static bool lp_check(const struct node *node, struct error *error) {
    int64_t p = node_int(node, "p", 2);
    return p == 1 || p == 2 || node_error(node, error, "p is %lld, neither 1 nor 2", (long long)p);
}

static bool lp_infer(struct node *node, struct error *error) {
    int axis;
    return node_want_types(node, 0, TYPES_F32, error) &&
           node_axis(node, node_int(node, "axis", -1), node_shape(node, 0)->rank, &axis, error) &&
           infer_same(node, error);
}

static bool lp_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                    struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", -1), shape->rank, &axis, error))
        return false;

    bool squares = node_int(node, "p", 2) == 2;
    int64_t length = shape->dims[axis], inner = shape_product(shape, axis + 1, shape->rank);
    int64_t lines = shape_product(shape, 0, axis) * inner;

    for (int64_t line = 0; line < lines; line++) {
        int64_t at = line / inner * length * inner + line % inner;
        const float *x = (const float *)inputs[0].data + at;
        float *y = (float *)outputs[0].data + at;
        double norm = 0;

        for (int64_t i = 0; i < length; i++)
            norm += squares ? (double)x[i * inner] * (double)x[i * inner] : fabs((double)x[i * inner]);

        norm = squares ? sqrt(norm) : norm;
        for (int64_t i = 0; i < length; i++)
            y[i * inner] = norm > 0 ? (float)((double)x[i * inner] / norm) : 0;
    }

    return true;
}

static bool lp_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    return compute_widened(node, inputs, outputs, error, lp_wide);
}

const struct op_def group_normalize_operators[] = {
    {.op_type = "GroupNormalization",
     .since = 18,
     .inputs = {3, 3},
     .traits = OP_SAMPLEWISE,
     .types = NAMES_FLOAT,
     FUNCTIONS(group)},
    {.op_type = "MeanVarianceNormalization",
     .since = 9,
     .inputs = {1, 1},
     .types = NAMES_F32,
     FUNCTIONS(variance)},
    {.op_type = "LpNormalization",
     .since = 1,
     .inputs = {1, 1},
     .default_axis = -1,
     .traits = OP_ALONG_AXIS,
     .types = NAMES_F32,
     .check = lp_check,
     FUNCTIONS(lp)},
    {0},
};
