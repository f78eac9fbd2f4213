/* Kernels over rows: conversion, layer normalization, gathering and joining rows. */
#include <math.h>
#include <string.h>

#include "base/float_flags.h"
#include "kernels.h"
#include "plan/kernels.h"

#define CASES 300
#define F32_STEP 0x1p-23 /* between neighbouring floats of [1, 2) */
#define BF16_STEP 0x1p-7

static void load_row(enum dtype dtype) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t count = random_extent(1025), stride = random_chance(40) ? 1 : random_between(2, 9);
        case_begin("%lld elements, stride %lld", (long long)count, (long long)stride);

        size_t size = dtype_size(dtype);
        int64_t span = (count - 1) * stride + 1;
        void *from = input_take((size_t)span * size, size);
        float *to = output_take((size_t)count * sizeof *to, sizeof *to);
        float *expected = expected_take(to, (size_t)count * sizeof *to);
        for (int64_t j = 0; j < span * (int64_t)size; j++)
            ((uint8_t *)from)[j] = (uint8_t)random_bits(); /* infinities and NaN among them */
        for (int64_t j = 0; j < count; j++)
            if (dtype == DTYPE_F32)
                memcpy(&expected[j], (float *)from + j * stride, sizeof *expected);
            else
                expected[j] = bf16_to_f32(((const uint16_t *)from)[j * stride]);

        case_seal();
        kernel_load_row(dtype, from, stride, to, count);
        case_check();
        expect_bytes(to, expected, (size_t)count * sizeof *to, sizeof *to);
    }
}

static void load_row_f32(void) {
    load_row(DTYPE_F32);
}

static void load_row_bf16(void) {
    load_row(DTYPE_BF16);
}

/* Any bits, and often such that lie between two bfloat16, or at the ends of infinity and NaN. */
static uint32_t random_float_bits(void) {
    static const uint32_t ends[] = {0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fffffff, 0xff800001, 0xffffffff};
    uint32_t bits = (uint32_t)random_bits();

    if (random_chance(5))
        return ends[random_between(0, 5)];
    if (random_chance(30))
        bits = (bits & 0xffff0000) | 0x8000;
    if (random_chance(10))
        bits |= 0x7f800000;
    return bits;
}

static void store_row(enum dtype dtype) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t count = random_extent(1025);
        case_begin("%lld elements", (long long)count);

        size_t size = dtype_size(dtype);
        uint32_t *from = input_take((size_t)count * sizeof *from, sizeof *from);
        void *to = output_take((size_t)count * size, size);
        void *expected = expected_take(to, (size_t)count * size);
        for (int64_t j = 0; j < count; j++) {
            float value;
            from[j] = random_float_bits();
            memcpy(&value, &from[j], sizeof value);
            if (dtype == DTYPE_F32)
                memcpy((float *)expected + j, &from[j], sizeof value);
            else
                ((uint16_t *)expected)[j] = f32_to_bf16(value);
        }

        case_seal();
        kernel_store_row(dtype, (const float *)(const void *)from, to, count);
        case_check();
        expect_bytes(to, expected, (size_t)count * size, size);
    }
}

static void store_row_f32(void) {
    store_row(DTYPE_F32);
}

static void store_row_bf16(void) {
    store_row(DTYPE_BF16);
}

/* One row in double, and how far from it float32 sums may lead. */
static void layer_norm_row(const struct kernel_layer_norm *norm, const void *x, const float *scale,
                           const float *shift, int64_t row, const void *y) {
    int64_t columns = norm->columns, start = row * columns;
    double sum = 0, magnitude = 0, squares = 0;

    for (int64_t i = 0; i < columns; i++) {
        sum += element_get(norm->dtype, x, start + i);
        magnitude += fabs(element_get(norm->dtype, x, start + i));
    }
    double mean = sum / (double)columns, summing = ((double)columns / 2 + 8) * F32_STEP;
    for (int64_t i = 0; i < columns; i++) {
        double distance = element_get(norm->dtype, x, start + i) - mean;
        squares += distance * distance;
    }

    double spread = squares / (double)columns + (double)norm->epsilon, factor = 1 / sqrt(spread);
    double mean_error = summing * magnitude / (double)columns;
    double factor_error = summing / 2 + mean_error * mean_error / (2 * spread) + 4 * F32_STEP;
    for (int64_t i = 0; i < columns; i++) {
        double value = (element_get(norm->dtype, x, start + i) - mean) * factor;
        double expected = value * (double)scale[i] + (shift ? (double)shift[i] : 0);
        double tolerance = (fabs(value) * factor_error + mean_error * factor) * fabs((double)scale[i]) +
                           (fabs(expected) + (shift ? fabs((double)shift[i]) : 0)) * 2 * F32_STEP + 1e-37;

        if (norm->dtype == DTYPE_BF16)
            tolerance += (fabs(expected) + tolerance) * BF16_STEP / 2;
        expect_near(start + i, element_get(norm->dtype, y, start + i), expected, tolerance);
    }
}

/* Rows far from zero, or all of one value, lose the most. */
static void layer_norm_fill(const struct kernel_layer_norm *norm, void *x) {
    for (int64_t row = 0; row < norm->rows; row++) {
        float offset = random_chance(30) ? random_float(1000) : 0;
        float size = random_chance(10) ? 0 : random_chance(20) ? 1e-3f : 4;

        for (int64_t i = row * norm->columns; i < (row + 1) * norm->columns; i++) {
            float value = offset + random_float(size);
            if (norm->dtype == DTYPE_F32)
                ((float *)x)[i] = value;
            else
                ((uint16_t *)x)[i] = f32_to_bf16(value);
        }
    }
}

