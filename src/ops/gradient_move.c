/* Gradients of what moves elements: they move back. */
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

bool gradient_reshape(struct gradient *gradient) {
    gradient->inputs[0] = gradient_shaped(gradient, gradient->outputs[0], &gradient->node->inputs[0]->shape);
    return gradient->inputs[0] != NULL;
}

bool gradient_expand(struct gradient *gradient) {
    gradient->inputs[0] = gradient_sum_to(gradient, gradient->outputs[0], &gradient->node->inputs[0]->shape);
    return gradient->inputs[0] != NULL;
}

bool gradient_transpose(struct gradient *gradient) {
    const struct node *node = gradient->node;
    int rank = node->inputs[0]->shape.rank;
    int64_t back[LIMIT_TENSOR_RANK];
    const int64_t *order;
    size_t count = node_ints(node, "perm", &order);
    for (int i = 0; i < rank; i++)
        back[count ? order[i] : rank - 1 - i] = i;

    struct node *added = gradient_node(gradient, "", "Transpose", gradient->outputs, 1);
    if (added && !node_set_ints(gradient->graph, added, "perm", back, (size_t)rank))
        return node_memory_error(node, gradient->error);
    return (gradient->inputs[0] = gradient_value(gradient, added)) != NULL;
}

/* A part of the gradient; `step`: 1 or -1, for all axes. */
static struct value *part(struct gradient *gradient, struct value *value, const int64_t *starts,
                          const int64_t *ends, const int64_t *steps) {
    int64_t axes[LIMIT_TENSOR_RANK];
    int rank = value->shape.rank;
    for (int i = 0; i < rank; i++)
        axes[i] = i;
    struct value *inputs[] = {value, gradient_ints(gradient, starts, rank),
                              gradient_ints(gradient, ends, rank), gradient_ints(gradient, axes, rank),
                              gradient_ints(gradient, steps, rank)};
    return gradient_value(gradient, gradient_node(gradient, "", "Slice", inputs, 5));
}

/* From `from` on along one axis, as many as `shape` has. */
static struct value *part_along(struct gradient *gradient, struct value *value, int axis, int64_t from,
                                const struct shape *shape) {
    int64_t starts[LIMIT_TENSOR_RANK] = {0}, ends[LIMIT_TENSOR_RANK], steps[LIMIT_TENSOR_RANK];
    for (int i = 0; i < shape->rank; i++) {
        ends[i] = value->shape.dims[i];
        steps[i] = 1;
    }
    starts[axis] = from;
    ends[axis] = from + shape->dims[axis];
    return part(gradient, value, starts, ends, steps);
}

bool gradient_concat(struct gradient *gradient) {
    const struct node *node = gradient->node;
    int axis = node_along_axis(node);
    int64_t from = 0;
    for (int i = 0; i < node->input_count; i++) {
        const struct shape *shape = &node->inputs[i]->shape;
        if (gradient->wanted[i] &&
            !(gradient->inputs[i] = part_along(gradient, gradient->outputs[0], axis, from, shape)))
            return false;
        from += shape->dims[axis];
    }
    return true;
}

static struct value *zeros(struct gradient *gradient, const struct shape *shape) {
    struct value *ints = gradient_ints(gradient, shape->dims, shape->rank);
    return ints ? gradient_apply(gradient, "ConstantOfShape", ints, NULL) : NULL;
}

bool gradient_split(struct gradient *gradient) {
    const struct node *node = gradient->node;
    struct value **parts =
        arena_allocate_array(gradient->graph->arena, (size_t)node->output_count + 1, sizeof *parts);
    if (!parts)
        return node_memory_error(node, gradient->error);

    for (int i = 0; i < node->output_count; i++)
        if (!(parts[i] =
                  gradient->outputs[i] ? gradient->outputs[i] : zeros(gradient, &node->outputs[i]->shape)))
            return false;

    struct node *added = gradient_node(gradient, "", "Concat", parts, node->output_count);
    if (added && !node_set_int(gradient->graph, added, "axis", node_along_axis(node)))
        return node_memory_error(node, gradient->error);
    return (gradient->inputs[0] = gradient_value(gradient, added)) != NULL;
}

/* `before` and `after`: zeros around it. */
static struct value *padded(struct gradient *gradient, struct value *value, const int64_t *before,
                            const int64_t *after) {
    int64_t pads[2 * LIMIT_TENSOR_RANK];
    bool any = false;
    if (!value)
        return NULL;

    int rank = value->shape.rank;
    for (int i = 0; i < rank; i++) {
        pads[i] = before[i];
        pads[rank + i] = after[i];
        any = any || before[i] || after[i];
    }
    return any ? gradient_apply(gradient, "Pad", value, gradient_ints(gradient, pads, 2 * rank)) : value;
}

