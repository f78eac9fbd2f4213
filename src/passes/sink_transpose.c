/* Transposes move towards the end of the graph, past whatever works element by element, until they meet
 * another and vanish, or meet a node that needs them. A channels-last network written in ONNX's
 * channels-first axes then computes in one order throughout.
 *
 * This ends: a Transpose passes a node once, two that meet become one or none, and the inverse ones that are
 * put before other operands (see may_insert) never have some put in themselves. */
#include <string.h>

#include "ops/operator.h"
#include "passes/fuse.h"

#define OPERANDS 8 /* of a node that a Transpose passes */

struct permutation {
    int rank;
    int64_t axes[LIMIT_TENSOR_RANK]; /* axis i of the result is axis axes[i] of the input */
};

static struct permutation permutation_of(const struct node *transpose) {
    const int64_t *given;
    struct permutation permutation = {.rank = transpose->inputs[0]->shape.rank};
    size_t count = node_ints(transpose, "perm", &given);

    for (int i = 0; i < permutation.rank; i++)
        permutation.axes[i] = count ? given[i] : permutation.rank - 1 - i;

    return permutation;
}

static struct permutation permutation_invert(const struct permutation *permutation) {
    struct permutation inverse = {.rank = permutation->rank};

    for (int i = 0; i < permutation->rank; i++)
        inverse.axes[permutation->axes[i]] = i;

    return inverse;
}

static bool permutation_equal(const struct permutation *a, const struct permutation *b) {
    return a->rank == b->rank && memcmp(a->axes, b->axes, (size_t)a->rank * sizeof *a->axes) == 0;
}

static struct value *add_transpose(struct graph *graph, struct node *before, struct value *input,
                                   const struct permutation *permutation) {
    struct value *made = graph_add_value(graph, input->name);
    struct node *node = made ? operator_add_node(graph, before, "", "Transpose", 13, &input, 1, made) : NULL;
    if (!node || !node_set_ints(graph, node, "perm", permutation->axes, (size_t)permutation->rank))
        return NULL;

    made->dtype = input->dtype;
    made->shape.rank = permutation->rank;
    for (int i = 0; i < permutation->rank; i++)
        made->shape.dims[i] = input->shape.dims[permutation->axes[i]];

    return made;
}

/* Transpose of a Transpose: one, or none. */
static bool merge(struct graph *graph, struct node *node, struct node *first, struct node **ret_resume) {
    struct permutation inner = permutation_of(first), outer = permutation_of(node),
                       both = {.rank = inner.rank};
    bool identity = true;

    for (int i = 0; i < both.rank; i++) {
        both.axes[i] = inner.axes[outer.axes[i]];
        identity &= both.axes[i] == i;
    }

    struct value *source = first->inputs[0], *result = node->outputs[0];
    if (identity && !(result->is_output && (source->is_input || source->is_output || source->constant))) {
        *ret_resume = node->next ? node->next : graph->first;
        if (!graph_replace_value(graph, result, source))
            return false;
        remove_if_dead(graph, node);
        return true;
    }

    *ret_resume = node;
    bool done = node_set_input(graph, node, 0, source) &&
                node_set_ints(graph, node, "perm", both.axes, (size_t)both.rank);
    remove_if_dead(graph, first);

    return done;
}

/* The axis of a constant along which it varies, counted as the axes of a tensor of `rank` that it is
 * broadcast to; -1: none. False where there are several. */
static bool varying_axis(const struct shape *shape, int rank, int *ret) {
    *ret = -1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] == 1)
            continue;
        if (*ret >= 0)
            return false;
        *ret = i + rank - shape->rank;
    }

    return true;
}

/* The constant as it is broadcast to the tensor before it is transposed: [c, 1, 1] under NCHW is [c] under
 * NHWC. */
static struct value *permute_constant(struct graph *graph, struct value *constant,
                                      const struct permutation *permutation) {
    struct shape made = {.rank = permutation->rank};
    int varying;

    if (!varying_axis(&constant->shape, permutation->rank, &varying))
        return NULL;

    for (int i = 0; i < made.rank; i++)
        made.dims[i] = 1;

    if (varying >= 0)
        made.dims[permutation->axes[varying]] = shape_elements(&constant->shape);

    return graph_add_constant(graph, constant->name, constant->dtype, &made, constant->constant->data);
}

