/* What ONNX Runtime's quantiser writes beside ONNX's own operators, domain com.microsoft: elementwise
 * operators, pools and concatenation on 8-bit integers, each tensor with its scale and zero point.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
#include <math.h>
#include <string.h>

#include "ops/binary.h"
#include "ops/integer.h"

/* A tensor's scale (input `first`) and zero point (the next, optional): both scalars. */
static bool want_parameters(const struct node *node, int first, struct error *error) {
    for (int i = first; i < first + 2; i++)
        if (node_has_input(node, i) && shape_elements(node_shape(node, i)) != 1)
            return node_error(node, error, "input %d is not a scalar", i);

    if (!node_has_input(node, first))
        return node_error(node, error, "input %d is missing", first);

    return node_want_types(node, first, TYPE(F32), error) &&
           node_want_types(node, first + 1, TYPES_BYTE, error);
}

static double zero_of(const struct node *node, const struct tensor *inputs, int index) {
    return index < node->input_count && inputs[index].data ? tensor_get_f64(&inputs[index], 0) : 0;
}

/* Elements as float32, malloc'ed. */
static float *dequantized(const struct node *node, const struct tensor *inputs, int x, int scale) {
    int64_t count = shape_elements(&inputs[x].shape);
    float *values = malloc((size_t)count * sizeof *values + 64);
    float factor = (float)tensor_get_f64(&inputs[scale], 0), zero = (float)zero_of(node, inputs, scale + 1);
    if (!values)
        return NULL;

    elements_convert(inputs[x].dtype, inputs[x].data, DTYPE_F32, values, count);
    for (int64_t i = 0; i < count; i++)
        values[i] = (values[i] - zero) * factor;

    return values;
}

static void quantized(const float *values, int64_t count, float scale, double zero, const struct tensor *to,
                      int64_t start) {
    for (int64_t i = 0; i < count; i++)
        ((uint8_t *)to->data)[start + i] =
            requantize((double)(values[i] / scale), zero, to->dtype == DTYPE_I8);
}

/* --- QLinearAdd, QLinearMul: a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero --- */

static bool pair_infer(struct node *node, struct error *error) {
    struct shape shape;
    if (!node_want_types(node, 0, TYPES_BYTE, error) || !node_want_same_type(node, 3, 0, error) ||
        !want_parameters(node, 1, error) || !want_parameters(node, 4, error) ||
        !want_parameters(node, 6, error))
        return false;
    if (!shape_broadcast(node_shape(node, 0), node_shape(node, 3), &shape))
        return node_error(node, error, "the inputs' shapes do not fit together");

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool pair_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    cleanup(freep) float *a = dequantized(node, inputs, 0, 1);
    cleanup(freep) float *b = dequantized(node, inputs, 3, 4);
    int64_t count = shape_elements(&outputs[0].shape);
    cleanup(freep) float *y = malloc((size_t)count * sizeof *y + 64);
    if (!a || !b || !y)
        return node_memory_error(node, error);

    binary_kernel *kernel = binary_kernel_find(*(const enum binary_function *)node->op->family, DTYPE_F32);
    binary_run(kernel, DTYPE_F32, a, &inputs[0].shape, b, &inputs[3].shape, y, &outputs[0].shape, sizeof *y);
    quantized(y, count, (float)tensor_get_f64(&inputs[6], 0), zero_of(node, inputs, 7), &outputs[0], 0);

    return true;
}

/* --- QLinearSigmoid, QLinearLeakyRelu: x, x_scale, x_zero, y_scale, y_zero --- */

static bool single_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_BYTE, error) && want_parameters(node, 1, error) &&
           want_parameters(node, 3, error) && infer_same(node, error);
}

static bool single_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    cleanup(freep) float *x = dequantized(node, inputs, 0, 1);
    int64_t count = shape_elements(&outputs[0].shape);
    bool sigmoid = *(const bool *)node->op->family;
    float alpha = node_float(node, "alpha", 0.01f);
    if (!x)
        return node_memory_error(node, error);

    for (int64_t i = 0; i < count; i++)
        x[i] = sigmoid ? 1 / (1 + expf(-x[i])) : x[i] < 0 ? alpha * x[i] : x[i];

    quantized(x, count, (float)tensor_get_f64(&inputs[3], 0), zero_of(node, inputs, 4), &outputs[0], 0);

    return true;
}

/* --- QLinearGlobalAveragePool: x, x_scale, x_zero, y_scale, y_zero --- */

static bool pool_check(const struct node *node, struct error *error) {
    return !node_int(node, "channels_last", 0) || node_error(node, error, "channels_last is not supported");
}

