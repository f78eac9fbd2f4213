/* Inside teach/: symmetric positive definite systems in float64. Matrices are row-major and contiguous.
 * OpenMP works inside. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* The lower triangle of a·a', a: [order, depth] -> ret [order, order]. False: no memory, as in the others. */
bool gram_compute(const double *a, int64_t order, int64_t depth, int threads, double *ret);

/* The lower triangle of a matrix becomes its Cholesky factor. *ret_definite: it was positive definite. */
bool cholesky_factor(double *matrix, int64_t order, int threads, bool *ret_definite);

/* Each column of the solution of factor·x = right, squared and summed: -> ret [columns]. `right`: [order,
 * columns]; NULL: the identity. */
bool cholesky_squares(const double *factor, int64_t order, const double *right, int64_t columns, int threads,
                      double *ret);

/* factor·factor'·x = right, in place: [order, columns]. */
void cholesky_solve(const double *factor, int64_t order, double *right, int64_t columns);
