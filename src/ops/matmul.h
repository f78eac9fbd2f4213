/* Matrix products of batches of matrices, as numpy's matmul: for MatMul and its relatives. Internal to ops/.
 */
#pragma once
#include "ops/family.h"

struct matmul_shape {
    int64_t rows, depth, columns;
    struct shape left_batch, right_batch; /* the operands' leading dimensions */
    struct shape batch;                   /* both, broadcast */
    struct shape result;
};

/* A vector on the left is a row, on the right a column; the result loses that dimension again. */
bool matmul_shape_make(const struct node *node, const struct shape *a, const struct shape *b,
                       struct matmul_shape *ret, struct error *error);
/* c = a x b; b_transposed: each matrix of b is stored as [columns, depth]. float32, float64 and integers of
 * 32 and 64 bits. */
bool matmul_run(const struct node *node, const struct matmul_shape *shape, enum dtype dtype, const void *a,
                const void *b, bool b_transposed, void *c, struct error *error);
