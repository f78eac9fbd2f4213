/* A window that slides over one to three spatial dimensions: the geometry of convolutions and pools. */
#pragma once
#include "ops/family.h"

/* Fewer than three dimensions are filled up in front with ones, so that loops always run over three. */
#define WINDOW_DIMS 3
struct window {
    int spatial; /* how many dimensions the node has */
    int64_t input[WINDOW_DIMS], output[WINDOW_DIMS], kernel[WINDOW_DIMS];
    int64_t stride[WINDOW_DIMS], dilation[WINDOW_DIMS];
    int64_t pad[WINDOW_DIMS], pad_end[WINDOW_DIMS]; /* before the first element, after the last */
};

/* From kernel_shape (or `kernel`, [spatial], where not NULL; then kernel_shape must agree), strides,
 * dilations, pads, auto_pad, ceil_mode and the input's shape [n, c, spatial…]. Refuses what has no meaning.
 */
bool window_read(const struct node *node, const struct shape *input, const int64_t *kernel,
                 struct window *ret, struct error *error);
/* Only kernel, strides and dilations: for ConvTranspose, whose output is the larger side. */
bool window_read_steps(const struct node *node, const struct shape *input, const int64_t *kernel,
                       struct window *ret, struct error *error);
/* The attribute pads into *ret; zeros if there is none. */
bool window_read_pads(const struct node *node, struct window *ret, struct error *error);

/* Elements of the input, the output and the kernel. */
int64_t window_input_size(const struct window *window);
int64_t window_output_size(const struct window *window);
int64_t window_kernel_size(const struct window *window);
/* [n, channels, output…] */
struct shape window_output_shape(const struct window *window, int64_t batch, int64_t channels);
