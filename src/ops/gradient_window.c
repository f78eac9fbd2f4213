/* Gradients of convolutions and pools. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/multiversion.h"
#include "ops/conv.h"
#include "ops/gradient.h"
#include "ops/product.h"

static bool copy_ints(struct gradient *gradient, struct node *node, const char *name, const int64_t *ints,
                      int count) {
    return node_set_ints(gradient->graph, node, name, ints, (size_t)count) ||
           node_memory_error(gradient->node, gradient->error);
}

/* Strides, dilations and pads, whatever the node says them by. `end`: the pads at the end, or NULL. */
static bool set_window(struct gradient *gradient, struct node *node, const struct window *window) {
    int first = WINDOW_DIMS - window->spatial;
    int64_t pads[2 * WINDOW_DIMS];
    memcpy(pads, window->pad + first, (size_t)window->spatial * sizeof *pads);
    memcpy(pads + window->spatial, window->pad_end + first, (size_t)window->spatial * sizeof *pads);
    return copy_ints(gradient, node, "strides", window->stride + first, window->spatial) &&
           copy_ints(gradient, node, "dilations", window->dilation + first, window->spatial) &&
           copy_ints(gradient, node, "kernel_shape", window->kernel + first, window->spatial) &&
           copy_ints(gradient, node, "pads", pads, 2 * window->spatial);
}

/* By the input: the convolution turned round, with the same weights. */
static struct value *by_input(struct gradient *gradient, const struct conv_geometry *geometry) {
    const struct window *window = &geometry->window;
    int first = WINDOW_DIMS - window->spatial;
    int64_t more[WINDOW_DIMS];
    struct value *inputs[] = {gradient->outputs[0], gradient->node->inputs[1]};
    struct node *node = gradient_node(gradient, "", "ConvTranspose", inputs, 2);
    if (!node || !set_window(gradient, node, window))
        return NULL;

    for (int i = first; i < WINDOW_DIMS; i++) {
        int64_t reached = (window->output[i] - 1) * window->stride[i] +
                          (window->kernel[i] - 1) * window->dilation[i] + 1 - window->pad[i] -
                          window->pad_end[i];
        more[i - first] = window->input[i] - reached; /* pixels at the end that no window reaches */
        if (more[i - first] < 0) {
            node_error(gradient->node, gradient->error, "its padding has no gradient");
            return NULL;
        }
    }
    if (!copy_ints(gradient, node, "output_padding", more, window->spatial))
        return NULL;
    if (!node_set_int(gradient->graph, node, "group", geometry->groups)) {
        node_memory_error(gradient->node, gradient->error);
        return NULL;
    }
    return gradient_value(gradient, node);
}

static struct value *by_weights(struct gradient *gradient, const struct conv_geometry *geometry) {
    const struct shape *shape = &gradient->node->inputs[1]->shape;
    struct value *inputs[] = {gradient->node->inputs[0], gradient->outputs[0]};
    struct node *node = gradient_node(gradient, OPERATORS_OWN, "ConvWeightGradient", inputs, 2);
    if (!node || !set_window(gradient, node, &geometry->window) ||
        !copy_ints(gradient, node, "weights", shape->dims, shape->rank))
        return NULL;
    if (!node_set_int(gradient->graph, node, "group", geometry->groups)) {
        node_memory_error(gradient->node, gradient->error);
        return NULL;
    }
    return gradient_value(gradient, node);
}

/* Summed over all axes but that of the channels. */
static struct value *by_bias(struct gradient *gradient) {
    struct value *sum =
        gradient_value(gradient, gradient_node(gradient, OPERATORS_OWN, "ChannelSum", gradient->outputs, 1));
    return gradient_shaped(gradient, sum, &gradient->node->inputs[2]->shape);
}

bool gradient_convolution(struct gradient *gradient) {
    const struct node *node = gradient->node;
    struct conv_geometry geometry;
    if (!conv_geometry_read(node, 0, 1, &geometry, gradient->error))
        return false;

    if (gradient->wanted[0] && !(gradient->inputs[0] = by_input(gradient, &geometry)))
        return false;
    if (gradient->wanted[1] && !(gradient->inputs[1] = by_weights(gradient, &geometry)))
        return false;
    return node->input_count < 3 || !gradient->wanted[2] || (gradient->inputs[2] = by_bias(gradient));
}

/* ---- ChannelSum: [n, c, …] -> [c] ---- */

static bool channels_infer(struct node *node, struct error *error) {
    const struct shape shape = {.rank = 1, .dims = {node_shape(node, 0)->dims[1]}};
    return node_want_types(node, 0, TYPE(F32), error) &&
           node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error) &&
           infer_output(node, 0, DTYPE_F32, &shape, error);
}

MULTIVERSION static float sum_plane(const float *from, int64_t count) {
    float lanes[16] = {0}, sum = 0; /* the same order whatever the processor */
    int64_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (int lane = 0; lane < 16; lane++)
            lanes[lane] += from[i + lane];
    for (; i < count; i++)
        sum += from[i];
    for (int lane = 0; lane < 16; lane++)
        sum += lanes[lane];
    return sum;
}

