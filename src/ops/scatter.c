/* Elements put to places named by indices: ScatterElements (once Scatter) and ScatterND, with a reduction. */
#include <string.h>

#include "ops/binary.h"
#include "ops/indices.h"

/* The kernel of binary.c that combines old and new; NULL for none, which replaces. */
static const char *reduction_kernel(const struct node *node) {
    static const char *const names[][2] = {{"add", "Add"}, {"mul", "Mul"}, {"max", "Max"}, {"min", "Min"}};
    const char *reduction = node_string(node, "reduction", "none");
    for (int i = 0; i < 4; i++)
        if (strcmp(names[i][0], reduction) == 0)
            return names[i][1];
    return NULL;
}

static bool reduction_check(const struct node *node, struct error *error) {
    const char *reduction = node_string(node, "reduction", "none");
    return strcmp(reduction, "none") == 0 || reduction_kernel(node) ||
           node_error(node, error, "reduction '%.40s' is not supported", reduction);
}

static bool scatter_types(const struct node *node, uint32_t index_types, struct error *error) {
    if (reduction_kernel(node) && !node_want_types(node, 0, TYPES_NUMERIC, error))
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
    const char *name = reduction_kernel(node);
    binary_kernel *kernel = name ? binary_kernel_find(name, inputs[0].dtype) : NULL;
    size_t size = dtype_size(inputs[0].dtype);
    if (!node_axis(node, node_int(node, "axis", 0), inputs[0].shape.rank, &axis, error))
        return false;
    if (!indices_read(&inputs[1], &indices))
        return node_memory_error(node, error);
    memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&outputs[0]));
    int64_t count = shape_elements(&inputs[1].shape);
    for (int64_t i = 0; i < count; i++) {
        int64_t place;
        if (!element_place(node, &inputs[0].shape, &inputs[1].shape, axis, i, indices[i], &place, error))
            return false;
        put(kernel, size, (char *)outputs[0].data + (size_t)place * size,
            (const char *)inputs[2].data + (size_t)i * size, 1);
    }
    return true;
}

static bool elements_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, elements_wide);
}

/* --- ScatterND
 * ---------------------------------------------------------------------------------------------------- */

static bool nd_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1),
                       *updates = node_shape(node, 2);
    if (!scatter_types(node, TYPE(I64), error))
        return false;
    int64_t length = indices->rank ? indices->dims[indices->rank - 1] : 0;
    if (length < 1 || length > data->rank)
        return node_error(node, error, "index tuples of %lld for data of rank %d", (long long)length,
                          data->rank);
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
    const char *name = reduction_kernel(node);
    binary_kernel *kernel = name ? binary_kernel_find(name, inputs[0].dtype) : NULL;
    size_t size = dtype_size(inputs[0].dtype);
    memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&outputs[0]));
    for (int64_t i = 0; i < tuples; i++) {
        int64_t place;
        if (!tuple_place(node, data, 0, (const int64_t *)inputs[1].data + i * length, length, &place, error))
            return false;
        put(kernel, size, (char *)outputs[0].data + (size_t)(place * slice) * size,
            (const char *)inputs[2].data + (size_t)(i * slice) * size, slice);
    }
    return true;
}

static bool nd_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    return compute_widened(node, inputs, outputs, error, nd_wide);
}

const struct operator scatter_operators[] = {
    {"", "Scatter", 9, 10, 0, NULL, 3, 3, 1, 1, elements_infer, elements_compute, NAMES_ALL},
    {"", "ScatterElements", 11, OPSET_LATEST, 0, reduction_check, 3, 3, 1, 1, elements_infer,
     elements_compute, NAMES_ALL},
    {"", "ScatterND", 11, OPSET_LATEST, 0, reduction_check, 3, 3, 1, 1, nd_infer, nd_compute, NAMES_ALL},
    {0},
};
