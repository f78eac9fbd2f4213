/* Elements picked by indices: Gather, GatherElements, GatherND. */
#include <string.h>

#include "ops/indices.h"
#include "ops/gradient.h"

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

    int position = 0;
    for (int i = 0; i < axis; i++)
        shape.dims[position++] = data->dims[i];
    for (int i = 0; i < indices->rank; i++)
        shape.dims[position++] = indices->dims[i];
    for (int i = axis + 1; i < data->rank; i++)
        shape.dims[position++] = data->dims[i];

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

struct gather {
    int axis;
    const int64_t *indices; /* counted from the front; NULL if they are not constant */
};

/* Indices as int64, counted from the front of `dim` elements. */
static bool indices_resolve(const struct node *node, const struct tensor *tensor, int64_t dim, int64_t *ret,
                            struct error *error) {
    int64_t count = shape_elements(&tensor->shape);

    elements_convert(tensor->dtype, tensor->data, DTYPE_I64, ret, count);
    for (int64_t i = 0; i < count; i++)
        if (!index_resolve(node, &ret[i], dim, error))
            return false;

    return true;
}

/* For Gather and GatherElements. */
static bool gather_prepare(struct node *node, struct arena *arena, struct error *error) {
    const struct shape *data = node_shape(node, 0);
    const struct tensor *constant = node->inputs[1]->constant;
    struct gather *gather = arena_allocate(arena, sizeof *gather);
    if (!gather)
        return node_memory_error(node, error);
    if (!node_axis(node, node_int(node, "axis", 0), data->rank, &gather->axis, error))
        return false;

    if (constant) {
        int64_t *indices =
            arena_allocate_array(arena, (size_t)shape_elements(&constant->shape) + 1, sizeof *indices);
        if (!indices)
            return node_memory_error(node, error);
        if (!indices_resolve(node, constant, data->dims[gather->axis], indices, error))
            return false;

        gather->indices = indices;
    }

    node->parameters = gather;

    return true;
}

/* The prepared indices, or those of this run, malloc'ed as *ret_owned. NULL with an error. */
static const int64_t *gather_indices(const struct node *node, const struct tensor *inputs,
                                     int64_t **ret_owned, struct error *error) {
    const struct gather *gather = node->parameters;
    if (gather->indices)
        return gather->indices;

    int64_t *indices = malloc(((size_t)shape_elements(&inputs[1].shape) + 1) * sizeof *indices);
    *ret_owned = indices;
    if (!indices)
        return node_memory_error(node, error), NULL;

    return indices_resolve(node, &inputs[1], inputs[0].shape.dims[gather->axis], indices, error) ? indices
                                                                                                 : NULL;
}

static bool gather_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *data = &inputs[0].shape;
    const struct gather *gather = node->parameters;
    int axis = gather->axis;
    cleanup(freep) int64_t *owned = NULL;
    const int64_t *indices = gather_indices(node, inputs, &owned, error);
    if (!indices)
        return false;

    int64_t outer = shape_product(data, 0, axis), dim = data->dims[axis],
            count = shape_elements(&inputs[1].shape);
    size_t inner = (size_t)shape_product(data, axis + 1, data->rank) * dtype_size(inputs[0].dtype);

#pragma omp parallel for schedule(static) if (outer * count > PARALLEL_ELEMENTS / 8)
    for (int64_t i = 0; i < outer * count; i++)
        memcpy((char *)outputs[0].data + (size_t)i * inner,
               (const char *)inputs[0].data + (size_t)(i / count * dim + indices[i % count]) * inner, inner);

    return true;
}

/* --- GatherElements: one index an element --- */

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

bool element_offset(const struct node *node, const struct shape *data, const struct shape *indices, int axis,
                    int64_t number, int64_t index, int64_t *ret, struct error *error) {
    int64_t strides[LIMIT_TENSOR_RANK], offset = 0;
    shape_strides(data, strides);
    if (!index_resolve(node, &index, data->dims[axis], error))
        return false;

    for (int i = indices->rank - 1; i >= 0; i--) {
        offset += (i == axis ? index : number % indices->dims[i]) * strides[i];
        number /= indices->dims[i];
    }

    *ret = offset;

    return true;
}

