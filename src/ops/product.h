/* Matrix products and the convolutions that become matrix products, for several element types. Internal to
 * ops/. */
#pragma once
#include "ops/window.h"

/* c[b] = a[b] x b[b] for `batch` pairs: a [rows, depth], b [depth, columns] or, transposed, [columns, depth],
 * c [rows, columns], all contiguous; offsets in elements, [batch]. Integer sums wrap. False where memory is
 * out. */
#define DECLARE_PRODUCT(suffix, type)                                                                    \
    bool product_##suffix(int64_t rows, int64_t depth, int64_t columns, int64_t batch, const type *a,    \
                          const int64_t *a_offsets, const type *b, const int64_t *b_offsets,             \
                          bool b_transposed, type *c);                                                   \
    /* input [batch, groups * channels, window->input], weights [groups * filters, channels, kernel],    \
     * output [batch, groups * filters, window->output]; padding counts as zero. */                      \
    bool convolve_##suffix(const struct window *window, int64_t batch, int64_t groups, int64_t channels, \
                           int64_t filters, const type *input, const type *weights, type *output);

DECLARE_PRODUCT(f32, float)
DECLARE_PRODUCT(f64, double)
DECLARE_PRODUCT(i32, int32_t)
DECLARE_PRODUCT(i64, int64_t)
