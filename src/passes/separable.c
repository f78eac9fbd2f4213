/* Whether the rows of a batch are independent of each other. */
#include "ops/operator.h"
#include "passes/passes.h"

static bool has_rows(const struct value *value, int64_t batch) {
    return value->shape.rank > 0 && value->shape.dims[0] == batch;
}

/* A constant, or weights still written as integers with their scale. */
static bool is_constant(const struct value *value) {
    return value->constant || (value->producer && node_is(value->producer, "DequantizeLinear") &&
                               value->producer->inputs[0]->constant);
}

/* Constant inputs are the same for every row: of lower rank than the result, or 1 along the rows. */
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

/* Only the first input depends on the rows. */
static bool others_are_constant(const struct node *node) {
    for (int i = 1; i < node->input_count; i++)
        if (node->inputs[i] && !is_constant(node->inputs[i]))
            return false;
    return node->input_count > 0 && node->inputs[0] && !is_constant(node->inputs[0]);
}

/* A product of two results, matrix by matrix (attention): both have the rows as their first axis, and two
 * more. */
static bool multiplies_within_rows(const struct node *node) {
    return node_is(node, "MatMul") && node->inputs[0]->shape.rank >= 3 &&
           node->inputs[0]->shape.rank == node->inputs[1]->shape.rank && !is_constant(node->inputs[0]) &&
           !is_constant(node->inputs[1]);
}

static bool keeps_rows_apart(const struct node *node) {
    if (!node->output_count || !node->outputs[0])
        return false;
    if (node_is_elementwise(node))
        return constants_broadcast(node);

    if (node_has(node, OP_ALONG_AXIS)) {
        bool fits = node_data_inputs(node) == 1
                        ? others_are_constant(node) && node->inputs[0]->shape.rank >= 2
                        : constants_broadcast(node);
        return fits && node_along_axis(node) != 0;
    }

    if (!others_are_constant(node))
        return multiplies_within_rows(node);

    /* A reshape keeps the row-major order of elements, and the first axis is as long as before. */
    return node_has(node, OP_SAMPLEWISE) || node_has(node, OP_RESHAPES) ||
           (node->op && node->op->rows_apart && node->op->rows_apart(node));
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
