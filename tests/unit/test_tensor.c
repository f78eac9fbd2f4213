/* tensor/: half precision, conversions, shapes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "tensor/tensor.h"

static void every_float16_survives_the_round_trip(void **state) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = f16_to_f32((uint16_t)bits);
        int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
        if (exponent == 31 && mantissa) {
            assert_true(isnan(value));
            assert_true(isnan(f16_to_f32(f32_to_f16(value))));
            continue;
        }
        double expected = exponent == 31 ? (double)INFINITY
                          : exponent     ? ldexp(1024 + mantissa, exponent - 25)
                                         : ldexp(mantissa, -24);

        assert_true((double)value == (bits & 0x8000 ? -expected : expected));
        assert_int_equal(f32_to_f16(value), bits);
    }
}

/* Between each two neighbours: the middle goes to the even one, a hair less or more to the nearer. */
static void float16_rounds_to_nearest_even(void **state) {
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        float low = f16_to_f32((uint16_t)bits);
        float high = bits == 0x7bff ? 65536 : f16_to_f32((uint16_t)(bits + 1));

        float middle = low + (high - low) / 2;
        assert_int_equal(f32_to_f16(middle), bits & 1 ? bits + 1 : bits);
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), bits);
        assert_int_equal(f32_to_f16(nextafterf(middle, INFINITY)), bits + 1);
        assert_int_equal(f32_to_f16(-middle), 0x8000 | (bits & 1 ? bits + 1 : bits));
    }

    assert_int_equal(f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(f32_to_f16(1e-30f), 0);
}

static void bfloat16_rounds_to_nearest_even(void **state) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        float value = bf16_to_f32((uint16_t)bits);
        if (isnan(value)) {
            assert_true(isnan(bf16_to_f32(f32_to_bf16(value))));
            continue;
        }

        assert_int_equal(f32_to_bf16(value), bits);
        if ((bits & 0x7fff) >= 0x7f80)
            continue;

        uint32_t middle_bits = bits << 16 | 0x8000;
        float middle;
        memcpy(&middle, &middle_bits, 4);

        assert_int_equal(f32_to_bf16(middle), bits & 1 ? bits + 1 : bits);
    }
}

static void doubles_are_rounded_once(void **state) {
    /* Through float32, 1 + 2^-11 + 2^-40 would first become a tie and then 1. */
    double values[] = {1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-11, -1 - 0x1p-11 - 0x1p-40, 1e300, -0.0};
    uint16_t halves[5];

    elements_convert(DTYPE_F64, values, DTYPE_F16, halves, 5);
    assert_int_equal(halves[0], 0x3c01);
    assert_int_equal(halves[1], 0x3c00);
    assert_int_equal(halves[2], 0xbc01);
    assert_int_equal(halves[3], 0x7c00);
    assert_int_equal(halves[4], 0x8000);
}

static void conversions_truncate_and_wrap(void **state) {
    float floats[] = {1.9f, -1.9f, 300, -1, NAN, 1e30f, -1e30f, 0.2f};
    int32_t integers[8];
    elements_convert(DTYPE_F32, floats, DTYPE_I32, integers, 8);
    assert_int_equal(integers[0], 1);
    assert_int_equal(integers[1], -1);
    assert_int_equal(integers[2], 300);
    assert_int_equal(integers[4], 0);

    uint8_t bytes[8];
    elements_convert(DTYPE_F32, floats, DTYPE_U8, bytes, 8);
    assert_int_equal(bytes[2], 44);
    assert_int_equal(bytes[3], 255);

    elements_convert(DTYPE_F32, floats, DTYPE_BOOL, bytes, 8);
    for (int i = 0; i < 8; i++)
        assert_int_equal(bytes[i], 1);

    uint64_t large[] = {UINT64_MAX, 1ull << 63, 5};
    double doubles[3];
    elements_convert(DTYPE_U64, large, DTYPE_F64, doubles, 3);
    assert_true(doubles[0] == 0x1p64 && doubles[1] == 0x1p63 && doubles[2] == 5);

    elements_convert(DTYPE_F64, doubles + 1, DTYPE_U64, large, 2);
    assert_true(large[0] == 1ull << 63 && large[1] == 5);

    int64_t wide[] = {(1ll << 53) + 1, -5};
    float narrow[2];
    elements_convert(DTYPE_I64, wide, DTYPE_F32, narrow, 2);
    assert_true(narrow[0] == 0x1p53f && narrow[1] == -5);
}

