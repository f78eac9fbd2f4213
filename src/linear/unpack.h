/* Blocks of each type to whole numbers and their scales, 32 weights at a time: the even ones in one vector,
 * the odd ones in another. dequantize.c is the definition of the types. Included by kernels_template.inc
 * only. */
#pragma once
#include "linear/vector.h"

/* What a weight is worth: number x scale, plus an addend in some types. */
struct unpacked_type {
    int least, most; /* of the numbers */
    int shift;       /* that makes 16 bits of them, for words_scale */
    bool has_addend; /* of each block or sub-block */
    bool is_float;   /* there are no numbers */
    bool is_super;   /* blocks of 256, whose sub-blocks have whole numbers for scales */
};

INLINE struct unpacked_type unpacked_type(enum block_type type) {
    switch (type) {
    case BLOCK_Q8_0:
        return (struct unpacked_type){-128, 127, 6};
    case BLOCK_Q4_0:
        return (struct unpacked_type){-8, 7, 10};
    case BLOCK_Q5_0:
        return (struct unpacked_type){-16, 15, 9};
    case BLOCK_IQ4_NL:
        return (struct unpacked_type){-127, 113, 6};
    case BLOCK_Q4_1:
        return (struct unpacked_type){0, 15, 10, .has_addend = true};
    case BLOCK_Q5_1:
        return (struct unpacked_type){0, 31, 9, .has_addend = true};
    case BLOCK_Q4_K:
        return (struct unpacked_type){0, 15, 10, .has_addend = true, .is_super = true};
    case BLOCK_Q5_K:
        return (struct unpacked_type){0, 31, 9, .has_addend = true, .is_super = true};
    case BLOCK_Q2_K:
        return (struct unpacked_type){0, 3, 12, .has_addend = true, .is_super = true};
    case BLOCK_Q3_K:
        return (struct unpacked_type){-4, 3, 11, .is_super = true};
    case BLOCK_Q6_K:
        return (struct unpacked_type){-32, 31, 8, .is_super = true};
    case BLOCK_IQ4_XS:
        return (struct unpacked_type){-127, 113, 6, .is_super = true};
    default:
        return (struct unpacked_type){.is_float = true};
    }
}

static const int8_t NONLINEAR_VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

/* Signed bytes in the order of the columns. */
INLINE void split_signed(words x, words *ret_even, words *ret_odd) {
    *ret_even = (words)((uwords)x << 8) >> 8;
    *ret_odd = x >> 8;
}

INLINE void split_unsigned(words x, words *ret_even, words *ret_odd) {
    *ret_even = x & words_splat(0xff);
    *ret_odd = words_shift_right(x, 8);
}

/* 16 bytes whose low nibbles come first. */
INLINE words nibbles(const uint8_t *from) {
    return words_upper_nibbles(words_twice(from)) & words_splat(0x0f0f);
}

INLINE void words_nonlinear(const uint8_t *from, words *ret_even, words *ret_odd) {
    split_signed((words)bytes_lookup(NONLINEAR_VALUES, (bytes)nibbles(from)), ret_even, ret_odd);
}

/* Five bits: nibbles, and a bit of each weight. */
INLINE void words_fifth(const uint8_t *fifth, const uint8_t *from, words *ret_even, words *ret_odd) {
    uint32_t bits;
    memcpy(&bits, fifth, sizeof bits);
    split_unsigned(nibbles(from) | (words)bytes_from_bits(bits, 16), ret_even, ret_odd);
}

/* Sub-block j of Q4_K and Q5_K. */
INLINE void words_k(const uint8_t *from, int j, words *ret_even, words *ret_odd) {
    words x = words_load(from + 32 * (j / 2)), mask = words_splat(15);
    *ret_even = words_shift_right(x, j % 2 * 4) & mask;
    *ret_odd = words_shift_right(x, 8 + j % 2 * 4) & mask;
}

