/* Any bytes as an ONNX model: read, and where a graph comes out, bound, simplified, and specialised for small
 * inputs. */
#include <stdint.h>

#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define INPUTS 4

static void specialize(const struct graph *graph) {
    struct tensor inputs[INPUTS] = {0};
    struct error error = {0};
    if (graph->input_count > INPUTS)
        return;
    for (int i = 0; i < graph->input_count; i++) {
        inputs[i] = (struct tensor){graph->inputs[i]->dtype, graph->inputs[i]->shape, NULL};
        for (int axis = 0; axis < inputs[i].shape.rank; axis++)
            if (inputs[i].shape.dims[axis] < 0)
                inputs[i].shape.dims[axis] = 2;
    }
    struct graph *plan = graph_clone(graph);
    if (plan)
        passes_specialize(plan, inputs, graph->input_count, &error);
    graph_free(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error error = {0};
    struct graph *graph = onnx_graph_read_memory("fuzz", bytes, size, &error);
    if (!graph)
        return 0;
    if (passes_expand_qoperators(graph, &error) && operators_bind(graph, &error) &&
        passes_simplify(graph, &error)) {
        bool needed[INPUTS];
        if (graph->input_count <= INPUTS)
            passes_plan_inputs(graph, needed);
        specialize(graph);
        if (passes_dequantize(graph, &error))
            specialize(graph);
    }
    graph_free(graph);
    return 0;
}
