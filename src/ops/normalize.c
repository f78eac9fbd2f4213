/* Normalisations with statistics of their own or learnt ones: BatchNormalization, InstanceNormalization,
 * LayerNormalization, LRN. Sums are kept in double. */
#include <math.h>
#include <string.h>

#include "ops/conv.h"
#include "ops/gradient.h"
#include "ops/normalize.h"

/* --- BatchNormalization: y = (x - mean) / sqrt(var + epsilon) * scale + bias, a channel --- */

/* Versions 7 to 13 have no attribute for it: a node with the statistics among its outputs means training,
 * whether anything uses them or not. */
static bool batch_is_training(const struct node *node) {
    if (node->opset >= 14)
        return node_int(node, "training_mode", 0) != 0;
    if (node->opset < 7 && node_int(node, "is_test", 0))
        return false;

    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i])
            return true;
    return false;
}

static bool batch_check(const struct node *node, struct error *error) {
    if (batch_is_training(node))
        return node_error(node, error,
                          "the training form (statistics of the batch, several outputs) is not supported");
    if (node->opset < 9 && !node_int(node, "spatial", 1))
        return node_error(node, error, "spatial 0 is not supported");

    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || node->outputs[i]->is_output))
            return node_error(node, error,
                              "the running statistics are only made in training, which is not supported");

    return true;
}

static bool batch_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    if (!node_want_types(node, 0, TYPES_FLOAT, error) ||
        !node_want_rank(node, 0, 1, LIMIT_TENSOR_RANK, error))
        return false;

    int64_t channels = x->rank > 1 ? x->dims[1] : 1;
    for (int i = 1; i < 5; i++) {
        if (!node_want_types(node, i, TYPES_FLOAT, error) || !node_want_vector(node, i, channels, error))
            return false;
        struct shape vector = {1, {channels}};
        if (!infer_output(node, i, node_dtype(node, i), &vector, error))
            return false;
    }

    return infer_same(node, error);
}

void normalize_run(const struct tensor *from, const struct tensor *to, int64_t start, int64_t count,
                   double scale, double shift) {
    if (from->dtype == DTYPE_F32)
        for (int64_t i = start; i < start + count; i++)
            ((float *)to->data)[i] = (float)(((const float *)from->data)[i] * scale + shift);
    else
        for (int64_t i = start; i < start + count; i++)
            ((double *)to->data)[i] = ((const double *)from->data)[i] * scale + shift;
}

static bool batch_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int64_t channels = x->rank > 1 ? x->dims[1] : 1, planes = x->dims[0] * channels;
    int64_t size = shape_product(x, x->rank > 1 ? 2 : 1, x->rank);
    double epsilon = (double)node_float(node, "epsilon", 1e-5f);

#pragma omp parallel for schedule(static) if (planes * size > PARALLEL_ELEMENTS)
    for (int64_t plane = 0; plane < planes; plane++) {
        int64_t c = plane % channels;
        double scale = tensor_get_f64(&inputs[1], c) / sqrt(tensor_get_f64(&inputs[4], c) + epsilon);
        double shift = tensor_get_f64(&inputs[2], c) - tensor_get_f64(&inputs[3], c) * scale;
        normalize_run(&inputs[0], &outputs[0], plane * size, size, scale, shift);
    }

    return true;
}

static bool batch_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, batch_wide);
}

/* --- Statistics of a run of elements --- */

void run_statistics(const struct tensor *tensor, int64_t start, int64_t count, double *ret_mean,
                    double *ret_variance) {
    double sum = 0, squares = 0;
    if (tensor->dtype == DTYPE_F32) {
        const float *x = (const float *)tensor->data + start;
        for (int64_t i = 0; i < count; i++)
            sum += (double)x[i];

        sum /= (double)count;
        for (int64_t i = 0; i < count; i++)
            squares += ((double)x[i] - sum) * ((double)x[i] - sum);
    } else {
        const double *x = (const double *)tensor->data + start;
        for (int64_t i = 0; i < count; i++)
            sum += x[i];

        sum /= (double)count;
        for (int64_t i = 0; i < count; i++)
            squares += (x[i] - sum) * (x[i] - sum);
    }

    *ret_mean = sum;
    *ret_variance = squares / (double)count;
}

static bool instance_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    return node_want_types(node, 0, TYPES_FLOAT, error) &&
           node_want_rank(node, 0, 3, LIMIT_TENSOR_RANK, error) && node_want_same_type(node, 1, 0, error) &&
           node_want_same_type(node, 2, 0, error) && node_want_vector(node, 1, x->dims[1], error) &&
           node_want_vector(node, 2, x->dims[1], error) && infer_same(node, error);
}

static bool instance_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int64_t channels = x->dims[1], planes = x->dims[0] * channels, size = shape_product(x, 2, x->rank);
    double epsilon = (double)node_float(node, "epsilon", 1e-5f);

#pragma omp parallel for schedule(static) if (planes * size > PARALLEL_ELEMENTS)
    for (int64_t plane = 0; plane < planes; plane++) {
        double mean, variance;
        run_statistics(&inputs[0], plane * size, size, &mean, &variance);
        double scale = tensor_get_f64(&inputs[1], plane % channels) / sqrt(variance + epsilon);
        normalize_run(&inputs[0], &outputs[0], plane * size, size, scale,
                      tensor_get_f64(&inputs[2], plane % channels) - mean * scale);
    }

    return true;
}

static bool instance_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, instance_wide);
}

/* --- LayerNormalization: over everything from the axis on --- */

