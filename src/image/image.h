/* From the bytes of a photo to the tensor a model was trained on, equal to Pillow's and Hugging Face's
 * pipeline.
 *
 * Decoding, resizing and normalising are pure functions of their arguments: any number of threads may call
 * them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* 8-bit RGB, row-major, no padding. Owned: image_release gives the pixels back. */
struct image {
    int width, height;
    uint8_t *pixels; /* [height, width, 3] */
};

void image_release(struct image *image);

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

/* Which format the first bytes announce. */
enum image_format image_sniff(const uint8_t *bytes, size_t size);

/* Decode JPEG (grey, YCbCr, CMYK/YCCK, EXIF orientation applied), PNG (palette, alpha, 16-bit, grey) or WebP
 * into RGB as PIL.Image.open(…).convert("RGB") after ImageOps.exif_transpose does. Refused from the header,
 * before anything is allocated: sides of 0 or over LIMIT_IMAGE_SIDE, more than LIMIT_IMAGE_PIXELS. A
 * truncated file is an error, not a grey half. ERROR_INVALID ("not an image that can be read: …"),
 * ERROR_TOO_LARGE only for size limits of encoded bytes. */
bool image_decode(const uint8_t *bytes, size_t size, struct image *ret, struct error *error);

/* Pillow's filter numbers, as preprocessor_config.json's "resample" has them. */
enum image_filter {
    IMAGE_NEAREST = 0,
    IMAGE_LANCZOS = 1,
    IMAGE_BILINEAR = 2,
    IMAGE_BICUBIC = 3,
    IMAGE_BOX = 4,
    IMAGE_HAMMING = 5,
};

/* What preprocessor_config.json asks for. */
struct image_recipe {
    bool do_resize;
    int resize_short;                /* > 0: the shorter side becomes this, the aspect kept */
    int resize_width, resize_height; /* > 0: exactly this (resize_short 0) */
    enum image_filter filter;
    bool do_center_crop;
    int crop_width, crop_height;
    bool do_rescale;
    double rescale_factor; /* usually 1/255 */
    double rescale_offset; /* taken away after that: 1 in some EfficientNets, else 0 */
    bool do_normalize;
    double mean[3], standard_deviation[3];
    bool divide_again;  /* by the standard deviation: EfficientNet's include_top */
    bool flip_channels; /* BGR */
};

/* They prepare every photo alike. */
bool image_recipe_equal(const struct image_recipe *a, const struct image_recipe *b);

/* Sizes the recipe's output will have for an input of this size. False, and 0x0, where that is beyond the
 * limits of an image (a very long strip whose shorter side is enlarged): image_preprocess then says so
 * without touching the tensor. */
bool image_recipe_size(const struct image_recipe *recipe, int width, int height, int *ret_width,
                       int *ret_height);

/* Resize, crop (padding with black where the image is smaller, as Hugging Face does), rescale, normalise.
 * tensor: [3, height, width] float32, sized by image_recipe_size. Resizes only the rows and columns that the
 * crop keeps. */
bool image_preprocess(const struct image *image, const struct image_recipe *recipe, float *tensor,
                      struct error *error);
