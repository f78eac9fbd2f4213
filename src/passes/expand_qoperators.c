/* QOperator nodes as QDQ: y = Q(f(DQ(a), DQ(b), …)). ONNX: QLinearConv, QLinearMatMul; the others are
 * described in ONNX Runtime's ContribOperators. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "passes/passes.h"
#include "passes/rewrite.h"

#define MAXIMUM_OPERANDS 3

/* Where an operator has its operands: each is a value, its scale and its zero point, in a row. */
struct form {
    const char *domain, *op_type, *float_type;
    int operands[2]; /* first input of each; -1: none */
    int result;      /* input with the result's scale, then its zero point */
    int bias;        /* int32 input whose scale is the operands' product; -1: none */
};

static const struct form forms[] = {
    {"", "QLinearConv", "Conv", {0, 3}, 6, 8},
    {"", "QLinearMatMul", "MatMul", {0, 3}, 6, -1},
    {"com.microsoft", "QLinearAdd", "Add", {0, 3}, 6, -1},
    {"com.microsoft", "QLinearMul", "Mul", {0, 3}, 6, -1},
    {"com.microsoft", "QGemm", "Gemm", {0, 3}, 7, 6},
    {"com.microsoft", "QLinearGlobalAveragePool", "GlobalAveragePool", {0, -1}, 3, -1},
    {"com.microsoft", "QLinearAveragePool", "AveragePool", {0, -1}, 3, -1},
    {"com.microsoft", "QLinearSigmoid", "Sigmoid", {0, -1}, 3, -1},
    {"com.microsoft", "QLinearLeakyRelu", "LeakyRelu", {0, -1}, 3, -1},
    {"com.microsoft", "QLinearSoftmax", "Softmax", {0, -1}, 3, -1},
};

static bool no_memory(const struct node *node, struct error *error) {
    return error_set(error, ERROR_MEMORY, "node %s (%s): no memory to write it as QDQ", node->name,
                     node->op_type);
}

/* The axis along which a scale runs: of a convolution's weights the first, of a matrix its columns; 0 for one
 * number. */
static int64_t scale_axis(const struct node *node, const struct value *value) {
    if (strcmp(node->op_type, "QLinearConv") == 0)
        return 0;
    int rank = value->shape.rank;
    bool rows = strcmp(node->op_type, "QGemm") == 0 && node_int(node, "transB", 0);
    return rows || rank < 1 ? 0 : rank - 1;
}

/* DequantizeLinear before `node`; NULL when memory is out. A scale of one element is taken as a scalar by the
 * operator. */
static struct value *add_dequantize(struct graph *graph, struct node *node, struct value *value,
                                    struct value *scale, struct value *zero, int64_t axis) {
    struct value *result = graph_add_value(graph, "");
    struct value *inputs[] = {value, scale, zero};
    struct node *made =
        result ? graph_add_node(graph, node, "", "DequantizeLinear", NULL, inputs, zero ? 3 : 2, &result, 1)
               : NULL;
    bool per_axis = scale->shape.rank > 0 && shape_elements(&scale->shape) != 1;
    if (!made || (per_axis && !node_set_int(graph, made, "axis", axis)))
        return NULL;
    made->opset = made->opset < 13 ? 13 : made->opset; /* the first with an axis; older ones mean the same */
    return result;
}

/* int32 biases have the scale of what they are added to: the product of the operands' scales (and Gemm's
 * alpha). */
static struct value *add_bias(struct graph *graph, struct node *node, const struct form *form,
                              struct error *error) {
    struct value *bias = node_input(node, form->bias);
    int64_t left_count = 0, right_count = 0;
    const float *left = constant_floats(node_input(node, form->operands[0] + 1), &left_count);
    const float *right = constant_floats(node_input(node, form->operands[1] + 1), &right_count);
    if (!left || !right || left_count != 1 || right_count < 1) {
        error_set(error, ERROR_MODEL, "node %s (%s): its scales are not constants, one for the input",
                  node->name, node->op_type);
        return NULL;
    }
    float *scales, alpha = strcmp(node->op_type, "QGemm") == 0 ? node_float(node, "alpha", 1) : 1;
    struct shape shape = {.rank = right_count > 1, .dims = {right_count}};
    struct value *scale = graph_add_floats(graph, &shape, &scales);
    for (int64_t i = 0; i < right_count && scale; i++)
        scales[i] = alpha * left[0] * right[i];
    struct value *result = scale ? add_dequantize(graph, node, bias, scale, NULL, 0) : NULL;
    if (!result)
        no_memory(node, error);
    return result;
}

