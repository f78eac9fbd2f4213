#include "quant/covariance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/multiversion.h"

enum { TILE = 64, LANES = 16 };

bool covariance_init(struct covariance *ret, int64_t columns) {
    *ret = (struct covariance){.columns = columns};
    int64_t groups = (columns + COVARIANCE_COLUMNS - 1) / COVARIANCE_COLUMNS;
    if (groups > 64)
        return false;

    ret->groups = (int)groups;
    ret->diagonal = calloc((size_t)columns, sizeof *ret->diagonal);
    /* Groups are cut where blocks of 256 begin. */
    int64_t most = (columns / groups + 255) / 256 * 256;
    bool done = ret->diagonal;
    for (int64_t g = 0, left = columns; done && g < groups; g++) {
        int64_t n = ret->group_columns[g] = g + 1 < groups && most < left ? most : left;
        left -= n;
        ret->sums[g] = n > 0 ? calloc((size_t)(n * n), sizeof(float)) : NULL;
        done = ret->sums[g];
    }
    return done;
}

void covariance_release(struct covariance *covariance) {
    for (int g = 0; g < covariance->groups; g++)
        free(covariance->sums[g]);
    free(covariance->diagonal);
    *covariance = (struct covariance){0};
}

/* sums[i][j …] += x[·][i] x[·][j …] for `height` rows i and `width` columns j, both at most 4 and LANES. */
MULTIVERSION static void add_tile(float *sums, int64_t stride, const float *xi, const float *xj,
                                  int64_t x_stride, int64_t rows) {
    float s0[LANES] = {0}, s1[LANES] = {0}, s2[LANES] = {0}, s3[LANES] = {0};
    for (int64_t r = 0; r < rows; r++) {
        const float *a = xi + r * x_stride, *b = xj + r * x_stride;
        for (int l = 0; l < LANES; l++) {
            s0[l] += a[0] * b[l];
            s1[l] += a[1] * b[l];
            s2[l] += a[2] * b[l];
            s3[l] += a[3] * b[l];
        }
    }
    for (int l = 0; l < LANES; l++) {
        sums[l] += s0[l];
        sums[stride + l] += s1[l];
        sums[2 * stride + l] += s2[l];
        sums[3 * stride + l] += s3[l];
    }
}

static void add_edge(float *sums, int64_t stride, const float *xi, int64_t height, const float *xj,
                     int64_t width, int64_t x_stride, int64_t rows) {
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++) {
            float sum = 0;
            for (int64_t r = 0; r < rows; r++)
                sum += xi[r * x_stride + i] * xj[r * x_stride + j];
            sums[i * stride + j] += sum;
        }
}

/* Rows [i, i + 4) of the upper half. */
static void add_rows(float *sums, int64_t n, int64_t i, const float *x, int64_t x_stride, int64_t rows) {
    int64_t height = n - i < 4 ? n - i : 4;
    for (int64_t j = i / LANES * LANES; j < n; j += LANES) {
        float *to = sums + i * n + j;
        if (height == 4 && n - j >= LANES)
            add_tile(to, n, x + i, x + j, x_stride, rows);
        else
            add_edge(to, n, x + i, height, x + j, n - j < LANES ? n - j : LANES, x_stride, rows);
    }
}

void covariance_add(struct covariance *covariance, const float *x, int64_t rows) {
    enum { ROWS = 128 }; /* that stay in a cache */
    int64_t first = 0;
    for (int g = 0; g < covariance->groups; g++) {
        int64_t n = covariance->group_columns[g];
#pragma omp parallel for schedule(dynamic, 4)
        for (int64_t i = 0; i < n; i += 4)
            for (int64_t r = 0; r < rows; r += ROWS)
                add_rows(covariance->sums[g], n, i, x + r * covariance->columns + first, covariance->columns,
                         rows - r < ROWS ? rows - r : ROWS);
        first += n;
    }
    covariance->rows += rows;
}

/* --- The triangle --------------------------------------------------------------------------------------- */

MULTIVERSION static float dot(const float *a, const float *b, int64_t count) {
    float sums[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++)
            sums[l] += a[i + l] * b[i + l];
    for (; i < count; i++)
        sum += a[i] * b[i];
    for (int l = 0; l < LANES; l++)
        sum += sums[l];
    return sum;
}

MULTIVERSION static void subtract(float *to, const float *from, float factor, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        to[i] -= factor * from[i];
}

/* A = R R' with R upper, in place, from the last column back: row i needs the rows below it only. */
static void factor(float *a, int64_t n) {
    for (int64_t end = n; end > 0; end -= end % TILE ? end % TILE : TILE) {
        int64_t first = end - (end % TILE ? end % TILE : TILE);
#pragma omp parallel for schedule(dynamic, 8)
        for (int64_t i = 0; i < end; i++)
            for (int64_t j = i > first ? i : first; j < end; j++)
                a[i * n + j] -= dot(a + i * n + end, a + j * n + end, n - end);

        for (int64_t j = end - 1; j >= first; j--) {
            float square = a[j * n + j] - dot(a + j * n + j + 1, a + j * n + j + 1, end - j - 1);
            a[j * n + j] = sqrtf(square > 1e-20f ? square : 1e-20f);
            for (int64_t i = j - 1; i >= first; i--)
                a[i * n + j] =
                    (a[i * n + j] - dot(a + i * n + j + 1, a + j * n + j + 1, end - j - 1)) / a[j * n + j];
        }
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < first; i++)
            for (int64_t j = end - 1; j >= first; j--)
                a[i * n + j] =
                    (a[i * n + j] - dot(a + i * n + j + 1, a + j * n + j + 1, end - j - 1)) / a[j * n + j];
    }
}

/* Rows [first, first + count) of the inverse of R: ret [count, n]. */
static void solve_rows(const float *r, int64_t n, int64_t first, int64_t count, float *ret) {
    memset(ret, 0, (size_t)(count * n) * sizeof *ret);
    for (int64_t i = 0; i < count; i++)
        ret[i * n + first + i] = 1;
    for (int64_t k = first; k < n; k++)
        for (int64_t i = 0; i < count; i++) {
            float *row = ret + i * n, value = row[k] / r[k * n + k];
            row[k] = value;
            if (value != 0)
                subtract(row + k + 1, r + k * n + k + 1, value, n - k - 1);
        }
}

/* R becomes its inverse. */
static bool invert(float *a, int64_t n) {
    enum { TOGETHER = 8 }; /* rows, for which a row of R is read once */
    size_t bytes = (size_t)(n * n) * sizeof *a;
    float *r = malloc(bytes);
    if (!r)
        return false;

    memcpy(r, a, bytes);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < n; i += TOGETHER)
        solve_rows(r, n, i, n - i < TOGETHER ? n - i : TOGETHER, a + i * n);
    free(r);
    return true;
}

bool covariance_invert(struct covariance *covariance, double damping) {
    int64_t first = 0;
    for (int g = 0; g < covariance->groups; g++) {
        int64_t n = covariance->group_columns[g];
        float *a = covariance->sums[g];
        double mean = 0;
        for (int64_t i = 0; i < n; i++)
            mean += (double)a[i * n + i] / (double)n;
        for (int64_t i = 0; i < n; i++) {
            covariance->diagonal[first + i] = a[i * n + i] / (float)(covariance->rows ? covariance->rows : 1);
            a[i * n + i] += (float)(damping * mean) + (mean > 0 ? 0 : 1);
        }
        factor(a, n);
        if (!invert(a, n))
            return false;
        first += n;
    }
    return true;
}
