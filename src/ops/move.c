/* Elements moved, none changed: Transpose, Concat, Split, Expand, Tile, DepthToSpace, SpaceToDepth,
 * ReverseSequence. */
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

/* --- Transpose --- */

static bool transpose_order(const struct node *node, int rank, int *ret, struct error *error) {
    int64_t order[LIMIT_TENSOR_RANK];
    int count;
    bool seen[LIMIT_TENSOR_RANK] = {false};

    if (!node_attribute_ints(node, "perm", LIMIT_TENSOR_RANK, order, &count, error))
        return false;
    if (count >= 0 && count != rank)
        return node_error(node, error, "perm has %d axes, but the input has rank %d", count, rank);

    for (int i = 0; i < rank; i++) {
        int64_t axis = count < 0 ? rank - 1 - i : order[i];
        if (axis < 0 || axis >= rank || seen[axis])
            return node_error(node, error, "perm is not a permutation");
        seen[axis] = true;
        ret[i] = (int)axis;
    }

    return true;
}

static bool transpose_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    int order[LIMIT_TENSOR_RANK];
    if (!transpose_order(node, input->rank, order, error))
        return false;

    struct shape shape = {.rank = input->rank};
    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = input->dims[order[i]];

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool transpose_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    int order[LIMIT_TENSOR_RANK], rank = inputs[0].shape.rank;
    if (!transpose_order(node, rank, order, error))
        return false;

    int64_t own[LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK], to[LIMIT_TENSOR_RANK];
    shape_strides(&inputs[0].shape, own);
    shape_strides(&outputs[0].shape, to);

    for (int i = 0; i < rank; i++)
        from[i] = own[order[i]];

    strided_copy(dtype_size(inputs[0].dtype), rank, outputs[0].shape.dims, inputs[0].data, from,
                 outputs[0].data, to);

    return true;
}

/* --- Concat and Split: pieces of one axis --- */

static bool concat_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    int axis;
    if (node->opset >= 4 && !node_attribute(node, "axis"))
        return node_error(node, error, "attribute axis is missing");
    if (!node_axis(node, node_int(node, "axis", 1), shape.rank, &axis, error))
        return false;

    for (int i = 1; i < node->input_count; i++) {
        if (!node_has_input(node, i))
            return node_error(node, error, "input %d is missing", i);
        struct shape next = *node_shape(node, i);
        char text[2][SHAPE_TEXT];
        int64_t length = next.dims[axis < next.rank ? axis : 0];

        if (next.rank == shape.rank)
            next.dims[axis] = shape.dims[axis];
        if (!node_want_same_type(node, i, 0, error))
            return false;
        if (!shape_equal(&next, &shape))
            return node_error(node, error, "shapes %s and %s do not fit together along axis %d",
                              shape_format(node_shape(node, 0), text[0], SHAPE_TEXT),
                              shape_format(node_shape(node, i), text[1], SHAPE_TEXT), axis);

        shape.dims[axis] += length;
        if (shape_elements(&shape) < 0)
            return node_error(node, error, "the result is too large");
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* Copy a piece along `axis` `into` the whole, or out of it. The piece is contiguous. */
static void copy_piece(const struct tensor *piece, const struct tensor *whole, int axis, int64_t start,
                       bool into) {
    int64_t part[LIMIT_TENSOR_RANK], all[LIMIT_TENSOR_RANK];
    shape_strides(&piece->shape, part);
    shape_strides(&whole->shape, all);

    size_t size = dtype_size(whole->dtype);
    char *part_data = (char *)whole->data + (size_t)(start * all[axis]) * size;
    if (into)
        strided_copy(size, piece->shape.rank, piece->shape.dims, piece->data, part, part_data, all);
    else
        strided_copy(size, piece->shape.rank, piece->shape.dims, part_data, all, piece->data, part);
}

static bool concat_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    int axis;
    if (!node_axis(node, node_int(node, "axis", 1), outputs[0].shape.rank, &axis, error))
        return false;

    int64_t start = 0;
    for (int i = 0; i < node->input_count; i++) {
        copy_piece(&inputs[i], &outputs[0], axis, start, true);
        start += inputs[i].shape.dims[axis];
    }

    return true;
}

