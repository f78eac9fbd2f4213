/* QOperator nodes as QDQ: y = Q(f(DQ(a), DQ(b), …)). ONNX: QLinearConv, QLinearMatMul; the others are
 * described in ONNX Runtime's ContribOperators. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#define MAXIMUM_OPERANDS 3

/* Where an operator has its operands: each is a value, its scale and its zero point, in a row. */
struct form {
    const char *domain, *op_type, *float_type;
    int operands[2];        /* first input of each; -1: none */
    int result;             /* input with the result's scale, then its zero point */
    int bias;               /* int32 input whose scale is the operands' product; 0: none */
    bool rows_are_channels; /* a scale for each channel runs along the first axis of the weights, not the last
                             */
    bool is_gemm;           /* has alpha and transB, and without a scale its result is float */
};

#define MICROSOFT "com.microsoft"

static const struct form forms[] = {
    {.domain = "",
     .op_type = "QLinearConv",
     .float_type = "Conv",
     .operands = {0, 3},
     .result = 6,
     .bias = 8,
     .rows_are_channels = true},
    {.domain = "", .op_type = "QLinearMatMul", .float_type = "MatMul", .operands = {0, 3}, .result = 6},
    {.domain = MICROSOFT, .op_type = "QLinearAdd", .float_type = "Add", .operands = {0, 3}, .result = 6},
    {.domain = MICROSOFT, .op_type = "QLinearMul", .float_type = "Mul", .operands = {0, 3}, .result = 6},
    {.domain = MICROSOFT,
     .op_type = "QGemm",
     .float_type = "Gemm",
     .operands = {0, 3},
     .result = 7,
     .bias = 6,
     .is_gemm = true},
    {.domain = MICROSOFT,
     .op_type = "QLinearGlobalAveragePool",
     .float_type = "GlobalAveragePool",
     .operands = {0, -1},
     .result = 3},
    {.domain = MICROSOFT,
     .op_type = "QLinearAveragePool",
     .float_type = "AveragePool",
     .operands = {0, -1},
     .result = 3},
    {.domain = MICROSOFT,
     .op_type = "QLinearSigmoid",
     .float_type = "Sigmoid",
     .operands = {0, -1},
     .result = 3},
    {.domain = MICROSOFT,
     .op_type = "QLinearLeakyRelu",
     .float_type = "LeakyRelu",
     .operands = {0, -1},
     .result = 3},
    {.domain = MICROSOFT,
     .op_type = "QLinearSoftmax",
     .float_type = "Softmax",
     .operands = {0, -1},
     .result = 3},
};

static const struct form *form_find(const struct node *node) {
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(node->op_type, forms[i].op_type) == 0 && strcmp(node->domain, forms[i].domain) == 0)
            return &forms[i];

    return NULL;
}

static bool is_concat(const struct node *node) {
    return strcmp(node->op_type, "QLinearConcat") == 0 && strcmp(node->domain, MICROSOFT) == 0;
}

/* The axis along which a scale for each channel runs. */
static int64_t scale_axis(const struct node *node, const struct form *form, const struct value *value) {
    bool first = form->rows_are_channels || (form->is_gemm && node_int(node, "transB", 0));

    return first || value->shape.rank < 1 ? 0 : value->shape.rank - 1;
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

    made->opset =
        made->opset < 13 ? 13 : made->opset; /* the first version with an axis; older ones mean the same */

    return result;
}

/* An int32 bias has the scale of the sums that it is added to: the product of the operands' scales (and
 * Gemm's alpha). */
static struct value *add_bias(struct graph *graph, struct node *node, const struct form *form,
                              struct error *error) {
    struct value *bias = node_input(node, form->bias);
    int64_t left_count = 0, right_count = 0;
    const float *left = constant_floats(node_input(node, form->operands[0] + 1), &left_count);
    const float *right = constant_floats(node_input(node, form->operands[1] + 1), &right_count);
    if (!left || !right || left_count != 1 || right_count < 1) {
        node_error(node, error, "its scales are not constants, one for the input");
        return NULL;
    }

    float *scales, alpha = form->is_gemm ? node_float(node, "alpha", 1) : 1;
    struct shape shape = {.rank = right_count > 1, .dims = {right_count}};
    struct value *scale = graph_add_floats(graph, &shape, &scales);

    for (int64_t i = 0; i < right_count && scale; i++)
        scales[i] = alpha * left[0] * right[i];

    struct value *result = scale ? add_dequantize(graph, node, bias, scale, NULL, 0) : NULL;
    if (!result)
        node_memory_error(node, error);

    return result;
}