/* Bit j of each of 32 bytes, as `value`, a power of two. */
INLINE void words_bit(const uint8_t *from, int j, int16_t value, words *ret_even, words *ret_odd) {
    words x = words_load(from), mask = words_splat(1);
    *ret_even = (words_shift_right(x, j) & mask) * words_splat(value);
    *ret_odd = (words_shift_right(x, 8 + j) & mask) * words_splat(value);
}

/* Two bits, group j of 8: halves of 128 in 32 bytes each. */
INLINE void words_quarters(const uint8_t *from, int j, words *ret_even, words *ret_odd) {
    words x = words_load(from + 32 * (j / 4)), mask = words_splat(3);
    *ret_even = words_shift_right(x, j % 4 * 2) & mask;
    *ret_odd = words_shift_right(x, 8 + j % 4 * 2) & mask;
}

INLINE void words_q6(const uint8_t *block, int j, words *ret_even, words *ret_odd) {
    int group = j % 4;
    words low = words_load(block + 64 * (j / 4) + group % 2 * 32), high_even, high_odd,
          mask = words_splat(15);

    words_quarters(block + 128, j, &high_even, &high_odd);
    *ret_even = ((words_shift_right(low, group / 2 * 4) & mask) | high_even << 4) - words_splat(32);
    *ret_odd = ((words_shift_right(low, 8 + group / 2 * 4) & mask) | high_odd << 4) - words_splat(32);
}

/* The numbers of columns [32 j, 32 j + 32) of `blocks`, a chunk. */
INLINE void unpack_words(enum block_type type, const uint8_t *blocks, int j, words *ret_even,
                         words *ret_odd) {
    words even, odd;

    switch (type) {
    case BLOCK_Q8_0:
        split_signed(words_load(blocks + (size_t)j * 34 + 2), ret_even, ret_odd);
        break;
    case BLOCK_Q4_0:
        split_unsigned(nibbles(blocks + (size_t)j * 18 + 2), &even, &odd);
        *ret_even = even - words_splat(8);
        *ret_odd = odd - words_splat(8);
        break;
    case BLOCK_Q4_1:
        split_unsigned(nibbles(blocks + (size_t)j * 20 + 4), ret_even, ret_odd);
        break;
    case BLOCK_Q5_0:
        words_fifth(blocks + (size_t)j * 22 + 2, blocks + (size_t)j * 22 + 6, &even, &odd);
        *ret_even = even - words_splat(16);
        *ret_odd = odd - words_splat(16);
        break;
    case BLOCK_Q5_1:
        words_fifth(blocks + (size_t)j * 24 + 4, blocks + (size_t)j * 24 + 8, ret_even, ret_odd);
        break;
    case BLOCK_IQ4_NL:
        words_nonlinear(blocks + (size_t)j * 18 + 2, ret_even, ret_odd);
        break;
    case BLOCK_IQ4_XS:
        words_nonlinear(blocks + 8 + 16 * j, ret_even, ret_odd);
        break;
    case BLOCK_Q4_K:
        words_k(blocks + 16, j, ret_even, ret_odd);
        break;
    case BLOCK_Q5_K:
        words_k(blocks + 48, j, ret_even, ret_odd);
        words_bit(blocks + 16, j, 16, &even, &odd);
        *ret_even |= even;
        *ret_odd |= odd;
        break;
    case BLOCK_Q6_K:
        words_q6(blocks, j, ret_even, ret_odd);
        break;
    case BLOCK_Q2_K:
        words_quarters(blocks + 16, j, ret_even, ret_odd);
        break;
    case BLOCK_Q3_K:
        words_quarters(blocks + 32, j, ret_even, ret_odd);
        words_bit(blocks, j, 4, &even, &odd);
        *ret_even += even - words_splat(4);
        *ret_odd += odd - words_splat(4);
        break;
    default:
        *ret_even = *ret_odd = words_splat(0);
    }
}

/* --- Scales --------------------------------------------------------------------------------------------- */

/* What a super-block is scaled by. A sub-block of 32 has a number for its first 16 weights in the lower half,
 * and one for the others in the upper half. */