static bool channels_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int64_t batch = x->dims[0], channels = x->dims[1], places = shape_product(x, 2, x->rank);
    (void)node, (void)error;

#pragma omp parallel for schedule(static) if (batch * channels * places > PARALLEL_ELEMENTS)
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t n = 0; n < batch; n++)
            sum += (double)sum_plane((const float *)inputs[0].data + (n * channels + c) * places, places);
        ((float *)outputs[0].data)[c] = (float)sum;
    }
    return true;
}

/* ---- ConvWeightGradient ---- */

/* Of an own node: x [n, c, spatial…] and the gradient of the result; attribute weights: their shape. */
static bool geometry_of(const struct node *node, const struct shape *x, struct conv_geometry *ret,
                        struct error *error) {
    struct shape weights = {0};
    int64_t dims[LIMIT_TENSOR_RANK];
    int count;
    if (!node_attribute_ints(node, "weights", LIMIT_TENSOR_RANK, dims, &count, error))
        return false;
    weights.rank = count < 0 ? 0 : count;
    memcpy(weights.dims, dims, (size_t)weights.rank * sizeof *dims);
    return conv_geometry_make(node, x, &weights, ret, error);
}

static bool weights_infer(struct node *node, struct error *error) {
    struct conv_geometry geometry;
    struct shape shape = {0};
    int count;
    if (!node_want_types(node, 0, TYPE(F32), error) ||
        !node_attribute_ints(node, "weights", LIMIT_TENSOR_RANK, shape.dims, &count, error))
        return false;
    shape.rank = count;
    return geometry_of(node, node_shape(node, 0), &geometry, error) &&
           infer_output(node, 0, DTYPE_F32, &shape, error);
}

/* Row r of `ret`, [channels * kernel, output]: what the tap r of the kernel reads at each place. */
static void read_taps(const struct window *w, int64_t channels, const float *x, float *ret) {
    int64_t read = window_input_size(w), places = window_output_size(w);
    for (int64_t c = 0; c < channels; c++, x += read)
        for (int64_t kd = 0; kd < w->kernel[0]; kd++)
            for (int64_t kh = 0; kh < w->kernel[1]; kh++)
                for (int64_t kw = 0; kw < w->kernel[2]; kw++, ret += places)
                    for (int64_t od = 0; od < w->output[0]; od++)
                        for (int64_t oh = 0; oh < w->output[1]; oh++) {
                            int64_t d = od * w->stride[0] + kd * w->dilation[0] - w->pad[0];
                            int64_t h = oh * w->stride[1] + kh * w->dilation[1] - w->pad[1];
                            bool inside = d >= 0 && d < w->input[0] && h >= 0 && h < w->input[1];
                            const float *from = x + (d * w->input[1] + h) * w->input[2];
                            float *to = ret + (od * w->output[1] + oh) * w->output[2];
                            for (int64_t ow = 0; ow < w->output[2]; ow++) {
                                int64_t i = ow * w->stride[2] + kw * w->dilation[2] - w->pad[2];
                                to[ow] = inside && i >= 0 && i < w->input[2] ? from[i] : 0;
                            }
                        }
}

/* One group, over all photos: weights [filters, channels * kernel] += g [filters, places] x taps'. */
static bool group_compute(const struct conv_geometry *geometry, int64_t group, const float *x, const float *g,
                          float *ret) {
    const struct window *w = &geometry->window;
    int64_t read = window_input_size(w) * geometry->channels, places = window_output_size(w);
    int64_t columns = geometry->channels * window_kernel_size(w), size = geometry->filters * columns;
    const int64_t none = 0;
    size_t count;
    if (!size_multiply((size_t)columns, (size_t)places, &count) || count > SIZE_MAX / sizeof(float) - 64)
        return false;
    cleanup(freep) float *taps = malloc((count + 16) * sizeof *taps);
    cleanup(freep) float *part = malloc(((size_t)size + 16) * sizeof *part);
    if (!taps || !part)
        return false;

    for (int64_t photo = 0; photo < geometry->batch; photo++) {
        int64_t plane = photo * geometry->groups + group;
        read_taps(w, geometry->channels, x + plane * read, taps);
        if (!product_f32(geometry->filters, places, columns, 1, g + plane * geometry->filters * places, &none,
                         taps, &none, true, part))
            return false;
        for (int64_t i = 0; i < size; i++)
            ret[i] = photo ? ret[i] + part[i] : part[i];
    }
    return true;
}

static bool weights_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    struct conv_geometry geometry;
    bool failed = false;
    if (!geometry_of(node, &inputs[0].shape, &geometry, error))
        return false;

    int64_t size = geometry.filters * geometry.channels * window_kernel_size(&geometry.window);
    if (!geometry.batch)
        memset(outputs[0].data, 0, tensor_bytes(&outputs[0]));
