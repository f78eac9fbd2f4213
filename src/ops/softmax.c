/* Softmax, LogSoftmax, Hardmax: along one axis from opset 13 on; before, over everything from the axis on. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

/* outer x length x inner, normalised over length. */
struct span {
    int64_t outer, length, inner;
};

static bool softmax_span(const struct node *node, const struct shape *shape, struct span *ret,
                         struct error *error) {
    bool flat = node->opset < 13;
    int64_t wanted = node_int(node, "axis", flat ? 1 : -1);
    if (flat && wanted == shape->rank) { /* nothing is left to the right */
        *ret = (struct span){shape_elements(shape), 1, 1};
        return true;
    }
    int axis = 0;
    if (!(shape->rank == 0 && (wanted == 0 || wanted == -1)) &&
        !node_axis(node, wanted, shape->rank, &axis, error))
        return false;
    int end = flat || shape->rank == 0 ? shape->rank : axis + 1;
    *ret = (struct span){shape_product(shape, 0, axis), shape_product(shape, axis, end),
                         shape_product(shape, end, shape->rank)};
    return true;
}

static bool softmax_infer(struct node *node, struct error *error) {
    struct span span;
    return node_want_types(node, 0, TYPES_FLOAT, error) &&
           softmax_span(node, node_shape(node, 0), &span, error) && infer_same(node, error);
}

#define SOFTMAX_LINES(suffix, type, exponential)                                                   \
    static void soft_line_##suffix(const type *x, type *y, const struct span *s, bool logarithm) { \
        type most = x[0];                                                                          \
        for (int64_t i = 1; i < s->length; i++)                                                    \
            most = x[i * s->inner] > most ? x[i * s->inner] : most;                                \
        double sum = 0;                                                                            \
        for (int64_t i = 0; i < s->length; i++) {                                                  \
            type power = exponential(x[i * s->inner] - most);                                      \
            sum += (double)power;                                                                  \
            y[i * s->inner] = logarithm ? x[i * s->inner] - most : power;                          \
        }                                                                                          \
        type shift = (type)log(sum), scale = (type)(1 / sum);                                      \
        for (int64_t i = 0; i < s->length; i++)                                                    \
            y[i * s->inner] = logarithm ? y[i * s->inner] - shift : y[i * s->inner] * scale;       \
    }                                                                                              \
    static void hard_line_##suffix(const type *x, type *y, const struct span *s) {                 \
        int64_t best = 0;                                                                          \
        for (int64_t i = 0; i < s->length; i++) {                                                  \
            best = x[i * s->inner] > x[best * s->inner] ? i : best;                                \
            y[i * s->inner] = 0;                                                                   \
        }                                                                                          \
        y[best * s->inner] = 1;                                                                    \
    }

SOFTMAX_LINES(f32, float, expf)
SOFTMAX_LINES(f64, double, exp)

static bool softmax_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    struct span span;
    if (!softmax_span(node, &inputs[0].shape, &span, error))
        return false;
    if (!span.length)
        return true;
    bool logarithm = strcmp(node->op_type, "LogSoftmax") == 0, hard = strcmp(node->op_type, "Hardmax") == 0;
#pragma omp parallel for schedule(static) if (span.outer * span.length * span.inner > PARALLEL_ELEMENTS)
    for (int64_t line = 0; line < span.outer * span.inner; line++) {
        int64_t at = line / span.inner * span.length * span.inner + line % span.inner;
        if (inputs[0].dtype == DTYPE_F32) {
            const float *x = (const float *)inputs[0].data + at;
            float *y = (float *)outputs[0].data + at;
            hard ? hard_line_f32(x, y, &span) : soft_line_f32(x, y, &span, logarithm);
        } else {
            const double *x = (const double *)inputs[0].data + at;
            double *y = (double *)outputs[0].data + at;
            hard ? hard_line_f64(x, y, &span) : soft_line_f64(x, y, &span, logarithm);
        }
    }
    return true;
}

static bool softmax_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, softmax_wide);
}

const struct operator softmax_operators[] = {
    {"", "Softmax", 1, OPSET_LATEST, 0, NULL, 1, 1, 1, 1, softmax_infer, softmax_compute, NAMES_FLOAT},
    {"", "LogSoftmax", 1, OPSET_LATEST, 0, NULL, 1, 1, 1, 1, softmax_infer, softmax_compute, NAMES_FLOAT},
    {"", "Hardmax", 1, OPSET_LATEST, 0, NULL, 1, 1, 1, 1, softmax_infer, softmax_compute, NAMES_FLOAT},
    {0},
};
