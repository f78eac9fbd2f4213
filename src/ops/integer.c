/* Products and convolutions of 8-bit integers, exact in int32: MatMulInteger, ConvInteger, QLinearMatMul,
 * QLinearConv. https://onnx.ai/onnx/operators/onnx__QLinearConv.html and its neighbours. */
#include "ops/integer.h"

#include <math.h>
#include <string.h>

#include "ops/binary.h"
#include "ops/conv.h"
#include "ops/matmul.h"
#include "ops/product.h"

int32_t *tensor_centred(const struct tensor *x, const struct tensor *zero, const struct shape *zero_shape) {
    int64_t count = shape_elements(&x->shape);
    int32_t *values = malloc((size_t)count * sizeof *values + 64);
    if (!values)
        return NULL;

    elements_convert(x->dtype, x->data, DTYPE_I32, values, count);
    if (!zero->data)
        return values;

    int64_t zeros = shape_elements(zero_shape);
    cleanup(freep) int32_t *wide = malloc((size_t)zeros * sizeof *wide + 64);
    if (!wide) {
        free(values);
        return NULL;
    }

    elements_convert(zero->dtype, zero->data, DTYPE_I32, wide, zeros);
    binary_run(binary_kernel_find(BINARY_SUB, DTYPE_I32), DTYPE_I32, values, &x->shape, wide, zero_shape,
               values, &x->shape, sizeof *values);

    return values;
}

uint8_t requantize(double value, double zero, bool is_signed) {
    double least = is_signed ? -128 : 0, most = is_signed ? 127 : 255, rounded = rint(value) + zero;
    rounded = rounded != rounded ? zero : rounded < least ? least : rounded > most ? most : rounded;
    return (uint8_t)(int)rounded;
}

/* --- Zero points and scales: one, or one each row (left) or column (right) --- */

/* The shape with which an operand's parameter is broadcast; false if it does not fit. */
static bool parameter_shape(const struct node *node, int parameter, const struct shape *operand, bool left,
                            struct shape *ret, struct error *error) {
    const struct shape *shape = node_shape(node, parameter);
    struct shape both;
    *ret = (struct shape){0};
    if (!shape || shape_elements(shape) == 1)
        return true;

    *ret = *shape;
    if (left && shape->rank == 1) /* a value each row */
        *ret = (struct shape){2, {shape->dims[0], 1}};
    if (shape_broadcast(operand, ret, &both) && shape_equal(&both, operand))
        return true;

    char text[SHAPE_TEXT];
    return node_error(node, error, "input %d has shape %s, which does not fit its operand", parameter,
                      shape_format(shape, text, sizeof text));
}

static struct shape tensor_parameter_shape(const struct tensor *parameter, bool left) {
    if (!parameter || shape_elements(&parameter->shape) == 1)
        return (struct shape){0};
    if (left && parameter->shape.rank == 1)
        return (struct shape){2, {parameter->shape.dims[0], 1}};
    return parameter->shape;
}

/* An optional input; without data if it is left out. */
static struct tensor optional_input(const struct node *node, const struct tensor *inputs, int index) {
    return index < node->input_count ? inputs[index] : (struct tensor){0};
}

static bool want_scalar(const struct node *node, int input, struct error *error) {
    return !node_has_input(node, input) || shape_elements(node_shape(node, input)) == 1 ||
           node_error(node, error, "input %d is not a scalar", input);
}

/* --- MatMulInteger, QLinearMatMul --- */

static bool matmul_integer_infer(struct node *node, struct error *error) {
    struct matmul_shape shape;
    struct shape unused;
    for (int i = 0; i < 2; i++)
        if (!node_want_types(node, i, TYPES_BYTE, error) || !node_want_same_type(node, i + 2, i, error) ||
            !parameter_shape(node, i + 2, node_shape(node, i), i == 0, &unused, error))
            return false;

    return matmul_shape_make(node, node_shape(node, 0), node_shape(node, 1), &shape, error) &&
           infer_output(node, 0, DTYPE_I32, &shape.result, error);
}

static bool matmul_centred(const struct node *node, const struct tensor *a, const struct tensor *a_zero,
                           const struct tensor *b, const struct tensor *b_zero, int32_t *sums,
                           struct error *error) {
    struct matmul_shape shape;
    struct shape left_zero = tensor_parameter_shape(a_zero, true),
                 right_zero = tensor_parameter_shape(b_zero, false);
    if (!matmul_shape_make(node, &a->shape, &b->shape, &shape, error))
        return false;

    cleanup(freep) int32_t *left = tensor_centred(a, a_zero, &left_zero);
    cleanup(freep) int32_t *right = tensor_centred(b, b_zero, &right_zero);
    if (!left || !right)
        return node_memory_error(node, error);

    return matmul_run(node, &shape, DTYPE_I32, left, right, false, sums, error);
}

