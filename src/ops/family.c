#include "ops/family.h"

#include <string.h>

const struct shape *node_shape(const struct node *node, int input) {
    const struct value *value = node_input(node, input);
    return value ? &value->shape : NULL;
}

enum dtype node_dtype(const struct node *node, int input) {
    const struct value *value = node_input(node, input);
    return value ? value->dtype : DTYPE_UNKNOWN;
}

bool node_has_input(const struct node *node, int input) {
    return node_input(node, input) != NULL;
}

bool node_has_output(const struct node *node, int output) {
    return output < node->output_count && node->outputs[output];
}

bool node_want_types(const struct node *node, int input, uint32_t types, struct error *error) {
    enum dtype dtype = node_dtype(node, input);
    if (!node_has_input(node, input) || types >> dtype & 1)
        return true;
    return node_error(node, error, "input %d has type %s, which is not supported here", input,
                      dtype_name(dtype));
}

bool node_want_same_type(const struct node *node, int input, int other, struct error *error) {
    enum dtype dtype = node_dtype(node, input), wanted = node_dtype(node, other);
    if (!node_has_input(node, input) || !node_has_input(node, other) || dtype == wanted)
        return true;
    return node_error(node, error, "input %d has type %s, but input %d has type %s", input, dtype_name(dtype),
                      other, dtype_name(wanted));
}

bool node_want_rank(const struct node *node, int input, int least, int most, struct error *error) {
    const struct shape *shape = node_shape(node, input);
    if (!shape || (shape->rank >= least && shape->rank <= most))
        return true;

    char text[SHAPE_TEXT];
    return node_error(node, error, "input %d has shape %s, but must have a rank of %d to %d", input,
                      shape_format(shape, text, sizeof text), least, most);
}

bool node_axis(const struct node *node, int64_t axis, int rank, int *ret, struct error *error) {
    if (axis < -rank || axis >= rank)
        return node_error(node, error, "axis %lld is out of range for rank %d", (long long)axis, rank);
    *ret = (int)(axis < 0 ? axis + rank : axis);
    return true;
}

const struct tensor *node_constant(const struct node *node, int input, struct error *error) {
    const struct value *value = node_input(node, input);
    if (!value || !value->constant)
        node_error(node, error, "input %d (%s) must be constant", input, value ? value->name : "missing");
    return value ? value->constant : NULL;
}

bool node_read_ints(const struct node *node, int input, int most, int64_t *ret, int *ret_count,
                    struct error *error) {
    const struct value *value = node_input(node, input);
    if (!value) {
        *ret_count = -1;
        return true;
    }

    const struct tensor *tensor = node_constant(node, input, error);
    if (!tensor)
        return false;

    int64_t count = shape_elements(&tensor->shape);
    if (!dtype_is_integer(tensor->dtype) || tensor->shape.rank > 1 || count < 0 || count > most)
        return node_error(node, error, "input %d (%s) is not a list of at most %d integers", input,
                          value->name, most);

    elements_convert(tensor->dtype, tensor->data, DTYPE_I64, ret, count);
    *ret_count = (int)count;

    return true;
}

bool node_attribute_ints(const struct node *node, const char *name, int most, int64_t *ret, int *ret_count,
                         struct error *error) {
    const struct attribute *attribute = node_attribute(node, name);
    if (!attribute) {
        *ret_count = -1;
        return true;
    }
    if (attribute->kind != ATTRIBUTE_INTS || attribute->count > (size_t)most)
        return node_error(node, error, "attribute %s is not a list of at most %d integers", name, most);

    if (attribute->count)
        memcpy(ret, attribute->ints, attribute->count * sizeof *ret);
    *ret_count = (int)attribute->count;

    return true;
}

bool node_read_axes(const struct node *node, int input, int rank, bool *ret_flags, bool *ret_given,
                    struct error *error) {
    int64_t axes[LIMIT_TENSOR_RANK];
    int count;
    bool read = input < 0 ? node_attribute_ints(node, "axes", LIMIT_TENSOR_RANK, axes, &count, error)
                          : node_read_ints(node, input, LIMIT_TENSOR_RANK, axes, &count, error);
    if (!read)
        return false;

    memset(ret_flags, 0, LIMIT_TENSOR_RANK * sizeof *ret_flags);
    for (int i = 0; i < count; i++) {
        int axis = 0;
        if (!node_axis(node, axes[i], rank, &axis, error))
            return false;
        if (ret_flags[axis])
            return node_error(node, error, "axis %d is given twice", axis);
        ret_flags[axis] = true;
    }

    *ret_given = count > 0;

    return true;
}

