#include "passes/passes.h"

#include <string.h>

#include "ops/operator.h"
#include "passes/rewrite.h"

/* The type of a value where it is certain: a file's word on values in between is only a word. */
static enum dtype certain_dtype(const struct value *value, bool inferred) {
    return inferred || value->is_input || value->constant ? value->dtype : DTYPE_UNKNOWN;
}

static bool is_same_cast(const struct node *node, bool inferred) {
    static const enum dtype types[] = {
        [1] = DTYPE_F32,  [2] = DTYPE_U8,   [3] = DTYPE_I8,   [4] = DTYPE_U16,  [5] = DTYPE_I16,
        [6] = DTYPE_I32,  [7] = DTYPE_I64,  [9] = DTYPE_BOOL, [10] = DTYPE_F16, [11] = DTYPE_F64,
        [12] = DTYPE_U32, [13] = DTYPE_U64, [16] = DTYPE_BF16}; /* TensorProto.DataType */
    int64_t to = node_int(node, "to", 0);
    enum dtype from = certain_dtype(node->inputs[0], inferred);
    return node_is(node, "Cast") && from != DTYPE_UNKNOWN && to > 0 &&
           to < (int64_t)(sizeof types / sizeof *types) && types[to] == from;
}

static bool is_straight_transpose(const struct node *node) {
    const int64_t *permutation;
    size_t count = node_ints(node, "perm", &permutation);
    for (size_t i = 0; i < count; i++)
        if (permutation[i] != (int64_t)i)
            return false;
    return count > 0 && node_is(node, "Transpose");
}

/* Dropout as it is when nobody trains; its mask must not be asked for. */
static bool is_idle_dropout(const struct node *node) {
    if (!node_is(node, "Dropout"))
        return false;
    for (int i = 1; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || node->outputs[i]->is_output))
            return false;
    if (node_input(node, 1) && constant_is_zero(node->inputs[1]))
        return true;                              /* nothing is dropped, whatever the mode */
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

/* Operators that only name the elements anew, and here don't even do that. */
static bool keeps_its_shape(const struct node *node) {
    static const char *const names[] = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"};
    if (!node->outputs[0] || !shape_equal(&node->inputs[0]->shape, &node->outputs[0]->shape))
        return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (node_is(node, names[i]))
            return true;
    return false;
}

static bool does_nothing(const struct node *node, bool inferred) {
    if (!node->input_count || !node->inputs[0] || !node->output_count || !node->outputs[0])
        return false;
    if (node_is(node, "Identity") || is_idle_dropout(node) || is_same_cast(node, inferred) ||
        is_straight_transpose(node) || is_empty_pad(node))
        return true;
    static const char *const of_many[] = {"Concat", "Sum", "Mean", "Max", "Min"};
    for (size_t i = 0; i < sizeof of_many / sizeof *of_many; i++)
        if (node->input_count == 1 && node_is(node, of_many[i]))
            return true;
    return inferred && keeps_its_shape(node);
}

bool passes_remove_identities(struct graph *graph, bool inferred, struct error *error) {
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (does_nothing(node, inferred))
            node_bypass(graph, node, node->inputs[0]); /* where it may not go, it stays and copies */
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
