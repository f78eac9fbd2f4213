/* The kernels of linear/ that this processor can run, for their tests. */
#pragma once
#include "linear/kernels.h"

/* Ends with NULL; the first one is the portable one. Any thread. */
const struct linear_kernels *const *linear_tables(void);

/* Matrix tiles in plain C. */
extern const struct linear_tiles linear_tiles_emulated;