static bool matmul_integer_compute(const struct node *node, const struct tensor *inputs,
                                   const struct tensor *outputs, struct error *error) {
    struct tensor a_zero = optional_input(node, inputs, 2), b_zero = optional_input(node, inputs, 3);

    return matmul_centred(node, &inputs[0], &a_zero, &inputs[1], &b_zero, outputs[0].data, error);
}

/* a, a_scale, a_zero_point, b, b_scale, b_zero_point, y_scale, y_zero_point. Scales of the right operand may
 * be one a column, of the left one a row. */
static bool qlinear_matmul_infer(struct node *node, struct error *error) {
    struct matmul_shape shape;
    struct shape unused;

    for (int i = 0; i < 6; i += 3)
        if (!node_want_types(node, i, TYPES_BYTE, error) || !node_want_types(node, i + 1, TYPES_F32, error) ||
            !node_want_same_type(node, i + 2, i, error) ||
            !parameter_shape(node, i + 1, node_shape(node, i), i == 0, &unused, error) ||
            !parameter_shape(node, i + 2, node_shape(node, i), i == 0, &unused, error))
            return false;

    for (int i = 1; i < 5; i += 3) {
        const struct shape *scale = node_shape(node, i);
        if (scale->rank > 1 && shape_elements(scale) != 1)
            return node_error(node, error, "input %d: a scale of more than one dimension is not supported",
                              i);
    }

    return node_want_types(node, 7, TYPES_BYTE, error) && want_scalar(node, 6, error) &&
           want_scalar(node, 7, error) &&
           matmul_shape_make(node, node_shape(node, 0), node_shape(node, 3), &shape, error) &&
           infer_output(node, 0, node_dtype(node, 7), &shape.result, error);
}

static double scale_at(const struct tensor *scale, int64_t index) {
    return tensor_get_f64(scale, shape_elements(&scale->shape) == 1 ? 0 : index);
}

static bool qlinear_matmul_compute(const struct node *node, const struct tensor *inputs,
                                   const struct tensor *outputs, struct error *error) {
    int64_t count = shape_elements(&outputs[0].shape);
    struct matmul_shape shape;
    cleanup(freep) int32_t *sums = malloc((size_t)count * sizeof *sums + 64);
    if (!sums)
        return node_memory_error(node, error);
    if (!matmul_shape_make(node, &inputs[0].shape, &inputs[3].shape, &shape, error) ||
        !matmul_centred(node, &inputs[0], &inputs[2], &inputs[3], &inputs[5], sums, error))
        return false;

    double zero = tensor_get_f64(&inputs[7], 0), divisor = tensor_get_f64(&inputs[6], 0);
    for (int64_t i = 0; i < count; i++) {
        double scale =
            scale_at(&inputs[1], i / shape.columns % shape.rows) * scale_at(&inputs[4], i % shape.columns);
        ((uint8_t *)outputs[0].data)[i] =
            requantize((double)sums[i] * scale / divisor, zero, outputs[0].dtype == DTYPE_I8);
    }

    return true;
}

/* --- ConvInteger, QLinearConv --- */

/* The weights' zero point or scale: one, or one a filter. */
static bool filter_parameter(const struct node *node, int input, int64_t filters, struct error *error) {
    const struct shape *shape = node_shape(node, input);
    return !shape || shape_elements(shape) == 1 || node_want_vector(node, input, filters, error);
}

static bool convolve_centred(const struct node *node, const struct conv_geometry *g, const struct tensor *x,
                             const struct tensor *x_zero, const struct tensor *w, const struct tensor *w_zero,
                             int32_t *sums, struct error *error) {
    struct shape scalar = {0}, per_filter = {0};
    if (w_zero->data && shape_elements(&w_zero->shape) != 1) {
        per_filter = (struct shape){.rank = w->shape.rank, .dims = {w->shape.dims[0]}};
        for (int i = 1; i < per_filter.rank; i++)
            per_filter.dims[i] = 1;
    }

    cleanup(freep) int32_t *input = tensor_centred(x, x_zero, &scalar);
    cleanup(freep) int32_t *weights = tensor_centred(w, w_zero, &per_filter);
    if (!input || !weights ||
        !convolve_i32(&g->window, g->batch, g->groups, g->channels, g->filters, input, weights, sums))
        return node_memory_error(node, error);

    return true;
}

