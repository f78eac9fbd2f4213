#include "passes/passes.h"

#include <string.h>

#include "ops/operator.h"
#include "passes/rewrite.h"

/* The type of a value if it is certain: what a file says of intermediate values may be wrong. */
static enum dtype certain_dtype(const struct value *value, bool inferred) {
    return inferred || value->is_input || value->constant ? value->dtype : DTYPE_UNKNOWN;
}

static bool is_same_cast(const struct node *node, bool inferred) {
    enum dtype from = certain_dtype(node->inputs[0], inferred);

    return node_is(node, "Cast") && from != DTYPE_UNKNOWN && dtype_from_onnx(node_int(node, "to", 0)) == from;
}

static bool is_straight_transpose(const struct node *node) {
    const int64_t *permutation;
    size_t count = node_ints(node, "perm", &permutation);
    for (size_t i = 0; i < count; i++)
        if (permutation[i] != (int64_t)i)
            return false;

    return count > 0 && node_is(node, "Transpose");
}

/* Dropout outside of training, without use of its mask. */
static bool is_idle_dropout(const struct node *node) {
    if (!node_is(node, "Dropout"))
        return false;

    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || node->outputs[i]->is_output))
            return false;

    if (node_input(node, 1) && constant_is_zero(node->inputs[1]))
        return true;                              /* a ratio of zero: nothing is dropped in any mode */
    return constant_is_zero(node_input(node, 2)); /* training_mode, from opset 12 on */
}

static bool is_empty_pad(const struct node *node) {
    if (!node_is(node, "Pad"))
        return false;
    const int64_t *pads;
    size_t count = node_ints(node, "pads", &pads);

    for (size_t i = 0; i < count; i++)
        if (pads[i])
            return false;

    return count > 0 || (node_input(node, 1) && constant_is_zero(node_input(node, 1)));
}

/* Reshapes to the same shape, and repeats once. */
static bool keeps_its_shape(const struct node *node) {
    return (node_has(node, OP_RESHAPES) || node_has(node, OP_REPEATS)) &&
           shape_equal(&node->inputs[0]->shape, &node->outputs[0]->shape);
}

static bool does_nothing(const struct node *node, bool inferred) {
    if (!node->input_count || !node->inputs[0] || !node->output_count || !node->outputs[0])
        return false;
    if (node_is(node, "Identity") || is_idle_dropout(node) || is_same_cast(node, inferred) ||
        is_straight_transpose(node) || is_empty_pad(node))
        return true;

    return (node_has(node, OP_VARIADIC) && node->input_count == 1) || (inferred && keeps_its_shape(node));
}

bool passes_remove_identities(struct graph *graph, bool inferred, struct error *error) {
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (does_nothing(node, inferred))
            node_bypass(graph, node, node->inputs[0]); /* one that must stay copies */
    }
    return true;
}

bool passes_simplify(struct graph *graph, struct error *error) {
    graph_remove_dead_nodes(graph);
    if (!passes_fold_constants(graph, error) || !passes_remove_identities(graph, false, error) ||
        !passes_fold_affine(graph, error) || !passes_fold_pads(graph, error) ||
        !passes_share_constants(graph, error))
        return false;

    graph_remove_dead_nodes(graph);
    return true;
}
