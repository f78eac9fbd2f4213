/* The layouts that dequantize.c defines. */
#include "linear/encode_pack.h"

#include <string.h>

#include "tensor/tensor.h"

static void put_half(uint8_t *to, float value) {
    uint16_t bits = f32_to_f16(value);
    memcpy(to, &bits, sizeof bits);
}

/* 32 numbers: low nibbles of the first 16, high ones of the others. */
static void put_nibbles(const int8_t *levels, int offset, uint8_t *to) {
    for (int i = 0; i < 16; i++)
        to[i] = (uint8_t)(((levels[i] + offset) & 15) | ((levels[i + 16] + offset) & 15) << 4);
}

static void put_fifth(const int8_t *levels, int offset, uint8_t *to) {
    uint32_t bits = 0;
    for (int i = 0; i < 32; i++)
        bits |= (uint32_t)((levels[i] + offset) >> 4 & 1) << i;
    memcpy(to, &bits, sizeof bits);
}

static void pack_small(const struct block_code *code, uint8_t *ret) {
    bool five = code->type == BLOCK_Q5_0 || code->type == BLOCK_Q5_1;
    bool has_base = code->type == BLOCK_Q4_1 || code->type == BLOCK_Q5_1;
    int offset = has_base ? 0 : five ? 16 : 8;

    put_half(ret, code->scale);
    ret += 2;
    if (has_base) {
        put_half(ret, code->least);
        ret += 2;
    }
    if (five) {
        put_fifth(code->levels, offset, ret);
        ret += 4;
    }
    put_nibbles(code->levels, offset, ret);
}

static void pack_q8_0(const struct block_code *code, uint8_t *ret) {
    put_half(ret, code->scale);
    memcpy(ret + 2, code->levels, 32);
}

/* Eight scales and eight minimums of 6 bits each in 12 bytes. */
static void put_k_scales(const struct block_code *code, uint8_t *to) {
    for (int j = 0; j < 4; j++) {
        to[j] = (uint8_t)(code->scales[j] | (code->scales[j + 4] >> 4) << 6);
        to[j + 4] = (uint8_t)(code->leasts[j] | (code->leasts[j + 4] >> 4) << 6);
        to[j + 8] = (uint8_t)((code->scales[j + 4] & 15) | (code->leasts[j + 4] & 15) << 4);
    }
}

static void pack_k(const struct block_code *code, uint8_t *ret) {
    bool five = code->type == BLOCK_Q5_K;
    uint8_t *fifth = ret + 16, *nibbles = ret + (five ? 48 : 16);

    put_half(ret, code->scale);
    put_half(ret + 2, code->least);
    put_k_scales(code, ret + 4);
    for (int j = 0; j < 8; j++)
        for (int i = 0; i < 32; i++) {
            unsigned level = (uint8_t)code->levels[32 * j + i];
            nibbles[j / 2 * 32 + i] |= (uint8_t)((level & 15) << j % 2 * 4);
            if (five)
                fifth[i] |= (uint8_t)((level >> 4) << j);
        }
}

static void pack_q6_k(const struct block_code *code, uint8_t *ret) {
    uint8_t *low = ret, *high = ret + 128;
    for (int i = 0; i < 256; i++) {
        int half = i / 128, group = i % 128 / 32, l = i % 32, level = code->levels[i] + 32;
        low[64 * half + group % 2 * 32 + l] |= (uint8_t)((level & 15) << group / 2 * 4);
        high[32 * half + l] |= (uint8_t)((level >> 4) << 2 * group);
    }
    for (int j = 0; j < 16; j++)
        ret[192 + j] = (uint8_t)code->scales[j];
    put_half(ret + 208, code->scale);
}

/* Two bits of each weight, four weights a byte. */
static void put_quarters(const struct block_code *code, int offset, uint8_t *to) {
    for (int i = 0; i < 256; i++)
        to[i / 128 * 32 + i % 32] |= (uint8_t)(((code->levels[i] + offset) & 3) << i % 128 / 32 * 2);
}

static void pack_q3_k(const struct block_code *code, uint8_t *ret) {
    for (int i = 0; i < 256; i++)
        if (code->levels[i] >= 0)
            ret[i % 32] |= (uint8_t)(1 << i / 32);
    put_quarters(code, 4, ret + 32);
    for (int j = 0; j < 16; j++) {
        int scale = code->scales[j] + 32;
        ret[96 + j % 8] |= (uint8_t)((scale & 15) << j / 8 * 4);
        ret[104 + j % 4] |= (uint8_t)((scale >> 4) << j / 4 * 2);
    }
    put_half(ret + 108, code->scale);
}

static void pack_q2_k(const struct block_code *code, uint8_t *ret) {
    for (int j = 0; j < 16; j++)
        ret[j] = (uint8_t)(code->scales[j] | code->leasts[j] << 4);
    put_quarters(code, 0, ret + 16);
    put_half(ret + 80, code->scale);
    put_half(ret + 82, code->least);
}

void encode_pack(const struct block_code *code, uint8_t *ret) {
    memset(ret, 0, block_bytes(code->type));
    switch (code->type) {
    case BLOCK_Q8_0:
        pack_q8_0(code, ret);
        break;
    case BLOCK_Q4_K:
    case BLOCK_Q5_K:
        pack_k(code, ret);
        break;
    case BLOCK_Q6_K:
        pack_q6_k(code, ret);
        break;
    case BLOCK_Q3_K:
        pack_q3_k(code, ret);
        break;
    case BLOCK_Q2_K:
        pack_q2_k(code, ret);
        break;
    default:
        pack_small(code, ret);
    }
}
