/* GridSample: https://onnx.ai/onnx/operators/onnx__GridSample.html, over two dimensions.
 * x [n, c, h, w] and grid [n, rows, columns, 2] to [n, c, rows, columns]. The grid's pairs (x first) say
 * where in the image each result lies: -1 and 1 are the image's edges, or the middles of its outermost pixels
 * with align_corners. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

enum sample_mode { SAMPLE_NEAREST, SAMPLE_LINEAR, SAMPLE_CUBIC };
enum sample_padding { SAMPLE_ZEROS, SAMPLE_BORDER, SAMPLE_REFLECTION };

struct sample_options {
    enum sample_mode mode;
    enum sample_padding padding;
    bool corners; /* align_corners */
};

/* How many pixels each mode reads along an axis. */
#define TAPS_MOST 4
static const int mode_taps[] = {[SAMPLE_NEAREST] = 1, [SAMPLE_LINEAR] = 2, [SAMPLE_CUBIC] = 4};

/* What one coordinate reads along its axis. */
struct sample_taps {
    int count;
    int64_t positions[TAPS_MOST]; /* -1: outside, which counts as zero */
    double weights[TAPS_MOST];
};

static bool find_name(const char *name, const char *const names[3], int *ret) {
    for (int i = 0; i < 3; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = i;
            return true;
        }
    return false;
}

static bool options_read(const struct node *node, struct sample_options *ret, struct error *error) {
    static const char *const first_modes[] = {"nearest", "bilinear", "bicubic"};
    static const char *const modes[] = {"nearest", "linear", "cubic"}; /* since opset 20 */
    static const char *const paddings[] = {"zeros", "border", "reflection"};
    const char *mode = node_string(node, "mode", node->opset < 20 ? "bilinear" : "linear");
    const char *padding = node_string(node, "padding_mode", "zeros");
    int mode_index, padding_index;

    if (!find_name(mode, node->opset < 20 ? first_modes : modes, &mode_index))
        return node_error(node, error, "mode '%.40s' is not supported", mode);
    if (!find_name(padding, paddings, &padding_index))
        return node_error(node, error, "padding_mode '%.40s' is not supported", padding);

    *ret = (struct sample_options){.mode = (enum sample_mode)mode_index,
                                   .padding = (enum sample_padding)padding_index,
                                   .corners = node_int(node, "align_corners", 0) != 0};

    return true;
}

static bool grid_sample_check(const struct node *node, struct error *error) {
    struct sample_options options;

    return options_read(node, &options, error);
}

static bool grid_sample_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0), *grid = node_shape(node, 1);
    struct sample_options options;
    char text[SHAPE_TEXT];

    if (!options_read(node, &options, error))
        return false;
    if (!node_want_types(node, 0, options.mode == SAMPLE_NEAREST ? TYPES_ALL : TYPES_FLOAT, error) ||
        !node_want_types(node, 1, TYPES_FLOAT, error))
        return false;
    if (x->rank != 4)
        return node_error(node, error, "an input of shape %s is not supported, only images [n, c, h, w]",
                          shape_format(x, text, sizeof text));

    if (grid->rank != 4 || grid->dims[0] != x->dims[0] || grid->dims[3] != 2)
        return node_error(node, error, "the grid has shape %s, but must be %lldxROWSxCOLUMNSx2",
                          shape_format(grid, text, sizeof text), (long long)x->dims[0]);

    struct shape y = {4, {x->dims[0], x->dims[1], grid->dims[1], grid->dims[2]}};
    if ((x->dims[2] == 0 || x->dims[3] == 0) && shape_elements(&y) != 0)
        return node_error(node, error, "the images of shape %s have no pixels",
                          shape_format(x, text, sizeof text));

    return infer_output(node, 0, node_dtype(node, 0), &y, error);
}

/* --- Along one axis --- */

/* A coordinate in pixels. In the grid's own precision, because which pixel is nearest to a coordinate halfway
 * between two follows from how it was rounded. */
static double pixel_position(enum dtype dtype, double at, int64_t length, bool corners) {
    if (dtype == DTYPE_F64)
        return corners ? (at + 1) / 2 * (double)(length - 1) : ((at + 1) * (double)length - 1) / 2;

    float near = (float)at, pixels = (float)length;

    return (double)(corners ? (near + 1) / 2 * (pixels - 1) : ((near + 1) * pixels - 1) / 2);
}

/* Mirrored at the edges (the outermost pixels appear twice) or, with `corners`, at the outermost pixels. */
static int64_t reflect(int64_t position, int64_t length, bool corners) {
    int64_t period = corners ? 2 * (length - 1) : 2 * length;
    if (period == 0)
        return 0;

    position %= period;
    if (position < 0)
        position += period;
    if (position < length)
        return position;

    return corners ? period - position : period - 1 - position;
}

