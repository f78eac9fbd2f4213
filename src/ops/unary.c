/* One tensor in, one of the same shape out, element by element. */
#include "ops/family.h"

#include <math.h>
#include <string.h>
#include <tgmath.h>

typedef void unary_kernel(const void *source, void *destination, int64_t count, double alpha_wide,
                          double beta_wide);

/* OPERATOR(op_type, since, attribute alpha, its default, attribute beta, its default, value for x): the
 * floats' */
#define FLOAT_OPERATORS(OPERATOR)                                                                      \
    OPERATOR(Acos, 7, NULL, 0, NULL, 0, acos(x))                                                       \
    OPERATOR(Acosh, 9, NULL, 0, NULL, 0, acosh(x))                                                     \
    OPERATOR(Asin, 7, NULL, 0, NULL, 0, asin(x))                                                       \
    OPERATOR(Asinh, 9, NULL, 0, NULL, 0, asinh(x))                                                     \
    OPERATOR(Atan, 7, NULL, 0, NULL, 0, atan(x))                                                       \
    OPERATOR(Atanh, 9, NULL, 0, NULL, 0, atanh(x))                                                     \
    OPERATOR(Ceil, 1, NULL, 0, NULL, 0, ceil(x))                                                       \
    OPERATOR(Celu, 12, "alpha", 1, NULL, 0, x < 0 ? alpha * expm1(x / alpha) : x)                      \
    OPERATOR(Cos, 7, NULL, 0, NULL, 0, cos(x))                                                         \
    OPERATOR(Cosh, 9, NULL, 0, NULL, 0, cosh(x))                                                       \
    OPERATOR(Elu, 1, "alpha", 1, NULL, 0, x < 0 ? alpha * expm1(x) : x)                                \
    OPERATOR(Erf, 9, NULL, 0, NULL, 0, erf(x))                                                         \
    OPERATOR(Exp, 1, NULL, 0, NULL, 0, exp(x))                                                         \
    OPERATOR(Floor, 1, NULL, 0, NULL, 0, floor(x))                                                     \
    OPERATOR(HardSigmoid, 1, "alpha", 0.2, "beta", 0.5, fmin(fmax(alpha *x + beta, (real)0), (real)1)) \
    OPERATOR(HardSwish, 14, NULL, 0, NULL, 0, x *fmin(fmax(x / 6 + (real)0.5, (real)0), (real)1))      \
    OPERATOR(LeakyRelu, 1, "alpha", 0.01, NULL, 0, x < 0 ? alpha * x : x)                              \
    OPERATOR(Log, 1, NULL, 0, NULL, 0, log(x))                                                         \
    OPERATOR(Mish, 18, NULL, 0, NULL, 0, x *tanh(log1p(exp(-fabs(x))) + fmax(x, (real)0)))             \
    OPERATOR(Reciprocal, 1, NULL, 0, NULL, 0, 1 / x)                                                   \
    OPERATOR(Round, 11, NULL, 0, NULL, 0, rint(x))                                                     \
    OPERATOR(Selu, 1, "alpha", 1.67326319217681884765625, "gamma", 1.05070102214813232421875,          \
             beta *(x > 0 ? x : alpha * expm1(x)))                                                     \
    OPERATOR(Shrink, 9, "bias", 0, "lambd", 0.5, x<-beta ? x + alpha : x> beta ? x - alpha : 0)        \
    OPERATOR(Sigmoid, 1, NULL, 0, NULL, 0, 1 / (1 + exp(-x)))                                          \
    OPERATOR(Sin, 7, NULL, 0, NULL, 0, sin(x))                                                         \
    OPERATOR(Sinh, 9, NULL, 0, NULL, 0, sinh(x))                                                       \
    OPERATOR(Softplus, 1, NULL, 0, NULL, 0, log1p(exp(-fabs(x))) + fmax(x, (real)0))                   \
    OPERATOR(Softsign, 1, NULL, 0, NULL, 0, x / (1 + fabs(x)))                                         \
    OPERATOR(Sqrt, 1, NULL, 0, NULL, 0, sqrt(x))                                                       \
    OPERATOR(Tan, 7, NULL, 0, NULL, 0, tan(x))                                                         \
    OPERATOR(Tanh, 1, NULL, 0, NULL, 0, tanh(x))                                                       \
    OPERATOR(ThresholdedRelu, 10, "alpha", 1, NULL, 0, x > alpha ? x : 0)

