#include "model/picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"

/* Where the values of a pixel are. */
struct grid {
    int64_t channels, height, width;
    int64_t channel_step, row_step, pixel_step; /* elements */
    const char *layout;
};

struct value_range {
    float low, high;
};

static bool has_aspect(int64_t width, int64_t height, int photo_width, int photo_height) {
    double a = (double)width * photo_height, b = (double)height * photo_width;
    return fabs(a - b) <= 0.1 * fmax(a, b);
}

static bool find_grid(const struct shape *shape, int width, int height, struct grid *ret) {
    const int64_t *dims = shape->dims;
    bool flat = shape->rank == 3 && dims[0] == 1 && has_aspect(dims[2], dims[1], width, height);
    if (!flat && (shape->rank != 4 || dims[0] != 1))
        return false;

    if (flat)
        *ret = (struct grid){1, dims[1], dims[2], 0, dims[2], 1, "[n, h, w]"};
    else if (dims[1] != 1 && dims[1] != 3 && (dims[3] == 1 || dims[3] == 3))
        *ret = (struct grid){dims[3], dims[1], dims[2], 1, dims[2] * dims[3], dims[3], "[n, h, w, channels]"};
    else if (dims[1] == 1 || dims[1] == 3)
        *ret = (struct grid){dims[1], dims[2], dims[3], dims[2] * dims[3], dims[3], 1, "[n, channels, h, w]"};
    else if (dims[1] > 0 && dims[1] <= PICTURE_CLASSES && dims[1] <= dims[2] && dims[1] <= dims[3])
        *ret = (struct grid){dims[1], dims[2], dims[3], dims[2] * dims[3], dims[3], 1, "[n, classes, h, w]"};
    else
        return false;

    return ret->height > 0 && ret->width > 0 && ret->height <= LIMIT_IMAGE_SIDE &&
           ret->width <= LIMIT_IMAGE_SIDE && ret->height * ret->width <= LIMIT_IMAGE_PIXELS;
}

static bool find_range(const float *values, int64_t count, struct value_range *ret) {
    struct value_range range = {values[0], values[0]};
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            return false;
        range.low = fminf(range.low, values[i]);
        range.high = fmaxf(range.high, values[i]);
    }

    *ret = range;
    return true;
}

/* The usual range that these values keep to. */
static struct value_range usual_range(struct value_range values) {
    static const struct value_range usual[] = {{0, 1}, {-1, 1}, {0, 255}};
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        float slack = (usual[i].high - usual[i].low) / 20;
        if (values.low >= usual[i].low - slack && values.high <= usual[i].high + slack)
            return usual[i];
    }
    return values;
}

void picture_class_color(int class_index, uint8_t ret[3]) {
    memset(ret, 0, 3);
    for (int bit = 0; bit < 8;
         bit++) /* low bits of the number become high bits of red, green, blue in turn */
        if (class_index >> bit & 1)
            ret[bit % 3] |= (uint8_t)(128 >> bit / 3);
}

static int pixel_class(const struct grid *grid, const float *pixel) {
    int best = 0;
    if (grid->channels == 1)
        return (int)*pixel;
    for (int c = 1; c < grid->channels; c++)
        if (pixel[c * grid->channel_step] > pixel[best * grid->channel_step])
            best = c;
    return best;
}

static void fill_mask(const struct grid *grid, const float *values, struct picture *picture) {
    uint8_t *to = picture->pixels;
    for (int64_t y = 0; y < grid->height; y++)
        for (int64_t x = 0; x < grid->width; x++, to += 3) {
            int class_index = pixel_class(grid, values + y * grid->row_step + x * grid->pixel_step);
            picture->counts[class_index]++;
            picture_class_color(class_index, to);
        }
}

static void fill_picture(const struct grid *grid, const float *values, struct value_range range,
                         struct picture *picture) {
    float span = range.high - range.low, scale = span > 0 ? 255 / span : 0;
    uint8_t *to = picture->pixels;
    for (int64_t y = 0; y < grid->height; y++)
        for (int64_t x = 0; x < grid->width; x++)
            for (int64_t c = 0; c < grid->channels; c++) {
                float value = values[y * grid->row_step + x * grid->pixel_step + c * grid->channel_step];
                *to++ = (uint8_t)lrintf(fminf(fmaxf((value - range.low) * scale, 0), 255));
            }
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the picture");
}

/* Pixels of values whose range is known. */
static bool fill(const struct tensor *tensor, const struct grid *grid, const float *values,
                 struct value_range found, struct picture *ret, struct error *error) {
    bool numbers = grid->channels == 1 && dtype_is_integer(tensor->dtype) && tensor->dtype != DTYPE_U8 &&
                   found.low >= 0 && found.high < PICTURE_CLASSES;
    struct value_range range = tensor->dtype == DTYPE_U8 ? (struct value_range){0, 255} : usual_range(found);
    struct picture picture = {.width = (int)grid->width, .height = (int)grid->height};
    picture.is_mask = numbers || (grid->channels != 1 && grid->channels != 3);
    picture.channels = picture.is_mask ? 3 : (int)grid->channels;
    if (!(picture.pixels = malloc((size_t)(grid->width * grid->height) * (size_t)picture.channels)))
        return no_memory(error);

    if (picture.is_mask) {
        fill_mask(grid, values, &picture);
        snprintf(picture.meaning, sizeof picture.meaning, "a mask, taken for %s%s", grid->layout,
                 numbers ? " of class numbers" : ", the largest value of each pixel its class");
    } else {
        fill_picture(grid, values, range, &picture);
        snprintf(picture.meaning, sizeof picture.meaning, "%s, taken for %s with values from %g to %g",
                 picture.channels == 1 ? "grey" : "RGB", grid->layout, (double)range.low, (double)range.high);
    }

    *ret = picture;
    return true;
}

bool picture_make(const struct tensor *tensor, int width, int height, struct picture *ret,
                  struct error *error) {
    struct grid grid;
    struct value_range found;
    char text[SHAPE_TEXT];
    if (tensor->dtype == DTYPE_STRING || !find_grid(&tensor->shape, width, height, &grid))
        return error_set(error, ERROR_INVALID,
                         "it is %s %s, and no picture: that is [1, 1 or 3, h, w], [1, h, w, 1 or 3], a mask "
                         "[1, classes, h, w], or [1, h, w] with the photo's aspect",
                         dtype_name(tensor->dtype), shape_format(&tensor->shape, text, sizeof text));

    int64_t count = shape_elements(&tensor->shape);
    cleanup(freep) float *values = malloc((size_t)count * sizeof *values);
    if (!values)
        return no_memory(error);

    elements_convert(tensor->dtype, tensor->data, DTYPE_F32, values, count);
    if (!find_range(values, count, &found))
        return error_set(error, ERROR_INVALID, "some of its values are NaN or infinite");
    return fill(tensor, &grid, values, found, ret, error);
}

void picture_release(struct picture *picture) {
    free(picture->pixels);
    picture->pixels = NULL;
}
