/* A graph for one set of input shapes: every shape known, every shape computation a constant. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#define SPECIALISE_FOLD_LIMIT (16u << 20) /* bytes: every plan has its own */

static bool set_input(struct graph *graph, struct value *value, const struct tensor *tensor,
                      struct error *error) {
    char wanted[SHAPE_TEXT], given[SHAPE_TEXT];
    shape_format(&value->shape, wanted, sizeof wanted);
    shape_format(&tensor->shape, given, sizeof given);
    if (value->dtype != DTYPE_UNKNOWN && value->dtype != tensor->dtype)
        return error_set(error, ERROR_INVALID, "input '%.128s' is %s, the model takes %s", value->name,
                         dtype_name(tensor->dtype), dtype_name(value->dtype));
    bool fits = shape_elements(&tensor->shape) >= 0 &&
                (value->shape.rank < 0 || value->shape.rank == tensor->shape.rank);
    for (int i = 0; i < value->shape.rank && fits; i++)
        fits = value->shape.dims[i] < 0 || value->shape.dims[i] == tensor->shape.dims[i];
    if (!fits)
        return error_set(error, ERROR_INVALID, "input '%.128s' has the shape %s, the model takes %s",
                         value->name, given, wanted);
    value->dtype = tensor->dtype;
    value->shape = tensor->shape;
    if (!tensor->data)
        return true;
    struct tensor *constant = arena_allocate(graph->arena, sizeof *constant);
    void *data = constant ? graph_own_memory(graph, tensor_bytes(tensor)) : NULL;
    if (!data)
        return error_set(error, ERROR_MEMORY, "no memory for input '%.128s'", value->name);
    memcpy(data, tensor->data, tensor_bytes(tensor));
    *constant = (struct tensor){tensor->dtype, tensor->shape, data};
    value->constant = constant;
    return true;
}

/* What decides shapes must be known by now. */
static bool check_plan_inputs(const struct node *node, struct error *error) {
    for (int i = 0; i < node->input_count && i < 32; i++)
        if (node->operator->plan_inputs & 1u << i && node->inputs[i] && !node->inputs[i]->constant)
            return node_error(
                node, error,
                "input %d ('%.128s') decides a shape, and depends on what the model computes from its data",
                i, node->inputs[i]->name);
    return true;
}

/* Shape and Size know their answer from the shape alone. */
static enum fold_result fold_shape(struct graph *graph, struct node *node, struct error *error) {
    bool is_size = node_is(node, "Size");
    if (!(is_size || node_is(node, "Shape")) || !node_input(node, 0) || !node->outputs[0])
        return FOLD_KEPT;
    const struct shape *shape = &node->inputs[0]->shape;
    int64_t rank = shape->rank, start = node_int(node, "start", 0), end = node_int(node, "end", rank);
    start = start < 0 ? start + rank : start;
    end = end < 0 ? end + rank : end;
    start = start < 0 ? 0 : start > rank ? rank : start;
    end = end < start ? start : end > rank ? rank : end;
    struct tensor *constant = arena_allocate(graph->arena, sizeof *constant);
    int64_t *dims = arena_allocate_array(graph->arena, LIMIT_TENSOR_RANK, sizeof *dims);
    if (!constant || !dims) {
        node_error(node, error, "no memory for a shape");
        return FOLD_FAILED;
    }
    struct value *value = node->outputs[0];
    value->shape = is_size ? (struct shape){0} : (struct shape){1, {end - start}};
    value->dtype = DTYPE_I64;
    if (is_size)
        dims[0] = shape_elements(shape);
    else
        memcpy(dims, shape->dims + start, (size_t)(end - start) * sizeof *dims);
    *constant = (struct tensor){DTYPE_I64, value->shape, dims};
    value->constant = constant;
    graph_remove_node(graph, node);
    return FOLD_DONE;
}

static bool check_outputs(const struct node *node, struct error *error) {
    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        if (!value || (value->dtype != DTYPE_UNKNOWN && shape_elements(&value->shape) >= 0))
            continue;
        char text[SHAPE_TEXT];
        return node_error(node, error, "its result '%.128s' (%s of %s) is too large or not known",
                          value->name, shape_format(&value->shape, text, sizeof text),
                          dtype_name(value->dtype));
    }
    return true;
}

static bool specialise_node(struct graph *graph, struct node *node, size_t *budget, struct error *error) {
    if (!node->operator|| !node->operator->infer)
        return node_error(node, error, "the operator is not known");
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] &&
            (node->inputs[i]->dtype == DTYPE_UNKNOWN || shape_elements(&node->inputs[i]->shape) < 0))
            return node_error(node, error, "its input '%.128s' has no known type or shape",
                              node->inputs[i]->name);
    enum fold_result folded = fold_shape(graph, node, error);
    if (folded == FOLD_KEPT) {
        if (!check_plan_inputs(node, error) || !node->operator->infer(node, error) ||
            !check_outputs(node, error))
            return false;
        if (!node_keeps_quantisation(node))
            folded = node_fold(graph, node, SPECIALISE_FOLD_LIMIT, budget, error);
    }
    return folded != FOLD_FAILED;
}

bool passes_specialise(struct graph *graph, const struct tensor *inputs, int input_count,
                       struct error *error) {
    if (input_count != graph->input_count)
        return error_set(error, ERROR_INVALID, "%d inputs, the model takes %d", input_count,
                         graph->input_count);
    for (int i = 0; i < input_count; i++)
        if (!set_input(graph, graph->inputs[i], &inputs[i], error))
            return false;
    size_t budget = 4 * SPECIALISE_FOLD_LIMIT;
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (!specialise_node(graph, node, &budget, error))
            return false;
    }
    if (!passes_remove_identities(graph, true, error))
        return false;
    graph_remove_dead_nodes(graph);
    return true;
}

void passes_plan_inputs(const struct graph *graph, bool *ret) {
    bool *needed = calloc((size_t)graph->value_count + 1, sizeof *needed);
    for (const struct node *node = graph->last; node && needed; node = node->previous) {
        bool wanted = false;
        for (int i = 0; i < node->output_count; i++)
            wanted = wanted || (node->outputs[i] && needed[node->outputs[i]->id]);
        wanted = wanted && !node_is(node, "Shape") && !node_is(node, "Size"); /* the shape suffices */
        for (int i = 0; i < node->input_count; i++) {
            bool decides = i < 32 && node->operator&& node->operator->plan_inputs & 1u << i;
            if (node->inputs[i] && (wanted || decides))
                needed[node->inputs[i]->id] = true;
        }
    }
    /* Without memory to find out, the values of all inputs are asked for: right, if slow. */
    for (int i = 0; i < graph->input_count; i++)
        ret[i] = !needed || needed[graph->inputs[i]->id];
    free(needed);
}
