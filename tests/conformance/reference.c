/* The reference: every node inferred and computed plainly, one after the other, with all inputs constant. */
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "onnx/onnx.h"
#include "ops/operator.h"

static void *reference_load(const char *path, struct error *error) {
    struct graph *graph = onnx_graph_read(path, error);
    if (graph && !operators_bind(graph, error)) {
        graph_free(graph);
        return NULL;
    }
    return graph;
}

static void reference_unload(void *model) {
    graph_free(model);
}

static int reference_input_count(const void *model) {
    return ((const struct graph *)model)->input_count;
}

static int reference_output_count(const void *model) {
    return ((const struct graph *)model)->output_count;
}

static enum dtype reference_input_dtype(const void *model, int index) {
    return ((const struct graph *)model)->inputs[index]->dtype;
}

static bool become_constant(struct graph *graph, struct value *value, const struct tensor *tensor) {
    struct tensor *constant = arena_allocate(graph->arena, sizeof *constant);
    if (constant)
        *constant = *tensor;
    value->constant = constant;
    value->dtype = tensor->dtype;
    value->shape = tensor->shape;
    return constant != NULL;
}

static bool node_compute(struct graph *graph, struct node *node, struct error *error) {
    struct tensor *inputs = arena_allocate_array(graph->arena, (size_t)node->input_count + 1, sizeof *inputs);
    struct tensor *outputs =
        arena_allocate_array(graph->arena, (size_t)node->output_count + 1, sizeof *outputs);
    if (!operator_infer(node, error))
        return false;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i])
            inputs[i] = *node->inputs[i]->constant;
    for (int i = 0; i < node->output_count; i++) {
        if (!node->outputs[i])
            continue;
        outputs[i] = (struct tensor){node->outputs[i]->dtype, node->outputs[i]->shape, NULL};
        outputs[i].data = graph_own_memory(graph, tensor_bytes(&outputs[i]) + 64);
    }
    if (!operator_compute(node, inputs, outputs, error))
        return false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && !become_constant(graph, node->outputs[i], &outputs[i]))
            return error_set(error, ERROR_MEMORY, "out of memory");
    return true;
}

static bool reference_run(void *model, const struct tensor *inputs, int input_count, struct tensor *outputs,
                          int output_count, struct error *error) {
    struct graph *graph = model;
    for (int i = 0; i < input_count; i++)
        if (!become_constant(graph, graph->inputs[i], &inputs[i]))
            return error_set(error, ERROR_MEMORY, "out of memory");
    for (struct node *node = graph->first; node; node = node->next)
        if (!node_compute(graph, node, error))
            return false;
    for (int i = 0; i < output_count; i++) {
        outputs[i] = *graph->outputs[i]->constant;
        outputs[i].data = malloc(tensor_bytes(&outputs[i]) + 1);
        memcpy(outputs[i].data, graph->outputs[i]->constant->data, tensor_bytes(&outputs[i]));
    }
    return true;
}

const struct runner reference_runner = {reference_load,        reference_run,          reference_unload,
                                        reference_input_count, reference_output_count, reference_input_dtype};
