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
