/* The types of quantised weights: rows cut into blocks of equally many weights, each with its scales. Numbers
 * and layouts are those of GGUF (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Pure functions:
 * any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum block_type {
    BLOCK_F32 = 0,
    BLOCK_F16 = 1,
    BLOCK_Q4_0 = 2,
    BLOCK_Q4_1 = 3,
    BLOCK_Q5_0 = 6,
    BLOCK_Q5_1 = 7,
    BLOCK_Q8_0 = 8,
    BLOCK_Q2_K = 10,
    BLOCK_Q3_K = 11,
    BLOCK_Q4_K = 12,
    BLOCK_Q5_K = 13,
    BLOCK_Q6_K = 14,
    BLOCK_IQ4_NL = 20,
    BLOCK_IQ4_XS = 23,
    BLOCK_BF16 = 30,
    BLOCK_TYPES
};

/* "Q4_K"; for a number that is no type of ours its name in GGUF where it has one, else NULL. */
const char *block_type_name(uint32_t type);
/* Whether weights of this type can be read. */
bool block_type_is_known(uint32_t type);
/* Weights of one block, and its bytes. The type is known. */
int block_weights(enum block_type type);
size_t block_bytes(enum block_type type);
/* Bytes of `count` weights, a whole number of blocks; false where it is not, or the size does not fit. */
bool block_row_bytes(enum block_type type, uint64_t count, size_t *ret);

/* What `count` weights, a whole number of blocks, are worth: `blocks` need no alignment. ret: [count]. */
void blocks_dequantize(enum block_type type, const void *blocks, size_t count, float *ret);
