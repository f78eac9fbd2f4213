/* Two operands broadcast to one result: the kernels of binary.c, for other families in ops/ that combine
 * tensors. */
#pragma once
#include "tensor/tensor.h"

/* `count` results; a stride of 0 repeats the first element of that operand. The destination may be an operand
 * that is not repeated. */
typedef void binary_kernel(const void *left, int64_t left_stride, const void *right, int64_t right_stride,
                           void *destination, int64_t count);

/* "Add", "Max", "Equal", … for a type (float16 and bfloat16: the float32 kernel); NULL where there is none.
 */
binary_kernel *binary_kernel_find(const char *name, enum dtype dtype);

/* Both operands have type `dtype`; shapes broadcast to the result's, whose elements have `result_size` bytes.
 */
void binary_run(binary_kernel *kernel, enum dtype dtype, const void *left, const struct shape *left_shape,
                const void *right, const struct shape *right_shape, void *result,
                const struct shape *result_shape, size_t result_size);
