/* Whether the pictures of a batch have nothing to do with each other. */
#include <string.h>

#include "passes/passes.h"

static bool is_one_of(const struct node *node, const char *const *names, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (node_is(node, names[i]))
            return true;
    return false;
}
#define IS_ONE_OF(node, names) is_one_of(node, names, sizeof(names) / sizeof((names)[0]))

static bool has_rows(const struct value *value, int64_t batch) {
    return value->shape.rank > 0 && value->shape.dims[0] == batch;
}

/* A constant, or a weight that is still written as integers with their scale. */
static bool is_constant(const struct value *value) {
    return value->constant || (value->producer && node_is(value->producer, "DequantizeLinear") &&
                               value->producer->inputs[0]->constant);
}

/* Constant inputs say the same to every row: of lower rank than the result, or with 1 where the rows are. */
static bool constants_broadcast(const struct node *node) {
    int rank = node->outputs[0]->shape.rank;
    for (int i = 0; i < node->input_count; i++) {
        const struct value *input = node->inputs[i];
        if (!input)
            continue;
        bool same_for_all = input->shape.rank < rank || input->shape.dims[0] == 1;
        if (is_constant(input) ? !same_for_all : input->shape.rank != rank)
            return false;
    }
    return true;
}

/* Only the first input comes from the pictures. */
static bool others_are_constant(const struct node *node) {
    for (int i = 1; i < node->input_count; i++)
        if (node->inputs[i] && !is_constant(node->inputs[i]))
            return false;
    return node->input_count > 0 && node->inputs[0] && !is_constant(node->inputs[0]);
}

static int64_t axis_of(const struct node *node, int64_t otherwise) {
    int64_t axis = node_int(node, "axis", otherwise);
    return axis < 0 ? axis + node->inputs[0]->shape.rank : axis;
}

static bool keeps_rows_apart(const struct node *node) {
    static const char *const elementwise[] = {
        "Add",       "Sub",         "Mul",  "Div",  "Pow",     "Max",      "Min",        "Sum",   "Mean",
        "PRelu",     "Abs",         "Ceil", "Elu",  "Erf",     "Exp",      "Gelu",       "Floor", "HardSwish",
        "LeakyRelu", "Log",         "Neg",  "Relu", "Sigmoid", "Softplus", "Sqrt",       "Tanh",  "Identity",
        "Cast",      "HardSigmoid", "Selu", "Sign", "Clip",    "Dropout",  "Reciprocal", "Mish"};
    static const char *const windows[] = {"Conv",         "ConvTranspose",      "MaxPool",
                                          "AveragePool",  "GlobalAveragePool",  "GlobalMaxPool",
                                          "LRN",          "BatchNormalization", "InstanceNormalization",
                                          "DepthToSpace", "SpaceToDepth"};
    /* Row-major elements, and the first axis as long as before: each row keeps its own. */
    static const char *const views[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"};
    static const char *const along_axis[] = {"Softmax", "LogSoftmax", "LayerNormalization", "Split"};
    if (IS_ONE_OF(node, elementwise))
        return constants_broadcast(node);
    if (IS_ONE_OF(node, windows) || IS_ONE_OF(node, views))
        return others_are_constant(node);
    if (node_is(node, "Concat"))
        return axis_of(node, 0) != 0 && constants_broadcast(node);
    if (IS_ONE_OF(node,
                  along_axis)) /* without the attribute: Split's is 0, the others' never with two axes */
        return others_are_constant(node) && node->inputs[0]->shape.rank >= 2 &&
               axis_of(node, node_is(node, "Split") ? 0 : 1) != 0;
    if (node_is(node, "QuantizeLinear") || node_is(node, "DequantizeLinear"))
        return others_are_constant(node) && node->inputs[1]->shape.rank == 0;
    if (node_is(node, "Gemm"))
        return node_int(node, "transA", 0) == 0 && others_are_constant(node) &&
               (!node_input(node, 2) || node->inputs[2]->shape.rank < 2 ||
                node->inputs[2]->shape.dims[0] == 1);
    if (node_is(node, "MatMul"))
        return others_are_constant(node) && node->inputs[0]->shape.rank >= 2 &&
               node->inputs[1]->shape.rank == 2;
    const int64_t *permutation;
    if (node_is(node, "Transpose"))
        return node_ints(node, "perm", &permutation) && permutation[0] == 0;
    const int64_t *axes;
    size_t count = node_is(node, "ReduceMean") ? node_ints(node, "axes", &axes) : 0;
    for (size_t i = 0; i < count; i++)
        if (axes[i] == 0 || axes[i] + node->inputs[0]->shape.rank == 0)
            return false;
    return count > 0;
}

bool passes_batch_is_separable(const struct graph *graph, int64_t batch) {
    for (int i = 0; i < graph->input_count; i++)
        if (!has_rows(graph->inputs[i], batch))
            return false;
    for (const struct node *node = graph->first; node; node = node->next) {
        if (node->output_count > 0 && node->outputs[0] && is_constant(node->outputs[0]))
            continue;
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i] && !has_rows(node->outputs[i], batch))
                return false;
        if (!keeps_rows_apart(node))
            return false;
    }
    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i]->constant || !has_rows(graph->outputs[i], batch))
            return false;
    return true;
}
