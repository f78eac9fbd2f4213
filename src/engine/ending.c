/* What a network's last operators make of an output. */
#include "engine/ending.h"

#include <string.h>

#include "graph/graph.h"

enum { STEPS_MOST = 64 };

static bool is_among(const struct node *node, const char *const *names) {
    for (; *names; names++)
        if (strcmp(node->op_type, *names) == 0)
            return true;
    return false;
}

/* Its first input's values, moved, copied, averaged or rounded: probabilities stay probabilities. */
static bool passes_values(const struct node *node) {
    static const char *const names[] = {"Identity",
                                        "Cast",
                                        "CastLike",
                                        "Reshape",
                                        "Flatten",
                                        "Squeeze",
                                        "Unsqueeze",
                                        "Slice",
                                        "Gather",
                                        "Split",
                                        "Transpose",
                                        "QuantizeLinear",
                                        "Expand",
                                        "DequantizeLinear",
                                        "Dropout",
                                        "Clip",
                                        "Concat",
                                        "ReduceMean",
                                        "GlobalAveragePool",
                                        "Mean",
                                        "ReduceMax",
                                        "Max",
                                        "GatherElements",
                                        NULL};
    return is_among(node, names);
}

static bool is_producer(const struct value *value, const char *op_type) {
    return value && value->producer && strcmp(value->producer->op_type, op_type) == 0;
}

static struct value *input_of(const struct node *node, int index) {
    return index < node->input_count ? node->inputs[index] : NULL;
}

/* Softmax or sigmoid written out: exp(x) / sum, 1 / (1 + exp(-x)). */
static enum engine_ending classify_division(const struct node *node) {
    const struct value *above = input_of(node, 0), *below = input_of(node, 1);
    bool reciprocal = strcmp(node->op_type, "Reciprocal") == 0;
    if (reciprocal)
        below = above;
    else if (is_producer(above, "Exp"))
        return ENGINE_ENDING_SOFTMAX;

    bool constant = reciprocal || (above && above->constant);
    if (!constant || !is_producer(below, "Add"))
        return ENGINE_ENDING_UNKNOWN;

    const struct node *sum = below->producer;
    return is_producer(input_of(sum, 0), "Exp") || is_producer(input_of(sum, 1), "Exp")
               ? ENGINE_ENDING_SIGMOID
               : ENGINE_ENDING_UNKNOWN;
}

static enum engine_ending classify_node(const struct node *node) {
    static const char *const linear[] = {"Gemm",        "MatMul",
                                         "Conv",        "Add",
                                         "QLinearConv", "QLinearMatMul",
                                         "Sub",         "MatMulInteger",
                                         "ConvInteger", "BatchNormalization",
                                         NULL};

    if (node->post_op_count > 0)
        return ENGINE_ENDING_UNKNOWN;
    if (strcmp(node->op_type, "Softmax") == 0 || strcmp(node->op_type, "QLinearSoftmax") == 0)
        return ENGINE_ENDING_SOFTMAX;
    if (strcmp(node->op_type, "LogSoftmax") == 0)
        return ENGINE_ENDING_LOG_SOFTMAX;
    if (strcmp(node->op_type, "Sigmoid") == 0 || strcmp(node->op_type, "HardSigmoid") == 0 ||
        strcmp(node->op_type, "QLinearSigmoid") == 0)
        return ENGINE_ENDING_SIGMOID;
    if (strcmp(node->op_type, "Div") == 0 || strcmp(node->op_type, "Reciprocal") == 0)
        return classify_division(node);

    return is_among(node, linear) ? ENGINE_ENDING_LINEAR : ENGINE_ENDING_UNKNOWN;
}

/* The value whose probabilities this node turns round: 1 - p. */
static const struct value *complement_of(const struct node *node) {
    const struct value *first = input_of(node, 0);
    return strcmp(node->op_type, "Sub") == 0 && first && first->constant ? input_of(node, 1) : NULL;
}

/* log(softmax) written out. */
static bool is_log_of_softmax(const struct node *node) {
    return strcmp(node->op_type, "Log") == 0 && is_producer(input_of(node, 0), "Softmax");
}

enum engine_ending ending_find(const struct value *output) {
    const struct value *value = output;
    bool joined = false;

    for (int i = 0; i < STEPS_MOST && value && value->producer; i++) {
        const struct node *node = value->producer;
        const struct value *other = complement_of(node);
        if (passes_values(node) || other) {
            joined = joined || strcmp(node->op_type, "Concat") == 0;
            value = other ? other : input_of(node, 0);
            continue;
        }
        if (is_log_of_softmax(node))
            return ENGINE_ENDING_LOG_SOFTMAX;
        enum engine_ending ending = classify_node(node);
        /* Sides of a decision put together, [1 - p, p], share 1. */
        return ending == ENGINE_ENDING_SIGMOID && joined ? ENGINE_ENDING_UNKNOWN : ending;
    }

    return ENGINE_ENDING_UNKNOWN;
}
