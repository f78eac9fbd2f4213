/* Conv: https://onnx.ai/onnx/operators/onnx__Conv.html. x [n, c, spatial…], weights [m, c / group, kernel…],
 * bias [m]. */
#include "ops/conv.h"
#include "ops/gradient.h"

#include "ops/product.h"

bool conv_geometry_read(const struct node *node, int input, int weights, struct conv_geometry *ret,
                        struct error *error) {
    const struct shape *x = node_shape(node, input), *w = node_shape(node, weights);
    if (x->rank < 3 || x->rank != w->rank)
        return node_error(node, error, "input of rank %d does not fit weights of rank %d", x->rank, w->rank);
    return conv_geometry_make(node, x, w, ret, error);
}

bool conv_geometry_make(const struct node *node, const struct shape *x, const struct shape *w,
                        struct conv_geometry *ret, struct error *error) {
    int64_t groups = node_int(node, "group", 1);
    char text[2][SHAPE_TEXT];

    if (groups < 1 || groups > LIMIT_TENSOR_ELEMENTS || x->dims[1] % groups || w->dims[0] % groups ||
        x->dims[1] / groups != w->dims[1] || w->dims[0] < 1)
        return node_error(node, error, "input %s, weights %s and group %lld do not fit together",
                          shape_format(x, text[0], SHAPE_TEXT), shape_format(w, text[1], SHAPE_TEXT),
                          (long long)groups);

    ret->batch = x->dims[0];
    ret->groups = groups;
    ret->channels = w->dims[1];
    ret->filters = w->dims[0] / groups;

    return window_read(node, x, w->dims + 2, &ret->window, error);
}

bool conv_infer_output(struct node *node, const struct conv_geometry *geometry, enum dtype dtype,
                       struct error *error) {
    struct shape shape =
        window_output_shape(&geometry->window, geometry->batch, geometry->groups * geometry->filters);
    return infer_output(node, 0, dtype, &shape, error);
}

bool node_want_vector(const struct node *node, int input, int64_t length, struct error *error) {
    const struct shape *shape = node_shape(node, input);
    char text[SHAPE_TEXT];
    if (!shape || (shape->rank == 1 && shape->dims[0] == length))
        return true;

    return node_error(node, error, "input %d has shape %s, but must have %lld values", input,
                      shape_format(shape, text, sizeof text), (long long)length);
}

static bool conv_infer(struct node *node, struct error *error) {
    struct conv_geometry geometry;
    return node_want_types(node, 0, TYPES_F32 | TYPE(F64), error) && node_want_same_type(node, 1, 0, error) &&
           node_want_same_type(node, 2, 0, error) && conv_geometry_read(node, 0, 1, &geometry, error) &&
           node_want_vector(node, 2, geometry.groups * geometry.filters, error) &&
           conv_infer_output(node, &geometry, node_dtype(node, 0), error);
}

static void add_bias(const struct conv_geometry *g, const struct tensor *bias, const struct tensor *output) {
    int64_t channels = g->groups * g->filters, positions = window_output_size(&g->window);
#pragma omp parallel for schedule(static) if (g->batch * channels * positions > PARALLEL_ELEMENTS)
    for (int64_t plane = 0; plane < g->batch * channels; plane++) {
        if (output->dtype == DTYPE_F32)
            for (int64_t i = 0; i < positions; i++)
                ((float *)output->data)[plane * positions + i] +=
                    ((const float *)bias->data)[plane % channels];
        else
            for (int64_t i = 0; i < positions; i++)
                ((double *)output->data)[plane * positions + i] +=
                    ((const double *)bias->data)[plane % channels];
    }
}

static bool conv_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    struct conv_geometry g;
    if (!conv_geometry_make(node, &inputs[0].shape, &inputs[1].shape, &g, error))
        return false;

    bool done = outputs[0].dtype == DTYPE_F32
                    ? convolve_f32(&g.window, g.batch, g.groups, g.channels, g.filters, inputs[0].data,
                                   inputs[1].data, outputs[0].data)
                    : convolve_f64(&g.window, g.batch, g.groups, g.channels, g.filters, inputs[0].data,
                                   inputs[1].data, outputs[0].data);
    if (!done)
        return node_memory_error(node, error);

    if (node->input_count > 2 && inputs[2].data)
        add_bias(&g, &inputs[2], &outputs[0]);

    return true;
}

static bool conv_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, conv_wide);
}

const struct op_def conv_operators[] = {
    {.op_type = "Conv",
     .differentiate = gradient_convolution,
     .since = 1,
     .inputs = {2, 3},
     .bias_input = 2,
     .traits = OP_SAMPLEWISE | OP_HEAVY,
     .integer_form = "QuantizedConv",
     .types = NAMES_FLOAT,
     FUNCTIONS(conv)},
    {0},
};
