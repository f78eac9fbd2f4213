/* A float16 network as a float32 one: weights widened once, inputs as they come, outputs rounded as they
 * leave. What lies between has more precision than the file asks for, and fast steps. */
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

#define ONNX_FLOAT 1
#define ONNX_FLOAT16 10

/* Networks with graphs inside stay as they are: what those take from around them would change its type. */
static bool suits(const struct graph *graph) {
    bool halves = false;
    for (const struct node *node = graph->first; node; node = node->next) {
        if (node_has(node, OP_CONTROL))
            return false;
        for (int i = 0; i < node->input_count; i++)
            halves = halves || (node->inputs[i] && node->inputs[i]->dtype == DTYPE_F16);
    }
    for (int i = 0; i < graph->output_count; i++)
        halves = halves && graph->outputs[i]->dtype != DTYPE_UNKNOWN;
    return halves;
}

static const struct tensor *tensor_widen(struct graph *graph, const struct tensor *half) {
    struct tensor *wide = arena_allocate(graph->arena, sizeof *wide);
    if (!wide)
        return NULL;

    *wide = (struct tensor){DTYPE_F32, half->shape, NULL};
    wide->data = graph_own_memory(graph, tensor_bytes(wide));
    if (!wide->data)
        return NULL;
    elements_convert(DTYPE_F16, half->data, DTYPE_F32, wide->data, shape_elements(&half->shape));
    return wide;
}

/* Casts to float16, and tensors and types in attributes. */
static bool node_widen(struct graph *graph, struct node *node) {
    for (int i = 0; i < node->attribute_count; i++) {
        const struct attribute *attribute = &node->attributes[i];
        bool is_type =
            attribute->kind == ATTRIBUTE_INT && attribute->i == ONNX_FLOAT16 &&
            (strcmp(attribute->name, "to") == 0 || strcmp(attribute->name, "dtype") == 0 ||
             strcmp(attribute->name, "output_datatype") == 0 || strcmp(attribute->name, "output_dtype") == 0);
        if (is_type)
            node->attributes[i].i = ONNX_FLOAT;
        if (attribute->kind == ATTRIBUTE_TENSOR && attribute->tensor->dtype == DTYPE_F16 &&
            !(node->attributes[i].tensor = tensor_widen(graph, attribute->tensor)))
            return false;
    }
    return true;
}

static struct node *add_cast(struct graph *graph, struct node *before, struct value *from, struct value *to,
                             int type) {
    struct node *cast = operator_add_node(graph, before, "", "Cast", 13, &from, 1, to);
    return cast && node_set_int(graph, cast, "to", type) ? cast : NULL;
}

/* The uses of an input get it as float32. */
static bool input_widen(struct graph *graph, struct value *input) {
    struct value *wide = graph_add_value(graph, NULL);
    if (!wide)
        return false;
    wide->dtype = DTYPE_F32;
    wide->shape = input->shape;

    while (input->use_count) {
        struct use use = input->uses[input->use_count - 1];
        if (!node_set_input(graph, use.node, use.input, wide))
            return false;
    }
    return add_cast(graph, graph->first, input, wide, ONNX_FLOAT) != NULL;
}

/* The output stays float16: a cast makes it from what the network computes now. */
static bool output_narrow(struct graph *graph, struct value *output) {
    struct value *wide = graph_add_value(graph, NULL);
    struct node *producer = output->producer;
    if (!wide)
        return false;
    wide->dtype = DTYPE_F32;
    wide->shape = output->shape;

    for (int i = 0; i < producer->output_count; i++)
        if (producer->outputs[i] == output)
            producer->outputs[i] = wide;
    wide->producer = producer;
    while (output->use_count) {
        struct use use = output->uses[output->use_count - 1];
        if (!node_set_input(graph, use.node, use.input, wide))
            return false;
    }
    return add_cast(graph, NULL, wide, output, ONNX_FLOAT16) != NULL;
}

bool passes_widen_halves(struct graph *graph, struct error *error) {
    bool done = true;
    if (!suits(graph))
        return true;

    for (struct node *node = graph->first; node && done; node = node->next)
        done = node_widen(graph, node);
    int count = graph->value_count;
    for (int i = 0; i < count && done; i++) {
        struct value *value = graph->values[i];
        if (value->dtype != DTYPE_F16)
            continue;
        if (value->is_output && value->producer) {
            done = output_narrow(graph, value);
        } else if (value->is_input) {
            done = input_widen(graph, value);
        } else if (!value->is_output && value->constant) {
            const struct tensor *half = value->constant;
            done = (value->constant = tensor_widen(graph, half)) != NULL;
            value->dtype = DTYPE_F32;
        } else if (!value->is_output) {
            value->dtype = DTYPE_F32;
        }
    }

    return done || error_set(error, ERROR_MEMORY, "not enough memory to widen the float16 weights");
}
