/* ONNX's TensorProto: what it says, checked against what it holds, and its elements. Used inside onnx/ only.
 */
#pragma once
#include "onnx/protobuf.h"
#include "tensor/tensor.h"

/* Where ONNX's TensorProto.DataType and ours meet. DTYPE_UNKNOWN, and 0, where they don't. */
enum dtype tensor_proto_dtype(int64_t data_type);
int tensor_proto_data_type(enum dtype dtype);

struct tensor_proto {
    struct protobuf message;
    struct protobuf name; /* empty where it has none */
    enum dtype dtype;
    struct shape shape;
    size_t bytes; /* what the elements need; 0 for strings */
    const uint8_t
        *raw; /* [bytes] within the message; NULL where the elements lie in typed fields or outside */
    bool is_external;
    struct protobuf location; /* of the external file, relative to the model's folder */
    uint64_t external_offset;
    uint64_t external_length; /* UINT64_MAX where not said */
};

/* Read and check one TensorProto: type, dims, and that data of the right size is there (for external data the
 * caller checks). ERROR_MODEL; messages don't name the tensor. Points into the message. */
bool tensor_proto_read(struct protobuf message, struct tensor_proto *ret, struct error *error);
/* Put the elements (raw or typed; not external) at `destination`, tensor->bytes of them. */
bool tensor_proto_fill(const struct tensor_proto *tensor, void *destination, struct error *error);
/* A string field as text for people and as a name: at most LIMIT_NAME_BYTES of UTF-8 without control
 * characters. */
bool protobuf_is_name(const struct protobuf *bytes);