/* Scale and bias have to broadcast to the normalised dimensions. */
static bool layer_operand(const struct node *node, int input, const struct shape *x, struct error *error) {
    struct shape result;
    const struct shape *operand = node_shape(node, input);
    char text[SHAPE_TEXT];
    if (!operand || (shape_broadcast(x, operand, &result) && shape_equal(&result, x)))
        return true;

    return node_error(node, error, "input %d of shape %s does not broadcast to the input", input,
                      shape_format(operand, text, sizeof text));
}

static bool layer_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    int axis;

    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_same_type(node, 1, 0, error) ||
        !node_want_same_type(node, 2, 0, error) ||
        !node_axis(node, node_int(node, "axis", -1), shape.rank, &axis, error) ||
        !layer_operand(node, 1, &shape, error) || !layer_operand(node, 2, &shape, error) ||
        !infer_same(node, error))
        return false;

    enum dtype statistics = node_dtype(node, 0) == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32;
    for (int i = axis; i < shape.rank; i++)
        shape.dims[i] = 1;

    return infer_output(node, 1, statistics, &shape, error) &&
           infer_output(node, 2, statistics, &shape, error);
}

static bool layer_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    int axis;
    const struct tensor *x = &inputs[0];
    if (!node_axis(node, node_int(node, "axis", -1), x->shape.rank, &axis, error))
        return false;

    int64_t runs = shape_product(&x->shape, 0, axis), size = shape_product(&x->shape, axis, x->shape.rank);
    double epsilon = (double)node_float(node, "epsilon", 1e-5f);

#pragma omp parallel for schedule(static) if (runs * size > PARALLEL_ELEMENTS)
    for (int64_t run = 0; run < runs; run++) {
        double mean, variance;
        run_statistics(x, run * size, size, &mean, &variance);

        double scale = 1 / sqrt(variance + epsilon);
        normalize_run(x, &outputs[0], run * size, size, scale, -mean * scale);
        for (int k = 1; k < 3 && k < node->output_count; k++)
            if (outputs[k].data)
                elements_convert(DTYPE_F64, k == 1 ? &mean : &scale, outputs[k].dtype,
                                 (char *)outputs[k].data + (size_t)run * dtype_size(outputs[k].dtype), 1);
    }

    normalize_scale(&outputs[0], &inputs[1], node->input_count > 2 ? &inputs[2] : NULL);

    return true;
}

void normalize_scale(const struct tensor *output, const struct tensor *scale, const struct tensor *bias) {
    size_t size = dtype_size(output->dtype);
    if (scale && scale->data)
        binary_run(binary_kernel_find(BINARY_MUL, output->dtype), output->dtype, output->data, &output->shape,
                   scale->data, &scale->shape, output->data, &output->shape, size);

    if (bias && bias->data)
        binary_run(binary_kernel_find(BINARY_ADD, output->dtype), output->dtype, output->data, &output->shape,
                   bias->data, &bias->shape, output->data, &output->shape, size);
}

static bool layer_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, layer_wide);
}

/* --- LRN: x / (bias + alpha / size * sum of squares of neighbouring channels) ^ beta --- */

static bool lrn_check(const struct node *node, struct error *error) {
    int64_t size = node_int(node, "size", 0);
    return (size > 0 && size <= LIMIT_TENSOR_ELEMENTS) ||
           node_error(node, error, "attribute size is %lld", (long long)size);
}

static bool lrn_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_F32, error) &&
           node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error) && infer_same(node, error);
}

static bool lrn_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                     struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int64_t channels = x->dims[1], size = shape_product(x, 2, x->rank), width = node_int(node, "size", 1);
    double alpha = (double)node_float(node, "alpha", 1e-4f) / (double)width;
    double beta = (double)node_float(node, "beta", 0.75f), bias = (double)node_float(node, "bias", 1);
    int64_t before = (width - 1) / 2, after = width / 2; /* of an even width, the larger half comes after */

#pragma omp parallel for schedule(static) if (x->dims[0] * channels * size > PARALLEL_ELEMENTS)
    for (int64_t plane = 0; plane < x->dims[0] * channels; plane++) {
        int64_t c = plane % channels, low = c < before ? 0 : c - before;
        int64_t high = after >= channels - c ? channels - 1 : c + after;
        const float *image = (const float *)inputs[0].data + (plane - c) * size;
        float *to = (float *)outputs[0].data + plane * size;

        for (int64_t i = 0; i < size; i++) {
            double sum = 0;
            for (int64_t k = low; k <= high; k++)
                sum += (double)image[k * size + i] * (double)image[k * size + i];
            to[i] = (float)((double)image[c * size + i] / pow(bias + alpha * sum, beta));
        }
    }

    return true;
}

static bool lrn_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    return compute_widened(node, inputs, outputs, error, lrn_wide);
}

const struct op_def normalize_operators[] = {
    {.op_type = "BatchNormalization",
     .differentiate = gradient_batch_norm,
     .since = 1,
     .inputs = {5, 5},
     .outputs = {1, 5},
     .traits = OP_SAMPLEWISE,
     .types = NAMES_FLOAT,
     .check = batch_check,
     FUNCTIONS(batch)},
    {.op_type = "InstanceNormalization",
     .since = 1,
     .inputs = {3, 3},
     .traits = OP_SAMPLEWISE,
     .types = NAMES_FLOAT,
     FUNCTIONS(instance)},
    {.op_type = "LayerNormalization",
     .differentiate = gradient_layer_norm,
     .since = 1, /* ONNX's since 17; exporters wrote ONNX Runtime's into the same domain before */
     .inputs = {2, 3},
     .outputs = {1, 3},
     .default_axis = -1,
     .traits = OP_ALONG_AXIS,
     .types = NAMES_FLOAT,
     FUNCTIONS(layer)},
    {.op_type = "LRN",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_SAMPLEWISE,
     .types = NAMES_F32,
     .check = lrn_check,
     FUNCTIONS(lrn)},
    {0},
};
