/* Slices, splits and single indices as views: the same bytes, other strides. */
#include <string.h>

#include "lowering/lowering.h"

/* Part of one axis: `count` elements from `start`, every `step`-th. NULL: memory is out, or oneDNN has no
 * layout for it: it refuses strides that would overlap if the last step were whole (every third of four). */
static struct plan_tensor *slice_axis(struct lowering *lowering, const struct plan_tensor *source, int axis,
                                      int64_t start, int64_t step, int64_t count) {
    struct plan *plan = lowering->plan;
    int64_t strides[LIMIT_TENSOR_RANK];
    if (!source->layout || !layout_strides(source->layout, strides))
        return NULL;

    struct shape shape = source->shape;
    size_t offset = (size_t)(start * strides[axis]) * dtype_size(source->dtype);
    shape.dims[axis] = count;
    strides[axis] *= step;
    const struct layout *layout = layout_strided(plan->pool, source->dtype, &shape, strides);
    return layout ? plan_add_slice(plan, source, &shape, layout, offset) : NULL;
}

static struct plan_tensor *strided_source(struct lowering *lowering, struct value *value,
                                          struct error *error) {
    struct plan_tensor *source = lower_current(lowering, value, error);
    int64_t strides[LIMIT_TENSOR_RANK];
    if (source && source->layout && !layout_strides(source->layout, strides))
        source = lower_plain(lowering, value, source->dtype, error);
    return source;
}

/* begin, step and axis `i` of a Slice; what ONNX clamps is clamped (Slice-13). */
static bool slice_part(const struct node *node, const struct shape *shape, int i, int *ret_axis,
                       int64_t *ret_start, int64_t *ret_step) {
    const struct value *starts = node->inputs[1], *axes = node_input(node, 3), *steps = node_input(node, 4);
    if ((axes && !axes->constant) || (steps && !steps->constant))
        return false;

    int64_t axis = axes ? tensor_get_i64(axes->constant, i) : i,
            step = steps ? tensor_get_i64(steps->constant, i) : 1;
    axis += axis < 0 ? shape->rank : 0;
    int64_t size = shape->dims[axis], start = tensor_get_i64(starts->constant, i);
    start += start < 0 ? size : 0;
    *ret_start = start < 0 ? 0 : start > size ? size : start;
    *ret_axis = (int)axis;
    *ret_step = step;

    return step > 0;
}

bool lower_slice(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0], *output = node->outputs[0];
    if (node->opset < 10 || !node_input(node, 1) || !node->inputs[1]->constant ||
        shape_elements(&output->shape) <= 0 || input->dtype != DTYPE_F32)
        return true;

    int parts = (int)shape_elements(&node->inputs[1]->shape);
    for (int i = 0; i < parts; i++) {
        int axis;
        int64_t start, step;
        if (!slice_part(node, &input->shape, i, &axis, &start, &step))
            return true;
    }

    struct plan_tensor *view = strided_source(lowering, input, error);
    if (!view)
        return false;

    for (int i = 0; view && i < parts; i++) {
        int axis = 0;
        int64_t start = 0, step = 1;
        slice_part(node, &input->shape, i, &axis, &start, &step);
        view = slice_axis(lowering, view, axis, start, step, output->shape.dims[axis]);
    }

    if (!view)
        return true;

    *ret_done = true;
    lower_define(lowering, output, view);
    return true;
}

bool lower_split(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0];
    int axis = (int)node_int(node, "axis", 0);
    axis += axis < 0 ? input->shape.rank : 0;
    if (input->dtype != DTYPE_F32 || shape_elements(&input->shape) <= 0)
        return true;

    struct plan_tensor *source = strided_source(lowering, input, error);
    if (!source)
        return false;

    int64_t start = 0;
    for (int i = 0; i < node->output_count; i++) {
        struct value *output = node->outputs[i];
        if (!output) /* its size is not known here; the offsets of later parts are unknown */
            return error_set(error, ERROR_MODEL, "node %s (Split): output %d is left out", node->name, i);
        struct plan_tensor *view = slice_axis(lowering, source, axis, start, 1, output->shape.dims[axis]);
        if (!view)
            return lower_no_memory(error);
        lower_define(lowering, output, view);
        start += output->shape.dims[axis];
    }

    *ret_done = true;
    return true;
}

/* Gather of one constant index: the axis goes away. */
bool lower_gather(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0], *index = node->inputs[1], *output = node->outputs[0];
    if (input->dtype != DTYPE_F32 || !index->constant || index->shape.rank != 0 || output->shape.rank < 1 ||
        shape_elements(&output->shape) <= 0)
        return true;

    struct plan *plan = lowering->plan;
    int axis = (int)node_int(node, "axis", 0);
    axis += axis < 0 ? input->shape.rank : 0;
    int64_t position = tensor_get_i64(index->constant, 0);
    position += position < 0 ? input->shape.dims[axis] : 0;
    if (position < 0 || position >= input->shape.dims[axis])
        return true; /* the reference kernel reports it */

    struct plan_tensor *source = strided_source(lowering, input, error);
    if (!source)
        return false;

    int64_t strides[LIMIT_TENSOR_RANK], kept[LIMIT_TENSOR_RANK];
    if (!source->layout || !layout_strides(source->layout, strides))
        return true;

    for (int i = 0, j = 0; i < input->shape.rank; i++)
        if (i != axis)
            kept[j++] = strides[i];

    struct plan_tensor *view = plan_add_slice(plan, source, &output->shape,
                                              layout_strided(plan->pool, source->dtype, &output->shape, kept),
                                              (size_t)(position * strides[axis]) * dtype_size(source->dtype));
    if (!view)
        return lower_no_memory(error);

    *ret_done = true;
    lower_define(lowering, output, view);
    return true;
}
