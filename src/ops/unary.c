/* One tensor in, one of the same shape out, element by element. */
#include "ops/family.h"
#include "ops/gradient.h"

#include <math.h>
#include <string.h>
#include <tgmath.h>

typedef void unary_kernel(const void *source, void *destination, int64_t count, double alpha_wide,
                          double beta_wide);

/* A parameter of a function: an attribute and its default. Without a name: none. */
struct unary_parameter {
    const char *attribute;
    float fallback;
};

struct unary {
    struct unary_parameter alpha, beta;
    unary_kernel *kernels[DTYPE_COUNT]; /* by type; float16 and bfloat16 go through float32 */
};

/* --- Kernels: `value` for x, with parameters alpha and beta --- */

#define FLOAT_KERNEL(suffix, type, name, value)                                                          \
    static void name##_##suffix(const void *source, void *destination, int64_t count, double alpha_wide, \
                                double beta_wide) {                                                      \
        typedef type real;                                                                               \
        const real *from = source, alpha = (real)alpha_wide, beta = (real)beta_wide;                     \
        real *to = destination;                                                                          \
                                                                                                         \
        (void)alpha, (void)beta;                                                                         \
        for (int64_t i = 0; i < count; i++) {                                                            \
            real x = from[i];                                                                            \
            to[i] = value;                                                                               \
        }                                                                                                \
    }
#define FLOATS(name, value)               \
    FLOAT_KERNEL(f32, float, name, value) \
    FLOAT_KERNEL(f64, double, name, value)

/* Integers, whose arithmetic wraps. */
#define INTEGER_KERNEL(suffix, type, name, value)                                                        \
    static void name##_##suffix(const void *source, void *destination, int64_t count, double alpha_wide, \
                                double beta_wide) {                                                      \
        const type *from = source;                                                                       \
        type *to = destination;                                                                          \
                                                                                                         \
        for (int64_t i = 0; i < count; i++) {                                                            \
            type x = from[i];                                                                            \
            to[i] = (type)(value);                                                                       \
        }                                                                                                \
    }
#define SIGNED(name, value)                   \
    INTEGER_KERNEL(i8, int8_t, name, value)   \
    INTEGER_KERNEL(i16, int16_t, name, value) \
    INTEGER_KERNEL(i32, int32_t, name, value) \
    INTEGER_KERNEL(i64, int64_t, name, value)
#define UNSIGNED(name, value)                  \
    INTEGER_KERNEL(u8, uint8_t, name, value)   \
    INTEGER_KERNEL(u16, uint16_t, name, value) \
    INTEGER_KERNEL(u32, uint32_t, name, value) \
    INTEGER_KERNEL(u64, uint64_t, name, value)

FLOATS(Abs, fabs(x))
SIGNED(Abs, x < 0 ? 0 - (uint64_t)x : (uint64_t)x)
UNSIGNED(Abs, x)
SIGNED(BitwiseNot, ~x)
UNSIGNED(BitwiseNot, ~x)
FLOATS(Acos, acos(x))
FLOATS(Acosh, acosh(x))
FLOATS(Asin, asin(x))
FLOATS(Asinh, asinh(x))
FLOATS(Atan, atan(x))
FLOATS(Atanh, atanh(x))
FLOATS(Ceil, ceil(x))
FLOATS(Celu, x < 0 ? alpha * expm1(x / alpha) : x)
FLOATS(Cos, cos(x))
FLOATS(Cosh, cosh(x))
FLOATS(Elu, x < 0 ? alpha * expm1(x) : x)
FLOATS(Erf, erf(x))
FLOATS(Exp, exp(x))
FLOATS(Floor, floor(x))
/* Gelu's two forms, https://onnx.ai/onnx/operators/onnx__Gelu.html. */
FLOATS(GeluErf, (1 + erf((real)M_SQRT1_2 * x)) * x / 2)
FLOATS(GeluTanh, (1 + tanh((real)0.7978845608028654 * (x + (real)0.044715 * x * x * x))) * x / 2)
/* fmin and fmax would make a number of NaN. */
FLOATS(HardSigmoid, beta + alpha * x < 0 ? (real)0 : beta + alpha * x > 1 ? (real)1 : beta + alpha * x)
FLOATS(HardSwish, fmin(fmax(x / 6 + (real)0.5, (real)0), (real)1) * x)
FLOATS(LeakyRelu, x < 0 ? alpha * x : x)
FLOATS(Log, log(x))
FLOATS(Mish, tanh(log1p(exp(-fabs(x))) + fmax(x, (real)0)) * x)
FLOATS(Neg, -x)
SIGNED(Neg, 0 - (uint64_t)x)
INTEGER_KERNEL(bool, uint8_t, Not, !x)
FLOATS(QuickGelu, x / (1 + exp(-alpha * x)))
FLOATS(Reciprocal, 1 / x)
FLOATS(Relu, x < 0 ? 0 : x)
SIGNED(Relu, x < 0 ? 0 : x)
FLOATS(Round, rint(x))
FLOATS(Selu, (x > 0 ? x : alpha * expm1(x)) * beta)
FLOATS(Shrink, x > beta ? x - alpha : -x > beta ? x + alpha : 0)
FLOATS(Sigmoid, 1 / (1 + exp(-x)))
FLOATS(Sign, (real)((x > 0) - (x < 0)))
SIGNED(Sign, (x > 0) - (x < 0))
UNSIGNED(Sign, x > 0)
FLOATS(Sin, sin(x))
FLOATS(Sinh, sinh(x))
FLOATS(Softplus, log1p(exp(-fabs(x))) + fmax(x, (real)0))
FLOATS(Softsign, x / (1 + fabs(x)))
FLOATS(Sqrt, sqrt(x))
FLOATS(Tan, tan(x))
FLOATS(Tanh, tanh(x))
FLOATS(ThresholdedRelu, x > alpha ? x : 0)

