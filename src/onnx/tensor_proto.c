#include "onnx/tensor_proto.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"

/* Field numbers of TensorProto. */
enum {
    TENSOR_DIMS = 1,
    TENSOR_DATA_TYPE = 2,
    TENSOR_SEGMENT = 3,
    TENSOR_FLOAT_DATA = 4,
    TENSOR_INT32_DATA = 5,
    TENSOR_STRING_DATA = 6,
    TENSOR_INT64_DATA = 7,
    TENSOR_NAME = 8,
    TENSOR_RAW_DATA = 9,
    TENSOR_DOUBLE_DATA = 10,
    TENSOR_UINT64_DATA = 11,
    TENSOR_EXTERNAL_DATA = 13,
    TENSOR_DATA_LOCATION = 14,
};

static const enum dtype dtypes[] = {
    [1] = DTYPE_F32,  [2] = DTYPE_U8,   [3] = DTYPE_I8,     [4] = DTYPE_U16,   [5] = DTYPE_I16,
    [6] = DTYPE_I32,  [7] = DTYPE_I64,  [8] = DTYPE_STRING, [9] = DTYPE_BOOL,  [10] = DTYPE_F16,
    [11] = DTYPE_F64, [12] = DTYPE_U32, [13] = DTYPE_U64,   [16] = DTYPE_BF16,
};
#define DATA_TYPES ((int)(sizeof dtypes / sizeof *dtypes))

enum dtype tensor_proto_dtype(int64_t data_type) {
    return data_type > 0 && data_type < DATA_TYPES ? dtypes[data_type] : DTYPE_UNKNOWN;
}

int tensor_proto_data_type(enum dtype dtype) {
    for (int i = 1; i < DATA_TYPES; i++)
        if (dtypes[i] == dtype && dtype != DTYPE_UNKNOWN)
            return i;
    return 0;
}

enum { DATA_TYPE_UINT4 = 21, DATA_TYPE_INT4 = 22 };

/* Elements of 4 bits are bytes from here on: operators that take them compute with their values. */
static enum dtype unpacked_dtype(int64_t data_type, bool *ret_packed) {
    *ret_packed = data_type == DATA_TYPE_UINT4 || data_type == DATA_TYPE_INT4;
    if (*ret_packed)
        return data_type == DATA_TYPE_INT4 ? DTYPE_I8 : DTYPE_U8;
    return tensor_proto_dtype(data_type);
}

size_t tensor_proto_stored(const struct tensor_proto *tensor) {
    return tensor->packed ? (tensor->bytes + 1) / 2 : tensor->bytes;
}

