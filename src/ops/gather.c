/* Elements picked by indices: Gather, GatherElements, GatherND. */
#include <string.h>

#include "ops/indices.h"

bool indices_read(const struct tensor *indices, int64_t **ret) {
    int64_t count = shape_elements(&indices->shape);
    int64_t *values = malloc(((size_t)count + 1) * sizeof *values);
    if (!values)
        return false;
    elements_convert(indices->dtype, indices->data, DTYPE_I64, values, count);
    *ret = values;
    return true;
}

bool index_resolve(const struct node *node, int64_t *index, int64_t dim, struct error *error) {
    if (*index < -dim || *index >= dim)
        return node_error(node, error, "index %lld is out of range for %lld elements", (long long)*index,
                          (long long)dim);
    if (*index < 0)
        *index += dim;
    return true;
}

static bool gather_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1);
    int axis;
    if (!node_want_types(node, 1, TYPES_INDEX, error) ||
        !node_axis(node, node_int(node, "axis", 0), data->rank, &axis, error))
        return false;
    struct shape shape = {.rank = data->rank - 1 + indices->rank};
    if (shape.rank > LIMIT_TENSOR_RANK)
        return node_error(node, error, "the result has rank %d, the limit is %d", shape.rank,
                          LIMIT_TENSOR_RANK);
    int place = 0;
    for (int i = 0; i < axis; i++)
        shape.dims[place++] = data->dims[i];
    for (int i = 0; i < indices->rank; i++)
        shape.dims[place++] = indices->dims[i];
    for (int i = axis + 1; i < data->rank; i++)
        shape.dims[place++] = data->dims[i];
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool gather_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *data = &inputs[0].shape;
    int axis;
    cleanup(freep) int64_t *indices = NULL;
    if (!node_axis(node, node_int(node, "axis", 0), data->rank, &axis, error))
        return false;
    if (!indices_read(&inputs[1], &indices))
        return node_memory_error(node, error);
    int64_t outer = shape_product(data, 0, axis), dim = data->dims[axis],
            count = shape_elements(&inputs[1].shape);
    size_t inner = (size_t)shape_product(data, axis + 1, data->rank) * dtype_size(inputs[0].dtype);
    for (int64_t j = 0; j < count; j++)
        if (!index_resolve(node, &indices[j], dim, error))
            return false;
#pragma omp parallel for schedule(static) if (outer * count > PARALLEL_ELEMENTS / 8)
    for (int64_t i = 0; i < outer * count; i++)
        memcpy((char *)outputs[0].data + (size_t)i * inner,
               (const char *)inputs[0].data + (size_t)(i / count * dim + indices[i % count]) * inner, inner);
    return true;
}

/* --- GatherElements: one index an element
 * --------------------------------------------------------------------------- */

static bool elements_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1);
    int axis;
    if (!node_want_types(node, 1, TYPES_INDEX, error) ||
        !node_axis(node, node_int(node, "axis", 0), data->rank, &axis, error))
        return false;
    return indices_fit_elements(node, data, indices, axis, error) &&
           infer_output(node, 0, node_dtype(node, 0), indices, error);
}

bool indices_fit_elements(const struct node *node, const struct shape *data, const struct shape *indices,
                          int axis, struct error *error) {
    bool fits = data->rank == indices->rank;
    for (int i = 0; fits && i < data->rank; i++)
        fits = i == axis || indices->dims[i] <= data->dims[i];
    char text[2][SHAPE_TEXT];
    return fits ||
           node_error(node, error, "indices %s do not fit data %s",
                      shape_format(indices, text[0], SHAPE_TEXT), shape_format(data, text[1], SHAPE_TEXT));
}

bool element_place(const struct node *node, const struct shape *data, const struct shape *indices, int axis,
                   int64_t number, int64_t index, int64_t *ret, struct error *error) {
    int64_t strides[LIMIT_TENSOR_RANK], place = 0;
    shape_strides(data, strides);
    if (!index_resolve(node, &index, data->dims[axis], error))
        return false;
    for (int i = indices->rank - 1; i >= 0; i--) {
        place += (i == axis ? index : number % indices->dims[i]) * strides[i];
        number /= indices->dims[i];
    }
    *ret = place;
    return true;
}