#define KERNELS_FLOAT(name) [DTYPE_F32] = name##_f32, [DTYPE_F64] = name##_f64
#define KERNELS_SIGNED(name) \
    [DTYPE_I8] = name##_i8, [DTYPE_I16] = name##_i16, [DTYPE_I32] = name##_i32, [DTYPE_I64] = name##_i64
#define KERNELS_UNSIGNED(name) \
    [DTYPE_U8] = name##_u8, [DTYPE_U16] = name##_u16, [DTYPE_U32] = name##_u32, [DTYPE_U64] = name##_u64

/* --- The operators --- */

static unary_kernel *kernel_find(const struct unary *unary, enum dtype dtype) {
    return unary->kernels[dtype == DTYPE_F16 || dtype == DTYPE_BF16 ? DTYPE_F32 : dtype];
}

static float parameter_read(const struct node *node, const struct unary_parameter *parameter) {
    return parameter->attribute ? node_float(node, parameter->attribute, parameter->fallback) : 0;
}

static bool unary_infer(struct node *node, struct error *error) {
    enum dtype dtype = node_dtype(node, 0);
    if (!kernel_find(node->op->family, dtype))
        return node_error(node, error, "type %s is not supported", dtype_name(dtype));

    return infer_same(node, error);
}

static bool unary_run(const struct node *node, const struct unary *unary, const struct tensor *input,
                      const struct tensor *output, struct error *error) {
    unary_kernel *kernel = kernel_find(unary, input->dtype);
    if (!kernel)
        return node_error(node, error, "type %s is not supported", dtype_name(input->dtype));

    double alpha = (double)parameter_read(node, &unary->alpha),
           beta = (double)parameter_read(node, &unary->beta);
    int64_t count = shape_elements(&output->shape), piece = PARALLEL_ELEMENTS / 4;
    size_t size = dtype_size(input->dtype);

#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t start = 0; start < count; start += piece)
        kernel((const char *)input->data + (size_t)start * size, (char *)output->data + (size_t)start * size,
               count - start < piece ? count - start : piece, alpha, beta);

    return true;
}

static bool unary_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    return unary_run(node, node->op->family, &inputs[0], &outputs[0], error);
}

static bool unary_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, unary_wide);
}

/* As a post-op a function has the same parameters. */
static bool unary_post(const struct node *node, struct post_op *ret) {
    const struct unary *unary = node->op->family;

    ret->alpha = parameter_read(node, &unary->alpha);
    ret->beta = parameter_read(node, &unary->beta);
    return true;
}

/* --- Gelu --- */

static const struct unary gelu_erf = {.kernels = {KERNELS_FLOAT(GeluErf)}};
static const struct unary gelu_tanh = {.kernels = {KERNELS_FLOAT(GeluTanh)}};

