/* A weight matrix in blocks, as the file has it, and its products. Immutable: any thread. */
#pragma once
#include "linear/block_type.h"

struct linear {
    enum block_type type;
    int64_t inputs, outputs;
    size_t row_bytes;
    const uint8_t *blocks; /* [outputs] rows of row_bytes, each of `inputs` weights; not owned */
};

/* Floats of scratch that linear_multiply needs for each thread. */
size_t linear_scratch(const struct linear *linear);
/* Row `row`, as floats: [inputs]. */
void linear_row(const struct linear *linear, int64_t row, float *ret);
/* y = x w' + bias. x: [rows, inputs]; bias: [outputs] or NULL; y: [rows, outputs]. Called by every thread of
 * an OpenMP team, which shares the rows of the weights; all have finished when it returns. scratch: the
 * caller's own, [linear_scratch]. Weights count as they are, sums are float32; a row of y depends on its row
 * of x alone. */
void linear_multiply(const struct linear *linear, const float *x, int64_t rows, const float *bias, float *y,
                     float *scratch);

/* --- The fast way: activations rounded ------------------------------------------------------------------ */

/* Rows of activations, ready for products: those of prompts first, then those of steps. Each kind has
 * arithmetic of its own, so that a row's results do not depend on how many rows there are. */
struct linear_input;
/* For up to `rows` rows of up to `inputs` columns. NULL: not enough memory. */
struct linear_input *linear_input_create(int64_t rows, int64_t inputs);
void linear_input_free(struct linear_input *input);
/* Rows that are to come. x: [prompts + steps, inputs]. One thread. */
void linear_input_begin(struct linear_input *input, const float *x, int64_t prompts, int64_t steps,
                        int64_t inputs);
/* Row `row` of x is there, and stays until the products are done. Different rows: any threads. */
void linear_input_prepare(const struct linear_input *input, int64_t row);

/* y = x w' + bias: [rows, outputs] */
struct linear_product {
    const struct linear *weights;
    const float *bias; /* [outputs]; NULL: none */
    float *y;
};
/* Several products of one input, as linear_multiply. Weights are rounded to 13 bits for prompts (but float32;
 * relative to the largest of 256), count as they are for steps; activations to 12 bits (of 256) and 15 (of a
 * row). scratch: the calling thread's own, [LINEAR_SCRATCH],
 * aligned to 64 bytes. */
void linear_multiply_input(const struct linear_input *input, const struct linear_product *products, int count,
                           float *scratch);
enum { LINEAR_SCRATCH = 16384 /* floats */ };

/* What this processor's products run on: "amx", "avx512", "avx2" or "portable"; the environment's
 * GUICHET_INSTRUCTIONS, one of these, sets a limit. */
const char *linear_instructions(void);