static int64_t pad(const struct sample_options *options, int64_t position, int64_t length) {
    if (position >= 0 && position < length)
        return position;

    switch (options->padding) {
    case SAMPLE_BORDER:
        return position < 0 ? 0 : length - 1;
    case SAMPLE_REFLECTION:
        return reflect(position, length, options->corners);
    default:
        return -1;
    }
}

/* Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -0.75. */
static void cubic_weights(double after, double ret[4]) {
    const double a = -0.75;

    for (int i = 0; i < 4; i++) {
        double d = fabs(after + 1 - i);
        ret[i] = d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((d - 5) * d + 8) * d * a - 4 * a;
    }
}

static void taps_find(const struct sample_options *options, double position, int64_t length,
                      struct sample_taps *ret) {
    /* A position that is no number lies far outside. */
    const double far = 0x1p40;
    position = position >= -far ? fmin(position, far) : -far;

    double whole = options->mode == SAMPLE_NEAREST ? nearbyint(position) : floor(position);
    double after = position - whole;
    int64_t first = (int64_t)whole;

    ret->count = mode_taps[options->mode];
    switch (options->mode) {
    case SAMPLE_NEAREST:
        ret->weights[0] = 1;
        break;
    case SAMPLE_LINEAR:
        ret->weights[0] = 1 - after;
        ret->weights[1] = after;
        break;
    case SAMPLE_CUBIC:
        first -= 1;
        cubic_weights(after, ret->weights);
    }

    for (int i = 0; i < ret->count; i++)
        ret->positions[i] = pad(options, first + i, length);
}

/* --- Over an image --- */

static double read_float(const struct tensor *tensor, int64_t index) {
    return tensor->dtype == DTYPE_F64 ? ((const double *)tensor->data)[index]
                                      : (double)((const float *)tensor->data)[index];
}

/* Pixel `to` of y from plane [h, w] of x, which starts at element `plane`. */
static void write_weighted(const struct tensor *x, int64_t plane, const struct sample_taps *down,
                           const struct sample_taps *across, const struct tensor *y, int64_t to) {
    int64_t width = x->shape.dims[3];
    double sum = 0;

    for (int i = 0; i < down->count; i++)
        for (int j = 0; j < across->count; j++)
            if (down->positions[i] >= 0 && across->positions[j] >= 0)
                sum += down->weights[i] * across->weights[j] *
                       read_float(x, plane + down->positions[i] * width + across->positions[j]);

    if (y->dtype == DTYPE_F64)
        ((double *)y->data)[to] = sum;
    else
        ((float *)y->data)[to] = (float)sum;
}

static void write_nearest(const struct tensor *x, int64_t plane, const struct sample_taps *down,
                          const struct sample_taps *across, const struct tensor *y, int64_t to) {
    size_t size = dtype_size(x->dtype);
    int64_t from = plane + down->positions[0] * x->shape.dims[3] + across->positions[0];
    char *result = (char *)y->data + (size_t)to * size;

    if (down->positions[0] >= 0 && across->positions[0] >= 0)
        memcpy(result, (const char *)x->data + (size_t)from * size, size);
    else
        memset(result, 0, size);
}

static bool grid_sample_floats(const struct node *node, const struct tensor *inputs,
                               const struct tensor *outputs, struct error *error) {
    const struct tensor *x = &inputs[0], *grid = &inputs[1], *y = &outputs[0];
    struct sample_options options;
    if (!options_read(node, &options, error))
        return false;
    if (shape_elements(&y->shape) == 0)
        return true;

    int64_t channels = x->shape.dims[1], height = x->shape.dims[2], width = x->shape.dims[3];
    int64_t points = y->shape.dims[2] * y->shape.dims[3], all = x->shape.dims[0] * points;

#pragma omp parallel for schedule(static) if (all * channels * mode_taps[options.mode] > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < all; i++) {
        struct sample_taps down, across;
        double at_x = read_float(grid, 2 * i), at_y = read_float(grid, 2 * i + 1);
        taps_find(&options, pixel_position(grid->dtype, at_x, width, options.corners), width, &across);
        taps_find(&options, pixel_position(grid->dtype, at_y, height, options.corners), height, &down);

        for (int64_t c = 0; c < channels; c++) {
            int64_t image = i / points * channels + c, to = image * points + i % points;
            if (options.mode == SAMPLE_NEAREST)
                write_nearest(x, image * height * width, &down, &across, y, to);
            else
                write_weighted(x, image * height * width, &down, &across, y, to);
        }
    }

    return true;
}

static bool grid_sample_compute(const struct node *node, const struct tensor *inputs,
                                const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, grid_sample_floats);
}

/* No OP_SAMPLEWISE: a constant grid has its own points for each sample. */
const struct op_def grid_sample_operators[] = {
    {.op_type = "GridSample",
     .since = 16,
     .inputs = {2, 2},
     .types = "nearest: " NAMES_ALL "; linear, cubic: " NAMES_FLOAT,
     .check = grid_sample_check,
     FUNCTIONS(grid_sample)},
    {0},
};
