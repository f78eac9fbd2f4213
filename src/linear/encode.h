/* Numbers to quantised blocks. A block is made in steps, so that what rounding costs can be fed forward
 * between them: scales for the whole, scales of a sub-block, the level of each weight, the bytes.
 * Pure functions: any thread. */
#pragma once
#include "linear/block_type.h"

enum { BLOCK_MOST = 256 /* weights of a block */, BLOCK_SUBS = 16 /* its sub-blocks, at most */ };

struct block_code {
    enum block_type type;
    float scale, least;                         /* of the whole block, as the file keeps them (float16) */
    int scales[BLOCK_SUBS], leasts[BLOCK_SUBS]; /* of sub-blocks, as whole numbers of the above */
    float step[BLOCK_SUBS], base[BLOCK_SUBS];   /* level q of sub-block j is worth step q + base */
    int8_t levels[BLOCK_MOST];
};

/* Can weights of this type be written? Of floats there are no blocks, only blocks_quantize. */
bool block_type_is_written(enum block_type type);
/* Weights that share a scale; 1 for floats. */
int block_sub_weights(enum block_type type);

/* Choose the scales of the whole block. values, importances: [block_weights]; an importance is what the
 * square of a weight's error counts. */
void block_code_begin(struct block_code *code, enum block_type type, const float *values,
                      const float *importances);
/* Choose those of sub-block j, within what the whole block allows. values, importances:
 * [block_sub_weights]. */
void block_code_choose(struct block_code *code, int j, const float *values, const float *importances);
/* The scales of sub-block j changed a little, in way `way` of BLOCK_WAYS; `from` has the chosen ones. False:
 * the type has no such scales. */
enum { BLOCK_WAYS = 8 };
bool block_code_vary(struct block_code *code, const struct block_code *from, int j, int way);
/* The nearest level, and what it is worth. */
int block_code_level(const struct block_code *code, int j, float value);
float block_code_value(const struct block_code *code, int j, int level);
/* To bytes: [block_bytes]. All levels are set. */
void block_code_pack(const struct block_code *code, void *ret);

/* All of that for `count` weights, a whole number of blocks: each rounded by itself. importances: [count];
 * NULL: all the same. */
void blocks_quantize(enum block_type type, const float *values, const float *importances, size_t count,
                     void *ret);
