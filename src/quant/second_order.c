#include "quant/second_order.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/multiversion.h"
#include "linear/encode.h"

enum { ROWS = 8 /* that go through the columns together */, LANES = 8, SUB_MOST = 32 };

/* A few rows, somewhere in a group of columns. */
struct rounding {
    enum block_type type;
    const float *u; /* [n, n] of the group */
    int64_t n, stride;
    float *weights;               /* of the group's first column: [ROWS] rows, `stride` apart */
    float errors[ROWS][SUB_MOST]; /* of a sub-block, over the diagonal of U */
    float importances[BLOCK_MOST];
    struct block_code codes[ROWS];
};

/* weights[·][from, to) -= errors u[first …][from, to) */
MULTIVERSION static void feed_forward(const float *u, int64_t n, int64_t first, int count, int64_t from,
                                      int64_t to, const float errors[ROWS][SUB_MOST], float *weights,
                                      int64_t stride) {
    for (int64_t at = from; at < to; at += LANES) {
        float sums[ROWS][LANES] = {{0}};
        int64_t width = to - at < LANES ? to - at : LANES;
        if (width == LANES) {
            for (int j = 0; j < count; j++)
                for (int row = 0; row < ROWS; row++)
                    for (int l = 0; l < LANES; l++)
                        sums[row][l] += errors[row][j] * u[(first + j) * n + at + l];
        } else {
            for (int j = 0; j < count; j++)
                for (int row = 0; row < ROWS; row++)
                    for (int l = 0; l < width; l++)
                        sums[row][l] += errors[row][j] * u[(first + j) * n + at + l];
        }
        for (int row = 0; row < ROWS; row++)
            for (int l = 0; l < width; l++)
                weights[row * stride + at + l] -= sums[row][l];
    }
}

/* The columns of a sub-block, one after the other; what is left over goes to those behind it within the
 * sub-block. Returns the sum of squares of what cannot be made good. */
static double round_columns(struct rounding *rounding, int row, int64_t first, int sub, int j) {
    struct block_code *code = &rounding->codes[row];
    float *weights = rounding->weights + row * rounding->stride;
    double sum = 0;

    for (int i = 0; i < sub; i++) {
        const float *u = rounding->u + (first + i) * rounding->n;
        float *w = weights + first + i;
        int level = block_code_level(code, j, *w);
        float error = (*w - block_code_value(code, j, level)) / u[first + i];

        code->levels[j * sub + i] = (int8_t)level;
        rounding->errors[row][i] = error;
        sum += (double)error * (double)error;
        for (int k = i + 1; k < sub; k++)
            weights[first + k] -= error * u[first + k];
    }
    return sum;
}

/* What rounding the sub-block with these scales would leave; more than `enough` is all the same. */
static double try_columns(const struct rounding *rounding, const struct block_code *code, const float *from,
                          int64_t first, int sub, int j, double enough) {
    float weights[SUB_MOST];
    double sum = 0;
    memcpy(weights, from, (size_t)sub * sizeof *weights);
    for (int i = 0; i < sub && sum < enough; i++) {
        const float *u = rounding->u + (first + i) * rounding->n + first;
        float error = (weights[i] - block_code_value(code, j, block_code_level(code, j, weights[i]))) / u[i];
        sum += (double)error * (double)error;
        for (int k = i + 1; k < sub; k++)
            weights[k] -= error * u[k];
    }
    return sum;
}

/* The scales that leave least once errors are fed forward: those that suit the weights, or some near them. */
static void choose_scales(struct rounding *rounding, int row, int64_t first, int sub, int j) {
    struct block_code *code = &rounding->codes[row], chosen, tried;
    const float *from = rounding->weights + row * rounding->stride + first;

    block_code_choose(code, j, from, rounding->importances + j * sub);
    double best = try_columns(rounding, code, from, first, sub, j, INFINITY);
    chosen = tried = *code;
    for (int way = 0; way < BLOCK_WAYS; way++) {
        if (!block_code_vary(&tried, &chosen, j, way))
            continue;
        double left = try_columns(rounding, &tried, from, first, sub, j, best);
        if (left < best) {
            best = left;
            *code = tried;
        }
    }
}

