/* ConvTranspose: https://onnx.ai/onnx/operators/onnx__ConvTranspose.html. x [n, c, spatial…], weights
 * [c, m / group, kernel…], bias [m]. */
#include <string.h>

#include "ops/conv.h"

/* Where output_shape gives a length, the padding follows from it; an odd element goes to the end for
 * SAME_UPPER, else to the front. */
static bool pad_to_length(const struct node *node, struct window *w, int i, int64_t full, int64_t wanted,
                          bool upper, struct error *error) {
    if (wanted < 0 || wanted > LIMIT_TENSOR_ELEMENTS)
        return node_error(node, error, "attribute output_shape has the value %lld", (long long)wanted);
    int64_t total = full > wanted ? full - wanted : 0;
    w->pad[i] = upper ? total / 2 : total - total / 2;
    w->pad_end[i] = total - w->pad[i];
    w->output[i] = wanted;

    return true;
}

static bool lengths_read(const struct node *node, struct window *w, const int64_t *shape, int shape_count,
                         const int64_t *more, struct error *error) {
    const char *mode = node_string(node, "auto_pad", "NOTSET");
    bool upper = strcmp(mode, "SAME_UPPER") == 0, same = upper || strcmp(mode, "SAME_LOWER") == 0;
    int first = WINDOW_DIMS - w->spatial;

    for (int i = 0; i < WINDOW_DIMS; i++) {
        int64_t steps = w->input[i] ? w->input[i] - 1 : 0, full = steps;
        if (!extent_multiply(&full, w->stride[i]))
            return node_error(node, error, "the result is too large");

        full += (w->kernel[i] - 1) * w->dilation[i] + 1 + (i < first ? 0 : more[i - first]);
        int64_t whole = w->input[i];
        if (!extent_multiply(&whole, w->stride[i]))
            return node_error(node, error, "the result is too large");

        bool given = shape_count > 0 && i >= first;
        if (given || (same && i >= first)) {
            int64_t wanted = given ? shape[shape_count - w->spatial + i - first] : whole;
            if (!pad_to_length(node, w, i, full, wanted, upper, error))
                return false;
            continue;
        }

        w->output[i] = full - w->pad[i] - w->pad_end[i];
        if (w->output[i] < 0)
            return node_error(node, error, "the padding is larger than the result");
    }

    return true;
}

static bool transpose_window(const struct node *node, const struct shape *x, const struct shape *weights,
                             struct window *ret, struct error *error) {
    int64_t shape[2 + WINDOW_DIMS], more[WINDOW_DIMS] = {0};
    int shape_count, more_count;
    struct window w;

    if (!window_read_steps(node, x, weights->dims + 2, &w, error) || !window_read_pads(node, &w, error) ||
        !node_attribute_ints(node, "output_shape", 2 + WINDOW_DIMS, shape, &shape_count, error) ||
        !node_attribute_ints(node, "output_padding", WINDOW_DIMS, more, &more_count, error))
        return false;
    if ((shape_count > 0 && shape_count != w.spatial && shape_count != w.spatial + 2) ||
        (more_count > 0 && more_count != w.spatial))
        return node_error(node, error, "output_shape or output_padding have the wrong number of values");

    for (int i = 0; i < more_count; i++)
        if (more[i] < 0 || more[i] > LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "attribute output_padding has the value %lld", (long long)more[i]);

    if (!lengths_read(node, &w, shape, shape_count, more, error))
        return false;

    *ret = w;

    return true;
}

static bool transpose_groups(const struct node *node, const struct shape *x, const struct shape *weights,
                             int64_t *ret_groups, struct error *error) {
    int64_t groups = node_int(node, "group", 1), filters = weights->rank > 1 ? weights->dims[1] : 0;
    char text[2][SHAPE_TEXT];

    if (x->rank < 3 || x->rank != weights->rank || groups < 1 || groups > LIMIT_TENSOR_ELEMENTS ||
        x->dims[1] != weights->dims[0] || x->dims[1] % groups || !extent_multiply(&filters, groups))
        return node_error(node, error, "input %s, weights %s and group %lld do not fit together",
                          shape_format(x, text[0], SHAPE_TEXT), shape_format(weights, text[1], SHAPE_TEXT),
                          (long long)groups);

    *ret_groups = groups;
    return true;
}

