/* Whether the rows of a batch are independent of each other.
 *
 * A row's elements may lie anywhere in a tensor on the way, as long as it is known where: in row-major order,
 * `outer` blocks hold the rows one after the other, each with the same number of elements. Inputs have one
 * block; stacking two tensors gives two, and so does an axis that is put before the rows. */
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"

struct rows {
    int64_t batch;
    int64_t *outer; /* [value_count] by id; 0: the same for every row */
};

/* Where in a tensor's shape the rows are: within one axis, which has `outer` blocks of them. */
struct place {
    int axis;
    int64_t outer;
};

/* A constant, or weights still written as integers with their scale. */
static bool is_constant(const struct value *value) {
    return value->constant || (value->producer && node_is(value->producer, "DequantizeLinear") &&
                               value->producer->inputs[0]->constant);
}

static int64_t elements_before(const struct shape *shape, int axis) {
    int64_t count = 1;
    for (int i = 0; i < axis; i++)
        count *= shape->dims[i];
    return count;
}

/* False where it is not within a single axis. */
static bool place_find(const struct rows *rows, const struct value *value, struct place *ret) {
    int64_t before = 1, outer = rows->outer[value->id];

    for (int axis = 0; outer > 0 && axis < value->shape.rank; axis++) {
        int64_t dim = value->shape.dims[axis];
        if (dim < 1 || outer % before != 0)
            return false;
        if (before * dim % (outer * rows->batch) == 0) {
            *ret = (struct place){axis, outer / before};
            return true;
        }
        before *= dim;
    }
    return false;
}

/* The rows of the results are in this axis, as many to a block as before. */
static bool place_results(struct rows *rows, const struct node *node, struct place place) {
    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        if (!value)
            continue;
        if (place.axis >= value->shape.rank || value->shape.dims[place.axis] % (place.outer * rows->batch))
            return false;
        rows->outer[value->id] = elements_before(&value->shape, place.axis) * place.outer;
    }
    return true;
}

/* Is it the same at every place of an axis? `axis` < 0: it does not have that axis. */
static bool is_same_along(const struct value *value, int axis) {
    const struct shape *shape = &value->shape;
    if (axis < 0 || shape->dims[axis] == 1)
        return true;
    if (!value->constant || !value->constant->data)
        return false;

    size_t blocks = (size_t)elements_before(shape, axis), length = (size_t)shape->dims[axis];
    size_t slice = tensor_bytes(value->constant) / (blocks ? blocks : 1) / (length ? length : 1);
    for (size_t block = 0; block < blocks; block++) {
        const char *first = (const char *)value->constant->data + block * length * slice;
        for (size_t i = 1; i < length; i++)
            if (memcmp(first, first + i * slice, slice) != 0)
                return false;
    }
    return true;
}

/* Inputs that are broadcast to a result of `rank` axes: those with rows have them at one place of it, the
 * others are the same there. */
static bool place_common(const struct rows *rows, const struct node *node, int count, int rank,
                         struct place *ret) {
    struct place common = {-1, 0};

    for (int i = 0; i < count; i++) {
        struct place place;
        const struct value *input = node->inputs[i];
        if (!input || is_constant(input))
            continue;
        if (!place_find(rows, input, &place))
            return false;
        place.axis += rank - input->shape.rank;
        if (common.axis >= 0 && (place.axis != common.axis || place.outer != common.outer))
            return false;
        common = place;
    }

    for (int i = 0; common.axis >= 0 && i < count; i++) {
        const struct value *input = node->inputs[i];
        if (input && is_constant(input) && !is_same_along(input, common.axis - (rank - input->shape.rank)))
            return false;
    }

    *ret = common;
    return common.axis >= 0;
}

/* Only the first input depends on the rows. */
static bool others_are_constant(const struct node *node) {
    for (int i = 1; i < node->input_count; i++)
        if (node->inputs[i] && !is_constant(node->inputs[i]))
            return false;
    return node->input_count > 0 && node->inputs[0] && !is_constant(node->inputs[0]);
}

/* ---- Kinds of nodes: true where the rows stay apart, and it is known where they are ---- */

static bool elementwise(struct rows *rows, const struct node *node) {
    struct place place;
    return place_common(rows, node, node->input_count, node->outputs[0]->shape.rank, &place) &&
           place_results(rows, node, place);
}

/* Whole rows, block after block. */
static bool stacked(struct rows *rows, const struct node *node, int along) {
    struct place sum = {along, 0};

    for (int i = 0; i < node->input_count; i++) {
        const struct value *input = node->inputs[i];
        struct place place;
        if (!input || is_constant(input) || !place_find(rows, input, &place) || place.axis != along ||
            input->shape.dims[along] != place.outer * rows->batch)
            return false;
        sum.outer += place.outer;
    }
    return place_results(rows, node, sum);
}