static bool elements_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    int axis;
    cleanup(freep) int64_t *indices = NULL;
    if (!node_axis(node, node_int(node, "axis", 0), inputs[0].shape.rank, &axis, error))
        return false;
    if (!indices_read(&inputs[1], &indices))
        return node_memory_error(node, error);
    int64_t count = shape_elements(&inputs[1].shape);
    size_t size = dtype_size(inputs[0].dtype);
    for (int64_t i = 0; i < count; i++) {
        int64_t place;
        if (!element_place(node, &inputs[0].shape, &inputs[1].shape, axis, i, indices[i], &place, error))
            return false;
        memcpy((char *)outputs[0].data + (size_t)i * size,
               (const char *)inputs[0].data + (size_t)place * size, size);
    }
    return true;
}

/* --- GatherND: an index tuple a slice
 * ------------------------------------------------------------------------------ */

static bool nd_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1);
    int64_t batch = node_int(node, "batch_dims", 0);
    if (!node_want_types(node, 1, TYPE(I64), error))
        return false;
    if (batch < 0 || batch >= data->rank || batch >= indices->rank)
        return node_error(node, error, "batch_dims %lld is out of range", (long long)batch);
    int64_t length = indices->dims[indices->rank - 1];
    if (length < 1 || length > data->rank - batch)
        return node_error(node, error, "index tuples of %lld for data of rank %d", (long long)length,
                          data->rank);
    for (int i = 0; i < batch; i++)
        if (data->dims[i] != indices->dims[i])
            return node_error(node, error, "data and indices differ in batch dimension %d", i);
    int from = (int)(batch + length);
    struct shape shape = {.rank = indices->rank - 1};
    memcpy(shape.dims, indices->dims, sizeof shape.dims);
    for (int i = from; i < data->rank; i++) {
        if (shape.rank == LIMIT_TENSOR_RANK)
            return node_error(node, error, "the result has more than %d dimensions", LIMIT_TENSOR_RANK);
        shape.dims[shape.rank++] = data->dims[i];
    }
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

bool tuple_place(const struct node *node, const struct shape *data, int first, const int64_t *tuple,
                 int64_t length, int64_t *ret, struct error *error) {
    int64_t place = 0;
    for (int64_t k = 0; k < length; k++) {
        int64_t index = tuple[k], dim = data->dims[first + k];
        if (!index_resolve(node, &index, dim, error))
            return false;
        place = place * dim + index;
    }
    *ret = place;
    return true;
}

static bool nd_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    const struct shape *data = &inputs[0].shape, *shape = &inputs[1].shape;
    int batch = (int)node_int(node, "batch_dims", 0);
    int64_t length = shape->dims[shape->rank - 1], tuples = shape_product(shape, 0, shape->rank - 1);
    int64_t batches = shape_product(shape, 0, batch), each = batches ? tuples / batches : 0;
    int from = batch + (int)length;
    int64_t slices = shape_product(data, batch, from);
    size_t slice = (size_t)shape_product(data, from, data->rank) * dtype_size(inputs[0].dtype);
    for (int64_t i = 0; i < tuples; i++) {
        int64_t place;
        if (!tuple_place(node, data, batch, (const int64_t *)inputs[1].data + i * length, length, &place,
                         error))
            return false;
        memcpy((char *)outputs[0].data + (size_t)i * slice,
               (const char *)inputs[0].data + (size_t)(i / each * slices + place) * slice, slice);
    }
    return true;
}

const struct operator gather_operators[] = {
    {"", "Gather", 1, OPSET_LATEST, 0, NULL, 2, 2, 1, 1, gather_infer, gather_compute, NAMES_ALL},
    {"", "GatherElements", 11, OPSET_LATEST, 0, NULL, 2, 2, 1, 1, elements_infer, elements_compute,
     NAMES_ALL},
    {"", "GatherND", 11, OPSET_LATEST, 0, NULL, 2, 2, 1, 1, nd_infer, nd_compute, NAMES_ALL},
    {0},
};
