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

/* What each of the 256 values of a channel becomes. */
static void table_fill(const struct image_recipe *recipe, int channel, float table[256]) {
    float mean = (float)recipe->mean[channel], deviation = (float)recipe->standard_deviation[channel];
    for (int value = 0; value < 256; value++) {
        float x = recipe->do_rescale ? (float)(value * recipe->rescale_factor) : (float)value;
        x -= (float)recipe->rescale_offset;
        if (recipe->do_normalize)
            x = (x - mean) / deviation;
        table[value] = recipe->divide_again ? x / deviation : x;
    }
}

/* The window's pixels into the tensor [3, height, width] at (left, top); what the window leaves free is
 * black. */
static void tensor_fill(const struct image_recipe *recipe, const uint8_t *pixels, const struct window *place,
                        int width, int height, float *tensor) {
    for (int channel = 0; channel < 3; channel++) {
        float table[256], *plane = tensor + (size_t)channel * (size_t)width * (size_t)height;
        int from = recipe->flip_channels ? 2 - channel : channel;
        table_fill(recipe, channel, table);
        if (place->width < width || place->height < height)
            for (size_t i = 0; i < (size_t)width * (size_t)height; i++)
                plane[i] = table[0];
        for (int y = 0; y < place->height; y++) {
            const uint8_t *row = pixels + (size_t)y * (size_t)place->width * 3 + from;
            float *out = plane + (size_t)(place->top + y) * (size_t)width + place->left;
            for (int x = 0; x < place->width; x++)
                out[x] = table[row[3 * x]];
        }
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