/* What the square of a weight's error counts, once those behind it have made good what they can. */
static void find_importances(struct rounding *rounding, int64_t first, int count) {
    float most = 0;
    for (int i = 0; i < count; i++) {
        float u = rounding->u[(first + i) * rounding->n + first + i];
        rounding->importances[i] = 1 / (u * u);
        most = rounding->importances[i] > most ? rounding->importances[i] : most;
    }
    for (int i = 0; i < count && most > 0; i++)
        rounding->importances[i] = rounding->importances[i] / most + 1e-6f;
}

/* Columns [first, first + a block) of the group. */
static double round_block(struct rounding *rounding, int64_t first, int rows, uint8_t *ret,
                          size_t row_bytes) {
    int weights = block_weights(rounding->type), sub = block_sub_weights(rounding->type);
    double sum = 0;

    find_importances(rounding, first, weights);
    for (int row = 0; row < rows; row++)
        block_code_begin(&rounding->codes[row], rounding->type,
                         rounding->weights + row * rounding->stride + first, rounding->importances);
    for (int j = 0; j < weights / sub; j++) {
        int64_t at = first + (int64_t)j * sub;
        for (int row = 0; row < rows; row++) {
            choose_scales(rounding, row, at, sub, j);
            sum += round_columns(rounding, row, at, sub, j);
        }
        feed_forward(rounding->u, rounding->n, at, sub, at + sub, rounding->n, rounding->errors,
                     rounding->weights, rounding->stride);
    }
    for (int row = 0; row < rows; row++)
        block_code_pack(&rounding->codes[row], ret + (size_t)row * row_bytes);
    return sum;
}

/* ROWS rows, or fewer, of a whole matrix. weights: [ROWS, columns] */
static double round_rows(const struct covariance *covariance, struct rounding *rounding, float *weights,
                         int rows, uint8_t *ret, size_t row_bytes) {
    int64_t first = 0;
    int block = block_weights(rounding->type);
    double sum = 0;

    for (int g = 0; g < covariance->groups; g++) {
        int64_t n = covariance->group_columns[g];
        rounding->u = covariance->sums[g];
        rounding->n = n;
        rounding->stride = covariance->columns;
        rounding->weights = weights + first;
        for (int64_t at = 0; at < n; at += block) {
            sum += round_block(rounding, at, rows, ret, row_bytes);
            ret += block_bytes(rounding->type);
        }
        first += n;
    }
    return sum;
}

double second_order_round(const struct covariance *covariance, enum block_type type, float *rows,
                          int64_t count, uint8_t *ret) {
    int64_t columns = covariance->columns;
    size_t row_bytes = 0;
    double sum = 0;
    if (!block_row_bytes(type, (uint64_t)columns, &row_bytes))
        return 0;

#pragma omp parallel reduction(+ : sum)
    {
        struct rounding *rounding = calloc(1, sizeof *rounding);
        float *tile = calloc((size_t)(ROWS * columns), sizeof *tile);
#pragma omp for schedule(dynamic)
        for (int64_t row = 0; row < count; row += ROWS) {
            int some = count - row < ROWS ? (int)(count - row) : ROWS;
            float *from = rows + row * columns;
            if (!rounding || !tile) { /* each weight by itself */
                blocks_quantize(type, from, NULL, (size_t)(some * columns), ret + (size_t)row * row_bytes);
                continue;
            }
            rounding->type = type;
            memcpy(tile, from, (size_t)(some * columns) * sizeof *tile);
            sum += round_rows(covariance, rounding, tile, some, ret + (size_t)row * row_bytes, row_bytes);
        }
        free(tile);
        free(rounding);
    }
    return sum / (double)(covariance->rows ? covariance->rows : 1) / (double)(count ? count : 1);
}
