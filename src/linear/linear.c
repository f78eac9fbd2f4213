#include "linear/linear.h"

#include "base/multiversion.h"

enum { TILE = 4 /* rows of weights that are unpacked together */, LANES = 16 };

size_t linear_scratch(const struct linear *linear) {
    return linear->type == BLOCK_F32 ? 0 : TILE * (size_t)linear->inputs;
}

void linear_row(const struct linear *linear, int64_t row, float *ret) {
    blocks_dequantize(linear->type, linear->blocks + (size_t)row * linear->row_bytes, (size_t)linear->inputs,
                      ret);
}

/* The products of TILE rows of weights with one of x; LANES partial sums keep the error small. */
MULTIVERSION static void dots(const float *const *w, const float *x, int64_t count, float *ret) {
    float sums[TILE][LANES] = {0};
    int64_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (int r = 0; r < TILE; r++)
            for (int l = 0; l < LANES; l++)
                sums[r][l] += w[r][i + l] * x[i + l];
    for (int l = 0; i < count; i++, l++)
        for (int r = 0; r < TILE; r++)
            sums[r][l] += w[r][i] * x[i];

    for (int r = 0; r < TILE; r++) {
        for (int half = LANES / 2; half > 0; half /= 2)
            for (int l = 0; l < half; l++)
                sums[r][l] += sums[r][l + half];
        ret[r] = sums[r][0];
    }
}

/* Rows [first, first + TILE) of the weights as floats; beyond the last one, that again. */
static void unpack(const struct linear *linear, int64_t first, float *scratch, const float **ret) {
    for (int r = 0; r < TILE; r++) {
        int64_t row = first + r < linear->outputs ? first + r : linear->outputs - 1;
        if (linear->type == BLOCK_F32) {
            ret[r] = (const float *)(const void *)(linear->blocks + (size_t)row * linear->row_bytes);
        } else {
            ret[r] = scratch + r * linear->inputs;
            linear_row(linear, row, scratch + r * linear->inputs);
        }
    }
}

void linear_multiply(const struct linear *linear, const float *x, int64_t rows, const float *bias, float *y,
                     float *scratch) {
    int64_t tiles = (linear->outputs + TILE - 1) / TILE;

#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < tiles; tile++) {
        int64_t first = tile * TILE, left = linear->outputs - first;
        const float *w[TILE];
        float sums[TILE];

        unpack(linear, first, scratch, w);
        for (int64_t row = 0; row < rows; row++) {
            dots(w, x + row * linear->inputs, linear->inputs, sums);
            for (int r = 0; r < TILE && r < left; r++)
                y[row * linear->outputs + first + r] = sums[r] + (bias ? bias[first + r] : 0);
        }
    }
}
