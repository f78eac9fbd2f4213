/* From the bytes of a photo to float32 values as a model was trained on them: the same as Pillow and Hugging
 * Face's image processors give. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* 8-bit RGB, row-major, no padding. Release it. */
struct image {
    int width, height;
    uint8_t *pixels; /* [height, width, 3] */
};

void image_release(struct image *image);

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

/* The format, by the first bytes. */
enum image_format image_sniff(const uint8_t *bytes, size_t size);

/* Decode JPEG (grey, YCbCr, CMYK, YCCK), PNG (palette, alpha, 16-bit, grey) or WebP into RGB, turned as EXIF
 * says: what PIL.ImageOps.exif_transpose and convert("RGB") give. Sizes are checked in the header, before
 * pixels are allocated: no side of 0 or over LIMIT_IMAGE_SIDE, at most LIMIT_IMAGE_PIXELS, and
 * LIMIT_DECODE_BYTES of memory. ERROR_INVALID: no image, a damaged or truncated one, or one of such a size;
 * ERROR_TOO_LARGE: more than LIMIT_IMAGE_BYTES. */
bool image_decode(const uint8_t *bytes, size_t size, struct image *ret, struct error *error);

/* The most bytes that decoding a photo takes at once, its pixels and their turning included, from its header
 * alone: 0 where it is no photo that can be read. */
int64_t image_decode_cost(const uint8_t *bytes, size_t size);
/* image_decode, refused with ERROR_INVALID where the cost is more than `limit` bytes. */
bool image_decode_within(const uint8_t *bytes, size_t size, int64_t limit, struct image *ret,
                         struct error *error);

/* Pillow's numbers of its filters, as in preprocessor_config.json's "resample". */
enum image_filter {
    IMAGE_NEAREST = 0,
    IMAGE_LANCZOS = 1,
    IMAGE_BILINEAR = 2,
    IMAGE_BICUBIC = 3,
    IMAGE_BOX = 4,
    IMAGE_HAMMING = 5,
};

/* What preprocessor_config.json asks for. */
struct preprocessing {
    bool do_resize;
    int resize_short;                /* > 0: the shorter side becomes this, the aspect kept */
    int resize_width, resize_height; /* > 0: exactly this (resize_short 0) */
    enum image_filter filter;
    bool do_center_crop;
    int crop_width, crop_height;
    bool do_rescale;
    double rescale_factor; /* usually 1/255 */
    double rescale_offset; /* subtracted after that: 1 in some EfficientNets, else 0 */
    bool do_normalize;
    double mean[3], standard_deviation[3];
    bool divide_again;  /* by the standard deviation: EfficientNet's include_top */
    bool flip_channels; /* BGR */
};

/* Do both make the same tensor of every photo? */
bool preprocessing_equal(const struct preprocessing *a, const struct preprocessing *b);

/* How a photo of one size becomes a tensor. */
struct image_geometry {
    int resized_width, resized_height; /* of the whole photo */
    int width, height;                 /* of the tensor: what the crop keeps */
};

/* ERROR_INVALID where the tensor would exceed the limits of an image: a long strip whose shorter side is
 * enlarged. */
bool image_geometry_find(const struct preprocessing *config, int width, int height,
                         struct image_geometry *ret, struct error *error);

/* Resize, crop (padded with black where the image is smaller, as Hugging Face does), rescale and normalise.
 * `geometry`: for the image's size. tensor: float32 [3, height, width], or [height, width, 3] with
 * `channels_last`. Only the rows and columns that the crop keeps are resized. ERROR_MEMORY. */
bool image_preprocess(const struct image *image, const struct preprocessing *config,
                      const struct image_geometry *geometry, bool channels_last, float *tensor,
                      struct error *error);
