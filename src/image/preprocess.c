/* Hugging Face's image processors: resize, centre crop, rescale, normalise; in float32, as numpy computes. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

#define RESIZED_MOST (INT32_MAX / 4) /* pixels a side of a photo, before the crop */

/* Truncated, as torchvision and Hugging Face do. */
static int64_t longer_side(int64_t shorter, int64_t from_longer, int64_t from_shorter) {
    return (int64_t)((double)(shorter * from_longer) / (double)from_shorter);
}

static bool channels_equal(const double a[3], const double b[3]) {
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

bool preprocessing_equal(const struct preprocessing *a, const struct preprocessing *b) {
    return a->do_resize == b->do_resize && a->resize_short == b->resize_short &&
           a->resize_width == b->resize_width && a->resize_height == b->resize_height &&
           a->filter == b->filter && a->do_center_crop == b->do_center_crop &&
           a->crop_width == b->crop_width && a->crop_height == b->crop_height &&
           a->do_rescale == b->do_rescale && a->rescale_factor == b->rescale_factor &&
           a->rescale_offset == b->rescale_offset && a->do_normalize == b->do_normalize &&
           channels_equal(a->mean, b->mean) && channels_equal(a->standard_deviation, b->standard_deviation) &&
           a->divide_again == b->divide_again && a->flip_channels == b->flip_channels;
}

static void find_resized_size(const struct preprocessing *config, int width, int height, int64_t *ret_width,
                              int64_t *ret_height) {
    int64_t shorter = config->resize_short;
    *ret_width = width;
    *ret_height = height;

    if (config->do_resize && shorter <= 0) {
        *ret_width = config->resize_width;
        *ret_height = config->resize_height;
    } else if (config->do_resize && width <= height) {
        *ret_width = shorter;
        *ret_height = longer_side(shorter, height, width);
    } else if (config->do_resize) {
        *ret_width = longer_side(shorter, width, height);
        *ret_height = shorter;
    }
}

bool image_geometry_find(const struct preprocessing *config, int width, int height,
                         struct image_geometry *ret, struct error *error) {
    int64_t resized_width, resized_height;
    find_resized_size(config, width, height, &resized_width, &resized_height);
    int64_t out_width = config->do_center_crop ? config->crop_width : resized_width;
    int64_t out_height = config->do_center_crop ? config->crop_height : resized_height;

    if (resized_width < 1 || resized_height < 1 || resized_width > RESIZED_MOST ||
        resized_height > RESIZED_MOST || !image_size_allowed(out_width, out_height))
        return error_set(error, ERROR_INVALID,
                         "the photo (%dx%d pixels) exceeds the size limit when it is resized for this model",
                         width, height);

    *ret = (struct image_geometry){(int)resized_width, (int)resized_height, (int)out_width, (int)out_height};
    return true;
}

/* Where a crop begins in a side, rounded down; negative where the side is shorter than the crop. */
static int64_t find_crop_start(int64_t side, int64_t crop) {
    int64_t difference = side - crop;
    return difference >= 0 ? difference / 2 : -((-difference + 1) / 2);
}

/* What happens to the values of a channel. A step that is left out multiplies by 1 or subtracts 0, which is
 * exact.
 */
struct channel {
    double factor;
    float offset, mean, deviation, deviation_again;
};

static struct channel make_channel(const struct preprocessing *config, int index) {
    struct channel channel = {1, (float)config->rescale_offset, 0, 1, 1};
    if (config->do_rescale)
        channel.factor = config->rescale_factor;

    if (config->do_normalize) {
        channel.mean = (float)config->mean[index];
        channel.deviation = (float)config->standard_deviation[index];
    }

    if (config->divide_again)
        channel.deviation_again = (float)config->standard_deviation[index];
    return channel;
}

/* Scaled in double and rounded to float once, the rest in float, as numpy does. */
static inline __attribute__((always_inline)) float value_of(uint8_t byte, const struct channel *channel) {
    return ((float)(byte * channel->factor) - channel->offset - channel->mean) / channel->deviation;
}

/* Every third byte of a row; the results are `step` (1 or 3) floats apart. */
static inline __attribute__((always_inline)) void convert_row_values(const uint8_t *row, int width,
                                                                     struct channel channel, float *out,
                                                                     int step) {
    if (step == 1)
        for (int x = 0; x < width; x++)
            out[x] = value_of(row[3 * x], &channel);
    else
        for (int x = 0; x < width; x++)
            out[3 * x] = value_of(row[3 * x], &channel);
}

static void convert_row_portable(const uint8_t *row, int width, struct channel channel, float *out,
                                 int step) {
    convert_row_values(row, width, channel, out, step);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void convert_row_avx2(const uint8_t *row, int width,
                                                             struct channel channel, float *out, int step) {
    convert_row_values(row, width, channel, out, step);
}
#define CONVERT_ROW_BEST (__builtin_cpu_supports("avx2") ? convert_row_avx2 : convert_row_portable)
#else
#define CONVERT_ROW_BEST convert_row_portable
#endif

/* A tensor being filled: the value of channel c at pixel i is data[c * channel_stride + i * step]. */
struct tensor_target {
    float *data;
    int width, height, step; /* step: 1, or 3 with the channels last */
    size_t channel_stride;
};

/* One channel of the window's pixels into the tensor, at (position->left, position->top); black around it. */
static void fill_channel(const struct preprocessing *config, int index, const uint8_t *pixels,
                         const struct crop_window *position, const struct tensor_target *target) {
    void (*convert_row)(const uint8_t *, int, struct channel, float *, int) = CONVERT_ROW_BEST;
    struct channel channel = make_channel(config, index);
    size_t width = (size_t)target->width, count = width * (size_t)target->height;
    size_t step = (size_t)target->step;
    float *values = target->data + (size_t)index * target->channel_stride, black;

    convert_row((const uint8_t[3]){0}, 1, channel, &black, 1);
    if (position->width < target->width || position->height < target->height)
        for (size_t i = 0; i < count; i++)
            values[i * step] = black;

    pixels += config->flip_channels ? 2 - index : index;
    for (int y = 0; y < position->height; y++) {
        size_t first = (size_t)(position->top + y) * width + (size_t)position->left;
        convert_row(pixels + (size_t)y * (size_t)position->width * 3, position->width, channel,
                    values + first * step, target->step);
    }

    if (channel.deviation_again != 1)
        for (size_t i = 0; i < count; i++)
            values[i * step] /= channel.deviation_again;
}

/* The part of a side that the crop keeps: where it begins in the resized image, its length, and where it goes
 * in the tensor. */
static void cut_side(int64_t resized, int64_t out, int *ret_from, int *ret_length, int *ret_to) {
    int64_t start = find_crop_start(resized, out), from = start < 0 ? 0 : start, to = start < 0 ? -start : 0;
    int64_t length = resized - from < out - to ? resized - from : out - to;
    *ret_from = (int)from;
    *ret_length = (int)length;
    *ret_to = (int)to;
}

/* `position`: where the window goes in the tensor, and its size. */
static struct resizing find_resize(const struct image_info *info, const struct preprocessing *config,
                                   const struct image_geometry *geometry, struct crop_window *position) {
    struct resizing resize = {.from_width = info->width,
                              .from_height = info->height,
                              .orientation = info->orientation,
                              .width = geometry->resized_width,
                              .height = geometry->resized_height,
                              .filter = config->filter};
    struct crop_window *window = &resize.window;

    cut_side(resize.width, geometry->width, &window->left, &window->width, &position->left);
    cut_side(resize.height, geometry->height, &window->top, &window->height, &position->top);
    position->width = window->width;
    position->height = window->height;
    return resize;
}

int64_t image_preprocess_cost(const struct image_info *info, const struct preprocessing *config,
                              const struct image_geometry *geometry) {
    struct crop_window position;
    struct resizing resize = find_resize(info, config, geometry, &position);
    return info->decoder_bytes + resizer_cost(&resize) + (int64_t)position.width * position.height * 3;
}

bool image_preprocess(const uint8_t *bytes, size_t size, const struct image_info *info,
                      const struct preprocessing *config, const struct image_geometry *geometry,
                      bool channels_last, float *tensor, double *decode_ms, struct error *error) {
    struct crop_window position;
    struct resizing resize = find_resize(info, config, geometry, &position);
    cleanup(freep) uint8_t *pixels = malloc((size_t)position.width * (size_t)position.height * 3);
    if (!pixels)
        return image_no_memory(geometry->width, geometry->height, error);
    if (!image_read_resized(bytes, size, info, &resize, pixels, decode_ms, error))
        return false;

    size_t plane = (size_t)geometry->width * (size_t)geometry->height;
    const struct tensor_target target = {tensor, geometry->width, geometry->height, channels_last ? 3 : 1,
                                         channels_last ? 1 : plane};
    for (int index = 0; index < 3; index++)
        fill_channel(config, index, pixels, &position, &target);
    return true;
}
