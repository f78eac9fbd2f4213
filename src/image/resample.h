/* Inside image/: Pillow's antialiased resampling of a part of an image. Any thread. */
#pragma once
#include "image/image.h"

struct crop_window {
    int left, top, width, height; /* in pixels of the resized image */
};

/* What a photo is resized to: width x height, of which only `window` (it lies within) is computed. */
struct resizing {
    int from_width, from_height; /* upright */
    int orientation;             /* how the rows are stored: EXIF's, 1 to 8 */
    int width, height;
    enum image_filter filter;
    struct crop_window window;
};

/* Rows in, pixels out: in Pillow's fixed point (22 bits, horizontal pass first, 8 bits between the passes)
 * the bytes that Image.resize((width, height), filter) has in the window, once all rows were pushed. Where a
 * turn by a quarter is stored, the upright image's columns come as rows, and are reduced as they come. */
struct resizer;
/* `pixels`: [window.height, window.width, 3], written as the rows come. ERROR_MEMORY. */
struct resizer *resizer_create(const struct resizing *resize, uint8_t *pixels, struct error *error);
/* The next `count` rows as they are stored, from the top: [count, stored width, 3], with RESAMPLE_SLACK bytes
 * behind them that may be read. */
void resizer_push(struct resizer *resizer, const uint8_t *rows, int count);
void resizer_free(struct resizer *resizer);
/* The most bytes that a resizer takes. */
int64_t resizer_cost(const struct resizing *resize);

/* Decode a whole photo into a resizer. `info`: of these bytes. As image_preprocess, errors included. */
bool image_read_resized(const uint8_t *bytes, size_t size, const struct image_info *info,
                        const struct resizing *resize, uint8_t *pixels, double *decode_ms,
                        struct error *error);

/* The weights of one direction: output i is the sum over t < counts[i] of input[starts[i] + t] * weights[i,
 * t], in 22-bit fixed point. */
struct taps {
    int outputs, stride;  /* stride: weights of one output, padded with zeros to a multiple of 4 */
    int *starts, *counts; /* [outputs] */
    int32_t *weights;     /* [outputs, stride] */
    /* [outputs, stride] the weights in two 16-bit parts each, in the order that the AVX2 kernel takes them */
    uint32_t *halves;
};

/* For outputs [first, first + outputs) of a direction of `from` pixels resized to `to`. IMAGE_NEAREST: one
 * input each, or none (black) where rounding leads beyond the last. ERROR_MEMORY. */
bool taps_create(int from, int to, enum image_filter filter, int first, int outputs, struct taps *ret,
                 struct error *error);
/* Weights of one output, their padding included. */
int taps_stride(int from, int to, enum image_filter filter);
/* For the same `from` inputs in reverse order; the outputs keep theirs. */
void taps_mirror(struct taps *taps, int from);
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