#pragma omp parallel for schedule(dynamic) if (geometry.groups > 1)
    for (int64_t group = 0; group < geometry.groups; group++)
        if (geometry.batch && !group_compute(&geometry, group, inputs[0].data, inputs[1].data,
                                             (float *)outputs[0].data + group * size)) {
#pragma omp atomic write
            failed = true;
        }
    return !failed || node_memory_error(node, error);
}

/* ---- Pools ---- */

bool gradient_pool(struct gradient *gradient) {
    const struct node *node = gradient->node;
    struct window window;
    struct value *inputs[] = {node->inputs[0], node->outputs[0], gradient->outputs[0]};
    if (!window_read(node, &node->inputs[0]->shape, NULL, &window, gradient->error))
        return false;

    struct node *added = gradient_node(gradient, OPERATORS_OWN, "PoolGradient", inputs, 3);
    if (!added || !set_window(gradient, added, &window))
        return false;
    if (!node_set_int(gradient->graph, added, "ceil_mode", node_int(node, "ceil_mode", 0)) ||
        !node_set_int(gradient->graph, added, "mean", node_is(node, "AveragePool")) ||
        !node_set_int(gradient->graph, added, "count_include_pad", node_int(node, "count_include_pad", 0)))
        return node_memory_error(node, gradient->error);
    return (gradient->inputs[0] = gradient_value(gradient, added)) != NULL;
}

/* A window's part of the input along one axis. */
static int64_t first_tap(const struct window *w, int axis, int64_t place) {
    return place * w->stride[axis] - w->pad[axis];
}

struct plane {
    const float *x, *g;
    float *ret;
};

/* The gradient of one result goes to the largest element of its window, the first of several, or to all in
 * equal shares. */
static void window_compute(const struct window *w, const int64_t *place, const struct plane *plane,
                           float gradient, bool mean, bool all) {
    float best = -INFINITY, count = 0;
    int64_t at = -1;
    for (int pass = 0; pass < 1 + mean; pass++)
        for (int64_t kd = 0; kd < w->kernel[0]; kd++)
            for (int64_t kh = 0; kh < w->kernel[1]; kh++)
                for (int64_t kw = 0; kw < w->kernel[2]; kw++) {
                    int64_t d = first_tap(w, 0, place[0]) + kd * w->dilation[0];
                    int64_t h = first_tap(w, 1, place[1]) + kh * w->dilation[1];
                    int64_t i = first_tap(w, 2, place[2]) + kw * w->dilation[2];
                    bool inside =
                        d >= 0 && d < w->input[0] && h >= 0 && h < w->input[1] && i >= 0 && i < w->input[2];
                    bool counted =
                        inside || (all && d < w->input[0] + w->pad_end[0] &&
                                   h < w->input[1] + w->pad_end[1] && i < w->input[2] + w->pad_end[2]);
                    int64_t index = (d * w->input[1] + h) * w->input[2] + i;
                    if (mean && pass == 0)
                        count += counted;
                    else if (mean && inside)
                        plane->ret[index] += gradient / count;
                    else if (!mean && inside && (at < 0 || plane->x[index] > best)) {
                        best = plane->x[index];
                        at = index;
                    }
                }
    if (at >= 0)
        plane->ret[at] += gradient;
}

static bool pool_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPE(F32), error) && infer_same(node, error);
}

static bool pool_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    struct window w;
    const struct shape *x = &inputs[0].shape;
    bool mean = node_int(node, "mean", 0), all = node_int(node, "count_include_pad", 0);
    if (!window_read(node, x, NULL, &w, error))
        return false;

    int64_t read = window_input_size(&w), places = window_output_size(&w);
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < x->dims[0] * x->dims[1]; p++) {
        const struct plane plane = {(const float *)inputs[0].data + p * read,
                                    (const float *)inputs[2].data + p * places,
                                    (float *)outputs[0].data + p * read};
        memset(plane.ret, 0, (size_t)read * sizeof(float));
        for (int64_t i = 0; i < places; i++) {
            const int64_t place[] = {i / w.output[2] / w.output[1], i / w.output[2] % w.output[1],
                                     i % w.output[2]};
            window_compute(&w, place, &plane, plane.g[i], mean, all);
        }
    }
    return true;
}

bool gradient_global_pool(struct gradient *gradient) {
    const struct shape *x = &gradient->node->inputs[0]->shape;
    int64_t places = shape_product(x, 2, x->rank);
    struct value *share =
        gradient_scaled(gradient, gradient->outputs[0], 1.0 / (double)(places ? places : 1));
    return (gradient->inputs[0] = gradient_expanded(gradient, share, x)) != NULL;
}

const struct op_def gradient_window_operators[] = {
    {.op_type = "ConvWeightGradient",
     .inputs = {2, 2},
     .outputs = {1, 1},
     .traits = OP_HEAVY,
     FUNCTIONS(weights)},
    {.op_type = "ChannelSum", .inputs = {1, 1}, .outputs = {1, 1}, FUNCTIONS(channels)},
    {.op_type = "PoolGradient", .inputs = {3, 3}, .outputs = {1, 1}, FUNCTIONS(pool)},
    {0},
};
