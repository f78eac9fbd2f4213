#include "ops/window.h"

#include <string.h>

/* The attribute's values, one for each spatial dimension, in the last elements of *ret; the first are 1.
 * `fallback` if there is no attribute. */
static bool read_spatial(const struct node *node, const char *name, int spatial, int64_t fallback,
                         int64_t *ret, struct error *error) {
    int64_t values[2 * WINDOW_DIMS];
    int count;

    if (!node_attribute_ints(node, name, 2 * WINDOW_DIMS, values, &count, error))
        return false;
    if (count >= 0 && count != spatial)
        return node_error(node, error, "attribute %s has %d values, but there are %d spatial dimensions",
                          name, count, spatial);

    for (int i = 0; i < WINDOW_DIMS; i++)
        ret[i] = 1;

    for (int i = 0; i < spatial; i++) {
        int64_t value = count < 0 ? fallback : values[i];
        if (value < 1 || value > LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "attribute %s has the value %lld", name, (long long)value);
        ret[WINDOW_DIMS - spatial + i] = value;
    }

    return true;
}

bool window_read_steps(const struct node *node, const struct shape *input, const int64_t *kernel,
                       struct window *ret, struct error *error) {
    struct window window = {.spatial = input->rank - 2};
    if (window.spatial < 1 || window.spatial > WINDOW_DIMS)
        return node_error(node, error, "%d spatial dimensions are not supported: 1 to %d are", window.spatial,
                          WINDOW_DIMS);

    int first = WINDOW_DIMS - window.spatial;
    if (!kernel && !node_attribute(node, "kernel_shape"))
        return node_error(node, error, "attribute kernel_shape is missing");
    if (!read_spatial(node, "kernel_shape", window.spatial, 1, window.kernel, error) ||
        !read_spatial(node, "strides", window.spatial, 1, window.stride, error) ||
        !read_spatial(node, "dilations", window.spatial, 1, window.dilation, error))
        return false;

    for (int i = 0; i < WINDOW_DIMS; i++)
        window.input[i] = i < first ? 1 : input->dims[2 + i - first];

    for (int i = 0; kernel && i < window.spatial; i++) {
        if (node_attribute(node, "kernel_shape") && window.kernel[first + i] != kernel[i])
            return node_error(node, error, "attribute kernel_shape does not agree with the weights");
        if (kernel[i] < 1)
            return node_error(node, error, "the kernel is empty");
        window.kernel[first + i] = kernel[i];
    }

    for (int i = 0; i < WINDOW_DIMS; i++) {
        int64_t extent = window.dilation[i];
        if (!extent_multiply(&extent, window.kernel[i]))
            return node_error(node, error, "the kernel is too large");
    }

    *ret = window;

    return true;
}

bool window_read_pads(const struct node *node, struct window *ret, struct error *error) {
    int64_t pads[2 * WINDOW_DIMS] = {0};
    int count;

    if (!node_attribute_ints(node, "pads", 2 * WINDOW_DIMS, pads, &count, error))
        return false;
    if (count >= 0 && count != 2 * ret->spatial)
        return node_error(node, error, "attribute pads has %d values, but there are %d spatial dimensions",
                          count, ret->spatial);

    memset(ret->pad, 0, sizeof ret->pad);
    memset(ret->pad_end, 0, sizeof ret->pad_end);
    for (int i = 0; i < ret->spatial && count > 0; i++) {
        int64_t before = pads[i], after = pads[ret->spatial + i];
        if (before < 0 || after < 0 || before > LIMIT_TENSOR_ELEMENTS || after > LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "attribute pads has the values %lld and %lld", (long long)before,
                              (long long)after);
        ret->pad[WINDOW_DIMS - ret->spatial + i] = before;
        ret->pad_end[WINDOW_DIMS - ret->spatial + i] = after;
    }

    return true;
}

/* SAME: one output for each stride, with as much padding as that needs; an odd element goes to the end
 * (UPPER) or the front. */
static void pad_same(struct window *window, int i, bool upper) {
    int64_t extent = (window->kernel[i] - 1) * window->dilation[i] + 1;
    window->output[i] = (window->input[i] + window->stride[i] - 1) / window->stride[i];

    int64_t total = (window->output[i] - 1) * window->stride[i] + extent - window->input[i];
    total = total < 0 || !window->input[i] ? 0 : total;
    window->pad[i] = upper ? total / 2 : (total + 1) / 2;
    window->pad_end[i] = total - window->pad[i];
}

static bool count_windows(const struct node *node, struct window *window, int i, bool ceiling,
                          struct error *error) {
    int64_t extent = (window->kernel[i] - 1) * window->dilation[i] + 1;
    int64_t room = window->input[i] + window->pad[i] + window->pad_end[i] - extent;
    if (room < 0)
        return node_error(node, error,
                          "the kernel covers %lld elements, more than the %lld of the padded input",
                          (long long)extent, (long long)(room + extent));

    int64_t stride = window->stride[i];
    window->output[i] = (ceiling ? (room + stride - 1) / stride : room / stride) + 1;
    /* Drop a window that would start past the input. */
    if (ceiling && (window->output[i] - 1) * stride >= window->input[i] + window->pad[i])
        window->output[i]--;

    return true;
}

bool window_read(const struct node *node, const struct shape *input, const int64_t *kernel,
                 struct window *ret, struct error *error) {
    struct window window;
    if (!window_read_steps(node, input, kernel, &window, error))
        return false;

    const char *mode = node_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(mode, "SAME_UPPER") == 0, same = upper || strcmp(mode, "SAME_LOWER") == 0;
    bool valid = strcmp(mode, "VALID") == 0, ceiling = node_int(node, "ceil_mode", 0) != 0;

    if (!same && !valid && strcmp(mode, "NOTSET") != 0 && *mode)
        return node_error(node, error, "auto_pad '%.40s' is not supported", mode);
    if (!same && !valid && !window_read_pads(node, &window, error))
        return false;

    for (int i = 0; i < WINDOW_DIMS; i++) {
        if (same)
            pad_same(&window, i, upper);
        else if (!count_windows(node, &window, i, ceiling, error))
            return false;
    }

    *ret = window;

    return true;
}

int64_t window_input_size(const struct window *window) {
    return window->input[0] * window->input[1] * window->input[2];
}

int64_t window_output_size(const struct window *window) {
    return window->output[0] * window->output[1] * window->output[2];
}

int64_t window_kernel_size(const struct window *window) {
    return window->kernel[0] * window->kernel[1] * window->kernel[2];
}

struct shape window_output_shape(const struct window *window, int64_t batch, int64_t channels) {
    struct shape shape = {.rank = 2 + window->spatial, .dims = {batch, channels}};
    for (int i = 0; i < window->spatial; i++)
        shape.dims[2 + i] = window->output[WINDOW_DIMS - window->spatial + i];
    return shape;
}