bool infer_output(struct node *node, int output, enum dtype dtype, const struct shape *shape,
                  struct error *error) {
    if (!node_has_output(node, output))
        return true;

    char text[SHAPE_TEXT];
    if (shape->rank < 0 || shape->rank > LIMIT_TENSOR_RANK)
        return node_error(node, error, "output %d has rank %d, the limit is %d", output, shape->rank,
                          LIMIT_TENSOR_RANK);
    if (shape_elements(shape) < 0)
        return node_error(node, error, "output %d would have shape %s, which is too large", output,
                          shape_format(shape, text, sizeof text));

    node->outputs[output]->dtype = dtype;
    node->outputs[output]->shape = *shape;

    return true;
}

bool infer_same(struct node *node, struct error *error) {
    return infer_output(node, 0, node_dtype(node, 0), node_shape(node, 0), error);
}

bool extent_multiply(int64_t *total, int64_t value) {
    int64_t product;
    if (__builtin_mul_overflow(*total, value, &product) || product < 0 || product > LIMIT_TENSOR_ELEMENTS)
        return false;

    *total = product;
    return true;
}

/* --- Walking tensors --- */

int64_t shape_product(const struct shape *shape, int from, int to) {
    int64_t product = 1;
    for (int i = from; i < to; i++)
        product *= shape->dims[i];
    return product;
}

void shape_strides(const struct shape *shape, int64_t *ret) {
    int64_t stride = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        ret[i] = stride;
        stride *= shape->dims[i];
    }
}

