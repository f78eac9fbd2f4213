/* From the bytes of a photo to float32 values as a model was trained on them: the same as Pillow and Hugging
 * Face's image processors give. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum image_format { IMAGE_UNKNOWN, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP, IMAGE_GIF, IMAGE_BMP, IMAGE_TIFF };

/* The format, by the first bytes. */
enum image_format image_sniff(const uint8_t *bytes, size_t size);

/* What a photo's header tells. */
struct image_info {
    enum image_format format;
    int width, height;     /* upright: turned as `orientation` says */
    int orientation;       /* EXIF's, 1 to 8 */
    int64_t decoder_bytes; /* the most memory that its decoder takes at once */
};

/* Read the header of a JPEG (grey, YCbCr, CMYK, YCCK), PNG (palette, alpha, 16-bit, grey), WebP, GIF, BMP or
 * baseline TIFF; of several pictures in a file the first one counts. Nothing is decoded. A photo is refused
 * here for its size: no side of 0 or over LIMIT_IMAGE_SIDE, at most LIMIT_IMAGE_PIXELS. ERROR_INVALID: no
 * image, a damaged or truncated one, or one of such a size; ERROR_TOO_LARGE: more than LIMIT_IMAGE_BYTES, or
 * a decoder that takes more than LIMIT_DECODE_BYTES. */
bool image_read_info(const uint8_t *bytes, size_t size, struct image_info *ret, struct error *error);

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

/* The most bytes that image_preprocess takes at once, the tensor not included. */
int64_t image_preprocess_cost(const struct image_info *info, const struct preprocessing *config,
                              const struct image_geometry *geometry);

/* Decode, turn, resize, crop (padded with black where the image is smaller, as Hugging Face does), rescale
 * and normalise. The pixels are what PIL.ImageOps.exif_transpose and convert("RGB") give. Rows go from the
 * decoder into the resampler: of most photos, no more than a few are held. `info`: of these bytes;
 * `geometry`: for its size. tensor: float32 [3, height, width], or [height, width, 3] with `channels_last`.
 * Adds the milliseconds in the decoder to *decode_ms. ERROR_INVALID: a damaged image; ERROR_MEMORY. */
bool image_preprocess(const uint8_t *bytes, size_t size, const struct image_info *info,
                      const struct preprocessing *config, const struct image_geometry *geometry,
                      bool channels_last, float *tensor, double *decode_ms, struct error *error);

/* Write pixels [height, width, channels], 1 (grey) or 3 (RGB), as a PNG; an old file is replaced at once.
 * ERROR_INVALID: beyond the limits of an image; ERROR_MEMORY, ERROR_IO. */
bool image_write_png(const char *path, const uint8_t *pixels, int width, int height, int channels,
                     struct error *error);
