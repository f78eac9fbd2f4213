/* Operators of our own: what passes/ makes of several nodes, or of nodes between quantized tensors. passes/
 * sets their types and shapes, lowering/ has a step for each. GatherRows computes, too, because fuse_movement
 * may run it. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

static bool swish_post(const struct node *node, struct post_op *ret) {
    ret->alpha = 1;
    return true;
}

/* Where no faster step takes the tensor. */
static bool steps_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    (void)error;
    const float *x = inputs[0].data, low = node_float(node, "lowest", 0), step = node_float(node, "step", 1);
    float *y = outputs[0].data;

    for (int64_t i = 0; i < shape_elements(&inputs[0].shape); i++)
        y[i] = step * rintf(fminf(fmaxf(x[i] / step, low), low + 255));

    return true;
}

static bool steps_post(const struct node *node, struct post_op *ret) {
    ret->alpha = node_float(node, "lowest", 0);
    ret->beta = node_float(node, "step", 1);
    return true;
}

/* Row i of the result is row table[i] of x: as many elements each as the result holds for one number of the
 * table. */
static bool rows_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    const int32_t *table = inputs[1].data;
    int64_t rows = shape_elements(&inputs[1].shape);
    size_t bytes = rows ? tensor_bytes(&outputs[0]) / (size_t)rows : 0;

    for (int64_t i = 0; i < rows; i++)
        memcpy((char *)outputs[0].data + (size_t)i * bytes,
               (const char *)inputs[0].data + (size_t)table[i] * bytes, bytes);

    return true;
}

const struct op_def fused_operators[] = {
    /* x * sigmoid(x) */
    {.op_type = "Swish",
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .post = POST_SWISH,
     .post_parameters = swish_post},
    /* passes/fuse_rounding.c */
    {.op_type = "Steps",
     .inputs = {1, 1},
     .traits = OP_ELEMENTWISE,
     .post = POST_STEPS,
     .compute = steps_compute,
     .post_parameters = steps_post},
    /* passes/fuse_attention.c */
    {.op_type = "Attention", .inputs = {3, 6}},
    /* passes/fuse_movement.c */
    {.op_type = "GatherRows", .inputs = {2, 2}, .traits = OP_MOVES, .compute = rows_compute},
    /* passes/fuse_quantized.c */
    {.op_type = "QuantizedAdd", .inputs = {2, 2}, .data_inputs = 2},
    {.op_type = "QuantizedConv", .inputs = {4, 5}, .bias_input = 2, .traits = OP_HEAVY},
    {.op_type = "QuantizedMatMul", .inputs = {4, 5}, .bias_input = 2, .traits = OP_HEAVY},
    {0},
};