/* Strides of an operand along the result's dimensions: 0 where it is repeated. */
static void broadcast_strides(const struct shape *result, const struct shape *operand, int64_t *ret) {
    int64_t stride = 1;

    for (int i = result->rank - 1; i >= 0; i--) {
        int own = i - (result->rank - operand->rank);
        int64_t dim = own < 0 ? 1 : operand->dims[own];
        ret[i] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
}

static bool walk_merges(const struct broadcast_walk *walk, int operands, const int64_t *strides, int64_t dim,
                        int last) {
    for (int k = 0; k < operands; k++)
        if (walk->outer_strides[k][last] != strides[k] * dim)
            return false;
    return true;
}

void walk_init(struct broadcast_walk *walk, const struct shape *result, const struct shape *const *shapes,
               int operands) {
    *walk = (struct broadcast_walk){.operands = operands, .inner = 1, .rows = 1};
    int64_t strides[WALK_OPERANDS][LIMIT_TENSOR_RANK];
    for (int k = 0; k < operands; k++)
        broadcast_strides(result, shapes[k], strides[k]);

    int rank = 0;
    for (int i = 0; i < result->rank; i++) {
        int64_t dim = result->dims[i], here[WALK_OPERANDS];
        if (dim == 1)
            continue;

        for (int k = 0; k < operands; k++)
            here[k] = strides[k][i];

        bool merge = rank && walk_merges(walk, operands, here, dim, rank - 1);
        walk->outer_dims[merge ? rank - 1 : rank] = merge ? walk->outer_dims[rank - 1] * dim : dim;
        rank += !merge;

        for (int k = 0; k < operands; k++)
            walk->outer_strides[k][rank - 1] = here[k];
    }

    if (rank) { /* the innermost dimension is the row */
        rank--;
        walk->inner = walk->outer_dims[rank];
        for (int k = 0; k < operands; k++)
            walk->inner_strides[k] = walk->outer_strides[k][rank];
    }

    walk->outer_rank = rank;
    for (int i = 0; i < rank; i++)
        walk->rows *= walk->outer_dims[i];

    walk->piece = PARALLEL_ELEMENTS / 2;
    walk->pieces = (walk->inner + walk->piece - 1) / walk->piece;
}

int64_t walk_piece(const struct broadcast_walk *walk, int64_t index, int64_t *ret_offset,
                   int64_t *ret_offsets) {
    int64_t row = index / walk->pieces, start = index % walk->pieces * walk->piece;
    *ret_offset = row * walk->inner + start;
    for (int k = 0; k < walk->operands; k++)
        ret_offsets[k] = start * walk->inner_strides[k];

    for (int i = walk->outer_rank - 1; i >= 0 && row; i--) {
        int64_t position = row % walk->outer_dims[i];
        row /= walk->outer_dims[i];
        for (int k = 0; k < walk->operands; k++)
            ret_offsets[k] += position * walk->outer_strides[k][i];
    }

    int64_t left = walk->inner - start;
    return left < walk->piece ? left : walk->piece;
}

#define COPY_ROW(type)                                                                             \
    for (int64_t i = 0; i < count; i++)                                                            \
        ((type *)destination)[i * destination_stride] = ((const type *)source)[i * source_stride]; \
    break

static void copy_row(size_t element, int64_t count, const void *source, int64_t source_stride,
                     void *destination, int64_t destination_stride) {
    if (source_stride == 1 && destination_stride == 1) {
        memcpy(destination, source, (size_t)count * element);
        return;
    }

    switch (element) {

    case 1:
        COPY_ROW(uint8_t);
    case 2:
        COPY_ROW(uint16_t);
    case 4:
        COPY_ROW(uint32_t);
    default:
        COPY_ROW(uint64_t);
    }
}

/* Drop dimensions of 1 and merge neighbours that can be walked as one; returns the new rank, at least 1. */
static int strided_merge(int rank, const int64_t *dims, const int64_t *source, const int64_t *destination,
                         int64_t *ret_dims, int64_t *ret_source, int64_t *ret_destination) {
    int merged = 0;
    for (int i = 0; i < rank; i++) {
        if (dims[i] == 1)
            continue;

        if (merged && ret_source[merged - 1] == source[i] * dims[i] &&
            ret_destination[merged - 1] == destination[i] * dims[i]) {
            ret_dims[merged - 1] *= dims[i];
        } else {
            ret_dims[merged++] = dims[i];
        }

        ret_source[merged - 1] = source[i];
        ret_destination[merged - 1] = destination[i];
    }

    if (!merged) {
        ret_dims[0] = 1;
        ret_source[0] = ret_destination[0] = 1;
        merged = 1;
    }

    return merged;
}

void strided_copy(size_t element, int rank, const int64_t *dims, const void *source,
                  const int64_t *source_strides, void *destination, const int64_t *destination_strides) {
    int64_t size[LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK], to[LIMIT_TENSOR_RANK];
    int last = strided_merge(rank, dims, source_strides, destination_strides, size, from, to) - 1;
    int64_t rows = 1;

    for (int i = 0; i < last; i++)
        rows *= size[i];

    if (rows == 0 || size[last] == 0)
        return;

#pragma omp parallel for schedule(static) if (rows > 1 && rows * size[last] > PARALLEL_ELEMENTS)
    for (int64_t row = 0; row < rows; row++) {
        int64_t left = row, read = 0, write = 0;
        for (int i = last - 1; i >= 0; i--) {
            read += left % size[i] * from[i];
            write += left % size[i] * to[i];
            left /= size[i];
        }
        copy_row(element, size[last], (const char *)source + read * (int64_t)element, from[last],
                 (char *)destination + write * (int64_t)element, to[last]);
    }
}

/* --- Running in wider types --- */

static bool is_half(const struct tensor *tensor) {
    return tensor->dtype == DTYPE_F16 || tensor->dtype == DTYPE_BF16;
}

/* wide[i] is narrow[i] as float32 in memory of its own, or narrow[i] itself. */
static bool tensors_widen(const struct tensor *narrow, int count, struct tensor *wide, bool copy) {
    for (int i = 0; i < count; i++) {
        wide[i] = narrow[i];
        if (!is_half(&narrow[i]) || !narrow[i].data)
            continue;

        int64_t elements = shape_elements(&narrow[i].shape);
        wide[i].dtype = DTYPE_F32;
        wide[i].data = aligned_alloc(64, ((size_t)elements * 4 + 64) & ~(size_t)63);
        if (!wide[i].data)
            return false;

        if (copy)
            elements_convert(narrow[i].dtype, narrow[i].data, DTYPE_F32, wide[i].data, elements);
    }

    return true;
}

static void tensors_release(const struct tensor *narrow, int count, struct tensor *wide) {
    for (int i = 0; i < count; i++)
        if (is_half(&narrow[i]) && wide[i].data != narrow[i].data)
            free(wide[i].data);
    free(wide);
}

static bool any_half(const struct tensor *tensors, int count) {
    for (int i = 0; i < count; i++)
        if (tensors[i].data && is_half(&tensors[i]))
            return true;

    return false;
}

bool compute_widened(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                     struct error *error, compute_function *compute) {
    int input_count = node->input_count, output_count = node->output_count;
    if (!any_half(inputs, input_count) && !any_half(outputs, output_count))
        return compute(node, inputs, outputs, error);

    struct tensor *wide_inputs = calloc((size_t)input_count + 1, sizeof *wide_inputs);
    struct tensor *wide_outputs = calloc((size_t)output_count + 1, sizeof *wide_outputs);
    bool done = false;

    if (!wide_inputs || !wide_outputs || !tensors_widen(inputs, input_count, wide_inputs, true) ||
        !tensors_widen(outputs, output_count, wide_outputs, false)) {
        node_memory_error(node, error);
        goto out;
    }

    if (!compute(node, wide_inputs, wide_outputs, error))
        goto out;

    for (int i = 0; i < output_count; i++)
        if (is_half(&outputs[i]) && outputs[i].data)
            elements_convert(DTYPE_F32, wide_outputs[i].data, outputs[i].dtype, outputs[i].data,
                             shape_elements(&outputs[i].shape));
    done = true;

out:
    if (wide_inputs)
        tensors_release(inputs, input_count, wide_inputs);
    if (wide_outputs)
        tensors_release(outputs, output_count, wide_outputs);
    return done;
}