static void layer_norm(enum dtype dtype) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct kernel_layer_norm norm = {.dtype = dtype,
                                         .rows = random_extent(random_chance(10) ? 513 : 33),
                                         .columns = random_extent(513),
                                         .epsilon = random_chance(50) ? 1e-5f : 1e-12f};
        bool has_shift = random_chance(50);
        case_begin("%lldx%lld, epsilon %g, %s", (long long)norm.rows, (long long)norm.columns,
                   (double)norm.epsilon, has_shift ? "with shift" : "without shift");

        size_t bytes = (size_t)(norm.rows * norm.columns) * dtype_size(dtype);
        void *x = input_take(bytes, dtype_size(dtype));
        float *scale = input_take((size_t)norm.columns * sizeof *scale, sizeof *scale);
        float *shift = has_shift ? input_take((size_t)norm.columns * sizeof *shift, sizeof *shift) : NULL;
        void *y = output_take(bytes, dtype_size(dtype));
        layer_norm_fill(&norm, x);
        random_fill(DTYPE_F32, scale, norm.columns, 2);
        if (shift)
            random_fill(DTYPE_F32, shift, norm.columns, 2);

        case_seal();
        kernel_layer_norm(&norm, x, scale, shift, y);
        case_check();
        for (int64_t row = 0; row < norm.rows; row++)
            layer_norm_row(&norm, x, scale, shift, row, y);
    }
}

static void layer_norm_f32(void) {
    layer_norm(DTYPE_F32);
}

static void layer_norm_bf16(void) {
    layer_norm(DTYPE_BF16);
}

static void gather_rows(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t rows = random_extent(257), from_rows = random_extent(257);
        size_t bytes = (size_t)random_extent(1025);
        case_begin("%lld of %lld rows of %zu bytes", (long long)rows, (long long)from_rows, bytes);

        uint8_t *from = input_take((size_t)from_rows * bytes, 1);
        int32_t *sources = input_take((size_t)rows * sizeof *sources, sizeof *sources);
        uint8_t *to = output_take((size_t)rows * bytes, 1);
        uint8_t *expected = expected_take(to, (size_t)rows * bytes);
        random_fill(DTYPE_U8, from, from_rows * (int64_t)bytes, 0);
        for (int64_t row = 0; row < rows; row++) {
            sources[row] = random_chance(15) ? -1 : (int32_t)random_between(0, from_rows - 1);
            for (size_t j = 0; j < bytes; j++)
                expected[(size_t)row * bytes + j] =
                    sources[row] < 0 ? 0 : from[(size_t)sources[row] * bytes + j];
        }

        case_seal();
        kernel_gather_rows(from, sources, rows, bytes, to);
        case_check();
        expect_bytes(to, expected, (size_t)rows * bytes, bytes);
    }
}

#define CONCAT_INPUTS 5

static void concat_rows(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int count = (int)random_between(1, CONCAT_INPUTS);
        int64_t rows = random_extent(257);
        size_t bytes[CONCAT_INPUTS], total = 0;
        const void *inputs[CONCAT_INPUTS];
        for (int j = 0; j < count; j++)
            total += bytes[j] = (size_t)random_extent(1025);
        case_begin("%d inputs, %lld rows of %zu bytes", count, (long long)rows, total);

        for (int j = 0; j < count; j++) {
            void *input = input_take((size_t)rows * bytes[j], 1);
            random_fill(DTYPE_U8, input, rows * (int64_t)bytes[j], 0);
            inputs[j] = input;
        }
        uint8_t *to = output_take((size_t)rows * total, 1);
        uint8_t *expected = expected_take(to, (size_t)rows * total), *at = expected;
        for (int64_t row = 0; row < rows; row++)
            for (int j = 0; j < count; j++)
                for (size_t k = 0; k < bytes[j]; k++)
                    *at++ = ((const uint8_t *)inputs[j])[(size_t)row * bytes[j] + k];

        case_seal();
        kernel_concat_rows(inputs, bytes, count, rows, to);
        case_check();
        expect_bytes(to, expected, (size_t)rows * total, total);
    }
}

static void watch_lowest(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct kernel_lowest lowest = {random_chance(50) ? DTYPE_F32 : DTYPE_BF16, random_extent(100000)};
        size_t size = dtype_size(lowest.dtype);
        bool holds_it = random_chance(50);
        case_begin("%lld of %s, %s the lowest number", (long long)lowest.count, dtype_name(lowest.dtype),
                   holds_it ? "with" : "without");

        char *x = input_take((size_t)lowest.count * size, size);
        random_fill(lowest.dtype, x, lowest.count, 10);
        const uint32_t bits = 0xff7fffffu; /* of bfloat16 the upper half */
        if (holds_it)
            memcpy(x + (size_t)random_between(0, lowest.count - 1) * size, (const char *)&bits + 4 - size,
                   size);

        case_seal();
        float_flags_take();
        kernel_watch_lowest(&lowest, x);
        bool told = float_flags_take();
        case_check();
        if (told != holds_it)
            case_fail("a flag is %s", told ? "raised" : "not raised");
    }
}

const struct kernel_test row_tests[] = {
    {"load_row_f32", load_row_f32},     {"load_row_bf16", load_row_bf16},
    {"store_row_f32", store_row_f32},   {"store_row_bf16", store_row_bf16},
    {"layer_norm_f32", layer_norm_f32}, {"layer_norm_bf16", layer_norm_bf16},
    {"gather_rows", gather_rows},       {"concat_rows", concat_rows},
    {"watch_lowest", watch_lowest},     {NULL, NULL},
};
