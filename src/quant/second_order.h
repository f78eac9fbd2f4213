/* Rounding a matrix so that its products change least: what rounding a column costs is made good by the
 * columns that come after it (Frantar et al., GPTQ, 2022), within the scales of the block type, which are
 * chosen as the columns are reached. All threads of OpenMP are used. */
#pragma once
#include "linear/block_type.h"
#include "quant/covariance.h"

/* rows: [count, columns] weights, changed; ret: [count] rows of blocks. covariance: inverted
 * (covariance_invert). Returns the error: the mean square, over the rows, of what products change by. */
double second_order_round(const struct covariance *covariance, enum block_type type, float *rows,
                          int64_t count, uint8_t *ret);
