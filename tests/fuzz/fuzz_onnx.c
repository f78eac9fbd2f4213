/* Any bytes as an ONNX model: read, and where a graph comes out, copied and cleaned. */
#include <stdint.h>

#include "onnx/onnx.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct error error = {0};
    struct graph *graph = onnx_graph_read_memory("fuzz", bytes, size, &error);
    if (!graph)
        return 0;
    struct graph *copy = graph_clone(graph);
    if (copy) {
        graph_remove_dead_nodes(copy);
        graph_sort(copy, &error);
    }
    graph_free(copy);
    graph_free(graph);
    return 0;
}
