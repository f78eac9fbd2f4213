#include "tensor/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    uint8_t size;
    bool is_float, is_integer;
} dtypes[DTYPE_COUNT] = {
    [DTYPE_UNKNOWN] = {"unknown", 0, false, false}, [DTYPE_F32] = {"float32", 4, true, false},
    [DTYPE_F64] = {"float64", 8, true, false},      [DTYPE_F16] = {"float16", 2, true, false},
    [DTYPE_BF16] = {"bfloat16", 2, true, false},    [DTYPE_I8] = {"int8", 1, false, true},
    [DTYPE_U8] = {"uint8", 1, false, true},         [DTYPE_I16] = {"int16", 2, false, true},
    [DTYPE_U16] = {"uint16", 2, false, true},       [DTYPE_I32] = {"int32", 4, false, true},
    [DTYPE_U32] = {"uint32", 4, false, true},       [DTYPE_I64] = {"int64", 8, false, true},
    [DTYPE_U64] = {"uint64", 8, false, true},       [DTYPE_BOOL] = {"bool", 1, false, false},
    [DTYPE_STRING] = {"string", 0, false, false},
};

static bool dtype_is_valid(enum dtype dtype) {
    return (unsigned)dtype < DTYPE_COUNT;
}

size_t dtype_size(enum dtype dtype) {
    return dtype_is_valid(dtype) ? dtypes[dtype].size : 0;
}

const char *dtype_name(enum dtype dtype) {
    return dtypes[dtype_is_valid(dtype) ? dtype : DTYPE_UNKNOWN].name;
}

bool dtype_is_float(enum dtype dtype) {
    return dtype_is_valid(dtype) && dtypes[dtype].is_float;
}

bool dtype_is_integer(enum dtype dtype) {
    return dtype_is_valid(dtype) && dtypes[dtype].is_integer;
}

bool shape_is_known(const struct shape *shape) {
    if (shape->rank < 0 || shape->rank > LIMIT_TENSOR_RANK)
        return false;

    for (int i = 0; i < shape->rank; i++)
        if (shape->dims[i] < 0)
            return false;
    return true;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
    if (a->rank != b->rank)
        return false;

    for (int i = 0; i < a->rank; i++)
        if (a->dims[i] != b->dims[i])
            return false;
    return true;
}

int64_t shape_elements(const struct shape *shape) {
    if (!shape_is_known(shape))
        return -1;

    /* Empty dimensions count as one for the limit, so that every product of some of the dimensions fits. */
    int64_t product = 1;
    bool empty = false;

    for (int i = 0; i < shape->rank; i++) {
        int64_t dim = shape->dims[i];
        if (!dim)
            empty = true;
        else if (dim > LIMIT_TENSOR_ELEMENTS / product)
            return -1;
        else
            product *= dim;
    }

    return empty ? 0 : product;
}

const char *shape_format(const struct shape *shape, char *text, size_t size) {
    if (!size)
        return text;
    if (shape->rank <= 0 || shape->rank > LIMIT_TENSOR_RANK) {
        snprintf(text, size, "%s", shape->rank == 0 ? "scalar" : "unknown");
        return text;
    }

    size_t used = 0;
    for (int i = 0; i < shape->rank && used < size; i++) {
        const char *cross = i ? "x" : "";
        int length = shape->dims[i] < 0
                         ? snprintf(text + used, size - used, "%s?", cross)
                         : snprintf(text + used, size - used, "%s%lld", cross, (long long)shape->dims[i]);
        used += (size_t)(length > 0 ? length : 0);
    }

    return text;
}

bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *ret) {
    struct shape result = {.rank = a->rank > b->rank ? a->rank : b->rank};

    for (int i = 1; i <= result.rank; i++) { /* from the last dimension on */
        int64_t left = i <= a->rank ? a->dims[a->rank - i] : 1,
                right = i <= b->rank ? b->dims[b->rank - i] : 1;
        if (left != right && left != 1 && right != 1)
            return false;
        result.dims[result.rank - i] = left == 1 ? right : left;
    }

    *ret = result;
    return true;
}

size_t tensor_bytes(const struct tensor *tensor) {
    int64_t elements = shape_elements(&tensor->shape);
    return elements < 0 ? 0 : (size_t)elements * dtype_size(tensor->dtype);
}

static uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float f16_to_f32(uint16_t bits) {
    uint32_t sign = (uint32_t)(bits & 0x8000) << 16, rest = bits & 0x7fff, magnitude;

    if (rest >= 0x7c00) /* infinity and NaN */
        magnitude = 0x7f800000 | (rest & 0x3ff) << 13;
    else if (rest < 0x400) /* subnormal: so many times 2^-24 */
        magnitude = float_bits((float)rest * 0x1p-24f);
    else
        magnitude = (rest << 13) + 0x38000000;
    return bits_float(sign | magnitude);
}

