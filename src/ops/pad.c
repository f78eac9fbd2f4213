/* Pad: https://onnx.ai/onnx/operators/onnx__Pad.html. Pads and value are attributes before opset 11. */
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

struct pads {
    int64_t before[LIMIT_TENSOR_RANK], after[LIMIT_TENSOR_RANK]; /* negative: cut */
};

static bool pads_assign(const struct node *node, const int64_t *values, int count, const int64_t *axes,
                        int axis_count, int rank, struct pads *ret, struct error *error) {
    int named = axis_count < 0 ? rank : axis_count;
    bool seen[LIMIT_TENSOR_RANK] = {false};
    if (count != 2 * named)
        return node_error(node, error, "%d pads do not fit %d axes", count, named);

    *ret = (struct pads){0};
    for (int i = 0; i < named; i++) {
        int axis;
        if (!node_axis(node, axis_count < 0 ? i : axes[i], rank, &axis, error))
            return false;
        if (seen[axis])
            return node_error(node, error, "axis %d is given twice", axis);

        seen[axis] = true;
        ret->before[axis] = values[i];
        ret->after[axis] = values[named + i];
    }

    return true;
}

static bool pads_read(const struct node *node, int rank, struct pads *ret, struct error *error) {
    int64_t values[2 * LIMIT_TENSOR_RANK], axes[LIMIT_TENSOR_RANK];
    int count, axis_count = -1;
    const char *name = node->opset < 2 ? "paddings" : "pads";
    bool read = node->opset < 11
                    ? node_attribute_ints(node, name, 2 * LIMIT_TENSOR_RANK, values, &count, error)
                    : node_read_ints(node, 1, 2 * LIMIT_TENSOR_RANK, values, &count, error) &&
                          node_read_ints(node, 3, LIMIT_TENSOR_RANK, axes, &axis_count, error);

    return read && pads_assign(node, values, count, axes, axis_count, rank, ret, error);
}

static bool pad_check(const struct node *node, struct error *error) {
    const char *mode = node_string(node, "mode", "constant");
    if (strcmp(mode, "constant") != 0 && strcmp(mode, "reflect") != 0 && strcmp(mode, "edge") != 0 &&
        strcmp(mode, "wrap") != 0)
        return node_error(node, error, "mode '%.40s' is not supported", mode);
    return true;
}

