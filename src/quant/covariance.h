/* What the inputs of a product are like: sums of their products, X'X, over a text, and the triangle that
 * error feedback wants of them. Columns come in groups of at most COVARIANCE_COLUMNS, so that memory and time
 * stay bounded: inputs of different groups count as independent. All threads of OpenMP are used. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { COVARIANCE_COLUMNS = 2048 };

struct covariance {
    int64_t columns;
    int groups;
    int64_t group_columns[64]; /* of each group but the last the same */
    float *sums[64];           /* [group_columns]²: X'X, upper half; then the triangle U */
    float *diagonal;           /* [columns] of X'X, as mean squares */
    int64_t rows;              /* that were added */
};

/* False when memory is out. */
bool covariance_init(struct covariance *ret, int64_t columns);
void covariance_release(struct covariance *covariance);
/* x: [rows, columns] */
void covariance_add(struct covariance *covariance, const float *x, int64_t rows);
/* X'X, with `damping` of its mean added to the diagonal, becomes U, upper, with U'U its inverse. False
 * when memory is out. */
bool covariance_invert(struct covariance *covariance, double damping);
