/* Resizing in Pillow's two passes, horizontal first, 8 bits between them, while rows come from a decoder.
 *
 * `across` weighs rows as they are stored, `along` the pixels within one. Where the rows are rows of the
 * upright image, `along` is the horizontal pass: each row is reduced as it comes, and as soon as those that
 * an output needs are there, `across` makes it. Where they are columns (turned by a quarter), `across` is the
 * horizontal pass and comes first. Mirrored images have mirrored weights. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "image/decode.h"
#include "image/resample.h"

struct resizer {
    struct taps along, across;
    struct crop_window window;
    bool columns;  /* the stored rows are columns of the upright image */
    bool backward; /* they come from its bottom or right */
    size_t row_bytes;
    /* [capacity, row_bytes] rows that outputs to come need: reduced ones, or with `columns` as they came */
    uint8_t *held;
    int capacity, held_count, held_first; /* held_first: its number among the stored rows */
    int row;                              /* the next one's number */
    int done;                             /* outputs of `across` */
    size_t stored_bytes;                  /* of a row as it comes */
    uint8_t *line, *column;               /* with `columns`: [stored_bytes + slack], [window.height, 3] */
    uint8_t *pixels;
};

/* A resizer's sizes. */
struct sizes {
    int along_from, along_to, across_from, across_to;
    int along_outputs, across_outputs, capacity;
    size_t stored_bytes, row_bytes;
};

static struct sizes find_sizes(const struct resizing *resize) {
    bool columns = resize->orientation >= 5;
    const struct crop_window *window = &resize->window;
    struct sizes sizes = {resize->from_width, resize->width, resize->from_height,
                          resize->height,     window->width, window->height};
    if (columns)
        sizes = (struct sizes){resize->from_height, resize->height, resize->from_width,
                               resize->width,       window->height, window->width};

    sizes.capacity = 2 * taps_stride(sizes.across_from, sizes.across_to, resize->filter);
    sizes.stored_bytes = (size_t)sizes.along_from * 3;
    sizes.row_bytes = columns ? sizes.stored_bytes : (size_t)window->width * 3;
    return sizes;
}

static int64_t taps_cost(int from, int to, enum image_filter filter, int outputs) {
    return (int64_t)outputs * (taps_stride(from, to, filter) * 8 + 8);
}

int64_t resizer_cost(const struct resizing *resize) {
    struct sizes sizes = find_sizes(resize);
    return taps_cost(sizes.along_from, sizes.along_to, resize->filter, sizes.along_outputs) +
           taps_cost(sizes.across_from, sizes.across_to, resize->filter, sizes.across_outputs) +
           (int64_t)sizes.row_bytes * sizes.capacity + (int64_t)sizes.stored_bytes +
           resize->window.height * 3;
}

void resizer_free(struct resizer *resizer) {
    if (!resizer)
        return;

    taps_release(&resizer->along);
    taps_release(&resizer->across);
    free(resizer->held);
    free(resizer->line);
    free(resizer->column);
    free(resizer);
}

/* Are the upright image's columns, or its rows, stored from the end? EXIF 2.32, tag 0x0112. */
static bool is_mirrored(int orientation, bool columns) {
    if (columns)
        return orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    return orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
}

static bool make_taps(struct resizer *resizer, const struct resizing *resize, struct error *error) {
    const struct crop_window *window = &resize->window;
    struct taps horizontal, vertical;
    if (!taps_create(resize->from_width, resize->width, resize->filter, window->left, window->width,
                     &horizontal, error))
        return false;
    if (!taps_create(resize->from_height, resize->height, resize->filter, window->top, window->height,
                     &vertical, error)) {
        taps_release(&horizontal);
        return false;
    }

    if (is_mirrored(resize->orientation, true))
        taps_mirror(&horizontal, resize->from_width);
    if (is_mirrored(resize->orientation, false))
        taps_mirror(&vertical, resize->from_height);

    resizer->columns = resize->orientation >= 5;
    resizer->backward = is_mirrored(resize->orientation, resizer->columns);
    resizer->along = resizer->columns ? vertical : horizontal;
    resizer->across = resizer->columns ? horizontal : vertical;
    return true;
}