static bool along_axis(struct rows *rows, const struct node *node) {
    int along = node_along_axis(node), rank = node->inputs[0]->shape.rank;
    struct place place;

    if (node_data_inputs(node) != 1) /* several tensors, one after the other */
        return stacked(rows, node, along) || (place_common(rows, node, node->input_count, rank, &place) &&
                                              place.axis != along && place_results(rows, node, place));
    if (!others_are_constant(node) || !place_find(rows, node->inputs[0], &place))
        return false;

    if (node_has(node, OP_TAKES_PART)) { /* the axis may go, or become several */
        if (place.axis == along)
            return false;
        place.axis += place.axis > along ? node->outputs[0]->shape.rank - rank : 0;
        return place_results(rows, node, place);
    }

    for (int i = 1; i < node->input_count; i++)
        if (node->inputs[i] && node->inputs[i]->shape.rank > rank - along)
            return false;
    return place.axis < along && place_results(rows, node, place);
}

static bool samplewise(struct rows *rows, const struct node *node) {
    struct place place;
    bool alone = true; /* what comes with the result may count through all samples */
    for (int i = 1; i < node->output_count; i++)
        alone = alone && !node->outputs[i];
    return alone && others_are_constant(node) && place_find(rows, node->inputs[0], &place) &&
           place.axis == 0 && node->outputs[0]->shape.dims[0] == node->inputs[0]->shape.dims[0] &&
           place_results(rows, node, place);
}

static bool reshaped(struct rows *rows, const struct node *node) {
    if (!others_are_constant(node))
        return false;
    rows->outer[node->outputs[0]->id] = rows->outer[node->inputs[0]->id];
    return true;
}

/* A product of two results, matrix by matrix (attention). */
static bool multiplies_matrices(const struct node *node) {
    return node_is(node, "MatMul") && node->inputs[0]->shape.rank >= 3 &&
           node->inputs[0]->shape.rank == node->inputs[1]->shape.rank && !is_constant(node->inputs[0]);
}

static bool by_its_own_rule(struct rows *rows, const struct node *node) {
    struct place place;
    if (multiplies_matrices(node)) {
        int rank = node->inputs[0]->shape.rank;
        return place_common(rows, node, 2, rank, &place) && place.axis < rank - 2 &&
               node->inputs[0]->shape.dims[place.axis] == node->outputs[0]->shape.dims[place.axis] &&
               place_results(rows, node, place);
    }

    if (!node->op || !node->op->axis_kept || !others_are_constant(node) ||
        !place_find(rows, node->inputs[0], &place))
        return false;

    int64_t dim = node->inputs[0]->shape.dims[place.axis];
    place.axis = node->op->axis_kept(node, place.axis);
    return place.axis >= 0 && place.axis < node->outputs[0]->shape.rank &&
           node->outputs[0]->shape.dims[place.axis] == dim && place_results(rows, node, place);
}

static bool node_keeps_rows_apart(struct rows *rows, const struct node *node) {
    if (!node->output_count || !node->outputs[0] || !node->input_count || !node->inputs[0])
        return false;
    if (node_is_elementwise(node))
        return elementwise(rows, node);
    if (node_has(node, OP_ALONG_AXIS))
        return along_axis(rows, node);
    if (node_has(node, OP_SAMPLEWISE))
        return samplewise(rows, node);
    return node_has(node, OP_RESHAPES) ? reshaped(rows, node) : by_its_own_rule(rows, node);
}

/* ---- The graph ---- */

static bool begins_with_rows(const struct value *value, int64_t batch) {
    return value->shape.rank > 0 && value->shape.dims[0] == batch;
}

static bool graph_keeps_rows_apart(const struct graph *graph, struct rows *rows) {
    for (int i = 0; i < graph->input_count; i++) {
        if (!begins_with_rows(graph->inputs[i], rows->batch))
            return false;
        rows->outer[graph->inputs[i]->id] = 1;
    }

    for (const struct node *node = graph->first; node; node = node->next) {
        bool constant = node->output_count > 0 && node->outputs[0] && is_constant(node->outputs[0]);
        if (!constant && !node_keeps_rows_apart(rows, node))
            return false;
    }

    for (int i = 0; i < graph->output_count; i++) {
        const struct value *output = graph->outputs[i];
        if (output->constant || rows->outer[output->id] != 1 || !begins_with_rows(output, rows->batch))
            return false;
    }
    return true;
}

bool passes_batch_is_separable(const struct graph *graph, int64_t batch) {
    struct rows rows = {batch, calloc((size_t)graph->value_count + 1, sizeof *rows.outer)};
    bool apart = rows.outer && batch > 0 && graph_keeps_rows_apart(graph, &rows);
    free(rows.outer);
    return apart;
}