static bool gelu_is_tanh(const struct node *node) {
    return strcmp(node_string(node, "approximate", "none"), "tanh") == 0;
}

static bool gelu_check(const struct node *node, struct error *error) {
    const char *form = node_string(node, "approximate", "none");
    if (strcmp(form, "none") != 0 && strcmp(form, "tanh") != 0)
        return node_error(node, error, "approximate is '%.40s', neither none nor tanh", form);

    return true;
}

static bool gelu_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    return unary_run(node, gelu_is_tanh(node) ? &gelu_tanh : &gelu_erf, &inputs[0], &outputs[0], error);
}

static bool gelu_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, gelu_wide);
}

static bool gelu_post(const struct node *node, struct post_op *ret) {
    if (gelu_is_tanh(node))
        ret->kind = POST_GELU_TANH;
    return true;
}

/* --- IsNaN and IsInf: a bool for a float --- */

static bool classify_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_FLOAT, error) &&
           infer_output(node, 0, DTYPE_BOOL, node_shape(node, 0), error);
}

static bool isnan_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    int64_t count = shape_elements(&outputs[0].shape);
    uint8_t *to = outputs[0].data;

    for (int64_t i = 0; i < count; i++)
        to[i] = isnan(tensor_get_f64(&inputs[0], i));

    return true;
}

static bool isinf_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    bool positive = node_int(node, "detect_positive", 1) != 0,
         negative = node_int(node, "detect_negative", 1) != 0;
    int64_t count = shape_elements(&outputs[0].shape);
    uint8_t *to = outputs[0].data;

    for (int64_t i = 0; i < count; i++) {
        double x = tensor_get_f64(&inputs[0], i);
        to[i] = isinf(x) && (x > 0 ? positive : negative);
    }

    return true;
}

/* --- The table --- */

/* A function of x alone; the rest are initialisers of struct unary. */
#define UNARY(name, version, names, ...)                                                                 \
    .op_type = #name, .since = version, .inputs = {1, 1}, .types = names, .post_parameters = unary_post, \
    .family = &(const struct unary){__VA_ARGS__}, .differentiate = gradient_element, FUNCTIONS(unary)
#define FLOAT(name, version, ...) \
    UNARY(name, version, NAMES_FLOAT, .kernels = {KERNELS_FLOAT(name)}, __VA_ARGS__)

