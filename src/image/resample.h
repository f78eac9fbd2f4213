/* Inside image/: Pillow's antialiased resampling of a part of an image. Any thread. */
#pragma once
#include "image/image.h"

struct crop_window {
    int left, top, width, height; /* in pixels of the resized image */
};

/* Resize to width x height, but compute only `window` of the result (it lies within): pixels [window.height,
 * window.width, 3]. In Pillow's fixed point (22 bits, horizontal pass first, 8 bits between the passes): the
 * bytes that Image.resize((width, height), filter) has there. ERROR_MEMORY. */
bool image_resize_window(const struct image *image, int width, int height, enum image_filter filter,
                         const struct crop_window *window, uint8_t *pixels, struct error *error);

/* The weights of one direction: output i is the sum over t < counts[i] of input[starts[i] + t] * weights[i,
 * t], in 22-bit fixed point. */
struct taps {
    int outputs, stride;  /* stride: weights of one output, padded with zeros to a multiple of 4 */
    int *starts, *counts; /* [outputs] */
    int32_t *weights;     /* [outputs, stride] */
    /* [outputs, stride] the weights in two 16-bit parts each, in the order that the AVX2 kernel takes them */
    uint32_t *halves;
};

/* For outputs [first, first + outputs) of a direction of `from` pixels resized to `to`. */
bool taps_create(int from, int to, enum image_filter filter, int first, int outputs, struct taps *ret,
                 struct error *error);
void taps_release(struct taps *taps);

/* One row: source [pixels, 3] -> target [taps->outputs, 3]. At least `slack` bytes may be read past the last
 * pixel that is used; with fewer than RESAMPLE_SLACK it is slower. */
enum { RESAMPLE_SLACK = 16 };
void resample_row(const uint8_t *source, size_t slack, const struct taps *taps, uint8_t *target);
/* One output row from `count` rows: source [count, bytes], `stride` bytes apart -> target [bytes]. */
void resample_column(const uint8_t *source, size_t stride, const int32_t *weights, int count, uint8_t *target,
                     size_t bytes);
/* The same in portable C: the reference kernels. */
void resample_row_portable(const uint8_t *source, const struct taps *taps, uint8_t *target);
void resample_column_portable(const uint8_t *source, size_t stride, const int32_t *weights, int count,
                              uint8_t *target, size_t bytes);