static bool pool_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    if (!node_want_types(node, 0, TYPES_BYTE, error) || !want_parameters(node, 1, error) ||
        !want_parameters(node, 3, error) || !node_want_rank(node, 0, 3, LIMIT_TENSOR_RANK, error))
        return false;

    for (int i = 2; i < shape.rank; i++) {
        if (!shape.dims[i])
            return node_error(node, error, "the input is empty");
        shape.dims[i] = 1;
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool pool_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    struct shape scalar = {0};
    const struct tensor *zero = node->input_count > 2 ? &inputs[2] : NULL;
    cleanup(freep) int32_t *x = tensor_centred(&inputs[0], zero, &scalar);
    if (!x)
        return node_memory_error(node, error);

    int64_t planes = shape_product(&inputs[0].shape, 0, 2),
            size = shape_product(&inputs[0].shape, 2, inputs[0].shape.rank);
    double scale = tensor_get_f64(&inputs[1], 0) / tensor_get_f64(&inputs[3], 0);

    for (int64_t plane = 0; plane < planes; plane++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < size; i++)
            sum += x[plane * size + i];
        ((uint8_t *)outputs[0].data)[plane] = requantize(
            (double)sum / (double)size * scale, zero_of(node, inputs, 4), outputs[0].dtype == DTYPE_I8);
    }

    return true;
}

/* --- QLinearConcat: y_scale, y_zero, then x, x_scale, x_zero for each part --- */

static bool concat_check(const struct node *node, struct error *error) {
    return (node->input_count - 2) % 3 == 0 || node_error(node, error, "has %d inputs", node->input_count);
}

static bool concat_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 2);
    int axis;
    if (!want_parameters(node, 0, error) ||
        !node_axis(node, node_int(node, "axis", 0), shape.rank, &axis, error))
        return false;

    for (int i = 2; i + 2 < node->input_count; i += 3) {
        if (!node_has_input(node, i) || !node_want_types(node, i, TYPES_BYTE, error) ||
            !want_parameters(node, i + 1, error))
            return node_error(node, error, "input %d is missing, or not of 8-bit integers with a scale", i);
        struct shape next = *node_shape(node, i);
        if (i == 2)
            continue;

        int64_t length = axis < next.rank ? next.dims[axis] : 0;
        next.dims[axis] = shape.dims[axis];
        if (!shape_equal(&next, &shape))
            return node_error(node, error, "the inputs' shapes do not fit together");

        shape.dims[axis] += length;
        if (shape_elements(&shape) < 0)
            return node_error(node, error, "the result is too large");
    }

    return infer_output(node, 0, node_has_input(node, 1) ? node_dtype(node, 1) : DTYPE_U8, &shape, error);
}

static bool concat_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *shape = &outputs[0].shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", 0), shape->rank, &axis, error))
        return false;

    int64_t outer = shape_product(shape, 0, axis), inner = shape_product(shape, axis + 1, shape->rank),
            start = 0;
    float scale = (float)tensor_get_f64(&inputs[0], 0);

    for (int i = 2; i + 2 < node->input_count; i += 3) {
        int64_t run = inputs[i].shape.dims[axis] * inner;
        cleanup(freep) float *x = dequantized(node, inputs, i, i + 1);
        if (!x)
            return node_memory_error(node, error);

        for (int64_t o = 0; o < outer; o++)
            quantized(x + o * run, run, scale, zero_of(node, inputs, 1), &outputs[0],
                      o * shape->dims[axis] * inner + start);

        start += run;
    }

    return true;
}

#define BYTES "int8, uint8"

const struct op_def qlinear_operators[] = {
    {.domain = MICROSOFT,
     .op_type = "QLinearAdd",
     .since = 1,
     .inputs = {7, 8},
     .traits = OP_QUANTIZED,
     .types = BYTES,
     .family = &(const enum binary_function){BINARY_ADD},
     FUNCTIONS(pair)},
    {.domain = MICROSOFT,
     .op_type = "QLinearMul",
     .since = 1,
     .inputs = {7, 8},
     .traits = OP_QUANTIZED,
     .types = BYTES,
     .family = &(const enum binary_function){BINARY_MUL},
     FUNCTIONS(pair)},
    {.domain = MICROSOFT,
     .op_type = "QLinearSigmoid",
     .since = 1,
     .inputs = {4, 5},
     .traits = OP_QUANTIZED,
     .types = BYTES,
     .family = &(const bool){true},
     FUNCTIONS(single)},
    {.domain = MICROSOFT,
     .op_type = "QLinearLeakyRelu",
     .since = 1,
     .inputs = {4, 5},
     .traits = OP_QUANTIZED,
     .types = BYTES,
     .family = &(const bool){false},
     FUNCTIONS(single)},
    {.domain = MICROSOFT,
     .op_type = "QLinearGlobalAveragePool",
     .since = 1,
     .inputs = {4, 5},
     .traits = OP_QUANTIZED,
     .types = BYTES,
     .check = pool_check,
     FUNCTIONS(pool)},
    {.domain = MICROSOFT,
     .op_type = "QLinearConcat",
     .since = 1,
     .inputs = {5, -1},
     .traits = OP_QUANTIZED,
     .types = BYTES,
     .check = concat_check,
     FUNCTIONS(concat)},
    {0},
};
