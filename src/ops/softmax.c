/* Softmax, LogSoftmax, Hardmax: along one axis from opset 13 on; before, over everything from the axis on. */
#include <math.h>
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

enum softmax_kind { SOFTMAX_SHARES, SOFTMAX_LOGARITHMS, SOFTMAX_HARD };

/* The tensor as outer x length x inner, normalised over length. */
struct softmax_lines {
    int64_t outer, length, inner;
};

static bool softmax_span(const struct node *node, const struct shape *shape, struct softmax_lines *ret,
                         struct error *error) {
    bool flat = node->opset < 13;
    int64_t wanted = node_int(node, "axis", node->op->default_axis);
    if (flat && wanted == shape->rank) { /* no axes follow */
        *ret = (struct softmax_lines){shape_elements(shape), 1, 1};
        return true;
    }

    int axis = 0;
    if (!(shape->rank == 0 && (wanted == 0 || wanted == -1)) &&
        !node_axis(node, wanted, shape->rank, &axis, error))
        return false;

    int end = flat || shape->rank == 0 ? shape->rank : axis + 1;
    *ret = (struct softmax_lines){shape_product(shape, 0, axis), shape_product(shape, axis, end),
                                  shape_product(shape, end, shape->rank)};

    return true;
}

static bool softmax_infer(struct node *node, struct error *error) {
    struct softmax_lines span;
    return node_want_types(node, 0, TYPES_FLOAT, error) &&
           softmax_span(node, node_shape(node, 0), &span, error) && infer_same(node, error);
}

#define SOFTMAX_LINES(suffix, type, exponential)                                                            \
    static void soft_line_##suffix(const type *x, type *y, const struct softmax_lines *s, bool logarithm) { \
        type most = x[0];                                                                                   \
        for (int64_t i = 1; i < s->length; i++)                                                             \
            most = x[i * s->inner] > most ? x[i * s->inner] : most;                                         \
        double sum = 0;                                                                                     \
        for (int64_t i = 0; i < s->length; i++) {                                                           \
            type power = exponential(x[i * s->inner] - most);                                               \
            sum += (double)power;                                                                           \
            y[i * s->inner] = logarithm ? x[i * s->inner] - most : power;                                   \
        }                                                                                                   \
        type shift = (type)log(sum), scale = (type)(1 / sum);                                               \
        for (int64_t i = 0; i < s->length; i++)                                                             \
            y[i * s->inner] = logarithm ? y[i * s->inner] - shift : y[i * s->inner] * scale;                \
    }                                                                                                       \
    static void hard_line_##suffix(const type *x, type *y, const struct softmax_lines *s) {                 \
        int64_t best = 0;                                                                                   \
        for (int64_t i = 0; i < s->length; i++) {                                                           \
            best = x[i * s->inner] > x[best * s->inner] ? i : best;                                         \
            y[i * s->inner] = 0;                                                                            \
        }                                                                                                   \
        y[best * s->inner] = 1;                                                                             \
    }

SOFTMAX_LINES(f32, float, expf)
SOFTMAX_LINES(f64, double, exp)

static bool softmax_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    struct softmax_lines span;
    if (!softmax_span(node, &inputs[0].shape, &span, error))
        return false;
    if (!span.length)
        return true;

    enum softmax_kind kind = *(const enum softmax_kind *)node->op->family;
    bool logarithm = kind == SOFTMAX_LOGARITHMS, hard = kind == SOFTMAX_HARD;

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

/* From opset 13 on along one axis, before over everything from the axis on. */
#define SOFTMAX(name, kind, more_traits, gradient)                                                    \
    {.op_type = name,                                                                                 \
     .since = 1,                                                                                      \
     .until = 12,                                                                                     \
     .default_axis = 1,                                                                               \
     SOFTMAX_ALWAYS(kind, more_traits, gradient)},                                                    \
    {                                                                                                 \
        .op_type = name, .since = 13, .default_axis = -1, SOFTMAX_ALWAYS(kind, more_traits, gradient) \
    }
#define SOFTMAX_ALWAYS(kind, more_traits, gradient)                                  \
    .inputs = {1, 1}, .types = NAMES_FLOAT, .traits = OP_ALONG_AXIS | (more_traits), \
    .family = &(const enum softmax_kind){kind}, .differentiate = gradient, FUNCTIONS(softmax)

const struct op_def softmax_operators[] = {
    SOFTMAX("Softmax", SOFTMAX_SHARES, OP_UNIT_RANGE, gradient_softmax),
    SOFTMAX("LogSoftmax", SOFTMAX_LOGARITHMS, 0, gradient_log_softmax),
    SOFTMAX("Hardmax", SOFTMAX_HARD, OP_UNIT_RANGE, NULL),
    {0},
};
