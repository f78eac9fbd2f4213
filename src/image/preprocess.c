/* Hugging Face's image processors: resize, centre crop, rescale, normalise; in float32, as numpy computes. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

struct size {
    int64_t width, height;
};

/* The longer side is truncated, as torchvision and Hugging Face do; the quotient is exact up to one rounding.
 */
static int64_t longer_side(int64_t shorter, int64_t from_longer, int64_t from_shorter) {
    return (int64_t)((double)(shorter * from_longer) / (double)from_shorter);
}

static struct size resized_size(const struct image_recipe *recipe, int width, int height) {
    struct size size = {width, height};
    if (!recipe->do_resize)
        return size;
    if (recipe->resize_short <= 0)
        return (struct size){recipe->resize_width, recipe->resize_height};
    if (width <= height)
        return (struct size){recipe->resize_short, longer_side(recipe->resize_short, height, width)};
    return (struct size){longer_side(recipe->resize_short, width, height), recipe->resize_short};
}

static bool channels_equal(const double a[3], const double b[3]) {
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

bool image_recipe_equal(const struct image_recipe *a, const struct image_recipe *b) {
    return a->do_resize == b->do_resize && a->resize_short == b->resize_short &&
           a->resize_width == b->resize_width && a->resize_height == b->resize_height &&
           a->filter == b->filter && a->do_center_crop == b->do_center_crop &&
           a->crop_width == b->crop_width && a->crop_height == b->crop_height &&
           a->do_rescale == b->do_rescale && a->rescale_factor == b->rescale_factor &&
           a->rescale_offset == b->rescale_offset && a->do_normalize == b->do_normalize &&
           channels_equal(a->mean, b->mean) && channels_equal(a->standard_deviation, b->standard_deviation) &&
           a->divide_again == b->divide_again && a->flip_channels == b->flip_channels;
}

bool image_recipe_size(const struct image_recipe *recipe, int width, int height, int *ret_width,
                       int *ret_height) {
    struct size size = resized_size(recipe, width, height);
    struct error error;
    if (recipe->do_center_crop)
        size = (struct size){recipe->crop_width, recipe->crop_height};
    bool fits = image_check_size(size.width, size.height, &error);
    *ret_width = fits ? (int)size.width : 0;
    *ret_height = fits ? (int)size.height : 0;
    return fits;
}

/* Where a crop of `crop` begins in a side of `side`: rounded down, and before the picture where it is
 * smaller. */
static int64_t crop_start(int64_t side, int64_t crop) {
    int64_t difference = side - crop;
    return difference >= 0 ? difference / 2 : -((-difference + 1) / 2);
}

/* What happens to the values of a channel. A step that the recipe leaves out is one that changes nothing:
 * every operation here is exact then. */
struct channel {
    double factor;
    float offset, mean, deviation, deviation_again;
};

static struct channel channel_of(const struct image_recipe *recipe, int index) {
    struct channel channel = {1, (float)recipe->rescale_offset, 0, 1, 1};
    if (recipe->do_rescale)
        channel.factor = recipe->rescale_factor;
    if (recipe->do_normalize) {
        channel.mean = (float)recipe->mean[index];
        channel.deviation = (float)recipe->standard_deviation[index];
    }
    if (recipe->divide_again)
        channel.deviation_again = (float)recipe->standard_deviation[index];
    return channel;
}

/* Every third byte of a row: scaled in double and rounded to float once, the rest in float, as numpy does. */
static inline __attribute__((always_inline)) void row_loop(const uint8_t *row, int width,
                                                           struct channel channel, float *out) {
    for (int x = 0; x < width; x++)
        out[x] = ((float)(row[3 * x] * channel.factor) - channel.offset - channel.mean) / channel.deviation;
}

static void row_convert_portable(const uint8_t *row, int width, struct channel channel, float *out) {
    row_loop(row, width, channel, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void row_convert_avx2(const uint8_t *row, int width,
                                                             struct channel channel, float *out) {
    row_loop(row, width, channel, out);
}
#define ROW_CONVERT_BEST (__builtin_cpu_supports("avx2") ? row_convert_avx2 : row_convert_portable)
#else
#define ROW_CONVERT_BEST row_convert_portable
#endif

/* The window's pixels into the tensor [3, height, width] at (left, top); what the window leaves free is
 * black. */
static void tensor_fill(const struct image_recipe *recipe, const uint8_t *pixels, const struct window *place,
                        int width, int height, float *tensor) {
    void (*row_convert)(const uint8_t *, int, struct channel, float *) = ROW_CONVERT_BEST;
    size_t plane_size = (size_t)width * (size_t)height;
    for (int index = 0; index < 3; index++) {
        struct channel channel = channel_of(recipe, index);
        float *plane = tensor + (size_t)index * plane_size, black;
        row_convert((const uint8_t[3]){0}, 1, channel, &black);
        if (place->width < width || place->height < height)
            for (size_t i = 0; i < plane_size; i++)
                plane[i] = black;
        for (int y = 0; y < place->height; y++)
            row_convert(
                pixels + (size_t)y * (size_t)place->width * 3 + (recipe->flip_channels ? 2 - index : index),
                place->width, channel, plane + (size_t)(place->top + y) * (size_t)width + place->left);
        if (channel.deviation_again != 1)
            for (size_t i = 0; i < plane_size; i++)
                plane[i] /= channel.deviation_again;
    }
}

/* The part of a side that the crop keeps: from where in the resized picture, how much, to where in the
 * tensor. */
static void side_cut(int64_t resized, int64_t out, int *ret_from, int *ret_length, int *ret_to) {
    int64_t start = crop_start(resized, out), from = start < 0 ? 0 : start, to = start < 0 ? -start : 0;
    int64_t length = resized - from < out - to ? resized - from : out - to;
    *ret_from = (int)from;
    *ret_length = (int)length;
    *ret_to = (int)to;
}

bool image_preprocess(const struct image *image, const struct image_recipe *recipe, float *tensor,
                      struct error *error) {
    struct size resized = resized_size(recipe, image->width, image->height);
    if (resized.width < 1 || resized.height < 1 || resized.width > INT32_MAX / 4 ||
        resized.height > INT32_MAX / 4)
        return error_set(error, ERROR_INVALID, "an image of %dx%d pixels cannot be resized for this model",
                         image->width, image->height);
    int width, height;
    if (!image_recipe_size(recipe, image->width, image->height, &width, &height))
        return error_set(error, ERROR_INVALID,
                         "an image of %dx%d pixels becomes too large when resized for this model",
                         image->width, image->height);
    struct window window, place;
    side_cut(resized.width, width, &window.left, &window.width, &place.left);
    side_cut(resized.height, height, &window.top, &window.height, &place.top);
    place.width = window.width;
    place.height = window.height;
    cleanup(freep) uint8_t *pixels = malloc((size_t)window.width * (size_t)window.height * 3);
    if (!pixels)
        return error_set(error, ERROR_MEMORY, "no memory to resize an image to %dx%d pixels", width, height);
    if (!image_resize_window(image, (int)resized.width, (int)resized.height, recipe->filter, &window, pixels,
                             error))
        return false;
    tensor_fill(recipe, pixels, &place, width, height, tensor);
    return true;
}
