/* ONNX's TensorProto: its header, checked against its data, and its elements. Used inside onnx/ only. */
#pragma once
#include "onnx/protobuf.h"
#include "tensor/tensor.h"

/* ONNX's TensorProto.DataType to our dtype and back. DTYPE_UNKNOWN, or 0, if there is no counterpart. */
enum dtype tensor_proto_dtype(int64_t data_type);
int tensor_proto_data_type(enum dtype dtype);

struct tensor_proto {
    struct protobuf message;
    struct protobuf name; /* empty if it has none */
    enum dtype dtype;
    struct shape shape;
    size_t bytes;       /* of all elements; 0 for strings */
    bool packed;        /* the file has two elements of 4 bits in a byte; here they have a byte each */
    const uint8_t *raw; /* [tensor_proto_stored] within the message; NULL where the elements lie in typed
                           fields or outside */
    bool is_external;
    struct protobuf location; /* of the external file, relative to the model's folder */
    uint64_t external_offset;
    uint64_t external_length; /* UINT64_MAX if not given */
};

/* Read and check one TensorProto: type, dims, and the size of its data (for external data the caller checks).
 * ERROR_MODEL; messages do not name the tensor. Points into the message. */
bool tensor_proto_read(struct protobuf message, struct tensor_proto *ret, struct error *error);
/* The "location" of a TensorProto's external data, whatever else is wrong with it; empty without. */
bool tensor_proto_location(struct protobuf message, struct protobuf *ret, struct error *error);
/* Bytes of the elements as they are stored. */
size_t tensor_proto_stored(const struct tensor_proto *tensor);
/* Copy the elements (raw or typed, not external) to `destination`: tensor->bytes bytes. */
bool tensor_proto_fill(const struct tensor_proto *tensor, void *destination, struct error *error);
/* Whether a string field can be a name: at most LIMIT_NAME_BYTES of UTF-8 without control characters. */
bool protobuf_is_name(const struct protobuf *bytes);
