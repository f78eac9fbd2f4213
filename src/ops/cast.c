/* Cast and CastLike: https://onnx.ai/onnx/operators/onnx__Cast.html. */
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

/* The numbers of TensorProto.DataType. */
static const enum dtype onnx_dtypes[] = {
    [1] = DTYPE_F32,  [2] = DTYPE_U8,   [3] = DTYPE_I8,    [4] = DTYPE_U16,  [5] = DTYPE_I16,
    [6] = DTYPE_I32,  [7] = DTYPE_I64,  [9] = DTYPE_BOOL,  [10] = DTYPE_F16, [11] = DTYPE_F64,
    [12] = DTYPE_U32, [13] = DTYPE_U64, [16] = DTYPE_BF16,
};

enum dtype dtype_from_onnx(int64_t number) {
    return number >= 0 && number < (int64_t)(sizeof onnx_dtypes / sizeof onnx_dtypes[0]) ? onnx_dtypes[number]
                                                                                         : DTYPE_UNKNOWN;
}

/* Before opset 6 the type was a name. */
static enum dtype cast_target(const struct node *node) {
    static const char *const names[] = {
        [1] = "FLOAT", [2] = "UINT8", [3] = "INT8",     [4] = "UINT16",  [5] = "INT16",   [6] = "INT32",
        [7] = "INT64", [9] = "BOOL",  [10] = "FLOAT16", [11] = "DOUBLE", [12] = "UINT32", [13] = "UINT64",
    };
    if (node->opset >= 6)
        return dtype_from_onnx(node_int(node, "to", 0));

    const char *name = node_string(node, "to", "");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i] && strcmp(names[i], name) == 0)
            return onnx_dtypes[i];

    return DTYPE_UNKNOWN;
}

static bool cast_check(const struct node *node, struct error *error) {
    return cast_target(node) != DTYPE_UNKNOWN ||
           node_error(node, error, "casting to type %lld is not supported",
                      (long long)node_int(node, "to", 0));
}

static bool cast_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_ALL, error) &&
           infer_output(node, 0, cast_target(node), node_shape(node, 0), error);
}

static bool cast_like_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_ALL, error) &&
           infer_output(node, 0, node_dtype(node, 1), node_shape(node, 0), error);
}

static bool cast_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    int64_t count = shape_elements(&inputs[0].shape), piece = PARALLEL_ELEMENTS / 2;
    size_t from = dtype_size(inputs[0].dtype), to = dtype_size(outputs[0].dtype);

#pragma omp parallel for schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t start = 0; start < count; start += piece)
        elements_convert(inputs[0].dtype, (const char *)inputs[0].data + (size_t)start * from,
                         outputs[0].dtype, (char *)outputs[0].data + (size_t)start * to,
                         count - start < piece ? count - start : piece);

    return true;
}

const struct op_def cast_operators[] = {
    {.op_type = "Cast",
     .differentiate = gradient_cast,
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .types = NAMES_ALL,
     .check = cast_check,
     FUNCTIONS(cast)},
    {.op_type = "CastLike",
     .since = 15,
     .inputs = {2, 2},
     .traits = OP_ELEMENTWISE,
     .types = NAMES_ALL,
     .infer = cast_like_infer,
     .compute = cast_compute},
    {0},
};