/* Whether other operands may get an inverse Transpose: only past [n, spatial…, c] to [n, c, spatial…], the
 * way back to ONNX's axes. Of rank 3 that is its own inverse, and the inserted one would be sunk in turn,
 * without end. */
static bool may_insert(const struct permutation *permutation) {
    bool matches =
        permutation->rank >= 4 && permutation->axes[0] == 0 && permutation->axes[1] == permutation->rank - 1;

    for (int i = 2; i < permutation->rank; i++)
        matches = matches && permutation->axes[i] == i - 1;

    return matches;
}

/* Whether an operand can be had in the order before the Transpose, whose result is `mine`. */
static bool can_turn(const struct value *operand, const struct value *mine,
                     const struct permutation *permutation) {
    const struct node *transpose = producer_of(operand, "Transpose");
    int varying;

    if (transpose) {
        struct permutation other = permutation_of(transpose);
        if (permutation_equal(&other, permutation))
            return true;
    }
    if (operand->constant)
        return operand->shape.rank <= permutation->rank &&
               varying_axis(&operand->shape, permutation->rank, &varying);

    return operand == mine || (operand->shape.rank == permutation->rank && may_insert(permutation));
}

/* The operand in that order. NULL when memory is out. */
static struct value *turn(struct graph *graph, struct node *node, struct value *operand,
                          const struct permutation *permutation) {
    struct node *transpose = producer_of(operand, "Transpose");

    if (transpose) {
        struct permutation other = permutation_of(transpose);
        if (permutation_equal(&other, permutation))
            return transpose->inputs[0];
    }
    if (operand->constant)
        return permute_constant(graph, operand, permutation);

    struct permutation inverse = permutation_invert(permutation);
    return add_transpose(graph, node, operand, &inverse);
}

/* f(Transpose(x), …) becomes Transpose(f(x, …)). */
static bool sink(struct graph *graph, struct node *node, struct node *transpose, struct node **ret_resume) {
    struct permutation permutation = permutation_of(transpose);
    struct value *mine = transpose->outputs[0], *result = node->outputs[0], *inputs[OPERANDS];
    int data = node_data_inputs(node);

    if (!shape_equal(&result->shape, &mine->shape))
        return true;

    for (int i = 0; i < data; i++)
        if (node->inputs[i] && !can_turn(node->inputs[i], mine, &permutation))
            return true;

    struct node *inserted = NULL;
    for (int i = 0; i < node->input_count; i++) {
        inputs[i] = node->inputs[i];
        if (i >= data || !inputs[i])
            continue;

        inputs[i] = turn(graph, node, node->inputs[i], &permutation);
        if (!inputs[i])
            return false;

        struct node *made = producer_of(inputs[i], "Transpose");
        if (!inserted && made && made->inputs[0] == node->inputs[i])
            inserted = made;
    }

    struct value *inner = graph_add_value(graph, result->name);
    struct node *moved = inner ? operator_add_node(graph, node, node->domain, node->op_type, node->opset,
                                                   inputs, node->input_count, inner)
                               : NULL;
    if (!moved)
        return false;

    inner->dtype = result->dtype;
    inner->shape = transpose->inputs[0]->shape;
    moved->attributes = node->attributes;
    moved->attribute_count = node->attribute_count;

    struct value *outer = add_transpose(graph, node, inner, &permutation);
    if (!outer || !graph_replace_value(graph, result, outer))
        return false;

    *ret_resume = inserted ? inserted : outer->producer; /* an inserted one may meet its inverse */
    remove_if_dead(graph, node);

    return true;
}

static bool is_used_by(const struct value *value, const struct node *node) {
    for (int i = 0; i < value->use_count; i++)
        if (value->uses[i].node != node)
            return false;

    return !value->is_output;
}

bool sink_transpose(struct graph *graph, struct node *node, struct node **ret_resume) {
    if (node_is(node, "Transpose")) {
        struct node *first = producer_of(node->inputs[0], "Transpose");
        return first ? merge(graph, node, first, ret_resume) : true;
    }

    if (!node_is_elementwise(node) || node->post_op_count || node->input_count > OPERANDS ||
        node->output_count != 1)
        return true;

    for (int i = 0; i < node_data_inputs(node); i++) {
        struct node *transpose = producer_of(node->inputs[i], "Transpose");
        if (transpose && is_used_by(transpose->outputs[0], node))
            return sink(graph, node, transpose, ret_resume);
    }

    return true;
}