struct super_scales {
    float scale, addend; /* of the whole */
    words scales, addends;
};

/* 6 bits each (Q4_K, Q5_K): eight scales, then eight addends, as bytes. */
INLINE void k_scales(const uint8_t *from, uint8_t *ret) {
    uint32_t a, b, c;
    memcpy(&a, from, 4);
    memcpy(&b, from + 4, 4);
    memcpy(&c, from + 8, 4);
    const uint32_t all[4] = {a & 0x3f3f3f3f, (c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4, b & 0x3f3f3f3f,
                             (c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4};
    memcpy(ret, all, sizeof all);
}

INLINE void super_scales_k(const uint8_t *block, struct super_scales *ret) {
    uint8_t all[16];
    k_scales(block + 4, all);
    ret->scale = float_from_f16(block);
    ret->addend = -float_from_f16(block + 2);
    ret->scales = words_from_eight(all);
    ret->addends = words_from_eight(all + 8);
}

/* 6 bits each: low nibbles in the first eight bytes, two high bits in the last four. */
INLINE words q3_scales(const uint8_t *from) {
    const uint32_t four = 0x0f0f0f0f, two = 0x03030303;
    uint32_t a, b, c;
    memcpy(&a, from, 4);
    memcpy(&b, from + 4, 4);
    memcpy(&c, from + 8, 4);
    const uint32_t all[4] = {(a & four) | (c & two) << 4, (b & four) | (c >> 2 & two) << 4,
                             (a >> 4 & four) | (c >> 4 & two) << 4, (b >> 4 & four) | (c >> 6 & two) << 4};
    return words_from_pairs((const uint8_t *)all) - words_splat(32);
}

INLINE words iq4_xs_scales(const uint8_t *block) {
    uint8_t all[8];
    uint16_t high;
    memcpy(&high, block + 2, sizeof high);
    for (int j = 0; j < 8; j++)
        all[j] = (uint8_t)((block[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4);
    return words_from_eight(all) - words_splat(32);
}

INLINE void super_scales_q2(const uint8_t *block, struct super_scales *ret) {
    words all = words_from_pairs(block);
    ret->scale = float_from_f16(block + 80);
    ret->addend = -float_from_f16(block + 82);
    ret->scales = all & words_splat(15);
    ret->addends = words_shift_right(all, 4) & words_splat(15);
}

INLINE void unpack_super_scales(enum block_type type, const uint8_t *block, struct super_scales *ret) {
    ret->addend = 0;
    ret->addends = words_splat(0);
    switch (type) {
    case BLOCK_Q4_K:
    case BLOCK_Q5_K:
        super_scales_k(block, ret);
        break;
    case BLOCK_Q2_K:
        super_scales_q2(block, ret);
        break;
    case BLOCK_Q6_K:
        ret->scale = float_from_f16(block + 208);
        ret->scales = words_from_pairs(block + 192);
        break;
    case BLOCK_Q3_K:
        ret->scale = float_from_f16(block + 108);
        ret->scales = q3_scales(block + 96);
        break;
    default:
        ret->scale = float_from_f16(block);
        ret->scales = iq4_xs_scales(block);
    }
}

/* Bytes of a block of 32. */
INLINE size_t small_block_bytes(enum block_type type) {
    switch (type) {
    case BLOCK_Q8_0:
        return 34;
    case BLOCK_Q4_1:
        return 20;
    case BLOCK_Q5_0:
        return 22;
    case BLOCK_Q5_1:
        return 24;
    default:
        return 18;
    }
}

/* Scale and addend of block j. */
INLINE float block_scale(enum block_type type, const uint8_t *blocks, int j) {
    return float_from_f16(blocks + (size_t)j * small_block_bytes(type));
}

INLINE float block_addend(enum block_type type, const uint8_t *blocks, int j) {
    return float_from_f16(blocks + (size_t)j * small_block_bytes(type) + 2);
}