const struct op_def unary_operators[] = {
    {UNARY(Abs, 1, NAMES_NUMERIC,
           .kernels = {KERNELS_FLOAT(Abs), KERNELS_SIGNED(Abs), KERNELS_UNSIGNED(Abs)}),
     .traits = OP_ELEMENTWISE, .post = POST_ABS},
    {FLOAT(Acos, 7), .traits = OP_ELEMENTWISE},
    {FLOAT(Acosh, 9), .traits = OP_ELEMENTWISE},
    {FLOAT(Asin, 7), .traits = OP_ELEMENTWISE},
    {FLOAT(Asinh, 9), .traits = OP_ELEMENTWISE},
    {FLOAT(Atan, 7), .traits = OP_ELEMENTWISE},
    {FLOAT(Atanh, 9), .traits = OP_ELEMENTWISE},
    {UNARY(BitwiseNot, 18, "integers", .kernels = {KERNELS_SIGNED(BitwiseNot), KERNELS_UNSIGNED(BitwiseNot)}),
     .traits = OP_ELEMENTWISE},
    {FLOAT(Ceil, 1), .traits = OP_ELEMENTWISE},
    {FLOAT(Celu, 12, .alpha = {"alpha", 1}), .traits = OP_ELEMENTWISE},
    {FLOAT(Cos, 7), .traits = OP_ELEMENTWISE},
    {FLOAT(Cosh, 9), .traits = OP_ELEMENTWISE},
    {FLOAT(Elu, 1, .alpha = {"alpha", 1}), .traits = OP_ELEMENTWISE, .post = POST_ELU},
    {FLOAT(Erf, 9), .traits = OP_ELEMENTWISE},
    {FLOAT(Exp, 1), .traits = OP_ELEMENTWISE, .post = POST_EXP},
    {FLOAT(Floor, 1), .traits = OP_ELEMENTWISE},
    {FLOAT(HardSigmoid, 1, .alpha = {"alpha", 0.2f}, .beta = {"beta", 0.5f}),
     .traits = OP_ELEMENTWISE | OP_UNIT_RANGE, .post = POST_HARDSIGMOID},
    {FLOAT(HardSwish, 14), .traits = OP_ELEMENTWISE, .post = POST_HARDSWISH},
    {FLOAT(LeakyRelu, 1, .alpha = {"alpha", 0.01f}), .traits = OP_ELEMENTWISE, .post = POST_RELU},
    {FLOAT(Log, 1), .traits = OP_ELEMENTWISE},
    {FLOAT(Mish, 18), .traits = OP_ELEMENTWISE},
    {UNARY(Neg, 1, NAMES_NUMERIC, .kernels = {KERNELS_FLOAT(Neg), KERNELS_SIGNED(Neg)}),
     .traits = OP_ELEMENTWISE},
    {UNARY(Not, 1, "bool", .kernels = {[DTYPE_BOOL] = Not_bool}), .traits = OP_ELEMENTWISE},
    {FLOAT(Reciprocal, 1), .traits = OP_ELEMENTWISE},
    {UNARY(Relu, 1, NAMES_NUMERIC, .kernels = {KERNELS_FLOAT(Relu), KERNELS_SIGNED(Relu)}),
     .traits = OP_ELEMENTWISE, .post = POST_RELU},
    {FLOAT(Round, 11), .traits = OP_ELEMENTWISE},
    {FLOAT(Selu, 1, .alpha = {"alpha", 1.67326319217681884765625f},
           .beta = {"gamma", 1.05070102214813232421875f}),
     .traits = OP_ELEMENTWISE},
    {FLOAT(Shrink, 9, .alpha = {"bias", 0}, .beta = {"lambd", 0.5f}), .traits = OP_ELEMENTWISE},
    {FLOAT(Sigmoid, 1), .traits = OP_ELEMENTWISE | OP_UNIT_RANGE, .post = POST_SIGMOID},
    {UNARY(Sign, 9, NAMES_NUMERIC,
           .kernels = {KERNELS_FLOAT(Sign), KERNELS_SIGNED(Sign), KERNELS_UNSIGNED(Sign)}),
     .traits = OP_ELEMENTWISE},
    {FLOAT(Sin, 7), .traits = OP_ELEMENTWISE},
    {FLOAT(Sinh, 9), .traits = OP_ELEMENTWISE},
    {FLOAT(Softplus, 1), .traits = OP_ELEMENTWISE},
    {FLOAT(Softsign, 1), .traits = OP_ELEMENTWISE},
    {FLOAT(Sqrt, 1), .traits = OP_ELEMENTWISE, .post = POST_SQRT},
    {FLOAT(Tan, 7), .traits = OP_ELEMENTWISE},
    {FLOAT(Tanh, 1), .traits = OP_ELEMENTWISE, .post = POST_TANH},
    {FLOAT(ThresholdedRelu, 10, .alpha = {"alpha", 1}), .traits = OP_ELEMENTWISE},
    {UNARY(Swish, 24, NAMES_FLOAT, .kernels = {KERNELS_FLOAT(QuickGelu)}, .alpha = {"alpha", 1}),
     .traits = OP_ELEMENTWISE, .post = POST_SWISH},
    {.domain = MICROSOFT,
     FLOAT(QuickGelu, 1, .alpha = {"alpha", 1.702f}),
     .traits = OP_ELEMENTWISE,
     .post = POST_SWISH},

    {.op_type = "Gelu",
     .differentiate = gradient_element,
     .since = 20,
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .post = POST_GELU_ERF,
     .types = NAMES_FLOAT,
     .check = gelu_check,
     .family = &gelu_erf,
     .infer = unary_infer,
     .compute = gelu_compute,
     .post_parameters = gelu_post},
    {.domain = MICROSOFT,
     .op_type = "Gelu",
     .differentiate = gradient_element,
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .post = POST_GELU_ERF,
     .types = NAMES_FLOAT,
     .family = &gelu_erf,
     .infer = unary_infer,
     .compute = gelu_compute,
     .post_parameters = gelu_post},
    {.op_type = "IsNaN",
     .since = 9,
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .types = NAMES_FLOAT,
     .infer = classify_infer,
     .compute = isnan_compute},
    {.op_type = "IsInf",
     .since = 10,
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .types = NAMES_FLOAT,
     .infer = classify_infer,
     .compute = isinf_compute},
    {0},
};