static bool pad_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    struct pads pads;
    bool constant = strcmp(node_string(node, "mode", "constant"), "constant") == 0;

    if (!pads_read(node, shape.rank, &pads, error))
        return false;
    if (node_has_input(node, 2) &&
        (!node_want_same_type(node, 2, 0, error) || shape_elements(node_shape(node, 2)) != 1))
        return node_error(node, error, "input 2 is not one value of the input's type");

    for (int i = 0; i < shape.rank; i++) {
        int64_t dim = shape.dims[i], length;
        if (__builtin_add_overflow(dim, pads.before[i], &length) ||
            __builtin_add_overflow(length, pads.after[i], &length) || length < 0 ||
            length > LIMIT_TENSOR_ELEMENTS || pads.before[i] < -dim || pads.after[i] < -dim)
            return node_error(node, error, "axis %d of %lld elements cannot be padded by %lld and %lld", i,
                              (long long)dim, (long long)pads.before[i], (long long)pads.after[i]);
        if (!constant && !dim && length)
            return node_error(node, error, "axis %d is empty and has nothing to repeat", i);

        shape.dims[i] = length;
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* The input's position for one of the result, along an axis; -1 for the constant. */
static int64_t source_position(int64_t position, int64_t dim, char mode) {
    if (position >= 0 && position < dim)
        return position;
    if (mode == 'c')
        return -1;
    if (mode == 'e')
        return position < 0 ? 0 : dim - 1;

    int64_t period = mode == 'w' ? dim : dim > 1 ? 2 * (dim - 1) : 1;
    position = (position % period + period) % period;

    return mode == 'r' && position >= dim ? period - position : position;
}

static void pad_value(const struct node *node, const struct tensor *inputs, void *ret) {
    if (node->opset < 11) {
        float value = node_float(node, "value", 0);
        elements_convert(DTYPE_F32, &value, inputs[0].dtype, ret, 1);
    } else if (node->input_count > 2 && inputs[2].data) {
        memcpy(ret, inputs[2].data, dtype_size(inputs[0].dtype));
    }
}

/* A row of the last axis: copied, or filled with the value. `row_start` -1: the row lies in the padding. */
static void pad_row(const struct tensor *input, const struct tensor *output, const int64_t *map,
                    int64_t width, int64_t row_start, int64_t write, const void *value) {
    size_t size = dtype_size(input->dtype);
    for (int64_t j = 0; j < width; j++) {
        const void *from = row_start < 0 || map[j] < 0
                               ? value
                               : (const char *)input->data + (size_t)(row_start + map[j]) * size;
        memcpy((char *)output->data + (size_t)(write + j) * size, from, size);
    }
}

static bool pad_prepare(struct node *node, struct arena *arena, struct error *error) {
    struct pads *pads = arena_allocate(arena, sizeof *pads);
    if (!pads)
        return node_memory_error(node, error);

    node->parameters = pads;
    return pads_read(node, node_shape(node, 0)->rank, pads, error);
}

static bool pad_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    const struct pads *pads = node->parameters;
    const struct shape *input = &inputs[0].shape, *output = &outputs[0].shape;
    int rank = input->rank;
    int64_t value[1] = {0}, strides[LIMIT_TENSOR_RANK];

    pad_value(node, inputs, value);
    if (rank == 0)
        return memcpy(outputs[0].data, inputs[0].data, dtype_size(inputs[0].dtype)), true;
    if (!shape_elements(output))
        return true;

    char mode = *node_string(node, "mode", "constant");
    shape_strides(input, strides);

    int64_t width = output->dims[rank - 1], rows = shape_elements(output) / width;
    cleanup(freep) int64_t *map = malloc((size_t)width * sizeof *map);
    if (!map)
        return node_memory_error(node, error);

    for (int64_t j = 0; j < width; j++)
        map[j] = source_position(j - pads->before[rank - 1], input->dims[rank - 1], mode);

#pragma omp parallel for schedule(static) if (rows * width > PARALLEL_ELEMENTS)
    for (int64_t row = 0; row < rows; row++) {
        int64_t left = row, start = 0;
        for (int i = rank - 2; i >= 0; i--) {
            int64_t position =
                source_position(left % output->dims[i] - pads->before[i], input->dims[i], mode);
            left /= output->dims[i];
            start = position < 0 || start < 0 ? -1 : start + position * strides[i];
        }
        pad_row(&inputs[0], &outputs[0], map, width, start, row * width, value);
    }

    return true;
}

/* An axis that nothing is added to, nor cut from. */
static int pad_axis_kept(const struct node *node, int axis) {
    struct pads pads;
    struct error ignored;

    bool whole = pads_read(node, node_shape(node, 0)->rank, &pads, &ignored) && pads.before[axis] == 0 &&
                 pads.after[axis] == 0;
    return whole ? axis : -1;
}

const struct op_def pad_operators[] = {
    {.op_type = "Pad",
     .differentiate = gradient_pad,
     .since = 1,
     .until = 10,
     .inputs = {1, 1},
     .types = NAMES_ALL,
     .check = pad_check,
     .prepare = pad_prepare,
     .axis_kept = pad_axis_kept,
     FUNCTIONS(pad)},
    {.op_type = "Pad",
     .differentiate = gradient_pad,
     .since = 11,
     .inputs = {2, 4},
     .plan_inputs = 1u << 1 | 1u << 3,
     .types = NAMES_ALL,
     .check = pad_check,
     .prepare = pad_prepare,
     .axis_kept = pad_axis_kept,
     FUNCTIONS(pad)},
    {0},
};