/* Those that take integers too. */
#define WIDE_OPERATORS(OPERATOR)                       \
    OPERATOR(Abs, 1, NULL, 0, NULL, 0, fabs(x))        \
    OPERATOR(Neg, 1, NULL, 0, NULL, 0, -x)             \
    OPERATOR(Relu, 1, NULL, 0, NULL, 0, x < 0 ? 0 : x) \
    OPERATOR(Sign, 9, NULL, 0, NULL, 0, (real)((x > 0) - (x < 0)))

/* Gelu's two forms, https://onnx.ai/onnx/operators/onnx__Gelu.html; alpha says which (see unary_parameters).
 */
#define GELU                                                                                      \
    (alpha != 0 ? x * (1 + tanh((real)0.7978845608028654 * (x + (real)0.044715 * x * x * x))) / 2 \
                : x * (1 + erf(x * (real)M_SQRT1_2)) / 2)
#define OWN_OPERATORS(OPERATOR) OPERATOR(Gelu, 20, NULL, 0, NULL, 0, GELU)
/* Their com.microsoft's. */
#define MICROSOFT_OPERATORS(OPERATOR) \
    OPERATOR(QuickGelu, 1, "alpha", 1.702f, NULL, 0, x / (1 + exp(-alpha * x)))

#define FLOAT_KERNEL(suffix, type, name, value)                                                          \
    static void name##_##suffix(const void *source, void *destination, int64_t count, double alpha_wide, \
                                double beta_wide) {                                                      \
        typedef type real;                                                                               \
        const real *from = source, alpha = (real)alpha_wide, beta = (real)beta_wide;                     \
        real *to = destination;                                                                          \
        (void)alpha, (void)beta;                                                                         \
        for (int64_t i = 0; i < count; i++) {                                                            \
            real x = from[i];                                                                            \
            to[i] = value;                                                                               \
        }                                                                                                \
    }
#define FLOAT_KERNELS(name, since, alpha_name, alpha_default, beta_name, beta_default, value) \
    FLOAT_KERNEL(f32, float, name, value)                                                     \
    FLOAT_KERNEL(f64, double, name, value)

FLOAT_OPERATORS(FLOAT_KERNELS)
WIDE_OPERATORS(FLOAT_KERNELS)
OWN_OPERATORS(FLOAT_KERNELS)
MICROSOFT_OPERATORS(FLOAT_KERNELS)

/* Integers, whose arithmetic wraps. */
#define INTEGER_KERNEL(suffix, type, name, value)                                                        \
    static void name##_##suffix(const void *source, void *destination, int64_t count, double alpha_wide, \
                                double beta_wide) {                                                      \
        const type *from = source;                                                                       \
        type *to = destination;                                                                          \
        for (int64_t i = 0; i < count; i++) {                                                            \
            type x = from[i];                                                                            \
            to[i] = (type)(value);                                                                       \
        }                                                                                                \
    }
#define SIGNED_KERNELS(name, value)           \
    INTEGER_KERNEL(i8, int8_t, name, value)   \
    INTEGER_KERNEL(i16, int16_t, name, value) \
    INTEGER_KERNEL(i32, int32_t, name, value) \
    INTEGER_KERNEL(i64, int64_t, name, value)
