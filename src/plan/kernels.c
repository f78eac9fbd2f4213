/* Kernels over rows: conversion to and from float32, layer normalization, moving rows. */
#include "plan/kernels.h"

#include <math.h>
#include <string.h>

#include "base/float_flags.h"
#include "base/multiversion.h"

/* bfloat16 is the upper half of a float32. As f32_to_bf16 and bf16_to_f32 of tensor/, inlined for the
 * vectorizer. */
static inline float widen(uint16_t bits) {
    uint32_t word = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &word, sizeof value);
    return value;
}

/* Rounds to nearest even; NaN keeps a bit set. */
static inline uint16_t narrow(float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);

    uint32_t rounded = (word + 0x7fff + (word >> 16 & 1)) >> 16;
    return (uint16_t)((word & 0x7fffffff) > 0x7f800000 ? word >> 16 | 0x40 : rounded);
}

MULTIVERSION void kernel_load_row(enum dtype dtype, const void *from, int64_t stride, float *to,
                                  int64_t count) {
    if (dtype == DTYPE_F32) {
        const float *values = from;
        if (stride == 1)
            memcpy(to, values, (size_t)count * sizeof *to);
        else
            for (int64_t i = 0; i < count; i++)
                to[i] = values[i * stride];
        return;
    }

    const uint16_t *halves = from;
    if (stride == 1)
        for (int64_t i = 0; i < count; i++)
            to[i] = widen(halves[i]);
    else
        for (int64_t i = 0; i < count; i++)
            to[i] = widen(halves[i * stride]);
}

MULTIVERSION void kernel_store_row(enum dtype dtype, const float *from, void *to, int64_t count) {
    if (dtype == DTYPE_F32) {
        memcpy(to, from, (size_t)count * sizeof *from);
        return;
    }

    uint16_t *halves = to;
    for (int64_t i = 0; i < count; i++)
        halves[i] = narrow(from[i]);
}

MULTIVERSION static void layer_norm_f32(const float *restrict x, const float *restrict scale,
                                        const float *restrict shift, float epsilon, int64_t columns,
                                        float *restrict y) {
    float sum = 0, squares = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < columns; i++)
        sum += x[i];
    float mean = sum / (float)columns;

#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < columns; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1 / sqrtf(squares / (float)columns + epsilon);

    if (shift)
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = (x[i] - mean) * factor * scale[i] + shift[i];
    else
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = (x[i] - mean) * factor * scale[i];
}

MULTIVERSION static void layer_norm_bf16(const uint16_t *restrict x, const float *restrict scale,
                                         const float *restrict shift, float epsilon, int64_t columns,
                                         uint16_t *restrict y) {
    float sum = 0, squares = 0;

#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < columns; i++)
        sum += widen(x[i]);
    float mean = sum / (float)columns;

#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < columns; i++)
        squares += (widen(x[i]) - mean) * (widen(x[i]) - mean);
    float factor = 1 / sqrtf(squares / (float)columns + epsilon);

    if (shift)
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = narrow((widen(x[i]) - mean) * factor * scale[i] + shift[i]);
    else
#pragma omp simd
        for (int64_t i = 0; i < columns; i++)
            y[i] = narrow((widen(x[i]) - mean) * factor * scale[i]);
}

void kernel_layer_norm(const struct kernel_layer_norm *norm, const void *x, const float *scale,
                       const float *shift, void *y) {
    int64_t columns = norm->columns;

#pragma omp parallel for if (norm->rows * columns > 16384)
    for (int64_t row = 0; row < norm->rows; row++) {
        int64_t start = row * columns;
        if (norm->dtype == DTYPE_F32)
            layer_norm_f32((const float *)x + start, scale, shift, norm->epsilon, columns,
                           (float *)y + start);
        else
            layer_norm_bf16((const uint16_t *)x + start, scale, shift, norm->epsilon, columns,
                            (uint16_t *)y + start);
    }
}

void kernel_gather_rows(const void *from, const int32_t *sources, int64_t rows, size_t bytes, void *to) {
#pragma omp parallel for if (rows * (int64_t)bytes > 65536)
    for (int64_t row = 0; row < rows; row++) {
        char *target = (char *)to + (size_t)row * bytes;
        if (sources[row] < 0)
            memset(target, 0, bytes);
        else
            memcpy(target, (const char *)from + (size_t)sources[row] * bytes, bytes);
    }
}

void kernel_concat_rows(const void *const *inputs, const size_t *bytes, int input_count, int64_t rows,
                        void *to) {
    size_t total = 0;
    for (int i = 0; i < input_count; i++)
        total += bytes[i];

#pragma omp parallel for if (total * (size_t)rows > 65536)
    for (int64_t row = 0; row < rows; row++) {
        char *target = (char *)to + (size_t)row * total;
        for (int i = 0; i < input_count; i++) {
            memcpy(target, (const char *)inputs[i] + (size_t)row * bytes[i], bytes[i]);
            target += bytes[i];
        }
    }
}

#define WATCH_BLOCK 16384

MULTIVERSION static bool has_bits32(const uint32_t *words, int64_t count, uint32_t wanted) {
    uint32_t found = 0;
    for (int64_t i = 0; i < count; i++)
        found |= words[i] == wanted;
    return found != 0;
}

MULTIVERSION static bool has_bits16(const uint16_t *words, int64_t count, uint16_t wanted) {
    uint16_t found = 0;
    for (int64_t i = 0; i < count; i++)
        found |= words[i] == wanted;
    return found != 0;
}

void kernel_watch_lowest(const struct kernel_lowest *lowest, const void *x) {
    bool found = false;

#pragma omp parallel for reduction(|| : found) if (lowest->count > 4 * WATCH_BLOCK)
    for (int64_t start = 0; start < lowest->count; start += WATCH_BLOCK) {
        int64_t left = lowest->count - start, count = left < WATCH_BLOCK ? left : WATCH_BLOCK;
        found =
            found || (lowest->dtype == DTYPE_F32 ? has_bits32((const uint32_t *)x + start, count, 0xff7fffffu)
                                                 : has_bits16((const uint16_t *)x + start, count, 0xff7fu));
    }

    if (found)
        float_flags_raise();
}
