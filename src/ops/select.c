/* Elements chosen by conditions and order: Where, NonZero, Compress, TopK, OneHot, Trilu, CumSum. */
#include <math.h>
#include <string.h>

#include "ops/indices.h"
#include "ops/gradient.h"

/* --- Where --- */

static bool where_infer(struct node *node, struct error *error) {
    struct shape shape;
    if (!node_want_types(node, 0, TYPE(BOOL), error) || !node_want_same_type(node, 2, 1, error))
        return false;
    if (!shape_broadcast(node_shape(node, 0), node_shape(node, 1), &shape) ||
        !shape_broadcast(&shape, node_shape(node, 2), &shape))
        return node_error(node, error, "the inputs' shapes do not fit together");

    return infer_output(node, 0, node_dtype(node, 1), &shape, error);
}

static bool where_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    struct broadcast_walk walk;
    walk_init(&walk, &outputs[0].shape,
              (const struct shape *const[]){&inputs[0].shape, &inputs[1].shape, &inputs[2].shape}, 3);

    int64_t total = walk.rows * walk.pieces, size = (int64_t)dtype_size(outputs[0].dtype);
#pragma omp parallel for schedule(static) if (total * walk.inner > PARALLEL_ELEMENTS)
    for (int64_t piece = 0; piece < total; piece++) {
        int64_t offset, offsets[WALK_OPERANDS], count = walk_piece(&walk, piece, &offset, offsets);
        const uint8_t *condition = (const uint8_t *)inputs[0].data + offsets[0];
        for (int64_t i = 0; i < count; i++) {
            int k = condition[i * walk.inner_strides[0]] ? 1 : 2;
            memcpy((char *)outputs[0].data + (offset + i) * size,
                   (const char *)inputs[k].data + (offsets[k] + i * walk.inner_strides[k]) * size,
                   (size_t)size);
        }
    }

    return true;
}

/* --- NonZero and Compress: the result's shape depends on values, which must be known when the plan is made
 * --- */

static bool is_zero(const struct tensor *tensor, int64_t index) {
    return tensor_get_f64(tensor, index) == 0;
}

static bool nonzero_infer(struct node *node, struct error *error) {
    const struct tensor *input = node_constant(node, 0, error);
    if (!input)
        return false;

    int64_t found = 0, count = shape_elements(&input->shape);
    for (int64_t i = 0; i < count; i++)
        found += !is_zero(input, i);

    struct shape shape = {2, {input->shape.rank, found}};
    return node_want_types(node, 0, TYPES_ALL, error) && infer_output(node, 0, DTYPE_I64, &shape, error);
}

static bool nonzero_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int64_t count = shape_elements(shape), total = outputs[0].shape.dims[1], found = 0;
    for (int64_t i = 0; i < count && found < total; i++) {
        if (is_zero(&inputs[0], i))
            continue;
        int64_t left = i;
        for (int d = shape->rank - 1; d >= 0; d--) {
            ((int64_t *)outputs[0].data)[d * total + found] = left % shape->dims[d];
            left /= shape->dims[d];
        }

        found++;
    }

    return true;
}

/* outer x length x inner along the axis, or all elements as one axis if none is given. */
static bool compress_span(const struct node *node, const struct shape *shape, int64_t span[3],
                          struct error *error) {
    int axis;
    span[0] = span[2] = 1;
    span[1] = shape_elements(shape);
    if (!node_attribute(node, "axis"))
        return true;
    if (!node_axis(node, node_int(node, "axis", 0), shape->rank, &axis, error))
        return false;

    span[0] = shape_product(shape, 0, axis);
    span[1] = shape->dims[axis];
    span[2] = shape_product(shape, axis + 1, shape->rank);

    return true;
}

