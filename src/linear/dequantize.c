/* Blocks to the numbers they stand for: the definition of each type. The products have kernels of their own,
 * which are tested against this. */
#include <string.h>

#include "linear/block_type.h"
#include "tensor/tensor.h"

/* The sixteen values of a "non-linear" 4-bit weight (ggml's kvalues_iq4nl). */
static const int8_t NONLINEAR[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

static float half_at(const uint8_t *bytes) {
    uint16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return f16_to_f32(bits);
}

static void dequantize_f32(const uint8_t *block, float *ret) {
    memcpy(ret, block, sizeof *ret);
}

static void dequantize_f16(const uint8_t *block, float *ret) {
    *ret = half_at(block);
}

static void dequantize_bf16(const uint8_t *block, float *ret) {
    uint16_t bits;
    memcpy(&bits, block, sizeof bits);
    *ret = bf16_to_f32(bits);
}

static void dequantize_q8_0(const uint8_t *block, float *ret) {
    float scale = half_at(block);
    for (int i = 0; i < 32; i++)
        ret[i] = scale * (float)(int8_t)block[2 + i];
}

/* Weight i of 32 whose low nibbles come first. */
static int nibble(const uint8_t *bytes, int i) {
    return i < 16 ? bytes[i] & 15 : bytes[i - 16] >> 4;
}

static void dequantize_q4_0(const uint8_t *block, float *ret) {
    float scale = half_at(block);
    for (int i = 0; i < 32; i++)
        ret[i] = scale * (float)(nibble(block + 2, i) - 8);
}

static void dequantize_q4_1(const uint8_t *block, float *ret) {
    float scale = half_at(block), least = half_at(block + 2);
    for (int i = 0; i < 32; i++)
        ret[i] = scale * (float)nibble(block + 4, i) + least;
}

static void dequantize_q5_0(const uint8_t *block, float *ret) {
    float scale = half_at(block);
    uint32_t fifth;

    memcpy(&fifth, block + 2, sizeof fifth);
    for (int i = 0; i < 32; i++)
        ret[i] = scale * (float)((nibble(block + 6, i) | (int)(fifth >> i & 1) << 4) - 16);
}

static void dequantize_q5_1(const uint8_t *block, float *ret) {
    float scale = half_at(block), least = half_at(block + 2);
    uint32_t fifth;

    memcpy(&fifth, block + 4, sizeof fifth);
    for (int i = 0; i < 32; i++)
        ret[i] = scale * (float)(nibble(block + 8, i) | (int)(fifth >> i & 1) << 4) + least;
}

static void dequantize_iq4_nl(const uint8_t *block, float *ret) {
    float scale = half_at(block);
    for (int i = 0; i < 32; i++)
        ret[i] = scale * (float)NONLINEAR[nibble(block + 2, i)];
}

/* Sixteen sub-blocks of 16: a 4-bit scale and a 4-bit minimum each; two bits a weight, four weights a byte,
 * 32 bytes for each half. */
static void dequantize_q2_k(const uint8_t *block, float *ret) {
    const uint8_t *scales = block, *quarters = block + 16;
    float scale = half_at(block + 80), least = half_at(block + 82);

    for (int i = 0; i < 256; i++) {
        int sub = i / 16, half = i / 128, shift = i % 128 / 32 * 2;
        int weight = quarters[32 * half + i % 32] >> shift & 3;
        ret[i] = scale * (float)(scales[sub] & 15) * (float)weight - least * (float)(scales[sub] >> 4);
    }
}

/* The sixteen 6-bit scales of Q3_K: low nibbles in the first eight bytes, two high bits in the last four. */
static int q3_scale(const uint8_t *bytes, int sub) {
    int low = sub < 8 ? bytes[sub] & 15 : bytes[sub - 8] >> 4;
    return (low | (bytes[8 + sub % 4] >> sub / 4 * 2 & 3) << 4) - 32;
}

static void dequantize_q3_k(const uint8_t *block, float *ret) {
    const uint8_t *high = block, *quarters = block + 32, *scales = block + 96;
    float scale = half_at(block + 108);

    for (int i = 0; i < 256; i++) {
        int half = i / 128, shift = i % 128 / 32 * 2;
        int weight = quarters[32 * half + i % 32] >> shift & 3;
        if (!(high[i % 32] >> (i / 32) & 1))
            weight -= 4;
        ret[i] = scale * (float)q3_scale(scales, i / 16) * (float)weight;
    }
}

/* Scale and minimum, 6 bits each, of sub-block j of 8 (Q4_K, Q5_K). */
static void k_scale(const uint8_t *b, int j, int *ret_scale, int *ret_least) {
    if (j < 4) {
        *ret_scale = b[j] & 63;
        *ret_least = b[j + 4] & 63;
    } else {
        *ret_scale = (b[j + 4] & 15) | (b[j - 4] >> 6) << 4;
        *ret_least = b[j + 4] >> 4 | (b[j] >> 6) << 4;
    }
}

/* Sub-blocks come in pairs of 32 bytes: low nibbles the first, high ones the second. `fifth`: 32 bytes, bit j
 * for sub-block j; NULL where weights have 4 bits. */
static void dequantize_k(const uint8_t *block, const uint8_t *fifth, const uint8_t *nibbles, float *ret) {
    float scale = half_at(block), least = half_at(block + 2);

    for (int j = 0; j < 8; j++) {
        int sub_scale, sub_least;
        k_scale(block + 4, j, &sub_scale, &sub_least);
        float d = scale * (float)sub_scale, m = least * (float)sub_least;

        for (int i = 0; i < 32; i++) {
            int weight = nibbles[j / 2 * 32 + i] >> j % 2 * 4 & 15;
            if (fifth)
                weight |= (fifth[i] >> j & 1) << 4;
            ret[32 * j + i] = d * (float)weight - m;
        }
    }
}

static void dequantize_q4_k(const uint8_t *block, float *ret) {
    dequantize_k(block, NULL, block + 16, ret);
}

static void dequantize_q5_k(const uint8_t *block, float *ret) {
    dequantize_k(block, block + 16, block + 48, ret);
}

/* Halves of 128: four groups of 32 whose low nibbles are in 64 bytes, high bit pairs in 32 bytes; an int8
 * scale for every 16. */
static void dequantize_q6_k(const uint8_t *block, float *ret) {
    const uint8_t *low = block, *high = block + 128, *scales = block + 192;
    float scale = half_at(block + 208);

    for (int i = 0; i < 256; i++) {
        int half = i / 128, group = i % 128 / 32, l = i % 32;
        int weight = low[64 * half + group % 2 * 32 + l] >> group / 2 * 4 & 15;
        weight |= (high[32 * half + l] >> 2 * group & 3) << 4;
        ret[i] = scale * (float)(int8_t)scales[i / 16] * (float)(weight - 32);
    }
}

static void dequantize_iq4_xs(const uint8_t *block, float *ret) {
    float scale = half_at(block);
    uint16_t high;

    memcpy(&high, block + 2, sizeof high);
    for (int j = 0; j < 8; j++) {
        int sub = (block[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4;
        float d = scale * (float)(sub - 32);
        for (int i = 0; i < 32; i++)
            ret[32 * j + i] = d * (float)NONLINEAR[nibble(block + 8 + 16 * j, i)];
    }
}

void blocks_dequantize(enum block_type type, const void *blocks, size_t count, float *ret) {
    static void (*const dequantize[BLOCK_TYPES])(const uint8_t *block, float *ret) = {
        [BLOCK_F32] = dequantize_f32,       [BLOCK_F16] = dequantize_f16,
        [BLOCK_BF16] = dequantize_bf16,     [BLOCK_Q4_0] = dequantize_q4_0,
        [BLOCK_Q4_1] = dequantize_q4_1,     [BLOCK_Q5_0] = dequantize_q5_0,
        [BLOCK_Q5_1] = dequantize_q5_1,     [BLOCK_Q8_0] = dequantize_q8_0,
        [BLOCK_Q2_K] = dequantize_q2_k,     [BLOCK_Q3_K] = dequantize_q3_k,
        [BLOCK_Q4_K] = dequantize_q4_k,     [BLOCK_Q5_K] = dequantize_q5_k,
        [BLOCK_Q6_K] = dequantize_q6_k,     [BLOCK_IQ4_NL] = dequantize_iq4_nl,
        [BLOCK_IQ4_XS] = dequantize_iq4_xs,
    };
    size_t weights = (size_t)block_weights(type), bytes = block_bytes(type);

    for (size_t i = 0; i < count / weights; i++)
        dequantize[type]((const uint8_t *)blocks + i * bytes, ret + i * weights);
}
