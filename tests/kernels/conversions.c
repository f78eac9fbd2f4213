/* elements_convert between every two types, against long double, which holds all of them exactly. */
#include <math.h>
#include <string.h>

#include "kernels.h"

#define CASES 12 /* of each two types */

static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_F16, DTYPE_BF16, DTYPE_I8,
                                    DTYPE_U8,  DTYPE_I16, DTYPE_U16, DTYPE_I32,  DTYPE_U32,
                                    DTYPE_I64, DTYPE_U64, DTYPE_BOOL};
#define DTYPES ((int)(sizeof dtypes / sizeof dtypes[0]))

/* What sets one floating-point type apart: bits of precision, and exponents of the least and the largest. */
struct float_format {
    int precision, least, largest;
};

static struct float_format format_of(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F16:
        return (struct float_format){11, -14, 15};
    case DTYPE_BF16:
        return (struct float_format){8, -126, 127};
    case DTYPE_F32:
        return (struct float_format){24, -126, 127};
    default:
        return (struct float_format){53, -1022, 1023};
    }
}

/* Sign, exponent and fraction of 16 bits. */
static long double decode_half(enum dtype dtype, uint16_t bits) {
    struct float_format format = format_of(dtype);
    int fraction_bits = format.precision - 1, mask = (1 << fraction_bits) - 1;
    int exponent = bits >> fraction_bits & (0x7fff >> fraction_bits), fraction = bits & mask;
    long double sign = bits & 0x8000 ? -1 : 1;

    if (exponent == 0x7fff >> fraction_bits)
        return fraction ? (long double)NAN : sign * (long double)INFINITY;
    if (!exponent)
        return sign * ldexpl(fraction, format.least - fraction_bits);
    return sign * ldexpl(fraction + mask + 1, exponent - format.largest - fraction_bits);
}

static long double decode(enum dtype dtype, const void *data, int64_t index) {
    switch (dtype) {
    case DTYPE_F32:
        return (long double)((const float *)data)[index];
    case DTYPE_F64:
        return (long double)((const double *)data)[index];
    case DTYPE_F16:
    case DTYPE_BF16:
        return decode_half(dtype, ((const uint16_t *)data)[index]);
    case DTYPE_I8:
        return ((const int8_t *)data)[index];
    case DTYPE_I16:
        return ((const int16_t *)data)[index];
    case DTYPE_U16:
        return ((const uint16_t *)data)[index];
    case DTYPE_I32:
        return ((const int32_t *)data)[index];
    case DTYPE_U32:
        return ((const uint32_t *)data)[index];
    case DTYPE_I64:
        return (long double)((const int64_t *)data)[index];
    case DTYPE_U64:
        return (long double)((const uint64_t *)data)[index];
    default:
        return ((const uint8_t *)data)[index];
    }
}

/* The nearest number of a format, halves to even. */
static long double rounded(struct float_format format, long double value) {
    if (!isfinite(value) || value == 0)
        return value;

    int exponent;
    frexpl(value, &exponent); /* value = [1/2, 1) * 2^exponent */
    exponent = exponent - 1 < format.least ? format.least : exponent - 1;
    long double step = ldexpl(1, exponent - format.precision + 1), result = rintl(value / step) * step;
    return fabsl(result) >= ldexpl(1, format.largest + 1) ? copysignl(INFINITY, value) : result;
}

/* Saturated at the ends of 64 bits; then the type keeps its low bits. */
static uint64_t integer_bits(enum dtype to, long double value) {
    if (isnan(value))
        return 0;
    if (to == DTYPE_U64 && value >= 0)
        return value >= 0x1p64L ? UINT64_MAX : (uint64_t)value;
    if (value >= 0x1p63L)
        return value == rintl(value) && value < 0x1p64L ? (uint64_t)value : INT64_MAX;
    return value <= -0x1p63L ? (uint64_t)INT64_MIN : (uint64_t)(int64_t)value;
}

static void check_float(enum dtype to, int64_t index, long double expected, long double actual) {
    bool same = isnan(expected) ? isnan(actual) : expected == actual && signbit(expected) == signbit(actual);
    if (!same)
        case_fail("element %lld becomes %.20Lg, not %.20Lg, as %s", (long long)index, actual, expected,
                  dtype_name(to));
}

static void check_element(enum dtype from, enum dtype to, long double value, const void *data,
                          int64_t index) {
    if (dtype_is_float(to)) {
        check_float(to, index, rounded(format_of(to), value), decode(to, data, index));
        return;
    }

    uint64_t expected = to == DTYPE_BOOL ? value != 0 : integer_bits(to, value), actual = 0;
    size_t size = dtype_size(to);
    if (dtype_is_float(from) && to != DTYPE_U64 && to != DTYPE_BOOL && value >= 0x1p63L)
        expected = INT64_MAX;
    memcpy(&actual, (const char *)data + (size_t)index * size, size);
    if (size < sizeof expected)
        expected &= ((uint64_t)1 << 8 * size) - 1;
    if (actual != expected)
        case_fail("element %lld, %.20Lg, becomes %#llx, not %#llx", (long long)index, value,
                  (unsigned long long)actual, (unsigned long long)expected);
}

/* Any bits; small and whole numbers; what lies just beside the middle between two bfloat16 or float16. */
static void random_element(enum dtype dtype, void *data, int64_t index) {
    uint64_t bits = random_bits();
    float value = random_float(random_chance(50) ? 300 : 70000);

    if (dtype == DTYPE_BOOL)
        bits &= 1;
    if (random_chance(30))
        bits = (bits >> 40 << random_between(0, 40)) + (uint64_t)random_between(-1, 1);
    if (dtype == DTYPE_BOOL)
        bits &= 1;
    memcpy((char *)data + (size_t)index * dtype_size(dtype), &bits, dtype_size(dtype));
    if (dtype == DTYPE_F32 && random_chance(50))
        ((float *)data)[index] = random_chance(50) ? value : truncf(value) + 0.5f;
    if (dtype == DTYPE_F64 && random_chance(50))
        ((double *)data)[index] = (double)value + (random_chance(50) ? 0x1p-40 : 0);
}

static void convert(enum dtype from, enum dtype to) {
    int64_t count = random_extent(1025);
    case_begin("%s to %s, %lld elements", dtype_name(from), dtype_name(to), (long long)count);

    void *source = input_take((size_t)count * dtype_size(from), dtype_size(from));
    void *destination = output_take((size_t)count * dtype_size(to), dtype_size(to));
    for (int64_t i = 0; i < count; i++)
        random_element(from, source, i);

    case_seal();
    elements_convert(from, source, to, destination, count);
    case_check();
    for (int64_t i = 0; i < count; i++)
        check_element(from, to, decode(from, source, i), destination, i);
}

static void convert_all(void) {
    for (int i = 0; i < case_count(CASES); i++)
        for (int from = 0; from < DTYPES; from++)
            for (int to = 0; to < DTYPES; to++)
                convert(dtypes[from], dtypes[to]);
}

const struct kernel_test conversion_tests[] = {
    {"elements_convert", convert_all},
    {NULL, NULL},
};