static bool compress_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    const struct tensor *condition = node_constant(node, 1, error);
    int64_t span[3], kept = 0;

    if (!condition || !node_want_types(node, 1, TYPE(BOOL), error) || !node_want_rank(node, 1, 1, 1, error) ||
        !compress_span(node, &shape, span, error))
        return false;
    if (condition->shape.dims[0] > span[1])
        return node_error(node, error, "the condition is longer than the axis");

    for (int64_t i = 0; i < condition->shape.dims[0]; i++)
        kept += ((const uint8_t *)condition->data)[i] != 0;

    if (node_attribute(node, "axis")) {
        int axis;
        if (!node_axis(node, node_int(node, "axis", 0), shape.rank, &axis, error))
            return false;
        shape.dims[axis] = kept;
    } else {
        shape = (struct shape){1, {kept}};
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool compress_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    int64_t span[3], condition_count = inputs[1].shape.dims[0];
    if (!compress_span(node, &inputs[0].shape, span, error))
        return false;

    const uint8_t *condition = inputs[1].data;
    size_t row = (size_t)span[2] * dtype_size(inputs[0].dtype);
    char *to = outputs[0].data;

    for (int64_t i = 0; i < span[0]; i++)
        for (int64_t j = 0; j < condition_count; j++)
            if (condition[j]) {
                memcpy(to, (const char *)inputs[0].data + (size_t)(i * span[1] + j) * row, row);
                to += row;
            }

    return true;
}

/* --- TopK --- */

static bool topk_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    int axis, count = 1;
    int64_t k = node_int(node, "k", -1);

    if (!node_want_types(node, 0, TYPES_NUMERIC, error) ||
        !node_axis(node, node_int(node, "axis", -1), shape.rank, &axis, error) ||
        (node->opset >= 10 && !node_read_ints(node, 1, 1, &k, &count, error)))
        return false;
    if (count != 1 || k < 0 || k > shape.dims[axis])
        return node_error(node, error, "k is %lld, but the axis has %lld elements", (long long)k,
                          (long long)shape.dims[axis]);

    shape.dims[axis] = k;

    return infer_output(node, 0, node_dtype(node, 0), &shape, error) &&
           infer_output(node, 1, DTYPE_I64, &shape, error);
}

struct ranked {
    double value;
    int64_t whole; /* the value of an integer, exactly */
    int64_t index;
};

/* The larger first, the earlier of equals; NaN counts as larger than all. */
static int ranked_compare(const void *left, const void *right) {
    const struct ranked *a = left, *b = right;
    bool a_nan = isnan(a->value), b_nan = isnan(b->value);
    if (a_nan != b_nan)
        return a_nan ? -1 : 1;
    if (!a_nan && a->value != b->value)
        return a->value > b->value ? -1 : 1;
    if (a->whole != b->whole)
        return a->whole > b->whole ? -1 : 1;

    return a->index < b->index ? -1 : a->index > b->index;
}

static int ranked_compare_least(const void *left, const void *right) {
    const struct ranked *a = left, *b = right;
    if (a->value == b->value && a->whole == b->whole)
        return a->index < b->index ? -1 : a->index > b->index;
    return -ranked_compare(left, right);
}

static bool topk_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    const struct shape *shape = &inputs[0].shape, *result = &outputs[0].shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", -1), shape->rank, &axis, error))
        return false;

    int64_t length = shape->dims[axis], k = result->dims[axis],
            inner = shape_product(shape, axis + 1, shape->rank);
    int64_t lines = shape_product(shape, 0, axis) * inner;
    bool largest = node->opset < 11 || node_int(node, "largest", 1),
         whole = dtype_is_integer(inputs[0].dtype);
    size_t size = dtype_size(inputs[0].dtype);
    cleanup(freep) struct ranked *ranked = malloc(((size_t)length + 1) * sizeof *ranked);
    if (!ranked)
        return node_memory_error(node, error);

    for (int64_t line = 0; line < lines; line++) {
        int64_t from = line / inner * length * inner + line % inner,
                to = line / inner * k * inner + line % inner;
        for (int64_t i = 0; i < length; i++)
            ranked[i] = (struct ranked){tensor_get_f64(&inputs[0], from + i * inner),
                                        whole ? tensor_get_i64(&inputs[0], from + i * inner) : 0, i};

        qsort(ranked, (size_t)length, sizeof *ranked, largest ? ranked_compare : ranked_compare_least);
        for (int64_t i = 0; i < k; i++) {
            if (outputs[0].data)
                memcpy((char *)outputs[0].data + (size_t)(to + i * inner) * size,
                       (const char *)inputs[0].data + (size_t)(from + ranked[i].index * inner) * size, size);
            if (node->output_count > 1 && outputs[1].data)
                ((int64_t *)outputs[1].data)[to + i * inner] = ranked[i].index;
        }
    }

    return true;
}