/* One axis of a Slice: where it starts, and its step. */
static bool slice_axes(const struct gradient *gradient, int64_t *ret_starts, int64_t *ret_steps) {
    const struct node *node = gradient->node;
    const struct shape *x = &node->inputs[0]->shape;
    int64_t starts[LIMIT_TENSOR_RANK], axes[LIMIT_TENSOR_RANK], steps[LIMIT_TENSOR_RANK];
    int count, axis_count = -1, step_count = -1;
    if (node->opset < 10)
        return node_error(node, gradient->error, "before opset 10 it has no gradient");
    if (!node_read_ints(node, 1, LIMIT_TENSOR_RANK, starts, &count, gradient->error) ||
        (node->input_count > 3 &&
         !node_read_ints(node, 3, LIMIT_TENSOR_RANK, axes, &axis_count, gradient->error)) ||
        (node->input_count > 4 &&
         !node_read_ints(node, 4, LIMIT_TENSOR_RANK, steps, &step_count, gradient->error)))
        return false;

    for (int i = 0; i < x->rank; i++) {
        ret_starts[i] = 0;
        ret_steps[i] = 1;
    }
    for (int i = 0; i < count; i++) {
        int axis;
        if (!node_axis(node, axis_count < 0 ? i : axes[i], x->rank, &axis, gradient->error))
            return false;
        int64_t length = x->dims[axis], step = step_count < 0 ? 1 : steps[i];
        int64_t start = starts[i] < 0 ? starts[i] + length : starts[i];
        ret_steps[axis] = step;
        ret_starts[axis] = start < 0 ? 0 : start > length - (step < 0) ? length - (step < 0) : start;
    }
    return true;
}

/* Steps of 1 and -1: turned round where it was, then zeros around it. */
bool gradient_slice(struct gradient *gradient) {
    const struct node *node = gradient->node;
    const struct shape *x = &node->inputs[0]->shape, *y = &node->outputs[0]->shape;
    int64_t starts[LIMIT_TENSOR_RANK], steps[LIMIT_TENSOR_RANK], before[LIMIT_TENSOR_RANK],
        after[LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK], to[LIMIT_TENSOR_RANK];
    bool turns = false;
    if (!slice_axes(gradient, starts, steps))
        return false;

    for (int i = 0; i < x->rank; i++) {
        bool back = steps[i] < 0;
        if (steps[i] != 1 && steps[i] != -1)
            return node_error(node, gradient->error, "with a step of %lld it has no gradient",
                              (long long)steps[i]);
        turns = turns || back;
        before[i] = back ? starts[i] - y->dims[i] + 1 : starts[i];
        after[i] = x->dims[i] - before[i] - y->dims[i];
        from[i] = back ? -1 : 0;
        to[i] = back ? INT64_MIN : INT64_MAX;
    }

    struct value *g = turns ? part(gradient, gradient->outputs[0], from, to, steps) : gradient->outputs[0];
    return (gradient->inputs[0] = padded(gradient, g, before, after)) != NULL;
}

bool gradient_pad(struct gradient *gradient) {
    const struct node *node = gradient->node;
    int64_t pads[2 * LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK], to[LIMIT_TENSOR_RANK],
        steps[LIMIT_TENSOR_RANK];
    int count, rank = node->inputs[0]->shape.rank;
    const char *mode = node_string(node, "mode", "constant");
    if (strcmp(mode, "constant") != 0 || node->opset < 11 || node->input_count > 3)
        return node_error(node, gradient->error, "in this form it has no gradient");
    if (!node_read_ints(node, 1, 2 * LIMIT_TENSOR_RANK, pads, &count, gradient->error))
        return false;

    for (int i = 0; i < rank; i++) {
        if (count != 2 * rank || pads[i] < 0 || pads[rank + i] < 0)
            return node_error(node, gradient->error, "with negative pads it has no gradient");
        from[i] = pads[i];
        to[i] = pads[i] + node->inputs[0]->shape.dims[i];
        steps[i] = 1;
    }
    return (gradient->inputs[0] = part(gradient, gradient->outputs[0], from, to, steps)) != NULL;
}

/* ---- Gather ---- */

bool gradient_gather(struct gradient *gradient) {
    const struct node *node = gradient->node;
    const struct shape *x = &node->inputs[0]->shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", 0), x->rank, &axis, gradient->error))
        return false;

    struct value *inputs[] = {node->inputs[1], gradient->outputs[0]};
    struct node *added = gradient_node(gradient, OPERATORS_OWN, "GatherGradient", inputs, 2);
    if (!added)
        return false;
    if (!node_set_int(gradient->graph, added, "axis", axis) ||
        !node_set_ints(gradient->graph, added, "shape", x->dims, (size_t)x->rank))
        return node_memory_error(node, gradient->error);
    return (gradient->inputs[0] = gradient_value(gradient, added)) != NULL;
}

static bool scatter_infer(struct node *node, struct error *error) {
    struct shape shape = {0};
    int count;
    if (!node_want_types(node, 1, TYPE(F32), error) ||
        !node_attribute_ints(node, "shape", LIMIT_TENSOR_RANK, shape.dims, &count, error))
        return false;
    shape.rank = count < 0 ? 0 : count;
    return infer_output(node, 0, DTYPE_F32, &shape, error);
}

/* Each row is added to where it was taken from. */
static bool scatter_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    const struct shape *x = &outputs[0].shape;
    int axis = (int)node_int(node, "axis", 0);
    int64_t outer = shape_product(x, 0, axis), inner = shape_product(x, axis + 1, x->rank);
    int64_t count = shape_elements(&inputs[0].shape), length = x->dims[axis];
    const float *g = inputs[1].data;
    float *to = outputs[0].data;

    memset(to, 0, tensor_bytes(&outputs[0]));
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < count; i++, g += inner) {
            int64_t index = tensor_get_i64(&inputs[0], i);
            index += index < 0 ? length : 0;
            if (index < 0 || index >= length)
                return node_error(node, error, "index %lld is out of range", (long long)index);
            for (int64_t k = 0; k < inner; k++)
                to[(o * length + index) * inner + k] += g[k];
        }
    return true;
}

const struct op_def gradient_move_operators[] = {
    {.op_type = "GatherGradient", .inputs = {2, 2}, .outputs = {1, 1}, FUNCTIONS(scatter)},
    {0},
};