/* The attributes that the float operator knows too. */
static void move_attributes(struct node *from, struct node *to) {
    to->attributes = from->attributes;
    to->attribute_count = 0;
    for (int i = 0; i < from->attribute_count; i++) {
        const char *name = from->attributes[i].name;
        if (strcmp(name, "channels_last") != 0 && strcmp(name, "opset") != 0)
            to->attributes[to->attribute_count++] = from->attributes[i];
    }
}

/* The float node with its operands ready, and what quantises its result, in the place of `node`. */
static bool finish(struct graph *graph, struct node *node, const char *float_type, struct value **operands,
                   int count, struct value *scale, struct value *zero, struct error *error) {
    struct value *output = node->outputs[0], *result = scale ? graph_add_value(graph, "") : output;
    char name[512];
    snprintf(name, sizeof name, "%.400s/float", node->name);
    struct node *made =
        result ? graph_add_node(graph, node, "", float_type, name, operands, count, &result, 1) : NULL;
    if (!made)
        return no_memory(node, error);
    move_attributes(node, made);
    graph_remove_node(graph, node);
    if (!scale) {
        output->producer = made; /* removing the old node took it away */
        return true;
    }
    struct value *inputs[] = {result, scale, zero};
    struct node *quantize =
        graph_add_node(graph, made->next, "", "QuantizeLinear", NULL, inputs, zero ? 3 : 2, &output, 1);
    if (!quantize)
        return no_memory(made, error);
    quantize->opset = quantize->opset < 13 ? 13 : quantize->opset;
    return true;
}

static bool expand(struct graph *graph, struct node *node, const struct form *form, struct error *error) {
    struct value *operands[MAXIMUM_OPERANDS];
    int count = 0;
    if (node_int(node, "channels_last", 0))
        return error_set(error, ERROR_MODEL, "node %s (%s): channels_last is not supported", node->name,
                         node->op_type);
    for (int i = 0; i < 2 && form->operands[i] >= 0; i++) {
        int place = form->operands[i];
        struct value *value = node_input(node, place), *scale = node_input(node, place + 1);
        if (!value || !scale || !node->output_count || !node->outputs[0])
            return error_set(error, ERROR_MODEL, "node %s (%s): an input or a scale is missing", node->name,
                             node->op_type);
        operands[count] =
            add_dequantize(graph, node, value, scale, node_input(node, place + 2), scale_axis(node, value));
        if (!operands[count++])
            return no_memory(node, error);
    }
    if (form->bias >= 0 && node_input(node, form->bias) &&
        !(operands[count++] = add_bias(graph, node, form, error)))
        return false;
    struct value *scale = node_input(node, form->result);
    if (!scale && strcmp(node->op_type, "QGemm") != 0) /* a QGemm without one gives floats */
        return error_set(error, ERROR_MODEL, "node %s (%s): the scale of its result is missing", node->name,
                         node->op_type);
    return finish(graph, node, form->float_type, operands, count, scale, node_input(node, form->result + 1),
                  error);
}

/* QLinearConcat: the result's scale and zero point, then three inputs for every operand. */
static bool expand_concat(struct graph *graph, struct node *node, struct error *error) {
    int count = (node->input_count - 2) / 3;
    struct value **operands = count > 0 ? calloc((size_t)count, sizeof(struct value *)) : NULL;
    bool done = operands && node->inputs[0] && node->output_count && node->outputs[0];
    if (!done)
        error_set(error, ERROR_MODEL, "node %s (%s): an input or a scale is missing", node->name,
                  node->op_type);
    for (int i = 0; i < count && done; i++) {
        struct value *value = node->inputs[2 + 3 * i], *scale = node_input(node, 3 + 3 * i);
        done = value && scale;
        if (!done)
            error_set(error, ERROR_MODEL, "node %s (%s): operand %d is missing", node->name, node->op_type,
                      i);
        else if (!(operands[i] = add_dequantize(graph, node, value, scale, node_input(node, 4 + 3 * i), 0)))
            done = no_memory(node, error);
    }
    done =
        done && finish(graph, node, "Concat", operands, count, node->inputs[0], node_input(node, 1), error);
    free(operands);
    return done;
}

bool passes_expand_qoperators(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (strcmp(node->op_type, "QLinearConcat") == 0 && strcmp(node->domain, "com.microsoft") == 0) {
            if (!expand_concat(graph, node, error))
                return false;
            continue;
        }
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            if (strcmp(node->op_type, forms[i].op_type) != 0 || strcmp(node->domain, forms[i].domain) != 0)
                continue;
            if (!expand(graph, node, &forms[i], error))
                return false;
            break;
        }
    }
    return true;
}