/* --- OneHot: indices, depth, [off, on] --- */

static bool onehot_infer(struct node *node, struct error *error) {
    const struct shape *indices = node_shape(node, 0);
    const struct tensor *depth = node_constant(node, 1, error);
    if (!depth || !node_want_types(node, 0, TYPES_NUMERIC, error) ||
        !node_want_types(node, 1, TYPES_NUMERIC, error))
        return false;
    if (shape_elements(&depth->shape) != 1 || shape_elements(node_shape(node, 2)) != 2)
        return node_error(node, error, "depth is not one number, or values are not two numbers");

    struct shape shape = {.rank = indices->rank + 1};
    int axis;
    int64_t count = tensor_get_i64(depth, 0);
    if (shape.rank > LIMIT_TENSOR_RANK || count < 1)
        return node_error(node, error, "depth %lld does not fit a result of rank %d", (long long)count,
                          shape.rank);
    if (!node_axis(node, node_int(node, "axis", -1), shape.rank, &axis, error))
        return false;

    for (int i = 0, from = 0; i < shape.rank; i++)
        shape.dims[i] = i == axis ? count : indices->dims[from++];

    return infer_output(node, 0, node_dtype(node, 2), &shape, error);
}

static bool onehot_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *shape = &outputs[0].shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", -1), shape->rank, &axis, error))
        return false;

    int64_t depth = shape->dims[axis], inner = shape_product(shape, axis + 1, shape->rank);
    int64_t total = shape_elements(shape);
    size_t size = dtype_size(outputs[0].dtype);

    for (int64_t i = 0; i < total; i++) {
        int64_t index = tensor_get_i64(&inputs[0], i / (depth * inner) * inner + i % inner);
        bool on = (index < 0 ? index + depth : index) == i / inner % depth;
        memcpy((char *)outputs[0].data + (size_t)i * size, (const char *)inputs[2].data + (on ? size : 0),
               size);
    }

    return true;
}

/* --- Trilu: the upper or lower triangle --- */

static bool trilu_infer(struct node *node, struct error *error) {
    if (node_has_input(node, 1) &&
        (!node_want_types(node, 1, TYPE(I64), error) || shape_elements(node_shape(node, 1)) != 1))
        return node_error(node, error, "k is not one int64");
    return node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error) && infer_same(node, error);
}

static bool trilu_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int64_t rows = shape->dims[shape->rank - 2], columns = shape->dims[shape->rank - 1];
    int64_t k = node->input_count > 1 && inputs[1].data ? *(const int64_t *)inputs[1].data : 0;

    k = k > LIMIT_TENSOR_ELEMENTS    ? LIMIT_TENSOR_ELEMENTS
        : k < -LIMIT_TENSOR_ELEMENTS ? -LIMIT_TENSOR_ELEMENTS
                                     : k;
    bool upper = node_int(node, "upper", 1) != 0;
    int64_t total = shape_elements(shape);
    size_t size = dtype_size(inputs[0].dtype);

    memset(outputs[0].data, 0, (size_t)total * size);
    for (int64_t i = 0; i < total; i++) {
        int64_t diagonal = i % columns - i / columns % rows;
        if (upper ? diagonal >= k : diagonal <= k)
            memcpy((char *)outputs[0].data + (size_t)i * size,
                   (const char *)inputs[0].data + (size_t)i * size, size);
    }

    return true;
}

/* --- CumSum --- */

