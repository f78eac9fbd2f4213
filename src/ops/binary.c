/* Two tensors broadcast against each other: arithmetic, comparison, logic. */
#include "ops/binary.h"

#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "ops/family.h"
#include "ops/gradient.h"

#define KERNEL(name, suffix, type, result, value)                                         \
    static void name##_##suffix(const void *left, int64_t left_stride, const void *right, \
                                int64_t right_stride, void *destination, int64_t count) { \
        const type *a = left, *b = right;                                                 \
        result *to = destination;                                                         \
        if (left_stride && right_stride)                                                  \
            for (int64_t i = 0; i < count; i++) {                                         \
                type x = a[i], y = b[i];                                                  \
                to[i] = (result)(value);                                                  \
            }                                                                             \
        else if (left_stride)                                                             \
            for (int64_t i = 0; i < count; i++) {                                         \
                type x = a[i], y = b[0];                                                  \
                to[i] = (result)(value);                                                  \
            }                                                                             \
        else                                                                              \
            for (int64_t i = 0; i < count; i++) {                                         \
                type x = a[0], y = b[i * right_stride];                                   \
                to[i] = (result)(value);                                                  \
            }                                                                             \
    }

#define FLOATS(name, result, value)                         \
    KERNEL(name, f32, float, RESULT_##result(float), value) \
    KERNEL(name, f64, double, RESULT_##result(double), value)
#define SIGNED(name, result, value)                             \
    KERNEL(name, i8, int8_t, RESULT_##result(int8_t), value)    \
    KERNEL(name, i16, int16_t, RESULT_##result(int16_t), value) \
    KERNEL(name, i32, int32_t, RESULT_##result(int32_t), value) \
    KERNEL(name, i64, int64_t, RESULT_##result(int64_t), value)
#define UNSIGNED(name, result, value)                             \
    KERNEL(name, u8, uint8_t, RESULT_##result(uint8_t), value)    \
    KERNEL(name, u16, uint16_t, RESULT_##result(uint16_t), value) \
    KERNEL(name, u32, uint32_t, RESULT_##result(uint32_t), value) \
    KERNEL(name, u64, uint64_t, RESULT_##result(uint64_t), value)
#define RESULT_SAME(type) type
#define RESULT_BOOL(type) uint8_t

/* Integer arithmetic wraps; division by zero gives zero. */
static int64_t divide_i64(int64_t x, int64_t y) {
    return y == 0 ? 0 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y;
}

static uint64_t divide_u64(uint64_t x, uint64_t y) {
    return y == 0 ? 0 : x / y;
}

/* The sign of C's remainder is the dividend's, that of Mod the divisor's. */
static int64_t remainder_i64(int64_t x, int64_t y) {
    return y == 0 || y == -1 ? 0 : x % y;
}

static int64_t modulo_i64(int64_t x, int64_t y) {
    int64_t rest = remainder_i64(x, y);
    return rest && (rest < 0) != (y < 0) ? rest + y : rest;
}

static uint64_t modulo_u64(uint64_t x, uint64_t y) {
    return y == 0 ? 0 : x % y;
}

static uint64_t power_u64(uint64_t base, uint64_t exponent) {
    uint64_t result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}

static int64_t power_i64(int64_t base, int64_t exponent) {
    if (exponent >= 0)
        return (int64_t)power_u64((uint64_t)base, (uint64_t)exponent);
    return base == 1 ? 1 : base == -1 ? (exponent & 1 ? -1 : 1) : 0;
}

FLOATS(Add, SAME, x + y)
SIGNED(Add, SAME, (uint64_t)x + (uint64_t)y)
UNSIGNED(Add, SAME, (uint64_t)x + (uint64_t)y)
FLOATS(Sub, SAME, x - y)
SIGNED(Sub, SAME, (uint64_t)x - (uint64_t)y)
UNSIGNED(Sub, SAME, (uint64_t)x - (uint64_t)y)
FLOATS(Mul, SAME, (x) * (y))
SIGNED(Mul, SAME, (uint64_t)(x) * (uint64_t)(y))
UNSIGNED(Mul, SAME, (uint64_t)(x) * (uint64_t)(y))
FLOATS(Div, SAME, x / y)
SIGNED(Div, SAME, divide_i64(x, y))
UNSIGNED(Div, SAME, divide_u64(x, y))
FLOATS(Pow, SAME, pow(x, y))
SIGNED(Pow, SAME, power_i64(x, y))
UNSIGNED(Pow, SAME, power_u64(x, y))
FLOATS(Max, SAME, x > y || x != x ? x : y)
SIGNED(Max, SAME, x > y ? x : y)
UNSIGNED(Max, SAME, x > y ? x : y)
FLOATS(Min, SAME, x < y || x != x ? x : y)
SIGNED(Min, SAME, x < y ? x : y)
UNSIGNED(Min, SAME, x < y ? x : y)
SIGNED(Mod, SAME, modulo_i64(x, y))
UNSIGNED(Mod, SAME, modulo_u64(x, y))
FLOATS(Fmod, SAME, fmod(x, y))
SIGNED(Fmod, SAME, remainder_i64(x, y))
UNSIGNED(Fmod, SAME, modulo_u64(x, y))
FLOATS(PRelu, SAME, x < 0 ? y * x : x)
SIGNED(PRelu, SAME, x < 0 ? (uint64_t)x * (uint64_t)y : (uint64_t)x)
UNSIGNED(PRelu, SAME, ((void)y, x))
FLOATS(Equal, BOOL, x == y)
SIGNED(Equal, BOOL, x == y)
UNSIGNED(Equal, BOOL, x == y)
FLOATS(Greater, BOOL, x > y)
SIGNED(Greater, BOOL, x > y)
UNSIGNED(Greater, BOOL, x > y)
FLOATS(GreaterOrEqual, BOOL, x >= y)
SIGNED(GreaterOrEqual, BOOL, x >= y)
UNSIGNED(GreaterOrEqual, BOOL, x >= y)
FLOATS(Less, BOOL, x < y)
SIGNED(Less, BOOL, x < y)
UNSIGNED(Less, BOOL, x < y)
FLOATS(LessOrEqual, BOOL, x <= y)
SIGNED(LessOrEqual, BOOL, x <= y)
UNSIGNED(LessOrEqual, BOOL, x <= y)
KERNEL(And, bool, uint8_t, uint8_t, (x) && (y))
KERNEL(Or, bool, uint8_t, uint8_t, x || y)
KERNEL(Xor, bool, uint8_t, uint8_t, !x != !y)
SIGNED(BitwiseAnd, SAME, (x) & (y))
UNSIGNED(BitwiseAnd, SAME, (x) & (y))
SIGNED(BitwiseOr, SAME, x | y)
UNSIGNED(BitwiseOr, SAME, x | y)
SIGNED(BitwiseXor, SAME, x ^ y)
UNSIGNED(BitwiseXor, SAME, x ^ y)
UNSIGNED(ShiftLeft, SAME, y < 64 ? (uint64_t)x << y : 0)
UNSIGNED(ShiftRight, SAME, y < 64 ? (uint64_t)x >> y : 0)

#define KERNELS_FLOAT(name) [DTYPE_F32] = name##_f32, [DTYPE_F64] = name##_f64
#define KERNELS_SIGNED(name) \
    [DTYPE_I8] = name##_i8, [DTYPE_I16] = name##_i16, [DTYPE_I32] = name##_i32, [DTYPE_I64] = name##_i64
#define KERNELS_UNSIGNED(name) \
    [DTYPE_U8] = name##_u8, [DTYPE_U16] = name##_u16, [DTYPE_U32] = name##_u32, [DTYPE_U64] = name##_u64
#define KERNELS_INTEGER(name) KERNELS_SIGNED(name), KERNELS_UNSIGNED(name)
#define KERNELS_NUMERIC(name) KERNELS_FLOAT(name), KERNELS_INTEGER(name)

static binary_kernel *const binary_kernels[BINARY_COUNT][DTYPE_COUNT] = {
    [BINARY_ADD] = {KERNELS_NUMERIC(Add)},
    [BINARY_SUB] = {KERNELS_NUMERIC(Sub)},
    [BINARY_MUL] = {KERNELS_NUMERIC(Mul)},
    [BINARY_DIV] = {KERNELS_NUMERIC(Div)},
    [BINARY_POW] = {KERNELS_NUMERIC(Pow)},
    [BINARY_MAX] = {KERNELS_NUMERIC(Max)},
    [BINARY_MIN] = {KERNELS_NUMERIC(Min)},
    [BINARY_MOD] = {KERNELS_INTEGER(Mod)},
    [BINARY_FMOD] = {KERNELS_NUMERIC(Fmod)},
    [BINARY_PRELU] = {KERNELS_NUMERIC(PRelu)},
    [BINARY_EQUAL] = {KERNELS_NUMERIC(Equal), [DTYPE_BOOL] = Equal_u8},
    [BINARY_GREATER] = {KERNELS_NUMERIC(Greater)},
    [BINARY_GREATER_OR_EQUAL] = {KERNELS_NUMERIC(GreaterOrEqual)},
    [BINARY_LESS] = {KERNELS_NUMERIC(Less)},
    [BINARY_LESS_OR_EQUAL] = {KERNELS_NUMERIC(LessOrEqual)},
    [BINARY_AND] = {[DTYPE_BOOL] = And_bool},
    [BINARY_OR] = {[DTYPE_BOOL] = Or_bool},
    [BINARY_XOR] = {[DTYPE_BOOL] = Xor_bool},
    [BINARY_BITWISE_AND] = {KERNELS_INTEGER(BitwiseAnd)},
    [BINARY_BITWISE_OR] = {KERNELS_INTEGER(BitwiseOr)},
    [BINARY_BITWISE_XOR] = {KERNELS_INTEGER(BitwiseXor)},
    [BINARY_SHIFT_LEFT] = {KERNELS_UNSIGNED(ShiftLeft)},
    [BINARY_SHIFT_RIGHT] = {KERNELS_UNSIGNED(ShiftRight)},
};

binary_kernel *binary_kernel_find(enum binary_function function, enum dtype dtype) {
    if (dtype == DTYPE_F16 || dtype == DTYPE_BF16)
        dtype = DTYPE_F32;
    return binary_kernels[function][dtype];
}

void binary_run(binary_kernel *kernel, enum dtype dtype, const void *left, const struct shape *left_shape,
                const void *right, const struct shape *right_shape, void *result,
                const struct shape *result_shape, size_t result_size) {
    struct broadcast_walk walk;
    walk_init(&walk, result_shape, (const struct shape *const[]){left_shape, right_shape}, 2);

    int64_t size = (int64_t)dtype_size(dtype), total = walk.rows * walk.pieces;
#pragma omp parallel for schedule(static) if (total * walk.inner > PARALLEL_ELEMENTS)
    for (int64_t piece = 0; piece < total; piece++) {
        int64_t offset, offsets[WALK_OPERANDS], count = walk_piece(&walk, piece, &offset, offsets);
        kernel((const char *)left + offsets[0] * size, walk.inner_strides[0],
               (const char *)right + offsets[1] * size, walk.inner_strides[1],
               (char *)result + offset * (int64_t)result_size, count);
    }
}

/* Which function a node computes: its operator's, or the one that an attribute chooses. */
static enum binary_function function_of(const struct node *node) {
    enum binary_function function = *(const enum binary_function *)node->op->family;
    if (function == BINARY_MOD && node_int(node, "fmod", 0))
        return BINARY_FMOD;
    if (function == BINARY_SHIFT_LEFT && strcmp(node_string(node, "direction", ""), "LEFT") != 0)
        return BINARY_SHIFT_RIGHT;

    return function;
}

static bool bitshift_check(const struct node *node, struct error *error) {
    const char *direction = node_string(node, "direction", "");
    if (strcmp(direction, "LEFT") != 0 && strcmp(direction, "RIGHT") != 0)
        return node_error(node, error, "direction is '%.40s', neither LEFT nor RIGHT", direction);
    return true;
}

/* Before opset 7 the right operand was broadcast only if `broadcast` said so, from `axis` on, and PRelu's
 * slope from the channels on: append ones to its shape. */
static bool right_shape_of(const struct node *node, const struct shape *left, const struct shape *right,
                           struct shape *ret) {
    *ret = *right;
    if (node->opset >= 7 || *node->domain)
        return true;

    bool prelu = function_of(node) == BINARY_PRELU && shape_elements(right) != 1;
    if (!prelu && (!node_int(node, "broadcast", 0) || !node_attribute(node, "axis")))
        return true;

    int64_t axis = prelu ? left->rank > 1 : node_int(node, "axis", 0);
    if (axis < -left->rank || axis > left->rank)
        return false;

    axis += axis < 0 ? left->rank : 0;
    if (axis + right->rank > left->rank)
        return false;

    while (ret->rank < left->rank - axis)
        ret->dims[ret->rank++] = 1;

    return true;
}

static bool binary_infer_as(struct node *node, enum dtype result, struct error *error) {
    const struct shape *left = node_shape(node, 0), *right = node_shape(node, 1);
    enum dtype dtype = node_dtype(node, 0);
    if (!binary_kernel_find(function_of(node), dtype))
        return node_error(node, error, "type %s is not supported", dtype_name(dtype));

    struct shape aligned, shape;
    char text[2][SHAPE_TEXT];
    if (!right_shape_of(node, left, right, &aligned) || !shape_broadcast(left, &aligned, &shape))
        return node_error(node, error, "shapes %s and %s do not fit together",
                          shape_format(left, text[0], SHAPE_TEXT), shape_format(right, text[1], SHAPE_TEXT));

    return infer_output(node, 0, result, &shape, error);
}

static bool arithmetic_infer(struct node *node, struct error *error) {
    return node_want_same_type(node, 1, 0, error) && binary_infer_as(node, node_dtype(node, 0), error);
}

static bool compare_infer(struct node *node, struct error *error) {
    return node_want_same_type(node, 1, 0, error) && binary_infer_as(node, DTYPE_BOOL, error);
}

/* Pow: the exponent may have any type, the result has the base's. */
static bool power_infer(struct node *node, struct error *error) {
    return node_want_types(node, 1, TYPES_NUMERIC, error) &&
           binary_infer_as(node, node_dtype(node, 0), error);
}

/* PRelu broadcasts the slope to x, not x to the slope. A slope of one channel axis was allowed before
 * opset 7. */
static bool prelu_infer(struct node *node, struct error *error) {
    if (!arithmetic_infer(node, error))
        return false;
    if (node_has_output(node, 0) && !shape_equal(&node->outputs[0]->shape, node_shape(node, 0)))
        return node_error(node, error, "the slope does not broadcast to the input");
    return true;
}

static bool binary_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    binary_kernel *kernel = binary_kernel_find(function_of(node), inputs[0].dtype);
    struct shape right;
    if (!kernel || !right_shape_of(node, &inputs[0].shape, &inputs[1].shape, &right))
        return node_error(node, error, "type %s is not supported", dtype_name(inputs[0].dtype));

    binary_run(kernel, inputs[0].dtype, inputs[0].data, &inputs[0].shape, inputs[1].data, &right,
               outputs[0].data, &outputs[0].shape, dtype_size(outputs[0].dtype));
    return true;
}

static bool binary_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, binary_wide);
}

/* The tensor converted to `dtype`; *ret_owned is to be freed. */
static bool tensor_convert(const struct tensor *tensor, enum dtype dtype, struct tensor *ret,
                           void **ret_owned) {
    *ret = *tensor;
    *ret_owned = NULL;
    if (tensor->dtype == dtype)
        return true;

    int64_t count = shape_elements(&tensor->shape);
    *ret_owned = malloc((size_t)count * dtype_size(dtype) + 1);
    if (!*ret_owned)
        return false;

    elements_convert(tensor->dtype, tensor->data, dtype, *ret_owned, count);
    ret->dtype = dtype;
    ret->data = *ret_owned;

    return true;
}

/* Mixed types are computed in float64 if one is a float, else in int64. */
static bool power_mixed(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    bool floats = dtype_is_float(inputs[0].dtype) || dtype_is_float(inputs[1].dtype);
    enum dtype dtype = floats ? DTYPE_F64 : DTYPE_I64;
    struct tensor operands[2], result = outputs[0];
    cleanup(freep) void *left = NULL;
    cleanup(freep) void *right = NULL;
    int64_t count = shape_elements(&outputs[0].shape);
    cleanup(freep) void *wide = malloc((size_t)count * 8 + 1);
    if (!wide || !tensor_convert(&inputs[0], dtype, &operands[0], &left) ||
        !tensor_convert(&inputs[1], dtype, &operands[1], &right))
        return node_memory_error(node, error);

    result.dtype = dtype;
    result.data = wide;
    if (!binary_wide(node, operands, &result, error))
        return false;

    elements_convert(dtype, wide, outputs[0].dtype, outputs[0].data, count);

    return true;
}

static bool power_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return inputs[0].dtype == inputs[1].dtype ? binary_compute(node, inputs, outputs, error)
                                              : power_mixed(node, inputs, outputs, error);
}

#define BINARY(function)                                                          \
    .inputs = {2, 2}, .data_inputs = 2, .family = &(const enum binary_function) { \
        BINARY_##function                                                         \
    }
#define ARITHMETIC .infer = arithmetic_infer, .compute = binary_compute
#define COMPARISON .infer = compare_infer, .compute = binary_compute

const struct op_def binary_operators[] = {
    {.op_type = "Add",
     .differentiate = gradient_add,
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     .post = POST_ADD,
     .integer_form = "QuantizedAdd",
     BINARY(ADD),
     ARITHMETIC},
    {.op_type = "Sub",
     .differentiate = gradient_subtract,
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(SUB),
     ARITHMETIC},
    {.op_type = "Mul",
     .differentiate = gradient_multiply,
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     .post = POST_MULTIPLY,
     BINARY(MUL),
     ARITHMETIC},
    {.op_type = "Div",
     .differentiate = gradient_divide,
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(DIV),
     ARITHMETIC},
    {.op_type = "Pow",
     .differentiate = gradient_power,
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(POW),
     FUNCTIONS(power)},
    {.op_type = "Mod",
     .since = 10,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(MOD),
     ARITHMETIC},
    {.op_type = "PRelu",
     .since = 1,
     .until = 6,
     .types = NAMES_NUMERIC,
     BINARY(PRELU),
     .infer = prelu_infer,
     .compute = binary_compute},
    {.op_type = "PRelu",
     .since = 7,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(PRELU),
     .infer = prelu_infer,
     .compute = binary_compute},
    {.op_type = "BitShift",
     .since = 11,
     .types = "unsigned integers",
     .traits = OP_ELEMENTWISE,
     .check = bitshift_check,
     BINARY(SHIFT_LEFT),
     ARITHMETIC},
    {.op_type = "BitwiseAnd",
     .since = 18,
     .types = "integers",
     .traits = OP_ELEMENTWISE,
     BINARY(BITWISE_AND),
     ARITHMETIC},
    {.op_type = "BitwiseOr",
     .since = 18,
     .types = "integers",
     .traits = OP_ELEMENTWISE,
     BINARY(BITWISE_OR),
     ARITHMETIC},
    {.op_type = "BitwiseXor",
     .since = 18,
     .types = "integers",
     .traits = OP_ELEMENTWISE,
     BINARY(BITWISE_XOR),
     ARITHMETIC},
    {.op_type = "Equal", .since = 1, .types = NAMES_ALL, .traits = OP_ELEMENTWISE, BINARY(EQUAL), COMPARISON},
    {.op_type = "Greater",
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(GREATER),
     COMPARISON},
    {.op_type = "GreaterOrEqual",
     .since = 12,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(GREATER_OR_EQUAL),
     COMPARISON},
    {.op_type = "Less",
     .since = 1,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(LESS),
     COMPARISON},
    {.op_type = "LessOrEqual",
     .since = 12,
     .types = NAMES_NUMERIC,
     .traits = OP_ELEMENTWISE,
     BINARY(LESS_OR_EQUAL),
     COMPARISON},
    {.op_type = "And", .since = 1, .types = "bool", .traits = OP_ELEMENTWISE, BINARY(AND), COMPARISON},
    {.op_type = "Or", .since = 1, .types = "bool", .traits = OP_ELEMENTWISE, BINARY(OR), COMPARISON},
    {.op_type = "Xor", .since = 1, .types = "bool", .traits = OP_ELEMENTWISE, BINARY(XOR), COMPARISON},
    {0},
};
