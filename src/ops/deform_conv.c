/* DeformConv: a convolution whose every tap looks beside its place, by an offset, and counts by a mask.
 * https://onnx.ai/onnx/operators/onnx__DeformConv.html, over two dimensions. */
#include <math.h>
#include <string.h>

#include "ops/conv.h"

enum { X, WEIGHTS, OFFSETS, BIAS, MASK };

struct deform {
    struct conv_geometry conv;
    int64_t groups; /* of offsets */
};

static bool deform_make(const struct node *node, const struct shape *x, const struct shape *w,
                        struct deform *ret, struct error *error) {
    struct deform d = {.groups = node_int(node, "offset_group", 1)};
    if (!conv_geometry_make(node, x, w, &d.conv, error))
        return false;
    if (x->rank != 4)
        return node_error(node, error, "only images [n, c, h, w] are supported");
    if (d.groups < 1 || x->dims[1] % d.groups)
        return node_error(node, error, "offset_group %lld does not divide the channels", (long long)d.groups);
    *ret = d;
    return true;
}

/* [n, groups * parts * taps, rows, columns] */
static bool want_maps(const struct node *node, int input, const struct deform *d, int64_t parts,
                      struct error *error) {
    const struct shape *maps = node_shape(node, input);
    const struct window *w = &d->conv.window;
    int64_t count = d->groups;
    if (!maps)
        return true;
    bool fits = extent_multiply(&count, parts * window_kernel_size(w)) && maps->rank == 4 &&
                maps->dims[0] == d->conv.batch && maps->dims[1] == count &&
                maps->dims[2] == w->output[WINDOW_DIMS - 2] && maps->dims[3] == w->output[WINDOW_DIMS - 1];
    return fits || node_error(node, error, "input %d has not a map for each tap of the kernel", input);
}

static bool deform_infer(struct node *node, struct error *error) {
    struct deform d;
    if (!node_want_types(node, X, TYPES_F32, error) || !node_want_rank(node, X, 4, 4, error) ||
        !node_want_rank(node, WEIGHTS, 4, 4, error))
        return false;
    for (int i = 1; i < 5; i++)
        if (!node_want_same_type(node, i, X, error))
            return false;
    return deform_make(node, node_shape(node, X), node_shape(node, WEIGHTS), &d, error) &&
           want_maps(node, OFFSETS, &d, 2, error) && want_maps(node, MASK, &d, 1, error) &&
           node_want_vector(node, BIAS, d.conv.groups * d.conv.filters, error) &&
           conv_infer_output(node, &d.conv, node_dtype(node, X), error);
}

/* Bilinear, zero outside. */
static float sample(const float *image, int64_t height, int64_t width, float y, float x) {
    if (!(y > -1 && y < (float)height && x > -1 && x < (float)width))
        return 0;

    float top = floorf(y), left = floorf(x), sum = 0;
    for (int corner = 0; corner < 4; corner++) {
        int64_t row = (int64_t)top + corner / 2, column = (int64_t)left + corner % 2;
        float share = (corner / 2 ? y - top : 1 - (y - top)) * (corner % 2 ? x - left : 1 - (x - left));
        if (row >= 0 && row < height && column >= 0 && column < width)
            sum += share * image[row * width + column];
    }
    return sum;
}

/* What every tap of every channel of one group sees at one place of the output: [channels, taps]. */
static void gather_taps(const struct deform *d, const struct tensor *inputs, const float *mask, int64_t batch,
                        int64_t group, int64_t place, float *taps) {
    const struct window *w = &d->conv.window;
    const int64_t *in = w->input + 1, *out = w->output + 1, *kernel = w->kernel + 1;
    int64_t area = out[0] * out[1], size = kernel[0] * kernel[1], channels = d->conv.channels;
    int64_t all = channels * d->conv.groups, row = place / out[1], column = place % out[1];

    for (int64_t c = 0; c < channels; c++) {
        int64_t channel = group * channels + c, part = channel / (all / d->groups);
        const float *image = (const float *)inputs[X].data + (batch * all + channel) * in[0] * in[1];
        for (int64_t t = 0; t < size; t++) {
            int64_t map = (batch * d->groups + part) * size + t;
            const float *offsets = (const float *)inputs[OFFSETS].data + map * 2 * area + place;
            int64_t top = row * w->stride[1] - w->pad[1] + t / kernel[1] * w->dilation[1];
            int64_t left = column * w->stride[2] - w->pad[2] + t % kernel[1] * w->dilation[2];
            float y = (float)top + offsets[0], x = (float)left + offsets[area];
            taps[c * size + t] = sample(image, in[0], in[1], y, x) * (mask ? mask[map * area + place] : 1);
        }
    }
}

static bool deform_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    struct deform d;
    if (!deform_make(node, &inputs[X].shape, &inputs[WEIGHTS].shape, &d, error))
        return false;

    const float *bias = node->input_count > BIAS ? inputs[BIAS].data : NULL;
    const float *mask = node->input_count > MASK ? inputs[MASK].data : NULL;
    int64_t area = window_output_size(&d.conv.window),
            depth = d.conv.channels * window_kernel_size(&d.conv.window);
    int64_t rows = d.conv.batch * d.conv.groups * area;
    bool whole = true;

#pragma omp parallel if (rows * depth > PARALLEL_ELEMENTS)
    {
        float *taps = malloc((size_t)depth * sizeof *taps + 64);
        if (!taps)
            __atomic_store_n(&whole, false, __ATOMIC_RELAXED);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            int64_t place = i % area, group = i / area % d.conv.groups, batch = i / area / d.conv.groups;
            if (!taps)
                continue;
            gather_taps(&d, inputs, mask, batch, group, place, taps);
            for (int64_t f = 0; f < d.conv.filters; f++) {
                int64_t filter = group * d.conv.filters + f;
                const float *weights = (const float *)inputs[WEIGHTS].data + filter * depth;
                float sum = bias ? bias[filter] : 0;
                for (int64_t k = 0; k < depth; k++)
                    sum += taps[k] * weights[k];
                ((float *)outputs[0].data)[(batch * d.conv.groups * d.conv.filters + filter) * area + place] =
                    sum;
            }
        }
        free(taps);
    }
    return whole || node_memory_error(node, error);
}

static bool deform_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, deform_wide);
}

const struct op_def deform_operators[] = {
    {.op_type = "DeformConv",
     .since = 19,
     .inputs = {3, 5},
     .types = NAMES_F32,
     .traits = OP_HEAVY,
     FUNCTIONS(deform)},
    {0},
};