static bool elements_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    const struct gather *gather = node->parameters;
    cleanup(freep) int64_t *owned = NULL;
    const int64_t *indices = gather_indices(node, inputs, &owned, error);
    if (!indices)
        return false;

    int64_t count = shape_elements(&inputs[1].shape);
    size_t size = dtype_size(inputs[0].dtype);

    for (int64_t i = 0; i < count; i++) {
        int64_t offset;
        if (!element_offset(node, &inputs[0].shape, &inputs[1].shape, gather->axis, i, indices[i], &offset,
                            error))
            return false;
        memcpy((char *)outputs[0].data + (size_t)i * size,
               (const char *)inputs[0].data + (size_t)offset * size, size);
    }

    return true;
}

/* --- GatherND: an index tuple a slice --- */

static bool nd_infer(struct node *node, struct error *error) {
    const struct shape *data = node_shape(node, 0), *indices = node_shape(node, 1);
    int64_t batch = node_int(node, "batch_dims", 0);
    if (!node_want_types(node, 1, TYPE(I64), error))
        return false;
    if (batch < 0 || batch >= data->rank || batch >= indices->rank)
        return node_error(node, error, "batch_dims %lld is out of range", (long long)batch);

    int64_t length = indices->dims[indices->rank - 1];
    if (length < 1 || length > data->rank - batch)
        return node_error(node, error, "index tuples of length %lld do not fit data of rank %d",
                          (long long)length, data->rank);

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

bool tuple_offset(const struct node *node, const struct shape *data, int first, const int64_t *tuple,
                  int64_t length, int64_t *ret, struct error *error) {
    int64_t offset = 0;
    for (int64_t k = 0; k < length; k++) {
        int64_t index = tuple[k], dim = data->dims[first + k];
        if (!index_resolve(node, &index, dim, error))
            return false;
        offset = offset * dim + index;
    }

    *ret = offset;
    return true;
}

static bool nd_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    const struct shape *data = &inputs[0].shape, *shape = &inputs[1].shape;
    int batch = (int)node_int(node, "batch_dims", 0);
    int64_t length = shape->dims[shape->rank - 1], batches = shape_product(shape, 0, batch);
    int64_t tuples = shape_product(shape, batch, shape->rank - 1); /* of each batch */
    int from = batch + (int)length;
    int64_t slices = shape_product(data, batch, from);
    size_t slice = (size_t)shape_product(data, from, data->rank) * dtype_size(inputs[0].dtype);

    const int64_t *tuple = inputs[1].data;
    char *to = outputs[0].data;

    for (int64_t b = 0; b < batches; b++)
        for (int64_t i = 0; i < tuples; i++, tuple += length, to += slice) {
            int64_t offset;
            if (!tuple_offset(node, data, batch, tuple, length, &offset, error))
                return false;
            memcpy(to, (const char *)inputs[0].data + (size_t)(b * slices + offset) * slice, slice);
        }

    return true;
}

const struct op_def gather_operators[] = {
    {.op_type = "Gather",
     .differentiate = gradient_gather,
     .since = 1,
     .inputs = {2, 2},
     .traits = OP_TAKES_PART | OP_ALONG_AXIS,
     .types = NAMES_ALL,
     .prepare = gather_prepare,
     FUNCTIONS(gather)},
    {.op_type = "GatherElements",
     .since = 11,
     .inputs = {2, 2},
     .traits = OP_MOVES,
     .types = NAMES_ALL,
     .prepare = gather_prepare,
     FUNCTIONS(elements)},
    {.op_type = "GatherND",
     .since = 11,
     .inputs = {2, 2},
     .traits = OP_MOVES,
     .types = NAMES_ALL,
     FUNCTIONS(nd)},
    {0},
};