/* Give the float node the attributes that its operator has, too. */
static void move_attributes(struct node *from, struct node *to) {
    to->attributes = from->attributes;
    to->attribute_count = 0;
    for (int i = 0; i < from->attribute_count; i++) {
        const char *name = from->attributes[i].name;
        if (strcmp(name, "channels_last") != 0 && strcmp(name, "opset") != 0)
            to->attributes[to->attribute_count++] = from->attributes[i];
    }
}

/* Replace `node` by the float node over its operands, and a QuantizeLinear of the result. */
static bool finish(struct graph *graph, struct node *node, const char *float_type, struct value **operands,
                   int count, struct value *scale, struct value *zero, struct error *error) {
    struct value *output = node->outputs[0], *result = scale ? graph_add_value(graph, "") : output;
    char name[512];
    snprintf(name, sizeof name, "%.400s/float", node->name);

    struct node *made =
        result ? graph_add_node(graph, node, "", float_type, name, operands, count, &result, 1) : NULL;
    if (!made)
        return node_memory_error(node, error);

    move_attributes(node, made);
    graph_remove_node(graph, node);
    if (!scale) {
        output->producer = made; /* graph_remove_node has cleared it */
        return true;
    }

    struct value *inputs[] = {result, scale, zero};
    struct node *quantize =
        graph_add_node(graph, made->next, "", "QuantizeLinear", NULL, inputs, zero ? 3 : 2, &output, 1);
    if (!quantize)
        return node_memory_error(made, error);

    quantize->opset = quantize->opset < 13 ? 13 : quantize->opset;

    return true;
}

static bool expand(struct graph *graph, struct node *node, const struct form *form, struct error *error) {
    struct value *operands[MAXIMUM_OPERANDS];
    int count = 0;
    if (node_int(node, "channels_last", 0))
        return node_error(node, error, "channels_last is not supported");

    for (int i = 0; i < 2 && form->operands[i] >= 0; i++) {
        int first = form->operands[i];
        struct value *value = node_input(node, first), *scale = node_input(node, first + 1);
        if (!value || !scale || !node->output_count || !node->outputs[0])
            return node_error(node, error, "an input or a scale is missing");

        operands[count] = add_dequantize(graph, node, value, scale, node_input(node, first + 2),
                                         scale_axis(node, form, value));
        if (!operands[count++])
            return node_memory_error(node, error);
    }

    if (form->bias && node_input(node, form->bias) &&
        !(operands[count++] = add_bias(graph, node, form, error)))
        return false;
    struct value *scale = node_input(node, form->result);
    if (!scale && !form->is_gemm)
        return node_error(node, error, "the scale of its result is missing");

    return finish(graph, node, form->float_type, operands, count, scale, node_input(node, form->result + 1),
                  error);
}

/* QLinearConcat: the result's scale and zero point, then three inputs for each operand. */
static bool expand_concat(struct graph *graph, struct node *node, struct error *error) {
    int count = (node->input_count - 2) / 3;
    cleanup(freep) struct value **operands = count > 0 ? calloc((size_t)count, sizeof(struct value *)) : NULL;
    if (!operands || !node->inputs[0] || !node->output_count || !node->outputs[0])
        return node_error(node, error, "an input or a scale is missing");

    for (int i = 0; i < count; i++) {
        struct value *value = node->inputs[2 + 3 * i], *scale = node_input(node, 3 + 3 * i);
        if (!value || !scale)
            return node_error(node, error, "operand %d is missing", i);
        operands[i] = add_dequantize(graph, node, value, scale, node_input(node, 4 + 3 * i), 0);
        if (!operands[i])
            return node_memory_error(node, error);
    }

    return finish(graph, node, "Concat", operands, count, node->inputs[0], node_input(node, 1), error);
}

bool passes_expand_qoperators(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first, *next; node; node = next) {
        const struct form *form = form_find(node);
        next = node->next;
        if (form ? !expand(graph, node, form, error) : is_concat(node) && !expand_concat(graph, node, error))
            return false;
    }

    return true;
}

bool passes_is_quantized(const struct graph *graph) {
    for (const struct node *node = graph->first; node; node = node->next)
        if (node_is(node, "QuantizeLinear") || form_find(node) || is_concat(node))
            return true;

    return false;
}
