/* From the bytes of a photo to the input of a network: decoded, resized, normalized, in the layout and type
 * that the network takes. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "image/image.h"
#include "tensor/tensor.h"

struct timing { /* milliseconds; 0 where a stage did not happen */
    double fetch, decode, preprocess, infer;
};

/* What a network takes for photos. */
struct photo_input {
    struct preprocessing preprocessing;
    enum dtype dtype;             /* a float type, or uint8 */
    bool channels_last;           /* [n, height, width, 3] rather than [n, 3, height, width] */
    int64_t batch, height, width; /* -1: free */
};

/* Does every photo become a tensor of one size? *ret_width and *ret_height: that size; where it is false, the
 * one of a square photo of a usual size (0x0 where that exceeds the limits). */
bool photo_input_size(const struct photo_input *input, int *ret_width, int *ret_height);
/* Bytes of one photo of such a size. 0: it does not fit into memory. */
size_t photo_input_bytes(const struct photo_input *input, int width, int height);
/* `count` photos as one tensor. `data` may be NULL; it stays the caller's. */
struct tensor photo_input_tensor(const struct photo_input *input, int64_t count, int width, int height,
                                 void *data);
/* Do both take the same tensor for every photo? */
bool photo_input_equal(const struct photo_input *a, const struct photo_input *b);

/* What a photo's header tells of it. */
struct photo_plan {
    struct image_info image;
    struct image_geometry geometry; /* width, height: of the tensor */
    size_t tensor_bytes;
    int64_t cost; /* the most bytes that photo_write takes at once, the tensor not included */
};

/* Nothing is decoded. ERROR_INVALID: no photo, a damaged one, or one that becomes too large; ERROR_TOO_LARGE:
 * one that takes too much memory. Adds to timing->decode. */
bool photo_plan(const struct photo_input *input, const uint8_t *bytes, size_t size, struct photo_plan *ret,
                struct timing *timing, struct error *error);
/* `plan`: of these bytes; `tensor`: plan->tensor_bytes large. Adds to timing->decode and preprocess.
 * ERROR_INVALID: a damaged photo; ERROR_MEMORY. */
bool photo_write(const struct photo_input *input, const uint8_t *bytes, size_t size,
                 const struct photo_plan *plan, void *tensor, struct timing *timing, struct error *error);

/* One photo as the network takes it. */
struct prepared_photo {
    void *tensor; /* [3, height, width] or [height, width, 3]; malloc'ed, 64-byte aligned */
    size_t bytes;
    int width, height;
};

/* Both steps; the tensor is the caller's to free. */
bool photo_prepare(const struct photo_input *input, const uint8_t *bytes, size_t size,
                   struct prepared_photo *ret, struct timing *timing, struct error *error);
/* The second step alone. */
bool photo_prepare_planned(const struct photo_input *input, const uint8_t *bytes, size_t size,
                           const struct photo_plan *plan, struct prepared_photo *ret, struct timing *timing,
                           struct error *error);