struct resizer *resizer_create(const struct resizing *resize, uint8_t *pixels, struct error *error) {
    struct sizes sizes = find_sizes(resize);
    struct resizer *resizer = calloc(1, sizeof *resizer);
    if (!resizer) {
        image_no_memory(resize->from_width, resize->from_height, error);
        return NULL;
    }

    resizer->window = resize->window;
    resizer->pixels = pixels;
    resizer->row_bytes = sizes.row_bytes;
    resizer->stored_bytes = sizes.stored_bytes;
    resizer->capacity = sizes.capacity;
    if (!make_taps(resizer, resize, error)) {
        resizer_free(resizer);
        return NULL;
    }

    size_t bytes;
    if (size_multiply(sizes.row_bytes, (size_t)sizes.capacity, &bytes))
        resizer->held = malloc(bytes);
    resizer->line = calloc(1, sizes.stored_bytes + RESAMPLE_SLACK);
    resizer->column = malloc((size_t)resize->window.height * 3);
    if (resizer->held && resizer->line && resizer->column)
        return resizer;

    resizer_free(resizer);
    image_no_memory(resize->from_width, resize->from_height, error);
    return NULL;
}

/* The output of `across` that is to be made next: those of a mirrored image come from the last. */
static int next_output(const struct resizer *resizer) {
    return resizer->backward ? resizer->across.outputs - 1 - resizer->done : resizer->done;
}

static void make_output(struct resizer *resizer, int output) {
    const struct taps *across = &resizer->across;
    const int32_t *weights = across->weights + (size_t)output * (size_t)across->stride;
    int count = across->counts[output];
    size_t skipped = count ? (size_t)(across->starts[output] - resizer->held_first) : 0;
    const uint8_t *rows = resizer->held + skipped * resizer->row_bytes;

    if (!resizer->columns) {
        resample_column(rows, resizer->row_bytes, weights, count,
                        resizer->pixels + (size_t)output * resizer->row_bytes, resizer->row_bytes);
        return;
    }

    resample_column(rows, resizer->row_bytes, weights, count, resizer->line, resizer->row_bytes);
    resample_row(resizer->line, RESAMPLE_SLACK, &resizer->along, resizer->column);
    uint8_t *to = resizer->pixels + (size_t)output * 3;
    for (int y = 0; y < resizer->window.height; y++, to += (size_t)resizer->window.width * 3)
        memcpy(to, resizer->column + (size_t)y * 3, 3);
}

/* Room for one more row: those before `needed` go where there is none. */
static uint8_t *hold_row(struct resizer *resizer, int needed) {
    if (resizer->held_count == resizer->capacity) {
        int gone = needed - resizer->held_first;
        resizer->held_count -= gone;
        resizer->held_first = needed;
        memmove(resizer->held, resizer->held + (size_t)gone * resizer->row_bytes,
                (size_t)resizer->held_count * resizer->row_bytes);
    }

    if (resizer->held_count == 0)
        resizer->held_first = resizer->row;
    return resizer->held + (size_t)resizer->held_count++ * resizer->row_bytes;
}

static void push_row(struct resizer *resizer, const uint8_t *row) {
    const struct taps *across = &resizer->across;
    int needed = across->starts[next_output(resizer)];
    if (resizer->row < needed) {
        resizer->held_count = 0;
        return;
    }

    uint8_t *to = hold_row(resizer, needed);
    if (resizer->columns)
        memcpy(to, row, resizer->row_bytes);
    else
        resample_row(row, RESAMPLE_SLACK, &resizer->along, to);

    for (; resizer->done < across->outputs; resizer->done++) {
        int output = next_output(resizer);
        if (across->starts[output] + across->counts[output] > resizer->row + 1)
            return;
        make_output(resizer, output);
    }
}

void resizer_push(struct resizer *resizer, const uint8_t *rows, int count) {
    for (int i = 0; i < count && resizer->done < resizer->across.outputs;
         i++, rows += resizer->stored_bytes) {
        push_row(resizer, rows);
        resizer->row++;
    }
}
