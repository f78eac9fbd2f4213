/* Momentum, Adam, Adagrad of ai.onnx.preview.training: one step of an optimiser, plain arithmetic.
 * https://github.com/onnx/onnx/blob/main/docs/Operators.md#ai-onnx-preview-training-adam. Inputs: rate,
 * count, then all tensors, all gradients, all accumulators (Adam: two lists). Outputs: the same lists but
 * gradients. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

enum optimizer { OPTIMIZER_ADAGRAD, OPTIMIZER_ADAM, OPTIMIZER_MOMENTUM };

static enum optimizer kind_of(const struct node *node) {
    return *(const enum optimizer *)node->op->family;
}

/* Lists of inputs behind the first two. */
static int lists_of(const struct node *node) {
    return kind_of(node) == OPTIMIZER_ADAM ? 4 : 3;
}

static bool optimizer_check(const struct node *node, struct error *error) {
    int lists = lists_of(node), tensors = (node->input_count - 2) / lists;
    const char *mode = node_string(node, "mode", "standard");
    if (node->input_count < 2 + lists || (node->input_count - 2) % lists ||
        node->output_count > tensors * (lists - 1))
        return node_error(node, error, "has %d inputs and %d outputs", node->input_count, node->output_count);
    for (int i = 0; i < node->input_count; i++)
        if (!node_has_input(node, i))
            return node_error(node, error, "input %d is missing", i);
    return kind_of(node) != OPTIMIZER_MOMENTUM || strcmp(mode, "standard") == 0 ||
           strcmp(mode, "nesterov") == 0 || node_error(node, error, "mode '%.32s' is not supported", mode);
}

/* Output `output` is a tensor, or an accumulator: which input holds what it was. */
static int input_of(const struct node *node, int output) {
    int tensors = (node->input_count - 2) / lists_of(node), list = output / tensors;
    return 2 + output % tensors + (list ? list + 1 : 0) * tensors;
}

static bool optimizer_infer(struct node *node, struct error *error) {
    int tensors = (node->input_count - 2) / lists_of(node);
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_types(node, 1, TYPE(I64), error) ||
        shape_elements(node_shape(node, 0)) != 1 || shape_elements(node_shape(node, 1)) != 1)
        return node_error(node, error, "rate and count are not one number each");

    for (int i = 2; i < node->input_count; i++) {
        int own = 2 + (i - 2) % tensors;
        if (!node_want_types(node, i, TYPE(F32) | TYPE(F64), error) ||
            !node_want_same_type(node, i, own, error))
            return false;
        if (!shape_equal(node_shape(node, i), node_shape(node, own)))
            return node_error(node, error, "input %d has another shape than its tensor", i);
    }
    for (int i = 0; i < node->output_count; i++)
        if (!infer_output(node, i, node_dtype(node, input_of(node, i)), node_shape(node, input_of(node, i)),
                          error))
            return false;
    return true;
}

struct step_numbers {
    enum optimizer kind;
    bool nesterov;
    double rate, alpha, beta, epsilon, decay, decay_after;
};

static struct step_numbers numbers_of(const struct node *node, const struct tensor *inputs) {
    double rate = tensor_get_f64(&inputs[0], 0), count = tensor_get_f64(&inputs[1], 0);
    struct step_numbers n = {.kind = kind_of(node),
                             .nesterov = strcmp(node_string(node, "mode", "standard"), "nesterov") == 0,
                             .alpha = (double)node_float(node, "alpha", 0.9f),
                             .beta = (double)node_float(node, "beta", 0.999f),
                             .epsilon = (double)node_float(node, "epsilon", 1e-6f),
                             .decay = (double)node_float(node, "norm_coefficient", 0),
                             .decay_after = (double)node_float(node, "norm_coefficient_post", 0)};
    n.rate = rate;
    if (n.kind == OPTIMIZER_ADAGRAD)
        n.rate = rate / (1 + count * (double)node_float(node, "decay_factor", 0));
    else if (n.kind == OPTIMIZER_ADAM && count > 0)
        n.rate = rate * sqrt(1 - pow(n.beta, count)) / (1 - pow(n.alpha, count));
    else if (n.kind == OPTIMIZER_MOMENTUM)
        n.beta = count > 0 ? (double)node_float(node, "beta", 1) : 1;
    return n;
}

/* One element: x, its gradient and accumulators; x and accumulators change. */
static void step(const struct step_numbers *n, double *x, double gradient, double *first, double *second) {
    double g = n->decay * *x + gradient;
    switch (n->kind) {
    case OPTIMIZER_ADAGRAD:
        *first += g * g;
        *x -= n->rate * g / (sqrt(*first) + n->epsilon);
        return;
    case OPTIMIZER_ADAM:
        *first = n->alpha * *first + (1 - n->alpha) * g;
        *second = n->beta * *second + (1 - n->beta) * g * g;
        *x -= n->rate * *first / (sqrt(*second) + n->epsilon);
        *x *= 1 - n->decay_after;
        return;
    default:
        *first = n->alpha * *first + n->beta * g;
        *x -= n->rate * (n->nesterov ? g + n->alpha * *first : *first);
    }
}

static void store(const struct node *node, const struct tensor *outputs, int output, int64_t index,
                  double value) {
    if (output >= node->output_count || !outputs[output].data)
        return;
    size_t size = dtype_size(outputs[output].dtype);
    elements_convert(DTYPE_F64, &value, outputs[output].dtype,
                     (char *)outputs[output].data + (size_t)index * size, 1);
}

static bool optimizer_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    int tensors = (node->input_count - 2) / lists_of(node);
    struct step_numbers n = numbers_of(node, inputs);
    (void)error;

    for (int t = 0; t < tensors; t++)
        for (int64_t i = 0; i < shape_elements(&inputs[2 + t].shape); i++) {
            double x = tensor_get_f64(&inputs[2 + t], i), g = tensor_get_f64(&inputs[2 + tensors + t], i);
            double first = tensor_get_f64(&inputs[2 + 2 * tensors + t], i), second = 0;
            if (n.kind == OPTIMIZER_ADAM)
                second = tensor_get_f64(&inputs[2 + 3 * tensors + t], i);
            step(&n, &x, g, &first, &second);
            store(node, outputs, t, i, x);
            store(node, outputs, tensors + t, i, first);
            store(node, outputs, 2 * tensors + t, i, second);
        }
    return true;
}

#define OPTIMIZER(name, kind)                                                                     \
    {                                                                                             \
        .domain = "ai.onnx.preview.training", .op_type = name, .since = 1, .inputs = {3, -1},     \
        .outputs = {1, -1}, .types = "float32, float64", .family = &(const enum optimizer){kind}, \
        .check = optimizer_check, FUNCTIONS(optimizer)                                            \
    }

const struct op_def optimizer_operators[] = {
    OPTIMIZER("Adagrad", OPTIMIZER_ADAGRAD),
    OPTIMIZER("Adam", OPTIMIZER_ADAM),
    OPTIMIZER("Momentum", OPTIMIZER_MOMENTUM),
    {0},
};
