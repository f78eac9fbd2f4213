#include "ops/product.h"

#define TILE 64         /* columns packed at once */
#define ROW_TILE 256    /* rows of a thread's share */
#define DEPTH_BLOCK 512 /* products summed before they join the rest */

/* One element sees one element: the input is the matrix already. */
static bool window_is_point(const struct window *window) {
    for (int i = 0; i < WINDOW_DIMS; i++)
        if (window->kernel[i] != 1 || window->stride[i] != 1 || window->output[i] != window->input[i])
            return false;
    return window_kernel_size(window) == 1 && window->pad[0] + window->pad[1] + window->pad[2] == 0;
}

#define ELEMENT float
#define SUM float
#define NAME(name) name##_f32
#include "ops/product_template.inc"

#define ELEMENT double
#define SUM double
#define NAME(name) name##_f64
#include "ops/product_template.inc"

#define ELEMENT int32_t
#define SUM uint32_t
#define NAME(name) name##_i32
#include "ops/product_template.inc"

#define ELEMENT int64_t
#define SUM uint64_t
#define NAME(name) name##_i64
#include "ops/product_template.inc"