static bool cumsum_infer(struct node *node, struct error *error) {
    int64_t axis;
    int count, resolved;

    if (!node_want_types(node, 0, TYPES_FLOAT | TYPES_INTEGER, error) ||
        !node_read_ints(node, 1, 1, &axis, &count, error))
        return false;
    if (count != 1)
        return node_error(node, error, "the axis is not one number");

    return node_axis(node, axis, node_shape(node, 0)->rank, &resolved, error) && infer_same(node, error);
}

static bool cumsum_prepare(struct node *node, struct arena *arena, struct error *error) {
    int *axis = arena_allocate(arena, sizeof *axis);
    if (!axis)
        return node_memory_error(node, error);

    node->parameters = axis;
    return node_axis(node, tensor_get_i64(node->inputs[1]->constant, 0), node_shape(node, 0)->rank, axis,
                     error);
}

static bool cumsum_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int axis = *(const int *)node->parameters;
    bool exclusive = node_int(node, "exclusive", 0) != 0, reverse = node_int(node, "reverse", 0) != 0;
    bool floats = dtype_is_float(inputs[0].dtype);
    int64_t length = shape->dims[axis], inner = shape_product(shape, axis + 1, shape->rank);
    int64_t lines = length ? shape_elements(shape) / length : 0;
    size_t size = dtype_size(inputs[0].dtype);

    for (int64_t line = 0; line < lines; line++) {
        double sum = 0;
        uint64_t whole = 0;
        for (int64_t i = 0; i < length; i++) {
            int64_t at =
                line / inner * length * inner + (reverse ? length - 1 - i : i) * inner + line % inner;
            double before = sum;
            uint64_t whole_before = whole;

            floats ? (void)(sum += tensor_get_f64(&inputs[0], at))
                   : (void)(whole += (uint64_t)tensor_get_i64(&inputs[0], at));
            void *to = (char *)outputs[0].data + (size_t)at * size;
            if (floats)
                elements_convert(DTYPE_F64, exclusive ? &before : &sum, outputs[0].dtype, to, 1);
            else
                elements_convert(DTYPE_U64, exclusive ? &whole_before : &whole, outputs[0].dtype, to, 1);
        }
    }

    return true;
}

const struct op_def select_operators[] = {
    {.op_type = "Where",
     .differentiate = gradient_where,
     .since = 9,
     .inputs = {3, 3},
     .data_inputs = 3,
     .traits = OP_ELEMENTWISE,
     .types = NAMES_ALL,
     FUNCTIONS(where)},
    {.op_type = "NonZero",
     .since = 9,
     .inputs = {1, 1},
     .plan_inputs = 1u << 0,
     .types = NAMES_ALL,
     FUNCTIONS(nonzero)},
    {.op_type = "Compress",
     .since = 9,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .types = NAMES_ALL,
     FUNCTIONS(compress)},
    {.op_type = "TopK",
     .since = 1,
     .until = 9,
     .inputs = {1, 1},
     .outputs = {1, 2},
     .default_axis = -1,
     .traits = OP_ALONG_AXIS,
     .types = NAMES_NUMERIC,
     FUNCTIONS(topk)},
    {.op_type = "TopK",
     .since = 10,
     .inputs = {2, 2},
     .outputs = {1, 2},
     .plan_inputs = 1u << 1,
     .default_axis = -1,
     .traits = OP_ALONG_AXIS,
     .types = NAMES_NUMERIC,
     FUNCTIONS(topk)},
    {.op_type = "OneHot",
     .since = 9,
     .inputs = {3, 3},
     .plan_inputs = 1u << 1,
     .types = NAMES_ALL,
     FUNCTIONS(onehot)},
    {.op_type = "Trilu", .since = 14, .inputs = {1, 2}, .types = NAMES_ALL, FUNCTIONS(trilu)},
    {.op_type = "CumSum",
     .since = 11,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .types = NAMES_NUMERIC,
     .prepare = cumsum_prepare,
     FUNCTIONS(cumsum)},
    {0},
};