/* The length of the UTF-8 sequence at `at`, 0 if there is none (RFC 3629). */
static size_t utf8_length(const uint8_t *at, size_t left) {
    if (at[0] < 0x80)
        return 1;

    size_t length = at[0] >= 0xf0 && at[0] <= 0xf4  ? 4
                    : at[0] >= 0xe0 && at[0] < 0xf0 ? 3
                    : at[0] >= 0xc2 && at[0] < 0xe0 ? 2
                                                    : 0;
    if (!length || length > left)
        return 0;

    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;

    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

bool protobuf_is_name(const struct protobuf *bytes) {
    size_t size = (size_t)(bytes->end - bytes->at);
    if (size > LIMIT_NAME_BYTES)
        return false;

    for (size_t i = 0; i < size;) {
        size_t length = utf8_length(bytes->at + i, size - i);
        if (!length || bytes->at[i] < 0x20 || bytes->at[i] == 0x7f)
            return false;
        i += length;
    }

    return true;
}

static bool read_dims(struct protobuf message, struct shape *ret, struct error *error) {
    int64_t rank = protobuf_count(message, TENSOR_DIMS, WIRE_VARINT, error);
    if (rank < 0)
        return false;
    if (rank > LIMIT_TENSOR_RANK)
        return error_set(error, ERROR_MODEL, "has %" PRId64 " dimensions, and the limit is %d", rank,
                         LIMIT_TENSOR_RANK);

    struct shape shape = {.rank = (int)rank};
    if (!protobuf_numbers(message, TENSOR_DIMS, WIRE_VARINT, (uint64_t *)shape.dims, rank, error))
        return false;

    for (int i = 0; i < shape.rank; i++)
        if (shape.dims[i] < 0)
            return error_set(error, ERROR_MODEL, "has a negative dimension (%" PRId64 ")", shape.dims[i]);

    *ret = shape;

    return true;
}

/* "offset" and "length" of external data: a decimal number and nothing else. */
static bool read_decimal(const struct protobuf *text, uint64_t *ret) {
    uint64_t value = 0;
    if (text->at == text->end)
        return false;

    for (const uint8_t *at = text->at; at < text->end; at++)
        if (*at < '0' || *at > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;

    *ret = value;
    return true;
}

static bool bytes_equal(const struct protobuf *bytes, const char *text) {
    size_t size = (size_t)(bytes->end - bytes->at);
    return size == strlen(text) && (size == 0 || memcmp(bytes->at, text, size) == 0);
}

/* One StringStringEntryProto of external_data. */
static bool read_external_entry(struct protobuf entry, struct tensor_proto *tensor, struct error *error) {
    struct protobuf key = {0}, value = {0};
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&entry, &field, error)) > 0) {
        if (field.number == 1 && field.wire == WIRE_BYTES)
            key = field.bytes;
        else if (field.number == 2 && field.wire == WIRE_BYTES)
            value = field.bytes;
    }

    if (step < 0)
        return false;

    if (bytes_equal(&key, "location"))
        tensor->location = value;
    else if (bytes_equal(&key, "offset") && !read_decimal(&value, &tensor->external_offset))
        return error_set(error, ERROR_MODEL, "the offset of its external data is not a number");
    else if (bytes_equal(&key, "length") && !read_decimal(&value, &tensor->external_length))
        return error_set(error, ERROR_MODEL, "the length of its external data is not a number");

    return true;
}

/* The typed field that holds elements of a dtype, and the form of one number there. 0 if there is none. */
static uint32_t typed_field(enum dtype dtype, enum wire *ret_wire) {
    *ret_wire = dtype == DTYPE_F32 ? WIRE_FIXED32 : dtype == DTYPE_F64 ? WIRE_FIXED64 : WIRE_VARINT;
    switch (dtype) {

    case DTYPE_F32:
        return TENSOR_FLOAT_DATA;
    case DTYPE_F64:
        return TENSOR_DOUBLE_DATA;
    case DTYPE_I64:
        return TENSOR_INT64_DATA;
    case DTYPE_U32:
    case DTYPE_U64:
        return TENSOR_UINT64_DATA;
    case DTYPE_UNKNOWN:
    case DTYPE_STRING:
    case DTYPE_COUNT:
        return 0;
    default:
        return TENSOR_INT32_DATA;
    }
}

/* Check that the data has the size that the shape needs. */
static bool check_size(const struct tensor_proto *tensor, const struct protobuf *raw, struct error *error) {
    char text[SHAPE_TEXT];
    shape_format(&tensor->shape, text, sizeof text);
    if (tensor->is_external || tensor->dtype == DTYPE_STRING)
        return true;

    if (raw->at) {
        size_t size = (size_t)(raw->end - raw->at);
        return size == tensor_proto_stored(tensor) ||
               error_set(error, ERROR_MODEL, "raw data has %zu bytes, but shape %s of %s needs %zu", size,
                         text, dtype_name(tensor->dtype), tensor_proto_stored(tensor));
    }

    enum wire wire;
    uint32_t number = typed_field(tensor->dtype, &wire);
    int64_t count = protobuf_count(tensor->message, number, wire, error);
    if (count < 0)
        return false;

    int64_t needed = tensor->packed ? (int64_t)tensor_proto_stored(tensor) : shape_elements(&tensor->shape);
    return count == needed ||
           error_set(error, ERROR_MODEL, "has %" PRId64 " elements, shape %s needs %" PRId64, count, text,
                     needed);
}

