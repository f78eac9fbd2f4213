/* What ONNX Runtime's dynamic quantiser writes, com.microsoft DynamicQuantizeMatMul, MatMulIntegerToFloat and
 * QAttention, as operators that are computed fast: products of integers with their scales, and Attention. */
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#define FLOAT32 1 /* of TensorProto */

/* A node of ONNX's before `node`; its new output, or NULL when memory is out. */
static struct value *add_before(struct graph *graph, struct node *node, const char *op_type,
                                struct value *const *inputs, int count) {
    struct value *made = graph_add_value(graph, NULL);
    return made && graph_add_node(graph, node, "", op_type, node->name, inputs, count, &made, 1) ? made
                                                                                                 : NULL;
}

/* a's numbers, scale and zero point from its own range. */
static bool quantize_input(struct graph *graph, struct node *node, struct value *ret[3]) {
    for (int i = 0; i < 3; i++)
        if (!(ret[i] = graph_add_value(graph, NULL)))
            return false;
    return graph_add_node(graph, node, "", "DynamicQuantizeLinear", node->name, node->inputs, 1, ret, 3);
}

/* node = a x b * a's scale * b's scale + bias; `a`: its numbers, scale and zero point. */
static bool expand_product(struct graph *graph, struct node *node, struct value *const a[3],
                           struct value *b_scale, struct value *b_zero, struct value *bias) {
    struct value *factors[4] = {a[0], node->inputs[1], a[2], b_zero}, *scales[2] = {a[1], b_scale};
    struct value *product = add_before(graph, node, "MatMulInteger", factors, b_zero ? 4 : a[2] ? 3 : 2);
    struct value *scale = product ? add_before(graph, node, "Mul", scales, 2) : NULL;
    struct value *wide = scale ? add_before(graph, node, "Cast", &product, 1) : NULL;
    if (!wide || !node_set_int(graph, wide->producer, "to", FLOAT32))
        return false;

    struct value *pair[2] = {wide, scale}, *output = node->outputs[0];
    if (bias) {
        pair[0] = add_before(graph, node, "Mul", pair, 2);
        pair[1] = bias;
    }
    if (!pair[0])
        return false;

    node->outputs[0] = NULL;
    output->producer = NULL;
    bool done = graph_add_node(graph, node, "", bias ? "Add" : "Mul", node->name, pair, 2, &output, 1);
    graph_remove_node(graph, node);
    return done;
}

static bool expand_dynamic(struct graph *graph, struct node *node) {
    struct value *a[3];
    return quantize_input(graph, node, a) &&
           expand_product(graph, node, a, node->inputs[2], node_input(node, 3), node_input(node, 4));
}

static bool expand_to_float(struct graph *graph, struct node *node) {
    struct value *a[3] = {node->inputs[0], node->inputs[2], node_input(node, 4)};
    return expand_product(graph, node, a, node->inputs[3], node_input(node, 5), node_input(node, 6));
}

/* Its input and weights as floats: Attention has the rest. */
static bool expand_attention(struct graph *graph, struct node *node) {
    struct value *input[3] = {node->inputs[0], node->inputs[3], node_input(node, 6)};
    struct value *weights[3] = {node->inputs[1], node->inputs[4], node_input(node, 7)};
    struct value *x = add_before(graph, node, "DequantizeLinear", input, input[2] ? 3 : 2);
    struct value *w = x ? add_before(graph, node, "DequantizeLinear", weights, weights[2] ? 3 : 2) : NULL;
    struct value *inputs[5] = {x, w, node_input(node, 2), node_input(node, 5), node_input(node, 8)};
    if (!w)
        return false;

    for (int i = 0; i < node->input_count; i++)
        if (!node_set_input(graph, node, i, i < 5 ? inputs[i] : NULL))
            return false;
    node->input_count = 5;
    node->op_type = "Attention";
    return true;
}

bool passes_expand_dynamic(struct graph *graph, struct error *error) {
    static const struct {
        const char *op_type;
        int least; /* inputs that must be there */
        bool (*expand)(struct graph *graph, struct node *node);
    } forms[] = {{"DynamicQuantizeMatMul", 3, expand_dynamic},
                 {"MatMulIntegerToFloat", 4, expand_to_float},
                 {"QAttention", 5, expand_attention}};

    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
            if (strcmp(node->domain, "com.microsoft") != 0 || strcmp(node->op_type, forms[f].op_type) != 0)
                continue;
            bool whole = node->input_count >= forms[f].least && node->output_count == 1 && node->outputs[0];
            for (int i = 0; whole && i < forms[f].least; i++)
                whole = node->inputs[i] || (i == 2 && f == 2); /* QAttention's bias may be left out */
            if (!whole || graph_opset(graph, "") < 11)
                return node_error(node, error, "this form of it is not supported");
            if (!forms[f].expand(graph, node))
                return error_set(error, ERROR_MEMORY, "not enough memory to expand %s", forms[f].op_type);
            break;
        }
    }
    return true;
}
