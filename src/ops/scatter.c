/* Elements written to where indices point: ScatterElements (once Scatter) and ScatterND, with a reduction. */
#include <string.h>

#include "ops/binary.h"
#include "ops/indices.h"

/* Which of binary.c's functions combines old and new; BINARY_COUNT for none, which replaces. */
static enum binary_function reduction_of(const struct node *node) {
    static const struct {
        const char *name;
        enum binary_function function;
    } reductions[] = {{"add", BINARY_ADD}, {"mul", BINARY_MUL}, {"max", BINARY_MAX}, {"min", BINARY_MIN}};
    const char *reduction = node_string(node, "reduction", "none");

    for (size_t i = 0; i < sizeof reductions / sizeof reductions[0]; i++)
        if (strcmp(reductions[i].name, reduction) == 0)
            return reductions[i].function;

    return BINARY_COUNT;
}

static binary_kernel *reduction_kernel(const struct node *node, enum dtype dtype) {
    enum binary_function function = reduction_of(node);

    return function == BINARY_COUNT ? NULL : binary_kernel_find(function, dtype);
}

static bool reduction_check(const struct node *node, struct error *error) {
    const char *reduction = node_string(node, "reduction", "none");

    return strcmp(reduction, "none") == 0 || reduction_of(node) != BINARY_COUNT ||
           node_error(node, error, "reduction '%.40s' is not supported", reduction);
}

static bool scatter_types(const struct node *node, uint32_t index_types, struct error *error) {
    if (reduction_of(node) != BINARY_COUNT && !node_want_types(node, 0, TYPES_NUMERIC, error))
        return false;
    return node_want_types(node, 1, index_types, error) && node_want_same_type(node, 2, 0, error);
}

static bool elements_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1);
    int axis;

    if (!scatter_types(node, TYPES_INDEX, error) ||
        !node_axis(node, node_int(node, "axis", 0), data->rank, &axis, error) ||
        !indices_fit_elements(node, data, indices, axis, error))
        return false;
    if (!shape_equal(indices, node_shape(node, 2)))
        return node_error(node, error, "indices and updates have different shapes");

    return infer_same(node, error);
}

/* Combine `count` elements of `update` into `to`. */
static void put(binary_kernel *kernel, size_t size, void *to, const void *update, int64_t count) {
    if (kernel)
        kernel(to, 1, update, 1, to, count);
    else
        memcpy(to, update, (size_t)count * size);
}

static bool elements_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    int axis;
    cleanup(freep) int64_t *indices = NULL;
    binary_kernel *kernel = reduction_kernel(node, inputs[0].dtype);
    size_t size = dtype_size(inputs[0].dtype);

    if (!node_axis(node, node_int(node, "axis", 0), inputs[0].shape.rank, &axis, error))
        return false;
    if (!indices_read(&inputs[1], &indices))
        return node_memory_error(node, error);

    memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&outputs[0]));
    int64_t count = shape_elements(&inputs[1].shape);
    for (int64_t i = 0; i < count; i++) {
        int64_t offset;
        if (!element_offset(node, &inputs[0].shape, &inputs[1].shape, axis, i, indices[i], &offset, error))
            return false;
        put(kernel, size, (char *)outputs[0].data + (size_t)offset * size,
            (const char *)inputs[2].data + (size_t)i * size, 1);
    }

    return true;
}

static bool elements_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, elements_wide);
}

/* --- ScatterND --- */

static bool nd_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1),
                       *updates = node_shape(node, 2);
    if (!scatter_types(node, TYPE(I64), error))
        return false;

    int64_t length = indices->rank ? indices->dims[indices->rank - 1] : 0;
    if (length < 1 || length > data->rank)
        return node_error(node, error, "index tuples of length %lld do not fit data of rank %d",
                          (long long)length, data->rank);

    int slice = data->rank - (int)length, tuples = indices->rank - 1;
    bool fits = updates->rank == tuples + slice;
    for (int i = 0; fits && i < updates->rank; i++)
        fits = updates->dims[i] == (i < tuples ? indices->dims[i] : data->dims[length + i - tuples]);

    if (!fits)
        return node_error(node, error, "the updates do not fit the indices and the data");
    return infer_same(node, error);
}

static bool nd_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                    struct error *error) {
    const struct shape *data = &inputs[0].shape, *shape = &inputs[1].shape;
    int64_t length = shape->dims[shape->rank - 1], tuples = shape_product(shape, 0, shape->rank - 1);
    int64_t slice = shape_product(data, (int)length, data->rank);
    binary_kernel *kernel = reduction_kernel(node, inputs[0].dtype);
    size_t size = dtype_size(inputs[0].dtype);

    memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&outputs[0]));
    for (int64_t i = 0; i < tuples; i++) {
        int64_t offset;
        if (!tuple_offset(node, data, 0, (const int64_t *)inputs[1].data + i * length, length, &offset,
                          error))
            return false;
        put(kernel, size, (char *)outputs[0].data + (size_t)(offset * slice) * size,
            (const char *)inputs[2].data + (size_t)(i * slice) * size, slice);
    }

    return true;
}

static bool nd_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    return compute_widened(node, inputs, outputs, error, nd_wide);
}

const struct op_def scatter_operators[] = {
    {.op_type = "Scatter",
     .since = 9,
     .until = 10,
     .inputs = {3, 3},
     .types = NAMES_ALL,
     FUNCTIONS(elements)},
    {.op_type = "ScatterElements",
     .since = 11,
     .inputs = {3, 3},
     .types = NAMES_ALL,
     .check = reduction_check,
     FUNCTIONS(elements)},
    {.op_type = "ScatterND",
     .since = 11,
     .inputs = {3, 3},
     .types = NAMES_ALL,
     .check = reduction_check,
     FUNCTIONS(nd)},
    {0},
};