/* Lengths from the attribute (before opset 13) or the input; else equal parts, of which the last may be
 * smaller with num_outputs (opset 18). */
static bool split_lengths(const struct node *node, int64_t total, int64_t *ret, struct error *error) {
    int parts = node->output_count, count;
    bool read = node->opset < 13 ? node_attribute_ints(node, "split", parts, ret, &count, error)
                                 : node_read_ints(node, 1, parts, ret, &count, error);
    if (!read)
        return false;

    if (count < 0) {
        int64_t wanted = node_int(node, "num_outputs", parts), length = (total + parts - 1) / parts;
        bool uneven = node->opset >= 18 && node_attribute(node, "num_outputs");
        if (wanted != parts || (!uneven && total % parts) || length * (parts - 1) > total)
            return node_error(node, error, "%lld elements do not split into %d parts", (long long)total,
                              parts);

        for (int i = 0; i < parts; i++)
            ret[i] = i < parts - 1 ? length : total - length * (parts - 1);

        return true;
    }

    int64_t sum = 0;
    for (int i = 0; i < count; i++) {
        if (ret[i] < 0 || ret[i] > total - sum)
            return node_error(node, error, "the lengths of the parts do not add up to %lld",
                              (long long)total);
        sum += ret[i];
    }

    if (count != parts || sum != total)
        return node_error(node, error, "%d lengths that add up to %lld do not fit %d parts of %lld elements",
                          count, (long long)sum, parts, (long long)total);
    return true;
}

static bool split_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    int axis;
    cleanup(freep) int64_t *lengths = calloc((size_t)node->output_count + 1, sizeof *lengths);
    if (!lengths)
        return node_memory_error(node, error);
    if (!node_axis(node, node_int(node, "axis", 0), shape.rank, &axis, error) ||
        !split_lengths(node, shape.dims[axis], lengths, error))
        return false;

    for (int i = 0; i < node->output_count; i++) {
        shape.dims[axis] = lengths[i];
        if (!infer_output(node, i, node_dtype(node, 0), &shape, error))
            return false;
    }

    return true;
}

/* The lengths of the parts, also of those that are left out. */
struct split_parts {
    int axis;
    int64_t lengths[]; /* [output_count] */
};

static bool split_prepare(struct node *node, struct arena *arena, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    struct split_parts *split =
        arena_allocate(arena, sizeof *split + (size_t)node->output_count * sizeof *split->lengths);
    if (!split)
        return node_memory_error(node, error);

    node->parameters = split;
    return node_axis(node, node_int(node, "axis", 0), input->rank, &split->axis, error) &&
           split_lengths(node, input->dims[split->axis], split->lengths, error);
}

static bool split_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct split_parts *split = node->parameters;
    int64_t start = 0;

    for (int i = 0; i < node->output_count; i++) {
        if (outputs[i].data)
            copy_piece(&outputs[i], &inputs[0], split->axis, start, false);
        start += split->lengths[i];
    }

    return true;
}

/* --- Expand and Tile: repetition --- */

static bool expand_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    struct shape wanted, shape;
    if (!node_read_ints(node, 1, LIMIT_TENSOR_RANK, wanted.dims, &wanted.rank, error))
        return false;

    char text[2][SHAPE_TEXT];
    if (!shape_is_known(&wanted) || !shape_broadcast(input, &wanted, &shape))
        return node_error(node, error, "shape %s does not expand to %s",
                          shape_format(input, text[0], SHAPE_TEXT),
                          shape_format(&wanted, text[1], SHAPE_TEXT));

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool expand_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *input = &inputs[0].shape, *output = &outputs[0].shape;
    int64_t own[LIMIT_TENSOR_RANK], from[LIMIT_TENSOR_RANK] = {0}, to[LIMIT_TENSOR_RANK];
    shape_strides(input, own);
    shape_strides(output, to);

    int missing = output->rank - input->rank;
    for (int i = missing; i < output->rank; i++)
        from[i] = input->dims[i - missing] == 1 ? 0 : own[i - missing];

    strided_copy(dtype_size(inputs[0].dtype), output->rank, output->dims, inputs[0].data, from,
                 outputs[0].data, to);

    return true;
}

