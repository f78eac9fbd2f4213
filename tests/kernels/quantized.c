/* Kernels between floats and 8-bit integers. Quantizing and back: the same bytes as the operators' reference
 * kernels of ops/. */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "ops/operator.h"
#include "plan/kernels.h"

#define CASES 150
#define BLOCK 4096 /* of the kernels: what they do at a time, and from four on in threads */

static enum dtype random_byte_dtype(void) {
    return random_chance(50) ? DTYPE_U8 : DTYPE_I8;
}

static int64_t random_count(void) {
    if (random_chance(70))
        return random_extent(1025);
    return random_between(1, 6) * BLOCK + random_between(-17, 17);
}

static int32_t random_zero_point(enum dtype dtype) {
    if (random_chance(30))
        return 0;
    return (int32_t)(dtype == DTYPE_U8 ? random_between(0, 255) : random_between(-128, 127));
}

static struct kernel_quantization random_quantization(enum dtype float_dtype) {
    struct kernel_quantization quantization = {
        .float_dtype = float_dtype,
        .byte_dtype = random_byte_dtype(),
        .scale = random_chance(30) ? 0.125f : 0.001f + fabsf(random_float(0.1f)),
        .count = random_count(),
    };
    quantization.zero_point = random_zero_point(quantization.byte_dtype);
    return quantization;
}

/* An operator of three inputs (elements, scale, zero point) by its reference kernel. */
static void reference_run(const char *op_type, const struct kernel_quantization *quantization,
                          const struct tensor *from, const struct tensor *to) {
    struct node node = {
        .op_type = op_type, .domain = "", .name = "", .opset = 17, .input_count = 3, .output_count = 1};
    struct error error;
    float scale = quantization->scale;
    int8_t zero_point = (int8_t)quantization->zero_point; /* the same bits for uint8 */
    const struct tensor inputs[3] = {
        *from, {DTYPE_F32, {.rank = 0}, &scale}, {quantization->byte_dtype, {.rank = 0}, &zero_point}};

    if (!operator_find("", op_type, 17)->compute(&node, inputs, to, &error))
        case_fail("the reference: %s", error.message);
}

static void case_describe(const struct kernel_quantization *quantization) {
    case_begin("%s, %s, scale %g, zero point %d, %lld elements", dtype_name(quantization->float_dtype),
               dtype_name(quantization->byte_dtype), (double)quantization->scale, quantization->zero_point,
               (long long)quantization->count);
}

/* Much that saturates, halves between two steps, infinities. */
static void random_reals(const struct kernel_quantization *quantization, void *x) {
    random_fill(quantization->float_dtype, x, quantization->count, quantization->scale * 300);

    for (int64_t i = 0; i < quantization->count; i++) {
        float value = ((float)random_between(-300, 300) + 0.5f) * quantization->scale;
        if (random_chance(2))
            value = random_chance(50) ? INFINITY : -INFINITY;
        else if (!random_chance(20))
            continue;
        if (quantization->float_dtype == DTYPE_F32)
            ((float *)x)[i] = value;
        else
            ((uint16_t *)x)[i] = f32_to_bf16(value);
    }
}

static void quantize(enum dtype float_dtype) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct kernel_quantization q = random_quantization(float_dtype);
        case_describe(&q);

        size_t size = dtype_size(float_dtype);
        void *x = input_take((size_t)q.count * size, size);
        uint8_t *y = output_take((size_t)q.count, 1), *expected = expected_take(y, (size_t)q.count);
        random_reals(&q, x);
        const struct shape shape = {1, {q.count}};
        const struct tensor from = {float_dtype, shape, x}, to = {q.byte_dtype, shape, expected};
        reference_run("QuantizeLinear", &q, &from, &to);

        case_seal();
        kernel_quantize(&q, x, y);
        case_check();
        expect_bytes(y, expected, (size_t)q.count, 1);
    }
}

static void quantize_f32(void) {
    quantize(DTYPE_F32);
}

static void quantize_bf16(void) {
    quantize(DTYPE_BF16);
}

static void quantize_nan(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct kernel_quantization q = random_quantization(DTYPE_F32);
        case_describe(&q);

        float *x = input_take((size_t)q.count * sizeof *x, sizeof *x);
        uint8_t *y = output_take((size_t)q.count, 1), *expected = expected_take(y, (size_t)q.count);
        for (int64_t j = 0; j < q.count; j++)
            x[j] = random_chance(50) ? NAN : -NAN;
        memset(expected, q.byte_dtype == DTYPE_U8 ? 0 : 0x80, (size_t)q.count);

        case_seal();
        kernel_quantize(&q, x, y);
        case_check();
        expect_bytes(y, expected, (size_t)q.count, 1);
    }
}

static void dequantize(enum dtype float_dtype) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct kernel_quantization q = random_quantization(float_dtype);
        case_describe(&q);

        size_t size = dtype_size(float_dtype), bytes = (size_t)q.count * size;
        uint8_t *y = input_take((size_t)q.count, 1);
        void *x = output_take(bytes, size), *expected = expected_take(x, bytes);
        random_fill(q.byte_dtype, y, q.count, 0);
        const struct shape shape = {1, {q.count}};
        const struct tensor from = {q.byte_dtype, shape, y}, to = {float_dtype, shape, expected};
        reference_run("DequantizeLinear", &q, &from, &to);

        case_seal();
        kernel_dequantize(&q, y, x);
        case_check();
        expect_bytes(x, expected, bytes, size);
    }
}