#define UNSIGNED_KERNELS(name, value)          \
    INTEGER_KERNEL(u8, uint8_t, name, value)   \
    INTEGER_KERNEL(u16, uint16_t, name, value) \
    INTEGER_KERNEL(u32, uint32_t, name, value) \
    INTEGER_KERNEL(u64, uint64_t, name, value)

SIGNED_KERNELS(Abs, x < 0 ? 0 - (uint64_t)x : (uint64_t)x)
SIGNED_KERNELS(Neg, 0 - (uint64_t)x)
SIGNED_KERNELS(Sign, (x > 0) - (x < 0))
SIGNED_KERNELS(Relu, x < 0 ? 0 : x)
SIGNED_KERNELS(BitwiseNot, ~x)
UNSIGNED_KERNELS(Abs, x)
UNSIGNED_KERNELS(Sign, x > 0)
UNSIGNED_KERNELS(BitwiseNot, ~x)
INTEGER_KERNEL(bool, uint8_t, Not, !x)

#define KERNELS_FLOAT(name) [DTYPE_F32] = name##_f32, [DTYPE_F64] = name##_f64
#define KERNELS_SIGNED(name) \
    [DTYPE_I8] = name##_i8, [DTYPE_I16] = name##_i16, [DTYPE_I32] = name##_i32, [DTYPE_I64] = name##_i64
#define KERNELS_UNSIGNED(name) \
    [DTYPE_U8] = name##_u8, [DTYPE_U16] = name##_u16, [DTYPE_U32] = name##_u32, [DTYPE_U64] = name##_u64

struct unary {
    const char *op_type;
    const char *alpha_name, *beta_name;
    double alpha, beta;
    unary_kernel *kernels[DTYPE_COUNT]; /* by type; float16 and bfloat16 go through float32 */
};

#define UNARY_ROW(name, since, alpha_name, alpha_default, beta_name, beta_default, value) \
    {#name, alpha_name, beta_name, alpha_default, beta_default, {KERNELS_FLOAT(name)}},

/* The first row with the name and a kernel for the type counts. */
static const struct unary unaries[] = {
    FLOAT_OPERATORS(UNARY_ROW) WIDE_OPERATORS(UNARY_ROW) OWN_OPERATORS(UNARY_ROW)
        MICROSOFT_OPERATORS(UNARY_ROW){"Abs", .kernels = {KERNELS_SIGNED(Abs), KERNELS_UNSIGNED(Abs)}},
    {"Neg", .kernels = {KERNELS_SIGNED(Neg)}},
    {"Sign", .kernels = {KERNELS_SIGNED(Sign), KERNELS_UNSIGNED(Sign)}},
    {"Relu", .kernels = {KERNELS_SIGNED(Relu)}},
    {"BitwiseNot", .kernels = {KERNELS_SIGNED(BitwiseNot), KERNELS_UNSIGNED(BitwiseNot)}},
    {"Not", .kernels = {[DTYPE_BOOL] = Not_bool}},
};

static const struct unary *unary_find(const char *op_type, enum dtype dtype) {
    if (dtype == DTYPE_F16 || dtype == DTYPE_BF16)
        dtype = DTYPE_F32;
    for (size_t i = 0; i < sizeof unaries / sizeof unaries[0]; i++)
        if (strcmp(unaries[i].op_type, op_type) == 0 && unaries[i].kernels[dtype])
            return &unaries[i];
    return NULL;
}

static bool unary_infer(struct node *node, struct error *error) {
    enum dtype dtype = node_dtype(node, 0);
    if (!unary_find(node->op_type, dtype))
        return node_error(node, error, "type %s is not supported", dtype_name(dtype));
    return infer_same(node, error);
}

static void unary_parameters(const struct node *node, const struct unary *unary, double *alpha,
                             double *beta) {
    *alpha = unary->alpha_name ? (double)node_float(node, unary->alpha_name, (float)unary->alpha) : 0;
    *beta = unary->beta_name ? (double)node_float(node, unary->beta_name, (float)unary->beta) : 0;
    if (strcmp(node->op_type, "Gelu") == 0)
        *alpha = strcmp(node_string(node, "approximate", "none"), "tanh") == 0;
}

static bool unary_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    const struct unary *unary = unary_find(node->op_type, inputs[0].dtype);
    if (!unary)
        return node_error(node, error, "type %s is not supported", dtype_name(inputs[0].dtype));
    double alpha, beta;
    unary_parameters(node, unary, &alpha, &beta);
    unary_kernel *kernel = unary->kernels[inputs[0].dtype];
    int64_t count = shape_elements(&outputs[0].shape), piece = PARALLEL_ELEMENTS / 4;
    size_t size = dtype_size(inputs[0].dtype);
#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t start = 0; start < count; start += piece)
        kernel((const char *)inputs[0].data + (size_t)start * size,
               (char *)outputs[0].data + (size_t)start * size, count - start < piece ? count - start : piece,
               alpha, beta);
    return true;
}

