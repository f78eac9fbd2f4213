#include "quant/correct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "quant/weights.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to correct the biases");
}

/* The share of outputs for which tap `tap` of the kernel is on a pixel, not on padding. */
static double compute_tap_coverage(int64_t input, int64_t kernel, int64_t tap, int64_t stride,
                                   int64_t dilation, int64_t before, int64_t after) {
    int64_t extent = dilation * (kernel - 1) + 1, outputs = (input + before + after - extent) / stride + 1,
            seen = 0;
    for (int64_t i = 0; i < outputs; i++) {
        int64_t position = i * stride - before + tap * dilation;
        seen += position >= 0 && position < input;
    }

    return outputs > 0 ? (double)seen / (double)outputs : 1;
}

/* The coverage of every tap: ret [taps]. 1 with auto_pad. */
static void compute_coverage(const struct node *node, const struct shape *weights, const struct shape *input,
                             double *ret) {
    const int64_t *pads, *strides, *dilations;
    size_t pad_count = node_ints(node, "pads", &pads), stride_count = node_ints(node, "strides", &strides);
    size_t dilation_count = node_ints(node, "dilations", &dilations);
    int axes = weights->rank - 2;
    int64_t taps = 1;

    for (int i = 0; i < axes; i++)
        taps *= weights->dims[2 + i];

    bool chosen =
        strncmp(node_string(node, "auto_pad", "NOTSET"), "SAME", 4) == 0 || input->rank != weights->rank;
    for (int64_t tap = 0; tap < taps; tap++) {
        int64_t rest = tap;
        ret[tap] = 1;
        for (int i = axes - 1; i >= 0 && !chosen; i--) {
            int64_t kernel = weights->dims[2 + i];
            int64_t before = pad_count == (size_t)axes * 2 ? pads[i] : 0,
                    after = pad_count == (size_t)axes * 2 ? pads[axes + i] : 0;
            ret[tap] *= compute_tap_coverage(
                input->dims[2 + i], kernel, rest % kernel, stride_count == (size_t)axes ? strides[i] : 1,
                dilation_count == (size_t)axes ? dilations[i] : 1, before, after);
            rest /= kernel;
        }
    }
}

/* (rounded - weights) * mean, summed for each output channel of a convolution. */
static bool compute_conv_shift(const struct unit *unit, const struct observation *seen,
                               const int8_t *integers, const float *scales, bool single) {
    const struct tensor *weights = unit->node->inputs[1]->constant;
    const int64_t *dims = weights->shape.dims, group = node_int(unit->node, "group", 1);
    int64_t outputs = dims[0], inputs = dims[1], taps = shape_elements(&weights->shape) / (outputs * inputs);
    cleanup(freep) double *coverage = calloc((size_t)taps, sizeof *coverage);
    if (!coverage || group < 1 || outputs % group)
        return false;

    compute_coverage(unit->node, &weights->shape, &seen->shape, coverage);
    const float *values = weights->data;

    for (int64_t o = 0; o < outputs; o++) {
        int64_t first = o / (outputs / group) * inputs;
        double shift = 0;
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t tap = 0; tap < taps; tap++, values++, integers++)
                shift += ((double)*integers * scales[single ? 0 : o] - *values) *
                         observation_mean(seen, first + i) * coverage[tap];
        unit->correction[o] = shift;
    }

    return true;
}

static void compute_gemm_shift(const struct unit *unit, const struct observation *seen,
                               const int8_t *integers, const float *scales, bool single) {
    const struct tensor *weights = unit->node->inputs[1]->constant;
    int axis = unit_weight_axis(unit);
    int64_t outputs = weights->shape.dims[axis], inputs = weights->shape.dims[1 - axis];
    const float *values = weights->data;

    for (int64_t o = 0; o < outputs; o++) {
        double shift = 0;
        for (int64_t i = 0; i < inputs; i++) {
            int64_t at = axis == 0 ? o * inputs + i : i * outputs + o;
            shift += ((double)integers[at] * scales[single ? 0 : o] - values[at]) * observation_mean(seen, i);
        }
        unit->correction[o] = shift;
    }
}

static bool correct_unit(const struct scheme *scheme, struct unit *unit, const struct observation *seen) {
    const struct tensor *weights = unit->node->inputs[1]->constant;
    int real_axis = unit_weight_axis(unit), axis = scheme->per_tensor ? -1 : real_axis;
    int64_t channels = weights->shape.dims[real_axis];
    cleanup(freep) int8_t *integers = malloc((size_t)shape_elements(&weights->shape) + 1);
    cleanup(freep) float *scales = malloc(((size_t)channels + 1) * sizeof *scales);
    free(unit->correction);
    unit->correction = calloc((size_t)channels + 1, sizeof *unit->correction);
    if (!integers || !scales || !unit->correction)
        return false;

    weights_choose_scales(weights, axis, NULL, 1, scales);
    weights_round(weights, axis, scales, integers);
    if (unit->kind == UNIT_CONV)
        return compute_conv_shift(unit, seen, integers, scales, axis < 0);

    compute_gemm_shift(unit, seen, integers, scales, axis < 0);
    return true;
}

bool correct_bias(struct scheme *scheme, const struct observations *observations, struct error *error) {
    for (int i = 0; i < scheme->count; i++) {
        struct unit *unit = &scheme->units[i];
        if (unit->kind != UNIT_CONV && unit->kind != UNIT_GEMM)
            continue;
        const struct observation *seen = observations_find(observations, unit->node->inputs[0]->id);
        if (seen && seen->channels && !correct_unit(scheme, unit, seen))
            return no_memory(error);
    }

    return true;
}
