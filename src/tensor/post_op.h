/* What a step may do to each element of its result before it writes it: the functions that fuse.
 *
 * One list for the whole program: an operator says which of them it is (ops/operator.h), passes/ moves it
 * into the node before it, lowering/ hands it to the primitive, plan/dnnl.c knows the library's name for it.
 * Any thread. */
#pragma once
#include <stdbool.h>

enum post_op_kind {
    POST_NONE,
    POST_RELU, /* x < 0 ? alpha x : x */
    POST_CLIP, /* to [alpha, beta] */
    POST_SIGMOID,
    POST_TANH,
    POST_ELU,         /* x < 0 ? alpha (exp(x) - 1) : x */
    POST_HARDSWISH,   /* x * clip(x / 6 + 1/2, 0, 1) */
    POST_HARDSIGMOID, /* clip(alpha x + beta, 0, 1) */
    POST_SWISH,       /* x * sigmoid(alpha x) */
    POST_GELU_ERF,
    POST_GELU_TANH,
    POST_EXP,
    POST_SQRT,
    POST_ABS,
    POST_LINEAR, /* alpha x + beta */
    POST_ROUND,  /* to the nearest whole number, halves to even; of primitives alone */
    POST_STEPS,  /* to the nearest of alpha * beta, (alpha + 1) * beta … (alpha + 255) * beta */
    /* From here on with a second operand, broadcast to the result. */
    POST_ADD,      /* x + operand */
    POST_MULTIPLY, /* x * operand */
    POST_SUM, /* x + alpha * (what the result's memory held before - a zero point); of primitives alone */
    POST_KIND_COUNT
};

/* "Relu", "Add", …, for people. */
const char *post_op_name(enum post_op_kind kind);

/* A function of the element alone. */
static inline bool post_op_is_activation(enum post_op_kind kind) {
    return kind > POST_NONE && kind < POST_ADD;
}