static bool tile_repeats(const struct node *node, int64_t *ret, struct error *error) {
    int count, rank = node_shape(node, 0)->rank;
    if (!node_read_ints(node, 1, LIMIT_TENSOR_RANK, ret, &count, error))
        return false;

    for (int i = 0; i < count; i++)
        if (ret[i] < 0)
            return node_error(node, error, "a repeat is negative");

    return count == rank || node_error(node, error, "%d repeats do not fit an input of rank %d", count, rank);
}

static bool tile_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    int64_t repeats[LIMIT_TENSOR_RANK];
    if (!tile_repeats(node, repeats, error))
        return false;

    for (int i = 0; i < shape.rank; i++)
        if (!extent_multiply(&shape.dims[i], repeats[i]))
            return node_error(node, error, "the result is too large");

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* One axis after the other, from the last: repeat what is there so far. */
static bool tile_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    const struct shape *input = &inputs[0].shape, *output = &outputs[0].shape;
    size_t size = dtype_size(inputs[0].dtype);
    int64_t total = shape_elements(output);
    if (!total)
        return true;

    int64_t from[LIMIT_TENSOR_RANK], to[LIMIT_TENSOR_RANK];
    shape_strides(input, from);
    shape_strides(output, to);
    strided_copy(size, input->rank, input->dims, inputs[0].data, from, outputs[0].data, to);

    for (int axis = input->rank - 1; axis >= 0; axis--) {
        int64_t dims[LIMIT_TENSOR_RANK];
        for (int i = 0; i < input->rank; i++)
            dims[i] = i <= axis ? input->dims[i] : output->dims[i];
        for (int64_t start = input->dims[axis]; start < output->dims[axis]; start += input->dims[axis])
            strided_copy(size, input->rank, dims, outputs[0].data, to,
                         (char *)outputs[0].data + (size_t)(start * to[axis]) * size, to);
    }

    return true;
}

/* --- DepthToSpace and SpaceToDepth: blocks of b x b pixels against channels --- */

static bool block_size(const struct node *node, int64_t *ret, struct error *error) {
    *ret = node_int(node, "blocksize", 0);
    return (*ret >= 1 && *ret <= 1 << 15) || node_error(node, error, "blocksize is %lld", (long long)*ret);
}

static bool depth_check(const struct node *node, struct error *error) {
    const char *mode = node_string(node, "mode", "DCR");
    int64_t block;
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return node_error(node, error, "mode is '%.40s', neither DCR nor CRD", mode);

    return block_size(node, &block, error);
}

static bool block_infer(struct node *node, struct error *error) {
    int64_t b;
    if (!block_size(node, &b, error) || !node_want_rank(node, 0, 4, 4, error))
        return false;

    const struct shape *input = node_shape(node, 0);
    bool to_depth = *(const bool *)node->op->family;
    int64_t n = input->dims[0], c = input->dims[1], h = input->dims[2], w = input->dims[3];
    struct shape shape = {4, {n, c * b * b, h / b, w / b}};
    if (to_depth ? h % b || w % b : c % (b * b))
        return node_error(node, error, "the input does not divide into blocks of %lld", (long long)b);

    if (!to_depth)
        shape = (struct shape){4, {n, c / (b * b), h * b, w * b}};

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool block_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    int64_t b;
    if (!block_size(node, &b, error))
        return false;

    bool to_depth = *(const bool *)node->op->family;
    bool crd = !to_depth && strcmp(node_string(node, "mode", "DCR"), "CRD") == 0;
    const struct shape *deep = to_depth ? &outputs[0].shape : &inputs[0].shape;
    int64_t n = deep->dims[0], c = deep->dims[1] / (b * b), h = deep->dims[2], w = deep->dims[3];

    /* Both sides as [n, c, block row, block column, h, w]. */
    int64_t dims[6] = {n, c, b, b, h, w}, plane = h * w;
    int64_t depth[6] = {c * b * b * plane, plane, b * c * plane, c * plane, w, 1};

    if (crd) {
        depth[1] = b * b * plane;
        depth[2] = b * plane;
        depth[3] = plane;
    }

    int64_t space[6] = {c * b * b * plane, b * b * plane, w * b, 1, b * w * b, b};
    strided_copy(dtype_size(inputs[0].dtype), 6, dims, inputs[0].data, to_depth ? space : depth,
                 outputs[0].data, to_depth ? depth : space);

    return true;
}

