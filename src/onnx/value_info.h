/* ONNX's ValueInfoProto: a value's name, type and shape. Used inside onnx/ only. Any thread. */
#pragma once
#include "onnx/tensor_proto.h"

struct value_info {
    struct protobuf name; /* empty if it has none */
    enum dtype dtype;     /* DTYPE_UNKNOWN for anything but tensors */
    struct shape shape;
};

/* ERROR_MODEL; messages do not name the value. Points into the message. */
bool value_info_read(struct protobuf message, struct value_info *ret, struct error *error);