static void dequantize_f32(void) {
    dequantize(DTYPE_F32);
}

static void dequantize_bf16(void) {
    dequantize(DTYPE_BF16);
}

static double saturated(double value, enum dtype dtype) {
    double low = dtype == DTYPE_U8 ? 0 : -128, high = dtype == DTYPE_U8 ? 255 : 127;
    return value < low ? low : value > high ? high : value;
}

/* Either neighbour is right where the exact sum is as good as between them. */
static void check_sum(const struct kernel_quantized_addition *addition, int64_t index, double a, double b,
                      double actual) {
    double left = a * (double)addition->a_factor, right = b * (double)addition->b_factor;
    double offset = (double)addition->offset, sum = left + right + offset;
    double error = (fabs(left) + fabs(right) + fabs(offset)) * 0x1p-21;
    double zero_point = addition->y_zero_point;

    if (addition->relu)
        sum = sum > 0 ? sum : 0;
    double lower = saturated(rint(sum - error) + zero_point, addition->y_dtype);
    double upper = saturated(rint(sum + error) + zero_point, addition->y_dtype);
    if (actual != lower && actual != upper)
        case_fail("element %lld is %g, not %g", (long long)index, actual, lower);
}

static void quantized_add(void) {
    for (int i = 0; i < case_count(2 * CASES); i++) {
        struct kernel_quantized_addition addition = {
            .a_dtype = random_byte_dtype(),
            .b_dtype = random_byte_dtype(),
            .y_dtype = random_byte_dtype(),
            .a_factor = random_chance(20) ? 0.5f : random_float(1.5f),
            .b_factor = random_chance(20) ? 0.5f : random_float(1.5f),
            .offset = random_float(100),
            .relu = random_chance(40),
            .count = random_count(),
        };
        addition.y_zero_point = random_zero_point(addition.y_dtype);
        case_begin("%s + %s = %s, factors %g and %g, offset %g, zero point %d, relu %d, %lld elements",
                   dtype_name(addition.a_dtype), dtype_name(addition.b_dtype), dtype_name(addition.y_dtype),
                   (double)addition.a_factor, (double)addition.b_factor, (double)addition.offset,
                   addition.y_zero_point, addition.relu, (long long)addition.count);

        uint8_t *a = input_take((size_t)addition.count, 1), *b = input_take((size_t)addition.count, 1);
        uint8_t *y = output_take((size_t)addition.count, 1);
        random_fill(addition.a_dtype, a, addition.count, 0);
        random_fill(addition.b_dtype, b, addition.count, 0);

        case_seal();
        kernel_quantized_add(&addition, a, b, y);
        case_check();
        for (int64_t j = 0; j < addition.count; j++)
            check_sum(&addition, j, element_get(addition.a_dtype, a, j), element_get(addition.b_dtype, b, j),
                      element_get(addition.y_dtype, y, j));
    }
}

/* QuantizeLinear, then DequantizeLinear; in place, too. */
static void round_to_steps(enum dtype dtype) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct kernel_quantization q = random_quantization(dtype);
        case_describe(&q);

        size_t size = dtype_size(dtype), bytes = (size_t)q.count * size;
        void *x = input_take(bytes, size), *y = output_take(bytes, size), *expected = expected_take(y, bytes);
        void *quantized = expected_take(y, bytes);
        random_reals(&q, x);
        const struct shape shape = {1, {q.count}};
        const struct tensor from = {dtype, shape, x}, to = {dtype, shape, expected};
        const struct tensor middle = {q.byte_dtype, shape, quantized};
        reference_run("QuantizeLinear", &q, &from, &middle);
        reference_run("DequantizeLinear", &q, &middle, &to);

        const struct kernel_steps steps = {
            dtype, (float)((q.byte_dtype == DTYPE_U8 ? 0 : -128) - q.zero_point), q.scale, q.count};
        bool in_place = random_chance(50);
        if (in_place)
            memcpy(y, x, bytes);
        case_seal();
        kernel_round_to_steps(&steps, in_place ? y : x, y);
        case_check();
        for (int64_t j = 0; j < q.count; j++)
            expect_near(j, element_get(dtype, y, j), element_get(dtype, expected, j), 0);
    }
}

static void round_to_steps_f32(void) {
    round_to_steps(DTYPE_F32);
}

static void round_to_steps_bf16(void) {
    round_to_steps(DTYPE_BF16);
}

const struct kernel_test quantized_tests[] = {
    {"quantize_f32", quantize_f32},
    {"quantize_bf16", quantize_bf16},
    {"quantize_nan", quantize_nan},
    {"dequantize_f32", dequantize_f32},
    {"dequantize_bf16", dequantize_bf16},
    {"quantized_add", quantized_add},
    {"round_to_steps_f32", round_to_steps_f32},
    {"round_to_steps_bf16", round_to_steps_bf16},
    {NULL, NULL},
};
