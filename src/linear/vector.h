/* Vectors of 256 bits for the kernels: what each processor of ours can do, and no more. Arithmetic that C has
 * for vectors is written as such; here is the rest, for AVX2 (with FMA and F16C) and in plain C, which gives
 * the same bits but for floats_fma where a processor has no such instruction. Included by
 * kernels_template.inc only. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tensor/tensor.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define VECTOR __attribute__((vector_size(32)))
#define INLINE static inline __attribute__((always_inline))

typedef uint8_t bytes VECTOR;
typedef int16_t words VECTOR;
typedef uint16_t uwords VECTOR;
typedef int32_t ints VECTOR;
typedef uint32_t uints VECTOR;
typedef float floats VECTOR;

/* --- Loads and splats: no alignment is needed ----------------------------------------------------------- */

INLINE words words_load(const void *from) {
    words value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void words_store(void *to, words value) {
    memcpy(to, &value, sizeof value);
}

/* The same 16 bytes in both halves. */
INLINE words words_twice(const void *from) {
#if defined(__AVX2__)
    return (words)_mm256_broadcastsi128_si256(_mm_loadu_si128(from));
#else
    words value;
    memcpy(&value, from, 16);
    memcpy((char *)&value + 16, from, 16);
    return value;
#endif
}

INLINE words words_splat(int16_t x) {
    return (words){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

/* x in the lower half, y in the upper one. */
INLINE words words_pair(int16_t x, int16_t y) {
    return (words){x, x, x, x, x, x, x, x, y, y, y, y, y, y, y, y};
}

/* x[j] in the lower half, x[8 + j] in the upper one. */
INLINE words words_pick(words x, int j) {
#if defined(__AVX2__)
    return (words)_mm256_shuffle_epi8((__m256i)x, _mm256_set1_epi16((short)(0x0100 + j * 0x0202)));
#else
    return words_pair(x[j], x[8 + j]);
#endif
}

/* 16 signed bytes; of neighbours, the first ones in the lower half and the second ones in the upper half. */
INLINE words words_from_pairs(const uint8_t *from) {
#if defined(__AVX2__)
    const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    return (words)_mm256_cvtepi8_epi16(
        _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)from), order));
#else
    words value;
    for (int i = 0; i < 16; i++)
        value[i] = (int16_t)((from[i % 8 * 2 + i / 8] ^ 0x80) - 0x80); /* its sign spread */
    return value;
#endif
}

/* Eight signed bytes, in both halves. */
INLINE words words_from_eight(const uint8_t *from) {
    uint8_t both[16];
    for (int i = 0; i < 16; i++)
        both[i] = from[i / 2];
    return words_from_pairs(both);
}

/* The lower or the upper half. */
INLINE ints ints_from_words(words x, int half) {
#if defined(__AVX2__)
    return (ints)_mm256_cvtepi16_epi32(half ? _mm256_extracti128_si256((__m256i)x, 1)
                                            : _mm256_castsi256_si128((__m256i)x));
#else
    ints value;
    for (int i = 0; i < 8; i++)
        value[i] = x[8 * half + i];
    return value;
#endif
}

/* Eight numbers that fit 16 bits, and eight more. */
INLINE words words_from_ints(ints lower, ints upper) {
#if defined(__AVX2__)
    return (words)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)lower, (__m256i)upper), 0xd8);
#else
    words value;
    for (int i = 0; i < 16; i++)
        value[i] = (int16_t)(i < 8 ? lower[i] : upper[i - 8]);
    return value;
#endif
}

INLINE ints ints_splat(int32_t x) {
    return (ints){x, x, x, x, x, x, x, x};
}

INLINE floats floats_splat(float x) {
    return (floats){x, x, x, x, x, x, x, x};
}

INLINE floats floats_load(const float *from) {
    floats value;
    memcpy(&value, from, sizeof value);
    return value;
}

INLINE void floats_store(float *to, floats value) {
    memcpy(to, &value, sizeof value);
}

/* --- Whole numbers -------------------------------------------------------------------------------------- */

INLINE words words_shift_right(words x, int bits) { /* as unsigned ones */
    return (words)((uwords)x >> (uint16_t)bits);
}

/* The upper half shifted right by four bits, the lower one not. */
INLINE words words_upper_nibbles(words x) {
    return (words)((uints)x >> (uints){0, 0, 0, 0, 4, 4, 4, 4});
}

