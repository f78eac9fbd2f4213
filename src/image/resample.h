/* Inside image/: Pillow's antialiased resampling, for a window of the resized picture. */
#pragma once
#include "image/image.h"

struct window {
    int left, top, width, height; /* in pixels of the resized picture */
};

/* Resize to width x height, but compute only `window` of it (within the picture): pixels [window.height,
 * window.width, 3]. In Pillow's fixed point (22 bits of precision, horizontal pass first, 8-bit between
 * passes): the same bytes as Image.resize((width, height), filter) has there. ERROR_MEMORY. */
bool image_resize_window(const struct image *image, int width, int height, enum image_filter filter,
                         const struct window *window, uint8_t *pixels, struct error *error);

/* The weights of one direction: output i is the sum over t < counts[i] of input[starts[i] + t] * weights[i,
 * t], in 22-bit fixed point. */
struct taps {
    int outputs, stride;  /* stride: weights of one output, padded with zeros to a multiple of 4 */
    int *starts, *counts; /* [outputs] */
    int32_t *weights;     /* [outputs, stride] */
    uint32_t *
        halves; /* [outputs, stride]: the weights cut in two 16-bit parts, in the order rows_resample wants */
};

/* For outputs [first, first + outputs) of a direction of `from` pixels resized to `to`. */
bool taps_create(int from, int to, enum image_filter filter, int first, int outputs, struct taps *ret,
                 struct error *error);
void taps_release(struct taps *taps);

/* One row: source [pixels, 3] -> target [taps->outputs, 3]. At least `slack` bytes may be read behind the
 * last pixel that a tap names; fewer than RESAMPLE_SLACK costs speed only. */
enum { RESAMPLE_SLACK = 16 };
void row_resample(const uint8_t *source, size_t slack, const struct taps *taps, uint8_t *target);
/* One output row from count rows below each other: source [count, bytes] with a stride -> target [bytes]. */
void column_resample(const uint8_t *source, size_t stride, const int32_t *weights, int count, uint8_t *target,
                     size_t bytes);
/* The same by plain C, for comparison. */
void row_resample_portable(const uint8_t *source, const struct taps *taps, uint8_t *target);
void column_resample_portable(const uint8_t *source, size_t stride, const int32_t *weights, int count,
                              uint8_t *target, size_t bytes);