static bool unary_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, unary_wide);
}

static bool gelu_check(const struct node *node, struct error *error) {
    const char *form = node_string(node, "approximate", "none");
    if (strcmp(form, "none") != 0 && strcmp(form, "tanh") != 0)
        return node_error(node, error, "approximate is '%.40s', neither none nor tanh", form);
    return true;
}

/* IsNaN and IsInf: a bool for a float. */
static bool classify_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_FLOAT, error) &&
           infer_output(node, 0, DTYPE_BOOL, node_shape(node, 0), error);
}

static bool classify_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    bool nan = strcmp(node->op_type, "IsNaN") == 0;
    bool positive = node_int(node, "detect_positive", 1) != 0,
         negative = node_int(node, "detect_negative", 1) != 0;
    int64_t count = shape_elements(&outputs[0].shape);
    uint8_t *to = outputs[0].data;
    for (int64_t i = 0; i < count; i++) {
        double x = tensor_get_f64(&inputs[0], i);
        to[i] = nan ? isnan(x) : isinf(x) && (x > 0 ? positive : negative);
    }
    return true;
}

#define ENTRY_IN(domain, until, name, since, types) \
    {domain, #name, since, until, 0, NULL, 1, 1, 1, 1, unary_infer, unary_compute, types},
#define ENTRY(name, since, alpha_name, alpha_default, beta_name, beta_default, value) \
    ENTRY_IN("", OPSET_LATEST, name, since, NAMES_FLOAT)
#define WIDE_ENTRY(name, since, alpha_name, alpha_default, beta_name, beta_default, value) \
    ENTRY_IN("", OPSET_LATEST, name, since, NAMES_NUMERIC)
#define MICROSOFT_ENTRY(name, since, alpha_name, alpha_default, beta_name, beta_default, value) \
    ENTRY_IN(MICROSOFT, 1, name, since, NAMES_FLOAT)

const struct operator unary_operators[] = {
    FLOAT_OPERATORS(ENTRY) WIDE_OPERATORS(WIDE_ENTRY) MICROSOFT_OPERATORS(MICROSOFT_ENTRY)
        ENTRY_IN("", OPSET_LATEST, BitwiseNot, 18, "integers") ENTRY_IN("", OPSET_LATEST, Not, 1, "bool"){
            "", "Gelu", 20, OPSET_LATEST, 0, gelu_check, 1, 1, 1, 1, unary_infer, unary_compute, NAMES_FLOAT},
    {MICROSOFT, "Gelu", 1, 1, 0, NULL, 1, 1, 1, 1, unary_infer, unary_compute, NAMES_FLOAT},
    {"", "IsNaN", 9, OPSET_LATEST, 0, NULL, 1, 1, 1, 1, classify_infer, classify_compute, NAMES_FLOAT},
    {"", "IsInf", 10, OPSET_LATEST, 0, NULL, 1, 1, 1, 1, classify_infer, classify_compute, NAMES_FLOAT},
    {0},
};
