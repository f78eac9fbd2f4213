/* Kernels between floats and 8-bit integers. Work goes in blocks through float32, so that every pair of types
 * shares the loops. */
#include <math.h>

#include "base/multiversion.h"
#include "plan/kernels.h"

#define BLOCK 4096

MULTIVERSION static void load_bytes(enum dtype dtype, const void *from, float *to, int64_t count) {
    const uint8_t *plain = from;
    const int8_t *with_sign = from;

    if (dtype == DTYPE_U8)
        for (int64_t i = 0; i < count; i++)
            to[i] = plain[i];
    else
        for (int64_t i = 0; i < count; i++)
            to[i] = with_sign[i];
}

/* Saturates, then rounds to nearest, halves to even: the limits are whole numbers. */
MULTIVERSION static void store_bytes(enum dtype dtype, const float *from, int32_t zero_point, void *to,
                                     int64_t count) {
    float low = (float)((dtype == DTYPE_U8 ? 0 : -128) - zero_point);
    float high = (float)((dtype == DTYPE_U8 ? 255 : 127) - zero_point);
    uint8_t *bytes = to;

    for (int64_t i = 0; i < count; i++) {
        float x = from[i] > low ? from[i] : low; /* NaN becomes the lowest */
        x = x < high ? x : high;
        bytes[i] = (uint8_t)((int32_t)rintf(x) + zero_point);
    }
}

MULTIVERSION static void divide(float *values, float divisor, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] /= divisor;
}

static int64_t block_length(int64_t start, int64_t count) {
    return count - start < BLOCK ? count - start : BLOCK;
}

static size_t bytes_of(enum dtype dtype, int64_t count) {
    return (size_t)count * dtype_size(dtype);
}

void kernel_quantize(const struct kernel_quantization *quantization, const void *x, void *y) {
    enum dtype dtype = quantization->float_dtype;

#pragma omp parallel for if (quantization->count > 4 * BLOCK)
    for (int64_t start = 0; start < quantization->count; start += BLOCK) {
        float block[BLOCK];
        int64_t count = block_length(start, quantization->count);

        kernel_load_row(dtype, (const char *)x + bytes_of(dtype, start), 1, block, count);
        divide(block, quantization->scale, count);
        store_bytes(quantization->byte_dtype, block, quantization->zero_point, (char *)y + start, count);
    }
}

MULTIVERSION static void to_real(float *values, float zero_point, float scale, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        values[i] = (values[i] - zero_point) * scale;
}

void kernel_dequantize(const struct kernel_quantization *quantization, const void *y, void *x) {
    enum dtype dtype = quantization->float_dtype;

#pragma omp parallel for if (quantization->count > 4 * BLOCK)
    for (int64_t start = 0; start < quantization->count; start += BLOCK) {
        float block[BLOCK];
        int64_t count = block_length(start, quantization->count);

        load_bytes(quantization->byte_dtype, (const char *)y + start, block, count);
        to_real(block, (float)quantization->zero_point, quantization->scale, count);
        kernel_store_row(dtype, block, (char *)x + bytes_of(dtype, start), count);
    }
}

MULTIVERSION static void round_to_steps(const struct kernel_steps *steps, float *values, int64_t count) {
    float low = steps->lowest, high = low + 255, step = steps->step;

    for (int64_t i = 0; i < count; i++) {
        float x = values[i] / step;
        x = x > low ? x : low;
        values[i] = rintf(x < high ? x : high) * step;
    }
}

void kernel_round_to_steps(const struct kernel_steps *steps, const void *x, void *y) {
#pragma omp parallel for if (steps->count > 4 * BLOCK)
    for (int64_t start = 0; start < steps->count; start += BLOCK) {
        float block[BLOCK];
        int64_t count = block_length(start, steps->count);
        size_t offset = bytes_of(steps->dtype, start);

        kernel_load_row(steps->dtype, (const char *)x + offset, 1, block, count);
        round_to_steps(steps, block, count);
        kernel_store_row(steps->dtype, block, (char *)y + offset, count);
    }
}

MULTIVERSION static void add_scaled(const struct kernel_quantized_addition *addition, float *restrict a,
                                    const float *restrict b, int64_t count) {
    float a_factor = addition->a_factor, b_factor = addition->b_factor, offset = addition->offset;
    float floor = addition->relu ? 0 : -INFINITY;

    for (int64_t i = 0; i < count; i++) {
        float sum = a[i] * a_factor + b[i] * b_factor + offset;
        a[i] = sum > floor ? sum : floor;
    }
}

void kernel_quantized_add(const struct kernel_quantized_addition *addition, const void *a, const void *b,
                          void *y) {
#pragma omp parallel for if (addition->count > 4 * BLOCK)
    for (int64_t start = 0; start < addition->count; start += BLOCK) {
        float left[BLOCK], right[BLOCK];
        int64_t count = block_length(start, addition->count);

        load_bytes(addition->a_dtype, (const char *)a + start, left, count);
        load_bytes(addition->b_dtype, (const char *)b + start, right, count);
        add_scaled(addition, left, right, count);
        store_bytes(addition->y_dtype, left, addition->y_zero_point, (char *)y + start, count);
    }
}