/* Products of neighbours, summed in pairs. */
INLINE ints words_dot(words a, words b) {
#if defined(__AVX2__)
    return (ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    ints sums;
    for (int i = 0; i < 8; i++)
        sums[i] = (int32_t)((uint32_t)(a[2 * i] * b[2 * i]) + (uint32_t)(a[2 * i + 1] * b[2 * i + 1]));
    return sums;
#endif
}

/* sums + words_dot(a, b) */
INLINE ints words_add_dot(ints sums, words a, words b) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return (ints)_mm256_dpwssd_epi32((__m256i)sums, (__m256i)a, (__m256i)b);
#else
    return (ints)((uints)sums + (uints)words_dot(a, b));
#endif
}

/* a b / 2^15, rounded: halves upwards. */
INLINE words words_scale(words a, words b) {
#if defined(__AVX2__)
    return (words)_mm256_mulhrs_epi16((__m256i)a, (__m256i)b);
#else
    words product;
    for (int i = 0; i < 16; i++)
        product[i] = (int16_t)(((a[i] * b[i] >> 14) + 1) >> 1);
    return product;
#endif
}

/* table[indices[i]]; the indices are below 16. */
INLINE bytes bytes_lookup(const int8_t *table, bytes indices) {
#if defined(__AVX2__)
    return (bytes)_mm256_shuffle_epi8((__m256i)words_twice(table), (__m256i)indices);
#else
    bytes found;
    for (int i = 0; i < 32; i++)
        found[i] = (uint8_t)table[indices[i] & 15];
    return found;
#endif
}

/* `mask` in each of 32 bytes whose bit is set. */
INLINE bytes bytes_from_bits(uint32_t bits, uint8_t mask) {
#if defined(__AVX2__)
    const __m256i which = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
                                           2, 2, 3, 3, 3, 3, 3, 3, 3, 3),
                  one = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), which), one);
    return (bytes)_mm256_and_si256(_mm256_cmpeq_epi8(spread, one), _mm256_set1_epi8((char)mask));
#else
    bytes spread;
    for (int i = 0; i < 32; i++)
        spread[i] = bits >> i & 1 ? mask : 0;
    return spread;
#endif
}

/* --- Floats --------------------------------------------------------------------------------------------- */

INLINE floats floats_from_ints(ints x) {
    return __builtin_convertvector(x, floats);
}

/* Rounded, halves to even. What does not fit gives any number. */
INLINE ints ints_from_floats(floats x) {
#if defined(__AVX2__)
    return (ints)_mm256_cvtps_epi32((__m256)x);
#else
    ints rounded;
    for (int i = 0; i < 8; i++)
        rounded[i] = x[i] > -0x1p30f && x[i] < 0x1p30f ? (int32_t)lrintf(x[i]) : INT32_MIN;
    return rounded;
#endif
}

/* a b + c */
INLINE floats floats_fma(floats a, floats b, floats c) {
#if defined(__AVX2__)
    return (floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

INLINE floats floats_max(floats a, floats b) {
#if defined(__AVX2__)
    return (floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
    floats most;
    for (int i = 0; i < 8; i++)
        most[i] = a[i] > b[i] ? a[i] : b[i];
    return most;
#endif
}

INLINE floats floats_abs(floats x) {
    return (floats)((ints)x & ints_splat(0x7fffffff));
}

/* Eight float16, or bfloat16. */
INLINE floats floats_from_f16(const void *from) {
#if defined(__AVX2__)
    return (floats)_mm256_cvtph_ps(_mm_loadu_si128(from));
#else
    floats value;
    for (int i = 0; i < 8; i++) {
        uint16_t bits;
        memcpy(&bits, (const char *)from + 2 * i, sizeof bits);
        value[i] = f16_to_f32(bits);
    }
    return value;
#endif
}

INLINE floats floats_from_bf16(const void *from) {
#if defined(__AVX2__)
    return (floats)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)), 16);
#else
    floats value;
    for (int i = 0; i < 8; i++) {
        uint16_t bits;
        memcpy(&bits, (const char *)from + 2 * i, sizeof bits);
        value[i] = bf16_to_f32(bits);
    }
    return value;
#endif
}

INLINE float float_from_f16(const void *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
#if defined(__F16C__)
    return _cvtsh_ss(bits);
#else
    return f16_to_f32(bits);
#endif
}

/* Always in this order. */
INLINE float floats_sum(floats x) {
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

INLINE float floats_largest(floats x) {
    float most = x[0];
    for (int i = 1; i < 8; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}
