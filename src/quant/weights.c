#include "quant/weights.h"

#include <math.h>

struct weight_split {
    int64_t outer, channels, inner;
};

static struct weight_split split_at(const struct shape *shape, int axis) {
    struct weight_split split = {1, 1, 1};
    if (axis < 0) {
        split.inner = shape_elements(shape);
        return split;
    }

    for (int i = 0; i < shape->rank; i++)
        *(i < axis ? &split.outer : i == axis ? &split.channels : &split.inner) *= shape->dims[i];
    return split;
}

int64_t weights_channels(const struct tensor *weights, int axis) {
    return split_at(&weights->shape, axis).channels;
}

void weights_choose_scales(const struct tensor *weights, int axis, const double *bias, double input_scale,
                           float *ret) {
    struct weight_split split = split_at(&weights->shape, axis);
    const float *values = weights->data;

    for (int64_t c = 0; c < split.channels; c++) {
        float top = 0;
        for (int64_t o = 0; o < split.outer; o++)
            for (int64_t i = 0; i < split.inner; i++)
                top = fmaxf(top, fabsf(values[(o * split.channels + c) * split.inner + i]));
        ret[c] = (float)fmax((double)top / QUANT_WEIGHT_TOP, 1e-12);
        if (bias && split.channels > 1)
            ret[c] = (float)fmax(ret[c], fabs(bias[c]) / (input_scale * QUANT_BIAS_TOP));
    }
}

void weights_round(const struct tensor *weights, int axis, const float *scales, int8_t *integers) {
    struct weight_split split = split_at(&weights->shape, axis);
    const float *values = weights->data;

#pragma omp parallel for schedule(static)
    for (int64_t run = 0; run < split.outer * split.channels; run++)
        for (int64_t i = 0; i < split.inner; i++) {
            float value = rintf(values[run * split.inner + i] / scales[run % split.channels]);
            value = fminf(fmaxf(value, -QUANT_WEIGHT_TOP), QUANT_WEIGHT_TOP);
            integers[run * split.inner + i] = (int8_t)value;
        }
}

void bias_round(const double *bias, int64_t count, const float *scales, bool single, float input_scale,
                int32_t *integers) {
    for (int64_t i = 0; i < count; i++) {
        double value = rint(bias[i] / (double)(scales[single ? 0 : i] * input_scale));
        integers[i] = (int32_t)fmin(fmax(value, -(double)INT32_MAX), (double)INT32_MAX);
    }
}