static bool conv_integer_infer(struct node *node, struct error *error) {
    struct conv_geometry g;
    return node_want_types(node, 0, TYPES_BYTE, error) && node_want_types(node, 1, TYPES_BYTE, error) &&
           node_want_same_type(node, 2, 0, error) && node_want_same_type(node, 3, 1, error) &&
           want_scalar(node, 2, error) && conv_geometry_read(node, 0, 1, &g, error) &&
           filter_parameter(node, 3, g.groups * g.filters, error) &&
           conv_infer_output(node, &g, DTYPE_I32, error);
}

static bool conv_integer_compute(const struct node *node, const struct tensor *inputs,
                                 const struct tensor *outputs, struct error *error) {
    struct tensor x_zero = optional_input(node, inputs, 2), w_zero = optional_input(node, inputs, 3);
    struct conv_geometry g;

    return conv_geometry_make(node, &inputs[0].shape, &inputs[1].shape, &g, error) &&
           convolve_centred(node, &g, &inputs[0], &x_zero, &inputs[1], &w_zero, outputs[0].data, error);
}

/* x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias in units of x_scale *
 * w_scale */
static bool qlinear_conv_infer(struct node *node, struct error *error) {
    struct conv_geometry g;
    for (int i = 1; i < 8; i++)
        if (i != 3 && i != 4 && i != 5 && !want_scalar(node, i, error))
            return false;

    if (!node_want_types(node, 0, TYPES_BYTE, error) || !node_want_types(node, 3, TYPES_BYTE, error) ||
        !node_want_same_type(node, 2, 0, error) || !node_want_same_type(node, 5, 3, error) ||
        !node_want_types(node, 7, TYPES_BYTE, error) || !node_want_types(node, 8, TYPE(I32), error) ||
        !conv_geometry_read(node, 0, 3, &g, error))
        return false;

    int64_t filters = g.groups * g.filters;
    for (int i = 1; i < 7; i += 3)
        if (!node_want_types(node, i, TYPE(F32), error))
            return false;

    return filter_parameter(node, 4, filters, error) && filter_parameter(node, 5, filters, error) &&
           node_want_vector(node, 8, filters, error) &&
           conv_infer_output(node, &g, node_dtype(node, 7), error);
}

static bool qlinear_conv_compute(const struct node *node, const struct tensor *inputs,
                                 const struct tensor *outputs, struct error *error) {
    struct conv_geometry g;
    int64_t count = shape_elements(&outputs[0].shape);
    cleanup(freep) int32_t *sums = malloc((size_t)count * sizeof *sums + 64);
    if (!sums)
        return node_memory_error(node, error);
    if (!conv_geometry_make(node, &inputs[0].shape, &inputs[3].shape, &g, error) ||
        !convolve_centred(node, &g, &inputs[0], &inputs[2], &inputs[3], &inputs[5], sums, error))
        return false;

    struct tensor bias = optional_input(node, inputs, 8);
    double zero = tensor_get_f64(&inputs[7], 0), divisor = tensor_get_f64(&inputs[6], 0);
    double input_scale = tensor_get_f64(&inputs[1], 0);
    int64_t positions = window_output_size(&g.window);

    for (int64_t i = 0; i < count; i++) {
        int64_t filter = i / positions % (g.groups * g.filters);
        double sum = (double)sums[i] + (bias.data ? (double)((const int32_t *)bias.data)[filter] : 0);
        ((uint8_t *)outputs[0].data)[i] = requantize(
            sum * input_scale * scale_at(&inputs[4], filter) / divisor, zero, outputs[0].dtype == DTYPE_I8);
    }

    return true;
}

#define BYTES "int8, uint8"

const struct op_def integer_operators[] = {
    {.op_type = "MatMulInteger",
     .since = 10,
     .inputs = {2, 4},
     .traits = OP_QUANTIZED | OP_HEAVY,
     .types = BYTES,
     FUNCTIONS(matmul_integer)},
    {.op_type = "QLinearMatMul",
     .since = 10,
     .inputs = {8, 8},
     .traits = OP_QUANTIZED | OP_HEAVY,
     .types = BYTES,
     FUNCTIONS(qlinear_matmul)},
    {.op_type = "ConvInteger",
     .since = 10,
     .inputs = {2, 4},
     .traits = OP_QUANTIZED | OP_HEAVY,
     .types = BYTES,
     FUNCTIONS(conv_integer)},
    {.op_type = "QLinearConv",
     .since = 10,
     .inputs = {8, 9},
     .traits = OP_QUANTIZED | OP_HEAVY,
     .types = BYTES,
     FUNCTIONS(qlinear_conv)},
    {0},
};