static bool transpose_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0), *weights = node_shape(node, 1);
    struct window window;
    int64_t groups = 1;

    if (!node_want_types(node, 0, TYPES_F32, error) || !node_want_same_type(node, 1, 0, error) ||
        !node_want_same_type(node, 2, 0, error) || !transpose_groups(node, x, weights, &groups, error) ||
        !transpose_window(node, x, weights, &window, error) ||
        !node_want_vector(node, 2, weights->dims[1] * groups, error))
        return false;

    struct shape shape = window_output_shape(&window, x->dims[0], weights->dims[1] * groups);
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* One channel of the input, through one kernel, added to one channel of the output. */
static void scatter_plane(const struct window *w, const float *x, const float *kernel, float *y) {
    for (int64_t kd = 0; kd < w->kernel[0]; kd++)
        for (int64_t kh = 0; kh < w->kernel[1]; kh++)
            for (int64_t kw = 0; kw < w->kernel[2]; kw++, kernel++)
                for (int64_t d = 0; d < w->input[0]; d++)
                    for (int64_t h = 0; h < w->input[1]; h++) {
                        int64_t od = d * w->stride[0] + kd * w->dilation[0] - w->pad[0];
                        int64_t oh = h * w->stride[1] + kh * w->dilation[1] - w->pad[1];
                        if (od < 0 || od >= w->output[0] || oh < 0 || oh >= w->output[1])
                            continue;
                        const float *from = x + (d * w->input[1] + h) * w->input[2];
                        float *to = y + (od * w->output[1] + oh) * w->output[2];
                        for (int64_t i = 0; i < w->input[2]; i++) {
                            int64_t ow = i * w->stride[2] + kw * w->dilation[2] - w->pad[2];
                            if (ow >= 0 && ow < w->output[2])
                                to[ow] += from[i] * *kernel;
                        }
                    }
}

static bool transpose_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *x = &inputs[0].shape, *weights = &inputs[1].shape;
    struct window w;
    int64_t groups;
    if (!transpose_groups(node, x, weights, &groups, error) || !transpose_window(node, x, weights, &w, error))
        return false;

    int64_t filters = weights->dims[1], channels = x->dims[1] / groups, read = window_input_size(&w);
    int64_t written = window_output_size(&w), taps = window_kernel_size(&w);
    const float *bias = node->input_count > 2 ? inputs[2].data : NULL;

#pragma omp parallel for schedule(static) if (x->dims[0] * groups * filters * written > PARALLEL_ELEMENTS / 8)
    for (int64_t plane = 0; plane < x->dims[0] * groups * filters; plane++) {
        int64_t m = plane % (groups * filters), image = plane / (groups * filters), group = m / filters;
        float *y = (float *)outputs[0].data + plane * written;
        for (int64_t i = 0; i < written; i++)
            y[i] = bias ? bias[m] : 0;

        for (int64_t c = group * channels; c < (group + 1) * channels; c++)
            scatter_plane(&w, (const float *)inputs[0].data + (image * x->dims[1] + c) * read,
                          (const float *)inputs[1].data + (c * filters + m % filters) * taps, y);
    }

    return true;
}

static bool transpose_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, transpose_wide);
}

const struct op_def conv_transpose_operators[] = {
    {.op_type = "ConvTranspose",
     .since = 1,
     .inputs = {2, 3},
     .bias_input = 2,
     .traits = OP_SAMPLEWISE | OP_HEAVY,
     .types = NAMES_F32,
     FUNCTIONS(transpose)},
    {0},
};