static bool read_field(const struct protobuf_field *field, struct tensor_proto *tensor, int64_t *data_type,
                       struct protobuf *raw, struct error *error) {
    bool is_bytes = field->wire == WIRE_BYTES;
    switch (field->number) {

    case TENSOR_DATA_TYPE:
        if (!is_bytes)
            *data_type = (int64_t)field->scalar;
        return true;
    case TENSOR_NAME:
        if (is_bytes)
            tensor->name = field->bytes;
        return true;
    case TENSOR_RAW_DATA:
        if (is_bytes)
            *raw = field->bytes;
        return true;
    case TENSOR_SEGMENT:
        return error_set(error, ERROR_MODEL, "is stored in segments, which are not supported");
    case TENSOR_DATA_LOCATION:
        tensor->is_external = !is_bytes && field->scalar == 1;
        return true;
    case TENSOR_EXTERNAL_DATA:
        return !is_bytes || read_external_entry(field->bytes, tensor, error);
    default:
        return true;
    }
}

bool tensor_proto_read(struct protobuf message, struct tensor_proto *ret, struct error *error) {
    struct tensor_proto tensor = {.message = message, .external_length = UINT64_MAX};
    struct protobuf walk = message, raw = {0};
    struct protobuf_field field;
    int64_t data_type = 0;
    int step;

    while ((step = protobuf_next(&walk, &field, error)) > 0)
        if (!read_field(&field, &tensor, &data_type, &raw, error))
            return false;

    if (step < 0 || !read_dims(message, &tensor.shape, error))
        return false;

    tensor.dtype = unpacked_dtype(data_type, &tensor.packed);
    if (tensor.dtype == DTYPE_UNKNOWN)
        return error_set(error, ERROR_MODEL, "element type %" PRId64 " is not supported", data_type);

    int64_t elements = shape_elements(&tensor.shape);
    if (elements < 0 || !size_multiply((size_t)elements, dtype_size(tensor.dtype), &tensor.bytes))
        return error_set(error, ERROR_MODEL, "has more elements than the limit, %lld", LIMIT_TENSOR_ELEMENTS);

    if (raw.at == raw.end && tensor.bytes)
        raw = (struct protobuf){0}; /* present but empty: the elements are in a typed field */
    if (!check_size(&tensor, &raw, error))
        return false;

    tensor.raw = raw.at;
    *ret = tensor;

    return true;
}

bool tensor_proto_location(struct protobuf message, struct protobuf *ret, struct error *error) {
    struct tensor_proto tensor = {0};
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&message, &field, error)) > 0)
        if (field.number == TENSOR_EXTERNAL_DATA && field.wire == WIRE_BYTES &&
            !read_external_entry(field.bytes, &tensor, error))
            return false;

    *ret = tensor.location;
    return step == 0;
}

/* Two numbers a byte, the first in the low half. From the end, so that `packed` may be the first half of
 * `bytes`. */
static void unpack_halves(const uint8_t *packed, enum dtype dtype, uint8_t *bytes, size_t count) {
    for (size_t i = count; i-- > 0;) {
        uint8_t half = packed[i / 2] >> (i % 2 * 4) & 15;
        bytes[i] = dtype == DTYPE_I8 && half > 7 ? (uint8_t)(half | 0xf0) : half;
    }
}

static bool fill_packed(const struct tensor_proto *tensor, uint8_t *destination, struct error *error) {
    size_t stored = tensor_proto_stored(tensor);
    if (!tensor->raw && !protobuf_narrow_numbers(tensor->message, TENSOR_INT32_DATA, WIRE_VARINT, destination,
                                                 1, (int64_t)stored, error))
        return false;
    unpack_halves(tensor->raw ? tensor->raw : destination, tensor->dtype, destination, tensor->bytes);
    return true;
}

bool tensor_proto_fill(const struct tensor_proto *tensor, void *destination, struct error *error) {
    if (tensor->packed)
        return fill_packed(tensor, destination, error);
    if (tensor->raw) {
        if (tensor->bytes)
            memcpy(destination, tensor->raw, tensor->bytes);
    } else {
        enum wire wire;
        uint32_t number = typed_field(tensor->dtype, &wire);
        if (!number ||
            !protobuf_narrow_numbers(tensor->message, number, wire, destination, dtype_size(tensor->dtype),
                                     shape_elements(&tensor->shape), error))
            return number ? false : error_set(error, ERROR_MODEL, "has no elements that can be read");
    }

    if (tensor->dtype == DTYPE_BOOL) /* whatever the file holds, a bool is 0 or 1 */
        for (size_t i = 0; i < tensor->bytes; i++)
            ((uint8_t *)destination)[i] = ((uint8_t *)destination)[i] != 0;
    return true;
}
