/* Two operands broadcast to one result: the kernels of binary.c, for other families in ops/ that combine
 * tensors. */
#pragma once
#include "tensor/tensor.h"

/* `count` results; a stride of 0 repeats the first element of that operand. The destination may be an operand
 * that is not repeated. */
typedef void binary_kernel(const void *left, int64_t left_stride, const void *right, int64_t right_stride,
                           void *destination, int64_t count);

enum binary_function {
    BINARY_ADD,
    BINARY_SUB,
    BINARY_MUL,
    BINARY_DIV,
    BINARY_POW,
    BINARY_MAX,
    BINARY_MIN,
    BINARY_MOD,  /* the sign is the divisor's */
    BINARY_FMOD, /* the sign is the dividend's */
    BINARY_PRELU,
    BINARY_EQUAL,
    BINARY_GREATER,
    BINARY_GREATER_OR_EQUAL,
    BINARY_LESS,
    BINARY_LESS_OR_EQUAL,
    BINARY_AND,
    BINARY_OR,
    BINARY_XOR,
    BINARY_BITWISE_AND,
    BINARY_BITWISE_OR,
    BINARY_BITWISE_XOR,
    BINARY_SHIFT_LEFT,
    BINARY_SHIFT_RIGHT,
    BINARY_COUNT
};

/* The kernel for a type (float16 and bfloat16: the float32 kernel); NULL if there is none. */
binary_kernel *binary_kernel_find(enum binary_function function, enum dtype dtype);

/* Both operands have type `dtype`; shapes broadcast to the result's, whose elements have `result_size` bytes.
 */
void binary_run(binary_kernel *kernel, enum dtype dtype, const void *left, const struct shape *left_shape,
                const void *right, const struct shape *right_shape, void *result,
                const struct shape *result_shape, size_t result_size);
