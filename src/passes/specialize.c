/* Make a graph ready for one set of input shapes: every shape known, every shape computation a constant. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#define SPECIALIZE_FOLD_LIMIT (16u << 20) /* bytes: every plan has results of its own */

static bool set_input(struct graph *graph, struct value *value, const struct tensor *tensor,
                      struct error *error) {
    char wanted[SHAPE_TEXT], given[SHAPE_TEXT];
    shape_format(&value->shape, wanted, sizeof wanted);
    shape_format(&tensor->shape, given, sizeof given);
    if (value->dtype != DTYPE_UNKNOWN && value->dtype != tensor->dtype)
        return error_set(error, ERROR_INVALID, "input '%.128s' has type %s, but the model takes %s",
                         value->name, dtype_name(tensor->dtype), dtype_name(value->dtype));

    bool fits = shape_elements(&tensor->shape) >= 0 &&
                (value->shape.rank < 0 || value->shape.rank == tensor->shape.rank);
    for (int i = 0; i < value->shape.rank && fits; i++)
        fits = value->shape.dims[i] < 0 || value->shape.dims[i] == tensor->shape.dims[i];

    if (!fits)
        return error_set(error, ERROR_INVALID, "input '%.128s' has shape %s, but the model takes %s",
                         value->name, given, wanted);

    value->dtype = tensor->dtype;
    value->shape = tensor->shape;
    if (!tensor->data)
        return true;

    struct tensor *constant = arena_allocate(graph->arena, sizeof *constant);
    void *data = constant ? graph_own_memory(graph, tensor_bytes(tensor)) : NULL;
    if (!data)
        return error_set(error, ERROR_MEMORY, "not enough memory for input '%.128s'", value->name);

    memcpy(data, tensor->data, tensor_bytes(tensor));
    *constant = (struct tensor){tensor->dtype, tensor->shape, data};
    value->constant = constant;

    return true;
}

/* Inputs that decide shapes must be constant by now. */
static bool check_plan_inputs(const struct node *node, struct error *error) {
    for (int i = 0; i < node->input_count && i < 32; i++)
        if (node->op->plan_inputs & 1u << i && node->inputs[i] && !node->inputs[i]->constant)
            return node_error(
                node, error,
                "input %d ('%.128s') decides a shape, but depends on the values of the model's inputs", i,
                node->inputs[i]->name);
    return true;
}

/* Compute a node that needs only the shape of its input. */
static enum fold_result fold_shape(struct graph *graph, struct node *node, struct error *error) {
    struct value *input = node_input(node, 0), *output = node->outputs[0];
    if (!node_has(node, OP_READS_SHAPE) || !input || !output)
        return FOLD_KEPT;
    if (!node->op->infer(node, error))
        return FOLD_FAILED;

    struct tensor shape_only = {input->dtype, input->shape, NULL};
    struct tensor *constant = arena_allocate(graph->arena, sizeof *constant);
    if (constant)
        *constant = (struct tensor){output->dtype, output->shape, NULL};

    size_t bytes = constant ? tensor_bytes(constant) : 0;
    if (bytes > SPECIALIZE_FOLD_LIMIT)
        return FOLD_KEPT;

    void *data = constant ? graph_own_memory(graph, bytes) : NULL;
    if (!data) {
        node_memory_error(node, error);
        return FOLD_FAILED;
    }

    constant->data = data;
    if (!operator_compute(node, &shape_only, constant, error))
        return FOLD_FAILED;

    output->constant = constant;
    graph_remove_node(graph, node);

    return FOLD_DONE;
}

static bool check_outputs(const struct node *node, struct error *error) {
    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        if (!value || (value->dtype != DTYPE_UNKNOWN && shape_elements(&value->shape) >= 0))
            continue;

        char text[SHAPE_TEXT];
        return node_error(node, error, "its result '%.128s' (%s of %s) has an unknown or too large shape",
                          value->name, shape_format(&value->shape, text, sizeof text),
                          dtype_name(value->dtype));
    }

    return true;
}

static bool specialize_node(struct graph *graph, struct node *node, size_t *budget, struct error *error) {
    if (!node->op || !node->op->infer)
        return node_error(node, error, "the operator is not known");

    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] &&
            (node->inputs[i]->dtype == DTYPE_UNKNOWN || shape_elements(&node->inputs[i]->shape) < 0))
            return node_error(node, error, "its input '%.128s' has no known type or shape",
                              node->inputs[i]->name);

    enum fold_result folded = fold_shape(graph, node, error);
    if (folded == FOLD_KEPT) {
        if (!check_plan_inputs(node, error) || !node->op->infer(node, error) || !check_outputs(node, error))
            return false;
        if (!node_keeps_quantization(node))
            folded = node_fold(graph, node, SPECIALIZE_FOLD_LIMIT, budget, error);
    }

    return folded != FOLD_FAILED;
}

