#include "tensor/post_op.h"

const char *post_op_name(enum post_op_kind kind) {
    static const char *const names[POST_KIND_COUNT] = {
        [POST_NONE] = "none",           [POST_RELU] = "Relu",
        [POST_CLIP] = "Clip",           [POST_SIGMOID] = "Sigmoid",
        [POST_TANH] = "Tanh",           [POST_ELU] = "Elu",
        [POST_HARDSWISH] = "HardSwish", [POST_HARDSIGMOID] = "HardSigmoid",
        [POST_SWISH] = "Swish",         [POST_GELU_ERF] = "Gelu",
        [POST_GELU_TANH] = "GeluTanh",  [POST_EXP] = "Exp",
        [POST_SQRT] = "Sqrt",           [POST_ABS] = "Abs",
        [POST_LINEAR] = "Linear",       [POST_ROUND] = "Round",
        [POST_STEPS] = "Steps",         [POST_ADD] = "Add",
        [POST_MULTIPLY] = "Mul",        [POST_SUM] = "Sum",
    };

    return names[kind];
}