/* --- ReverseSequence --- */

static bool reverse_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0), *lengths = node_shape(node, 1);
    int64_t batch = node_int(node, "batch_axis", 1), time = node_int(node, "time_axis", 0);
    if (input->rank < 2 || batch < 0 || batch > 1 || time != 1 - batch || lengths->rank != 1 ||
        lengths->dims[0] != input->dims[batch])
        return node_error(node, error, "axes and lengths do not fit the input");

    return node_want_types(node, 1, TYPE(I64), error) && infer_same(node, error);
}

static bool reverse_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int64_t batch = node_int(node, "batch_axis", 1), strides[LIMIT_TENSOR_RANK];
    const int64_t *lengths = inputs[1].data;

    shape_strides(shape, strides);
    size_t size = dtype_size(inputs[0].dtype), row = (size_t)strides[1] * size;

    for (int64_t i = 0; i < shape->dims[batch]; i++) {
        if (lengths[i] < 0 || lengths[i] > shape->dims[1 - batch])
            return node_error(node, error, "length %lld is out of range", (long long)lengths[i]);
        for (int64_t t = 0; t < shape->dims[1 - batch]; t++) {
            int64_t from = t < lengths[i] ? lengths[i] - 1 - t : t;
            size_t read = (size_t)(i * strides[batch] + from * strides[1 - batch]) * size;
            size_t write = (size_t)(i * strides[batch] + t * strides[1 - batch]) * size;
            memcpy((char *)outputs[0].data + write, (const char *)inputs[0].data + read, row);
        }
    }

    return true;
}

static int transpose_axis_kept(const struct node *node, int axis) {
    int rank = node_shape(node, 0)->rank;
    const int64_t *permutation;
    if (!node_ints(node, "perm", &permutation))
        return rank - 1 - axis;

    for (int i = 0; i < rank; i++)
        if (permutation[i] == axis)
            return i;
    return -1;
}

const struct op_def move_operators[] = {
    {.op_type = "Transpose",
     .differentiate = gradient_transpose,
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_MOVES,
     .axis_kept = transpose_axis_kept,
     .types = NAMES_ALL,
     FUNCTIONS(transpose)},
    {.op_type = "Concat",
     .differentiate = gradient_concat,
     .since = 1,
     .inputs = {1, -1},
     .data_inputs = -1,
     .default_axis = 1,
     .traits = OP_MOVES | OP_ALONG_AXIS | OP_VARIADIC,
     .types = NAMES_ALL,
     FUNCTIONS(concat)},
    {.op_type = "Split",
     .differentiate = gradient_split,
     .since = 2,
     .until = 12,
     .inputs = {1, 1},
     .outputs = {1, -1},
     .traits = OP_TAKES_PART | OP_ALONG_AXIS,
     .types = NAMES_ALL,
     .prepare = split_prepare,
     FUNCTIONS(split)},
    {.op_type = "Split",
     .differentiate = gradient_split,
     .since = 13,
     .inputs = {1, 2},
     .outputs = {1, -1},
     .plan_inputs = 1u << 1,
     .traits = OP_TAKES_PART | OP_ALONG_AXIS,
     .types = NAMES_ALL,
     .prepare = split_prepare,
     FUNCTIONS(split)},
    {.op_type = "Expand",
     .differentiate = gradient_expand,
     .since = 8,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .traits = OP_REPEATS,
     .types = NAMES_ALL,
     FUNCTIONS(expand)},
    {.op_type = "Tile",
     .since = 6,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .traits = OP_REPEATS,
     .types = NAMES_ALL,
     FUNCTIONS(tile)},
    {.op_type = "DepthToSpace",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_MOVES | OP_SAMPLEWISE,
     .types = NAMES_ALL,
     .check = depth_check,
     .family = &(const bool){false},
     FUNCTIONS(block)},
    {.op_type = "SpaceToDepth",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_MOVES | OP_SAMPLEWISE,
     .types = NAMES_ALL,
     .family = &(const bool){true},
     FUNCTIONS(block)},
    {.op_type = "ReverseSequence",
     .since = 10,
     .inputs = {2, 2},
     .traits = OP_MOVES,
     .types = NAMES_ALL,
     FUNCTIONS(reverse)},
    {0},
};
