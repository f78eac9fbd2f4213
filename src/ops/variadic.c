/* Any number of tensors, broadcast and combined one after the other: Max, Min, Sum, Mean. And Clip, whose
 * bounds are inputs, too. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/binary.h"
#include "ops/family.h"
#include "ops/gradient.h"

struct variadic {
    enum binary_function function;
    uint32_t types;
    bool divides; /* by the number of inputs, in the end */
};

static bool variadic_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    char text[2][SHAPE_TEXT];
    const struct variadic *variadic = node->op->family;
    if (!node_want_types(node, 0, variadic->types, error))
        return false;

    for (int i = 1; i < node->input_count; i++) {
        if (!node_has_input(node, i))
            return node_error(node, error, "input %d is missing", i);
        if (!node_want_same_type(node, i, 0, error))
            return false;
        if (!shape_broadcast(&shape, node_shape(node, i), &shape))
            return node_error(node, error, "shapes %s and %s do not fit together",
                              shape_format(&shape, text[0], SHAPE_TEXT),
                              shape_format(node_shape(node, i), text[1], SHAPE_TEXT));
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static void divide_all(const struct tensor *tensor, int by) {
    int64_t count = shape_elements(&tensor->shape);
    if (tensor->dtype == DTYPE_F32)
        for (int64_t i = 0; i < count; i++)
            ((float *)tensor->data)[i] /= (float)by;
    else
        for (int64_t i = 0; i < count; i++)
            ((double *)tensor->data)[i] /= by;
}

/* Input 0 repeated to the result's shape, by the strides of broadcasting. */
static void expand_into(const struct tensor *input, const struct tensor *output) {
    int rank = output->shape.rank, missing = rank - input->shape.rank;
    int64_t own[LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK] = {0}, to[LIMIT_TENSOR_RANK];
    shape_strides(&input->shape, own);
    shape_strides(&output->shape, to);

    for (int i = missing; i < rank; i++)
        from[i] = input->shape.dims[i - missing] == 1 ? 0 : own[i - missing];

    strided_copy(dtype_size(input->dtype), rank, output->shape.dims, input->data, from, output->data, to);
}

static bool variadic_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct tensor *output = &outputs[0];
    const struct variadic *variadic = node->op->family;
    binary_kernel *kernel = binary_kernel_find(variadic->function, output->dtype);
    if (!kernel)
        return node_error(node, error, "type %s is not supported", dtype_name(output->dtype));

    expand_into(&inputs[0], output);
    for (int i = 1; i < node->input_count; i++)
        binary_run(kernel, output->dtype, output->data, &output->shape, inputs[i].data, &inputs[i].shape,
                   output->data, &output->shape, dtype_size(output->dtype));

    if (variadic->divides)
        divide_all(output, node->input_count);

    return true;
}

static bool variadic_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, variadic_wide);
}

/* Clip: bounds are attributes before opset 11, then optional scalar inputs. */
static bool clip_infer(struct node *node, struct error *error) {
    for (int i = 1; i < 3; i++) {
        if (!node_has_input(node, i))
            continue;
        if (shape_elements(node_shape(node, i)) != 1)
            return node_error(node, error, "input %d is not a scalar", i);
        if (!node_want_same_type(node, i, 0, error))
            return false;
    }

    return node_want_types(node, 0, TYPES_NUMERIC, error) && infer_same(node, error);
}

static void clip_by(enum binary_function function, const struct tensor *bound, const struct tensor *source,
                    const struct tensor *output) {
    struct shape scalar = {0};
    binary_run(binary_kernel_find(function, output->dtype), output->dtype, source->data, &output->shape,
               bound->data, &scalar, output->data, &output->shape, dtype_size(output->dtype));
}

static bool clip_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    static const char *const attributes[] = {NULL, "min", "max"};
    static const enum binary_function kernels[] = {BINARY_COUNT, BINARY_MAX, BINARY_MIN};
    const struct tensor *source = &inputs[0];

    for (int i = 1; i < 3; i++) {
        if (node->opset >= 11) {
            if (i < node->input_count && inputs[i].data) {
                clip_by(kernels[i], &inputs[i], source, &outputs[0]);
                source = &outputs[0];
            }
        } else if (node_attribute(node, attributes[i])) {
            float value = node_float(node, attributes[i], 0);
            double wide[1]; /* room for any type */
            struct tensor bound = {.dtype = outputs[0].dtype, .data = wide};

            elements_convert(DTYPE_F32, &value, bound.dtype, wide, 1);
            clip_by(kernels[i], &bound, source, &outputs[0]);
            source = &outputs[0];
        }
    }

    if (source != &outputs[0])
        memcpy(outputs[0].data, source->data, tensor_bytes(source));

    return true;
}

static bool clip_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, clip_wide);
}

/* As a post-op: bounds left out are float32's, and those that are inputs must be constant. */
static bool clip_post(const struct node *node, struct post_op *ret) {
    ret->alpha = -FLT_MAX;
    ret->beta = FLT_MAX;
    if (node->opset < 11) {
        ret->alpha = node_float(node, "min", ret->alpha);
        ret->beta = node_float(node, "max", ret->beta);
        return true;
    }

    return (!node_input(node, 1) || value_scalar(node->inputs[1], &ret->alpha)) &&
           (!node_input(node, 2) || value_scalar(node->inputs[2], &ret->beta));
}

#define VARIADIC(...) .family = &(const struct variadic){__VA_ARGS__}, FUNCTIONS(variadic)

const struct op_def variadic_operators[] = {
    {.op_type = "Max",
     .since = 1,
     .inputs = {1, -1},
     .data_inputs = -1,
     .traits = OP_ELEMENTWISE | OP_VARIADIC,
     .types = NAMES_NUMERIC,
     VARIADIC(BINARY_MAX, TYPES_NUMERIC)},
    {.op_type = "Min",
     .since = 1,
     .inputs = {1, -1},
     .data_inputs = -1,
     .traits = OP_ELEMENTWISE | OP_VARIADIC,
     .types = NAMES_NUMERIC,
     VARIADIC(BINARY_MIN, TYPES_NUMERIC)},
    {.op_type = "Sum",
     .differentiate = gradient_add,
     .since = 1,
     .inputs = {1, -1},
     .data_inputs = -1,
     .traits = OP_ELEMENTWISE | OP_VARIADIC,
     .types = NAMES_FLOAT,
     VARIADIC(BINARY_ADD, TYPES_FLOAT)},
    {.op_type = "Mean",
     .since = 1,
     .inputs = {1, -1},
     .data_inputs = -1,
     .traits = OP_ELEMENTWISE | OP_VARIADIC,
     .types = NAMES_FLOAT,
     VARIADIC(BINARY_ADD, TYPES_FLOAT, .divides = true)},
    {.op_type = "Clip",
     .differentiate = gradient_element,
     .since = 1,
     .until = 10,
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .post = POST_CLIP,
     .post_parameters = clip_post,
     .types = NAMES_NUMERIC,
     FUNCTIONS(clip)},
    {.op_type = "Clip",
     .differentiate = gradient_element,
     .since = 11,
     .inputs = {1, 3},
     .traits = OP_ELEMENTWISE,
     .post = POST_CLIP,
     .post_parameters = clip_post,
     .types = NAMES_NUMERIC,
     FUNCTIONS(clip)},
    {0},
};