uint16_t f32_to_f16(float value) {
    uint32_t bits = float_bits(value), magnitude = bits & 0x7fffffff, result;

    if (magnitude > 0x7f800000)
        result = 0x7e00 | (magnitude >> 13 & 0x3ff);
    else if (magnitude >= 0x47800000) /* 65536 and more */
        result = 0x7c00;
    else if (magnitude >=
             0x38800000) /* normal from 2^-14 on; rounding may carry into infinity, as it should */
        result = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000) >> 13;
    else /* adding 1/2 rounds to a multiple of 2^-24, the step of subnormals */
        result = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000;
    return (uint16_t)((bits >> 16 & 0x8000) | result);
}

float bf16_to_f32(uint16_t bits) {
    return bits_float((uint32_t)bits << 16);
}

uint16_t f32_to_bf16(float value) {
    uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Rounding to 16 bits goes through float, and must not round twice. What does not fit float is rounded to odd
 * in its last place on the way: then the second rounding gives what a single one would. */
static float double_to_float_odd(double value) {
    float nearest = (float)value;
    if (!isfinite(nearest))
        return nearest;

    float towards_zero = fabs((double)nearest) > fabs(value) ? nextafterf(nearest, 0) : nearest;
    return (double)towards_zero == value ? towards_zero : bits_float(float_bits(towards_zero) | 1);
}

/* From 2^53 on, eleven bits are folded into one, which is odd where any of them was set. */
static float i64_to_float_odd(int64_t value) {
    if (value > -(1ll << 53) && value < 1ll << 53)
        return double_to_float_odd((double)value);
    return double_to_float_odd((double)(value >> 11 | ((value & 2047) != 0)) * 2048);
}

static float u64_to_float_odd(uint64_t value) {
    if (value < 1ull << 53)
        return double_to_float_odd((double)value);
    return double_to_float_odd((double)(value >> 11 | ((value & 2047) != 0)) * 2048);
}

/* Out-of-range values saturate at the ends of int64, and then keep their low bits; NaN becomes zero. */
static int64_t double_to_i64(double value) {
    if (isnan(value))
        return 0;
    if (value >= 0x1p63)
        return INT64_MAX;
    return value <= -0x1p63 ? INT64_MIN : (int64_t)value;
}

static uint64_t double_to_u64(double value) {
    if (value >= 0x1p64)
        return UINT64_MAX;
    return value >= 0x1p63 ? (uint64_t)value : (uint64_t)double_to_i64(value);
}

/* Conversion goes through a chunk of the widest type of the source's kind, so that nothing is rounded twice.
 */
#define CHUNK 256

enum kind { KIND_FLOAT, KIND_SIGNED, KIND_UNSIGNED };

union chunk {
    double f[CHUNK];
    int64_t i[CHUNK];
    uint64_t u[CHUNK];
};

#define LOAD(field, type)                            \
    for (int64_t i = 0; i < count; i++)              \
        chunk->field[i] = ((const type *)source)[i]; \
    break

static enum kind chunk_load(enum dtype from, const void *source, int64_t count, union chunk *chunk) {
    switch (from) {
    case DTYPE_F32:
        LOAD(f, float);
    case DTYPE_F64:
        LOAD(f, double);
    case DTYPE_F16:
        for (int64_t i = 0; i < count; i++)
            chunk->f[i] = (double)f16_to_f32(((const uint16_t *)source)[i]);
        break;
    case DTYPE_BF16:
        for (int64_t i = 0; i < count; i++)
            chunk->f[i] = (double)bf16_to_f32(((const uint16_t *)source)[i]);
        break;
    case DTYPE_I8:
        LOAD(i, int8_t); /* NOLINT(bugprone-signed-char-misuse): numbers, not characters */
    case DTYPE_U8:
        LOAD(i, uint8_t);
    case DTYPE_I16:
        LOAD(i, int16_t);
    case DTYPE_U16:
        LOAD(i, uint16_t);
    case DTYPE_I32:
        LOAD(i, int32_t);
    case DTYPE_U32:
        LOAD(i, uint32_t);
    case DTYPE_I64:
        LOAD(i, int64_t);
    case DTYPE_U64:
        LOAD(u, uint64_t);
    case DTYPE_BOOL:
        for (int64_t i = 0; i < count; i++)
            chunk->i[i] = ((const uint8_t *)source)[i] != 0;
        break;
    default:
        memset(chunk, 0, sizeof *chunk);
        break;
    }

    if (dtype_is_float(from))
        return KIND_FLOAT;
    return from == DTYPE_U64 ? KIND_UNSIGNED : KIND_SIGNED;
}

#define STORE(type, from_float, from_signed, from_unsigned) \
    {                                                       \
        type *to_elements = destination;                    \
        if (kind == KIND_FLOAT)                             \
            for (int64_t i = 0; i < count; i++) {           \
                double value = chunk->f[i];                 \
                to_elements[i] = (type)(from_float);        \
            }                                               \
        else if (kind == KIND_SIGNED)                       \
            for (int64_t i = 0; i < count; i++) {           \
                int64_t value = chunk->i[i];                \
                to_elements[i] = (type)(from_signed);       \
            }                                               \
        else                                                \
            for (int64_t i = 0; i < count; i++) {           \
                uint64_t value = chunk->u[i];               \
                to_elements[i] = (type)(from_unsigned);     \
            }                                               \
        break;                                              \
    }
#define STORE_INTEGER(type) STORE(type, double_to_i64(value), value, value)

static void chunk_store(const union chunk *chunk, enum kind kind, enum dtype to, void *destination,
                        int64_t count) {
    switch (to) {
    case DTYPE_F32:
        STORE(float, value, value, value)
    case DTYPE_F64:
        STORE(double, value, value, value)
    case DTYPE_F16:
        STORE(uint16_t, f32_to_f16(double_to_float_odd(value)), f32_to_f16(i64_to_float_odd(value)),
              f32_to_f16(u64_to_float_odd(value)))
    case DTYPE_BF16:
        STORE(uint16_t, f32_to_bf16(double_to_float_odd(value)), f32_to_bf16(i64_to_float_odd(value)),
              f32_to_bf16(u64_to_float_odd(value)))
    case DTYPE_I8:
        STORE_INTEGER(int8_t)
    case DTYPE_U8:
        STORE_INTEGER(uint8_t)
    case DTYPE_I16:
        STORE_INTEGER(int16_t)
    case DTYPE_U16:
        STORE_INTEGER(uint16_t)
    case DTYPE_I32:
        STORE_INTEGER(int32_t)
    case DTYPE_U32:
        STORE_INTEGER(uint32_t)
    case DTYPE_I64:
        STORE_INTEGER(int64_t)
    case DTYPE_U64:
        STORE(uint64_t, double_to_u64(value), value, value)
    case DTYPE_BOOL:
        STORE(uint8_t, value != 0, value != 0, value != 0)
    default:
        break;
    }
}

/* The conversions that whole weights go through. */
static bool convert_quickly(enum dtype from, const void *source, enum dtype to, void *destination,
                            int64_t count) {
    const uint16_t *halves = source;
    const float *floats = source;

    if (from == to && from != DTYPE_BOOL)
        memcpy(destination, source, (size_t)count * dtype_size(from));
    else if (from == DTYPE_F16 && to == DTYPE_F32)
        for (int64_t i = 0; i < count; i++)
            ((float *)destination)[i] = f16_to_f32(halves[i]);
    else if (from == DTYPE_BF16 && to == DTYPE_F32)
        for (int64_t i = 0; i < count; i++)
            ((float *)destination)[i] = bf16_to_f32(halves[i]);
    else if (from == DTYPE_F32 && to == DTYPE_F16)
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)destination)[i] = f32_to_f16(floats[i]);
    else if (from == DTYPE_F32 && to == DTYPE_BF16)
        for (int64_t i = 0; i < count; i++)
            ((uint16_t *)destination)[i] = f32_to_bf16(floats[i]);
    else
        return false;

    return true;
}

void elements_convert(enum dtype from, const void *source, enum dtype to, void *destination, int64_t count) {
    size_t from_size = dtype_size(from), to_size = dtype_size(to);
    if (count <= 0 || !from_size || !to_size || convert_quickly(from, source, to, destination, count))
        return;

    for (int64_t start = 0; start < count; start += CHUNK) {
        union chunk chunk;
        int64_t part = count - start < CHUNK ? count - start : CHUNK;
        enum kind kind = chunk_load(from, (const char *)source + (size_t)start * from_size, part, &chunk);
        chunk_store(&chunk, kind, to, (char *)destination + (size_t)start * to_size, part);
    }
}

double tensor_get_f64(const struct tensor *tensor, int64_t index) {
    double value = 0;
    elements_convert(tensor->dtype, (const char *)tensor->data + (size_t)index * dtype_size(tensor->dtype),
                     DTYPE_F64, &value, 1);
    return value;
}

int64_t tensor_get_i64(const struct tensor *tensor, int64_t index) {
    int64_t value = 0;
    elements_convert(tensor->dtype, (const char *)tensor->data + (size_t)index * dtype_size(tensor->dtype),
                     DTYPE_I64, &value, 1);
    return value;
}