static bool set_inputs(struct graph *graph, const struct tensor *inputs, int input_count,
                       struct error *error) {
    if (input_count != graph->input_count)
        return error_set(error, ERROR_INVALID, "%d inputs were given, but the model takes %d", input_count,
                         graph->input_count);

    for (int i = 0; i < input_count; i++)
        if (!set_input(graph, graph->inputs[i], &inputs[i], error))
            return false;
    return true;
}

/* Does it take what a node that waits makes, or one that follows on such a node? */
static bool node_follows(const struct node *node) {
    for (int i = 0; i < node->input_count; i++) {
        const struct node *producer = node->inputs[i] ? node->inputs[i]->producer : NULL;
        if (producer && producer->mark != NODE_PLANNED)
            return true;
    }
    return false;
}

/* Node by node. With `ret_waiting`, those that must wait are marked, and so are those that follow on them. */
static bool specialize_nodes(struct graph *graph, int *ret_waiting, struct error *error) {
    size_t budget = 4 * SPECIALIZE_FOLD_LIMIT;

    for (struct node *node = graph->first; node; node = node->next)
        node->mark = NODE_PLANNED;
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (ret_waiting && node_follows(node)) {
            node->mark = NODE_FOLLOWS;
            continue;
        }

        bool known = node_has_known_branch(node);
        if (ret_waiting && !known && node->op && node_must_wait(node)) {
            node->mark = NODE_WAITS;
            ++*ret_waiting;
            continue;
        }
        if (known ? !node_inline_branch(graph, node, &next, error)
                  : !specialize_node(graph, node, &budget, error))
            return false;
    }

    return true;
}

bool passes_specialize(struct graph *graph, const struct tensor *inputs, int input_count,
                       struct error *error) {
    if (!set_inputs(graph, inputs, input_count, error) || !specialize_nodes(graph, NULL, error) ||
        !passes_remove_identities(graph, true, error))
        return false;

    graph_remove_dead_nodes(graph);

    return true;
}

bool passes_specialize_parts(struct graph *graph, const struct tensor *inputs, int input_count,
                             struct graph_parts *ret_parts, struct error *error) {
    int waiting = 0;
    *ret_parts = (struct graph_parts){0};
    if (!set_inputs(graph, inputs, input_count, error) || !specialize_nodes(graph, &waiting, error))
        return false;
    if (waiting)
        return passes_split(graph, ret_parts, error);
    if (!passes_remove_identities(graph, true, error))
        return false;

    graph_remove_dead_nodes(graph);
    return true;
}

static void mark_plan_inputs(const struct graph *graph, bool *needed);

/* What a branch or loop takes from around it, where a shape inside depends on it. */
static void mark_captured(const struct node *node, const struct attribute *attribute, bool *needed) {
    const struct graph *body = attribute->graph;
    bool *inside = calloc((size_t)body->value_count + 1, sizeof *inside);
    int formal = body->input_count - attribute->captured_count;

    if (inside)
        mark_plan_inputs(body, inside);
    for (int i = 0; i < attribute->captured_count; i++) {
        const struct value *value = node_input(node, attribute->first_captured + i);
        if (value && (!inside || inside[body->inputs[formal + i]->id]))
            needed[value->id] = true;
    }

    free(inside);
}

static void mark_plan_inputs(const struct graph *graph, bool *needed) {
    for (const struct node *node = graph->last; node; node = node->previous) {
        bool wanted = false;
        for (int i = 0; i < node->output_count; i++)
            wanted = wanted || (node->outputs[i] && needed[node->outputs[i]->id]);

        wanted = wanted && !node_has(node, OP_READS_SHAPE);
        for (int i = 0; i < node->input_count; i++) {
            bool decides = i < 32 && node->op && node->op->plan_inputs & 1u << i;
            if (node->inputs[i] && (wanted || decides))
                needed[node->inputs[i]->id] = true;
        }
        for (int i = 0; i < node->attribute_count; i++)
            if (node->attributes[i].kind == ATTRIBUTE_GRAPH)
                mark_captured(node, &node->attributes[i], needed);
    }
}

void passes_plan_inputs(const struct graph *graph, bool *ret) {
    bool *needed = calloc((size_t)graph->value_count + 1, sizeof *needed);
    if (needed)
        mark_plan_inputs(graph, needed);

    /* When memory is out, ask for the values of all inputs: right, if slow. */
    for (int i = 0; i < graph->input_count; i++)
        ret[i] = !needed || needed[graph->inputs[i]->id];

    free(needed);
}
