#include "onnx/value_info.h"

#include <inttypes.h>

/* TensorShapeProto. Symbolic, missing and negative dimensions are free. */
static bool read_shape(struct protobuf message, struct shape *ret, struct error *error) {
    struct shape shape = {0};
    struct protobuf_field field, inner;
    int step, inner_step = 0;

    while ((step = protobuf_next(&message, &field, error)) > 0) {
        if (field.number != 1 || field.wire != WIRE_BYTES)
            continue;
        if (shape.rank == LIMIT_TENSOR_RANK)
            return error_set(error, ERROR_MODEL, "more than %d dimensions", LIMIT_TENSOR_RANK);

        int64_t dim = -1;
        while ((inner_step = protobuf_next(&field.bytes, &inner, error)) > 0)
            if (inner.number == 1 && inner.wire == WIRE_VARINT)
                dim = (int64_t)inner.scalar;

        if (inner_step < 0)
            return false;
        if (dim > LIMIT_TENSOR_ELEMENTS)
            return error_set(error, ERROR_MODEL, "a dimension is %" PRId64 ", the limit is %lld", dim,
                             LIMIT_TENSOR_ELEMENTS);

        shape.dims[shape.rank++] = dim < 0 ? -1 : dim;
    }

    if (step == 0)
        *ret = shape;

    return step == 0;
}

/* TypeProto of a tensor; anything else stays unknown. */
static bool read_type(struct protobuf message, enum dtype *ret_dtype, struct shape *ret_shape,
                      struct error *error) {
    struct protobuf_field field, inner;
    int step, inner_step = 0;

    while ((step = protobuf_next(&message, &field, error)) > 0) {
        if (field.number != 1 || field.wire != WIRE_BYTES)
            continue;

        while ((inner_step = protobuf_next(&field.bytes, &inner, error)) > 0) {
            if (inner.number == 1 && inner.wire == WIRE_VARINT)
                *ret_dtype = tensor_proto_dtype((int64_t)inner.scalar);
            else if (inner.number == 2 && inner.wire == WIRE_BYTES &&
                     !read_shape(inner.bytes, ret_shape, error))
                return false;
        }

        if (inner_step < 0)
            return false;
    }

    return step == 0;
}

bool value_info_read(struct protobuf message, struct value_info *ret, struct error *error) {
    struct value_info info = {.name = {message.base, message.base, message.base, 0}, .shape = SHAPE_UNKNOWN};
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&message, &field, error)) > 0) {
        if (field.number == 1 && field.wire == WIRE_BYTES)
            info.name = field.bytes;
        else if (field.number == 2 && field.wire == WIRE_BYTES &&
                 !read_type(field.bytes, &info.dtype, &info.shape, error))
            return false;
    }

    if (step == 0)
        *ret = info;

    return step == 0;
}
