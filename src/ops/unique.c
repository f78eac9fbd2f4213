/* Unique: https://onnx.ai/onnx/operators/onnx__Unique.html. Slices along an axis (without one: elements) that
 * differ; the shape follows from the values. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/family.h"

/* The tensor as outer x length x inner: a slice is one of `length`. */
struct slices {
    const struct tensor *x;
    int64_t outer, length, inner;
};

static bool slices_of(const struct node *node, const struct tensor *x, struct slices *ret,
                      struct error *error) {
    int axis = 0;
    *ret = (struct slices){x, 1, shape_elements(&x->shape), 1};
    if (!node_attribute(node, "axis"))
        return true;
    if (!node_axis(node, node_int(node, "axis", 0), x->shape.rank, &axis, error))
        return false;
    *ret = (struct slices){x, shape_product(&x->shape, 0, axis), x->shape.dims[axis],
                           shape_product(&x->shape, axis + 1, x->shape.rank)};
    return true;
}

static int compare_numbers(const struct tensor *x, int64_t a, int64_t b) {
    if (dtype_is_float(x->dtype)) {
        double left = tensor_get_f64(x, a), right = tensor_get_f64(x, b);
        return left < right ? -1 : left > right;
    }
    int64_t left = tensor_get_i64(x, a), right = tensor_get_i64(x, b);
    if (x->dtype == DTYPE_U64)
        return (uint64_t)left < (uint64_t)right ? -1 : (uint64_t)left > (uint64_t)right;
    return left < right ? -1 : left > right;
}

static int compare_slices(const struct slices *s, int64_t a, int64_t b) {
    int order = 0;
    for (int64_t o = 0; o < s->outer && !order; o++)
        for (int64_t i = 0; i < s->inner && !order; i++)
            order =
                compare_numbers(s->x, (o * s->length + a) * s->inner + i, (o * s->length + b) * s->inner + i);
    return order;
}

static int by_value(const void *a, const void *b, void *context) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    int order = compare_slices(context, x, y);
    return order ? order : x < y ? -1 : x > y;
}

static int by_first(const void *a, const void *b, void *context) {
    const int64_t *first = context;
    int64_t x = first[*(const int64_t *)a], y = first[*(const int64_t *)b];
    return x < y ? -1 : x > y;
}

/* Groups of equal slices, in the order of the result. */
struct slice_groups {
    int64_t count;
    int64_t *first, *sizes; /* [count] of the result's order: the first slice, how many */
    int64_t *group;         /* [length] of each slice */
    int64_t *memory;
};

static bool groups_find(const struct node *node, const struct slices *s, struct slice_groups *ret) {
    size_t length = (size_t)s->length + 1;
    int64_t *memory = calloc(length * 7, sizeof *memory);
    if (!memory)
        return false;

    int64_t *order = memory, *first = order + length, *sizes = first + length, *group = sizes + length;
    int64_t *rank = group + length, *place = rank + length, *sorted = place + length, count = 0;
    for (int64_t i = 0; i < s->length; i++)
        order[i] = i;
    qsort_r(order, (size_t)s->length, sizeof *order, by_value, (void *)s);

    for (int64_t i = 0; i < s->length; i++) {
        if (!i || compare_slices(s, order[i - 1], order[i]) != 0)
            sorted[count++] = order[i];
        group[order[i]] = count - 1;
    }
    for (int64_t i = 0; i < count; i++)
        rank[i] = i;
    if (!node_int(node, "sorted", 1))
        qsort_r(rank, (size_t)count, sizeof *rank, by_first, sorted);
    for (int64_t i = 0; i < count; i++) {
        place[rank[i]] = i;
        first[i] = sorted[rank[i]];
    }
    for (int64_t i = 0; i < s->length; i++) {
        group[i] = place[group[i]];
        sizes[group[i]]++;
    }

    *ret = (struct slice_groups){count, first, sizes, group, memory};
    return true;
}

static bool unique_infer(struct node *node, struct error *error) {
    const struct tensor *x = node_constant(node, 0, error);
    struct slices slices;
    struct slice_groups groups;
    if (!x || !node_want_types(node, 0, TYPES_ALL, error) || !slices_of(node, x, &slices, error))
        return false;
    if (!groups_find(node, &slices, &groups))
        return node_memory_error(node, error);
    free(groups.memory);

    struct shape shape = {1, {groups.count}}, counts = shape, inverse = {1, {slices.length}};
    if (node_attribute(node, "axis")) {
        int axis = 0;
        shape = x->shape;
        if (!node_axis(node, node_int(node, "axis", 0), shape.rank, &axis, error))
            return false;
        shape.dims[axis] = groups.count;
    }
    return infer_output(node, 0, x->dtype, &shape, error) &&
           infer_output(node, 1, DTYPE_I64, &counts, error) &&
           infer_output(node, 2, DTYPE_I64, &inverse, error) &&
           infer_output(node, 3, DTYPE_I64, &counts, error);
}

static bool unique_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    struct slices s;
    struct slice_groups groups;
    if (!slices_of(node, &inputs[0], &s, error))
        return false;
    if (!groups_find(node, &s, &groups))
        return node_memory_error(node, error);

    size_t bytes = (size_t)s.inner * dtype_size(inputs[0].dtype);
    for (int64_t o = 0; o < s.outer && outputs[0].data; o++)
        for (int64_t i = 0; i < groups.count; i++)
            memcpy((char *)outputs[0].data + (size_t)(o * groups.count + i) * bytes,
                   (const char *)inputs[0].data + (size_t)(o * s.length + groups.first[i]) * bytes, bytes);

    const int64_t *lists[] = {NULL, groups.first, groups.group, groups.sizes};
    for (int k = 1; k < node->output_count && k < 4; k++)
        if (outputs[k].data)
            memcpy(outputs[k].data, lists[k], tensor_bytes(&outputs[k]));
    free(groups.memory);
    return true;
}

const struct op_def unique_operators[] = {
    {.op_type = "Unique",
     .since = 11,
     .inputs = {1, 1},
     .outputs = {1, 4},
     .plan_inputs = 1u << 0,
     .types = NAMES_ALL,
     FUNCTIONS(unique)},
    {0},
};
