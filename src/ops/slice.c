/* Slice: https://onnx.ai/onnx/operators/onnx__Slice.html. Starts, ends and axes are attributes before
 * opset 10. */
#include "ops/family.h"
#include "ops/gradient.h"

struct slice {
    int64_t start[LIMIT_TENSOR_RANK], step[LIMIT_TENSOR_RANK], length[LIMIT_TENSOR_RANK];
};

static bool slice_lists(const struct node *node, int64_t lists[4][LIMIT_TENSOR_RANK], int counts[4],
                        struct error *error) {
    static const char *const names[] = {"starts", "ends", "axes"};
    for (int i = 0; i < 4; i++) {
        counts[i] = -1;
        if (node->opset < 10 && i == 3)
            break;
        if (node->opset < 10
                ? !node_attribute_ints(node, names[i], LIMIT_TENSOR_RANK, lists[i], &counts[i], error)
                : !node_read_ints(node, i + 1, LIMIT_TENSOR_RANK, lists[i], &counts[i], error))
            return false;
    }

    if (counts[0] < 0 || counts[1] != counts[0] || (counts[2] >= 0 && counts[2] != counts[0]) ||
        (counts[3] >= 0 && counts[3] != counts[0]))
        return node_error(node, error, "starts, ends, axes and steps have different lengths");
    return true;
}

static int64_t clamp(int64_t value, int64_t least, int64_t most) {
    return value < least ? least : value > most ? most : value;
}

/* One axis, as numpy slices: negative positions count from the end, and are clamped to the axis. */
static void slice_axis(int64_t dim, int64_t start, int64_t end, int64_t step, int axis, struct slice *ret) {
    if (start < 0)
        start += dim;
    if (end < 0)
        end += dim;

    bool forward = step > 0;
    start = forward ? clamp(start, 0, dim) : clamp(start, 0, dim - 1);
    end = forward ? clamp(end, 0, dim) : clamp(end, -1, dim - 1);
    step = clamp(step, -LIMIT_TENSOR_ELEMENTS, LIMIT_TENSOR_ELEMENTS);

    int64_t span = forward ? end - start : start - end, stride = forward ? step : -step;
    ret->start[axis] = start;
    ret->step[axis] = step;
    ret->length[axis] = span > 0 && dim ? (span + stride - 1) / stride : 0;
}

static bool slice_read(const struct node *node, const struct shape *input, struct slice *ret,
                       struct error *error) {
    int64_t lists[4][LIMIT_TENSOR_RANK];
    int counts[4];
    bool seen[LIMIT_TENSOR_RANK] = {false};
    if (!slice_lists(node, lists, counts, error))
        return false;

    for (int i = 0; i < input->rank; i++) {
        ret->start[i] = 0;
        ret->step[i] = 1;
        ret->length[i] = input->dims[i];
    }

    for (int i = 0; i < counts[0]; i++) {
        int axis;
        if (!node_axis(node, counts[2] < 0 ? i : lists[2][i], input->rank, &axis, error))
            return false;

        int64_t step = counts[3] < 0 ? 1 : lists[3][i];
        if (step == 0 || seen[axis])
            return node_error(node, error, step ? "an axis is given twice" : "a step is zero");

        seen[axis] = true;
        slice_axis(input->dims[axis], lists[0][i], lists[1][i], step, axis, ret);
    }

    return true;
}

static bool slice_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    struct slice slice;
    if (!slice_read(node, input, &slice, error))
        return false;

    struct shape shape = {.rank = input->rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = slice.length[i];

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool slice_prepare(struct node *node, struct arena *arena, struct error *error) {
    struct slice *slice = arena_allocate(arena, sizeof *slice);
    if (!slice)
        return node_memory_error(node, error);

    node->parameters = slice;
    return slice_read(node, node_shape(node, 0), slice, error);
}

static bool slice_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct slice *slice = node->parameters;
    int64_t own[LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK], to[LIMIT_TENSOR_RANK], first = 0;
    int rank = inputs[0].shape.rank;
    if (!shape_elements(&outputs[0].shape))
        return true;

    shape_strides(&inputs[0].shape, own);
    shape_strides(&outputs[0].shape, to);
    for (int i = 0; i < rank; i++) {
        first += slice->start[i] * own[i];
        from[i] = slice->length[i] > 1 ? own[i] * slice->step[i] : 0;
    }

    size_t size = dtype_size(inputs[0].dtype);
    strided_copy(size, rank, outputs[0].shape.dims, (const char *)inputs[0].data + (size_t)first * size, from,
                 outputs[0].data, to);

    return true;
}

/* An axis that stays whole. */
static int slice_axis_kept(const struct node *node, int axis) {
    const struct shape *input = node_shape(node, 0);
    struct slice slice;
    struct error ignored;

    bool whole = slice_read(node, input, &slice, &ignored) && slice.start[axis] == 0 &&
                 slice.step[axis] == 1 && slice.length[axis] == input->dims[axis];
    return whole ? axis : -1;
}

const struct op_def slice_operators[] = {
    {.op_type = "Slice",
     .differentiate = gradient_slice,
     .since = 1,
     .until = 9,
     .inputs = {1, 1},
     .traits = OP_TAKES_PART,
     .axis_kept = slice_axis_kept,
     .types = NAMES_ALL,
     .prepare = slice_prepare,
     FUNCTIONS(slice)},
    {.op_type = "Slice",
     .differentiate = gradient_slice,
     .since = 10,
     .inputs = {3, 5},
     .plan_inputs = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4,
     .traits = OP_TAKES_PART,
     .axis_kept = slice_axis_kept,
     .types = NAMES_ALL,
     .prepare = slice_prepare,
     FUNCTIONS(slice)},
    {0},
};
