/* Resizing an image in Pillow's two passes: horizontal first, 8 bits between them. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "image/decode.h"
#include "image/resample.h"

/* Rows of 3-byte pixels. `slack`: bytes that may be read past the last row. */
struct rows {
    const uint8_t *pixels;
    size_t stride, slack;
};

static int nearest_source(double position, int limit) {
    return position >= 0.0 && position < limit ? (int)position : -1;
}

/* Pillow adds the step repeatedly instead of multiplying: its rounding is part of the result. */
static bool resize_nearest(const struct image *image, int width, int height, const struct crop_window *window,
                           uint8_t *pixels, struct error *error) {
    double step_x = (double)image->width / width, step_y = (double)image->height / height;
    cleanup(freep) int *columns = calloc((size_t)window->width, sizeof *columns);
    if (!columns)
        return error_set(error, ERROR_MEMORY, "no memory to resize an image to %dx%d pixels", width, height);

    double x = step_x * 0.5, y = step_y * 0.5;
    for (int i = 0; i < window->left + window->width; i++, x += step_x)
        if (i >= window->left)
            columns[i - window->left] = nearest_source(x, image->width);

    for (int i = 0; i < window->top + window->height; i++, y += step_y) {
        if (i < window->top)
            continue;
        int row = nearest_source(y, image->height);
        const uint8_t *source = image->pixels + (size_t)(row < 0 ? 0 : row) * (size_t)image->width * 3;
        for (int c = 0; c < window->width; c++, pixels += 3)
            if (row < 0 || columns[c] < 0)
                memset(pixels, 0, 3);
            else
                memcpy(pixels, source + (size_t)columns[c] * 3, 3);
    }

    return true;
}

static void resample_rows(const struct rows *source, int height, const struct taps *taps, uint8_t *target) {
    size_t stride = (size_t)taps->outputs * 3;
    for (int y = 0; y < height; y++) {
        size_t slack = (size_t)(height - 1 - y) * source->stride + source->slack;
        resample_row(source->pixels + (size_t)y * source->stride, slack, taps, target + (size_t)y * stride);
    }
}

/* `first`: the source row that source->pixels begins with. */
static void resample_columns(const struct rows *source, int first, const struct taps *taps, uint8_t *target,
                             size_t bytes) {
    for (int y = 0; y < taps->outputs; y++)
        resample_column(source->pixels + (size_t)(taps->starts[y] - first) * source->stride, source->stride,
                        taps->weights + (size_t)y * (size_t)taps->stride, taps->counts[y],
                        target + (size_t)y * bytes, bytes);
}

static void copy_rows(const struct rows *source, int height, uint8_t *target, size_t bytes) {
    for (int y = 0; y < height; y++)
        memcpy(target + (size_t)y * bytes, source->pixels + (size_t)y * source->stride, bytes);
}

/* `horizontal` or `vertical` is NULL where that side keeps its size. */
static bool resample_window(const struct image *image, const struct taps *horizontal,
                            const struct taps *vertical, const struct crop_window *window, uint8_t *pixels,
                            struct error *error) {
    size_t bytes = (size_t)window->width * 3, stride = (size_t)image->width * 3, size;
    int first = vertical ? vertical->starts[0] : window->top, end = first + window->height;
    if (vertical) {
        int last = vertical->outputs - 1;
        end = vertical->starts[last] + vertical->counts[last];
    }

    struct rows rows = {image->pixels + (size_t)first * stride, stride,
                        (size_t)(image->height - end) * stride};
    cleanup(freep) uint8_t *between = NULL;
    if (horizontal && vertical) {
        if (size_multiply((size_t)(end - first), bytes, &size))
            between = malloc(size);
        if (!between)
            return error_set(error, ERROR_MEMORY, "no memory to resize an image of %dx%d pixels",
                             image->width, image->height);
    }

    if (horizontal) {
        resample_rows(&rows, end - first, horizontal, between ? between : pixels);
        rows = (struct rows){between, bytes, 0};
    } else {
        rows.pixels += (size_t)window->left * 3;
    }

    if (vertical)
        resample_columns(&rows, first, vertical, pixels, bytes);
    else if (!horizontal)
        copy_rows(&rows, window->height, pixels, bytes);
    return true;
}

bool image_resize_window(const struct image *image, int width, int height, enum image_filter filter,
                         const struct crop_window *window, uint8_t *pixels, struct error *error) {
    struct taps horizontal = {0}, vertical = {0};
    bool wider = width != image->width, higher = height != image->height;
    if (filter == IMAGE_NEAREST && (wider || higher))
        return resize_nearest(image, width, height, window, pixels, error);

    bool done = false;
    if (wider && !taps_create(image->width, width, filter, window->left, window->width, &horizontal, error))
        goto out;
    if (higher && !taps_create(image->height, height, filter, window->top, window->height, &vertical, error))
        goto out;
    done =
        resample_window(image, wider ? &horizontal : NULL, higher ? &vertical : NULL, window, pixels, error);

out:
    taps_release(&horizontal);
    taps_release(&vertical);
    return done;
}