/* Small numbers survive every pair of types, over more than one chunk. */
static void every_pair_of_types_converts(void **state) {
    static double start[600], from[600], to[600], back[600];
    for (int a = DTYPE_F32; a < DTYPE_STRING; a++)
        for (int b = DTYPE_F32; b < DTYPE_STRING; b++) {
            bool boolean = a == DTYPE_BOOL || b == DTYPE_BOOL;
            for (int i = 0; i < 600; i++)
                start[i] = boolean ? i % 2 : i % 100;

            elements_convert(DTYPE_F64, start, (enum dtype)a, from, 600);
            elements_convert((enum dtype)a, from, (enum dtype)b, to, 600);
            elements_convert((enum dtype)b, to, DTYPE_F64, back, 600);
            assert_memory_equal(start, back, sizeof start);

            struct tensor tensor = {.dtype = (enum dtype)b, .shape = {.rank = 1, .dims = {600}}, .data = to};
            assert_int_equal(tensor_get_i64(&tensor, 577), boolean ? 1 : 77);
            assert_true(tensor_get_f64(&tensor, 577) == (boolean ? 1 : 77));
            assert_int_equal(tensor_bytes(&tensor), 600 * dtype_size((enum dtype)b));
        }
}

static void shapes_broadcast_as_numpy_does(void **state) {
    struct shape a = {4, {2, 1, 4, 1}}, b = {2, {4, 5}}, scalar = {0}, result;
    assert_true(shape_broadcast(&a, &b, &result));
    assert_true(shape_equal(&result, &(struct shape){4, {2, 1, 4, 5}}));

    assert_true(shape_broadcast(&scalar, &b, &result));
    assert_true(shape_equal(&result, &b));

    assert_false(shape_broadcast(&(struct shape){1, {3}}, &(struct shape){1, {4}}, &result));
    assert_true(shape_broadcast(&(struct shape){1, {0}}, &(struct shape){1, {1}}, &result));
    assert_int_equal(result.dims[0], 0);
}

static void shapes_are_counted_within_limits(void **state) {
    char text[SHAPE_TEXT];
    assert_int_equal(shape_elements(&(struct shape){0}), 1);
    assert_int_equal(shape_elements(&(struct shape){2, {3, 0}}), 0);
    assert_int_equal(shape_elements(&(struct shape){2, {3, -1}}), -1);
    assert_int_equal(shape_elements(&SHAPE_UNKNOWN), -1);
    assert_int_equal(shape_elements(&(struct shape){3, {1ll << 40, 1ll << 40, 0}}), -1);
    assert_int_equal(shape_elements(&(struct shape){2, {1ll << 16, 1ll << 15}}), 1ll << 31);

    assert_string_equal(shape_format(&(struct shape){3, {1, -1, 224}}, text, sizeof text), "1x?x224");
    assert_string_equal(shape_format(&(struct shape){0}, text, sizeof text), "scalar");
    assert_string_equal(shape_format(&SHAPE_UNKNOWN, text, sizeof text), "unknown");
    assert_string_equal(shape_format(&(struct shape){3, {100, 100, 224}}, text, 6), "100x1");

    assert_string_equal(dtype_name(DTYPE_BF16), "bfloat16");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_float16_survives_the_round_trip),
        cmocka_unit_test(float16_rounds_to_nearest_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_even),
        cmocka_unit_test(doubles_are_rounded_once),
        cmocka_unit_test(conversions_truncate_and_wrap),
        cmocka_unit_test(every_pair_of_types_converts),
        cmocka_unit_test(shapes_broadcast_as_numpy_does),
        cmocka_unit_test(shapes_are_counted_within_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
