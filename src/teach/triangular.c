#include "teach/triangular.h"

#include <stdlib.h>
#include <string.h>

#include "base/multiversion.h"

enum { PANEL = 32 }; /* columns that are worked on at once: eight registers of AVX2 */

/* sums[c] = Σ a[k]·panel[k, c] */
MULTIVERSION static void multiply_panel(const double *restrict a, const double *restrict panel, int64_t depth,
                                        double *restrict ret) {
    double sums[PANEL] = {0};
    for (int64_t k = 0; k < depth; k++)
        for (int c = 0; c < PANEL; c++)
            sums[c] += a[k] * panel[k * PANEL + c];
    memcpy(ret, sums, sizeof sums);
}

/* Rows [from, from + PANEL) of a, [rows, depth] with `stride`, as columns; rows past the end are zero. */
static void pack_rows(const double *a, int64_t from, int64_t rows, int64_t depth, int64_t stride,
                      double *ret) {
    for (int64_t k = 0; k < depth; k++)
        for (int64_t c = 0; c < PANEL; c++)
            ret[k * PANEL + c] = from + c < rows ? a[(from + c) * stride + k] : 0;
}

static double *panel_create(int64_t depth) {
    return aligned_alloc(64, ((size_t)depth + 1) * PANEL * sizeof(double));
}

bool gram_compute(const double *a, int64_t order, int64_t depth, int threads, double *ret) {
    double *panel = panel_create(depth);
    if (!panel)
        return false;

    for (int64_t from = 0; from < order; from += PANEL) {
        int64_t columns = order - from < PANEL ? order - from : PANEL;
        pack_rows(a, from, order, depth, depth, panel);
#pragma omp parallel for num_threads(threads)
        for (int64_t i = from; i < order; i++) {
            double sums[PANEL];
            multiply_panel(a + i * depth, panel, depth, sums);
            memcpy(ret + i * order + from, sums, (size_t)columns * sizeof *sums);
        }
    }

    free(panel);
    return true;
}

/* The square on the diagonal, from what the columns before it leave. */
static bool factor_square(double *matrix, int64_t order, int64_t from, int64_t columns) {
    for (int64_t i = from; i < from + columns; i++)
        for (int64_t j = from; j <= i; j++) {
            double sum = matrix[i * order + j];
            for (int64_t k = from; k < j; k++)
                sum -= matrix[i * order + k] * matrix[j * order + k];
            if (i == j && !(sum > 0))
                return false;
            matrix[i * order + j] = i == j ? __builtin_sqrt(sum) : sum / matrix[j * order + j];
        }
    return true;
}

/* The columns [from, from + columns) of a row below the square. */
static void factor_row(const double *matrix, int64_t order, int64_t from, int64_t columns, double *row) {
    for (int64_t j = 0; j < columns; j++) {
        const double *other = matrix + (from + j) * order + from;
        double sum = row[j];
        for (int64_t k = 0; k < j; k++)
            sum -= row[k] * other[k];
        row[j] = sum / other[j];
    }
}

bool cholesky_factor(double *matrix, int64_t order, int threads, bool *ret_definite) {
    double *panel = panel_create(order);
    if (!panel)
        return false;

    *ret_definite = true;
    for (int64_t from = 0; *ret_definite && from < order; from += PANEL) {
        int64_t columns = order - from < PANEL ? order - from : PANEL;
        pack_rows(matrix, from, order, from, order, panel);
#pragma omp parallel for num_threads(threads)
        for (int64_t i = from; i < order; i++) {
            double sums[PANEL];
            multiply_panel(matrix + i * order, panel, from, sums);
            for (int64_t j = 0; j < columns; j++)
                matrix[i * order + from + j] -= sums[j];
        }

        *ret_definite = factor_square(matrix, order, from, columns);
#pragma omp parallel for num_threads(threads)
        for (int64_t i = from + columns; i < order; i++)
            factor_row(matrix, order, from, columns, matrix + i * order + from);
    }

    free(panel);
    return true;
}

/* PANEL columns of the solution, in `panel`; those of the identity are zero above the diagonal. */
static void solve_panel(const double *factor, int64_t order, const double *right, int64_t columns,
                        int64_t from, double *panel) {
    int64_t first = right ? 0 : from;
    for (int64_t i = first; i < order; i++) {
        const double *row = factor + i * order;
        double sums[PANEL];
        multiply_panel(row + first, panel + first * PANEL, i - first, sums);
        for (int64_t c = 0; c < PANEL; c++) {
            double wanted = right ? (from + c < columns ? right[i * columns + from + c] : 0) : from + c == i;
            panel[i * PANEL + c] = (wanted - sums[c]) / row[i];
        }
    }
}

bool cholesky_squares(const double *factor, int64_t order, const double *right, int64_t columns, int threads,
                      double *ret) {
    int64_t panels = (columns + PANEL - 1) / PANEL;
    bool failed = false;

#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t p = 0; p < panels; p++) {
        int64_t from = p * PANEL, first = right ? 0 : from;
        double *panel = panel_create(order);
        if (!panel) {
#pragma omp atomic write
            failed = true;
            continue;
        }

        solve_panel(factor, order, right, columns, from, panel);
        for (int64_t c = 0; c < PANEL && from + c < columns; c++) {
            double sum = 0;
            for (int64_t i = first; i < order; i++)
                sum += panel[i * PANEL + c] * panel[i * PANEL + c];
            ret[from + c] = sum;
        }
        free(panel);
    }

    return !failed;
}

void cholesky_solve(const double *factor, int64_t order, double *right, int64_t columns) {
    for (int64_t i = 0; i < order; i++) {
        const double *row = factor + i * order;
        for (int64_t j = 0; j < i; j++)
            for (int64_t c = 0; c < columns; c++)
                right[i * columns + c] -= row[j] * right[j * columns + c];
        for (int64_t c = 0; c < columns; c++)
            right[i * columns + c] /= row[i];
    }

    for (int64_t i = order - 1; i >= 0; i--) {
        const double *row = factor + i * order;
        for (int64_t c = 0; c < columns; c++)
            right[i * columns + c] /= row[i];
        for (int64_t j = 0; j < i; j++)
            for (int64_t c = 0; c < columns; c++)
                right[j * columns + c] -= row[j] * right[i * columns + c];
    }
}
