/* Make a Pad with zeros part of the convolution or average pool after it. */
#include <string.h>

#include "passes/rewrite.h"

/* The pads of a Pad node with zeros, [2 * rank]; NULL unless all are at least zero, and zero on the first two
 * axes. */
static const int64_t *spatial_zero_pads(const struct node *node, int rank) {
    const int64_t *pads = NULL;
    size_t count = 0;
    if (!node || !node_is(node, "Pad") || strcmp(node_string(node, "mode", "constant"), "constant") != 0 ||
        node_input(node, 3) || !constant_is_zero(node_input(node, 2)) || node_float(node, "value", 0) != 0)
        return NULL;

    const struct value *value = node_input(node, 1);
    if (!value) {
        count = node_ints(node, "pads", &pads); /* before opset 11 */
    } else if (value->constant && value->constant->dtype == DTYPE_I64) {
        pads = value->constant->data;
        count = (size_t)shape_elements(&value->constant->shape);
    }

    if (!pads || rank < 3 || count != (size_t)rank * 2)
        return NULL;

    for (int i = 0; i < 2 * rank; i++)
        if (pads[i] < 0 || pads[i] > 1 << 20 || (i % rank < 2 && pads[i]))
            return NULL;

    return pads;
}

/* The rank of the node's input, if the node can take over padding; else 0. */
static int padded_rank(const struct node *node) {
    const int64_t *ints;
    if (strcmp(node_string(node, "auto_pad", "NOTSET"), "NOTSET") != 0 || node->post_op_count)
        return 0;
    if (node_is(node, "Conv")) {
        const struct value *weight = node_input(node, 1);
        return weight && weight->constant ? weight->constant->shape.rank : 0;
    }
    if (node_is(node, "AveragePool") && !node_int(node, "ceil_mode", 0))
        return (int)node_ints(node, "kernel_shape", &ints) + 2;

    return 0;
}

static bool add_pads(struct graph *graph, struct node *node, const int64_t *outer, int rank,
                     struct error *error) {
    bool pool = node_is(node, "AveragePool");
    int spatial = rank - 2;
    const int64_t *own, *kernel = NULL;
    size_t own_count = node_ints(node, "pads", &own);
    size_t kernel_count = pool ? node_ints(node, "kernel_shape", &kernel) : 0;
    int64_t sum[2 * LIMIT_TENSOR_RANK];
    bool has_own = false;

    if (own_count && own_count != (size_t)spatial * 2)
        return true;

    for (int i = 0; i < 2 * spatial; i++) {
        has_own = has_own || (own_count && own[i]);
        sum[i] = outer[i < spatial ? i + 2 : rank + 2 + i - spatial] + (own_count ? own[i] : 0);
        if (kernel_count && sum[i] >= kernel[i % spatial])
            return true; /* a window would see padding only */
    }

    if (pool && has_own && !node_int(node, "count_include_pad", 0))
        return true; /* Pad's zeros count in the average, the pool's own do not */
    struct node *pad = node->inputs[0]->producer;
    struct value *inner = pad->inputs[0];

    if (!node_set_ints(graph, node, "pads", sum, (size_t)spatial * 2) ||
        (pool && !node_set_int(graph, node, "count_include_pad", 1)) ||
        !node_set_input(graph, node, 0, inner))
        return error_set(error, ERROR_MEMORY, "not enough memory to fold node %s", pad->name);

    graph_remove_node(graph, pad);

    return true;
}

bool passes_fold_pads(struct graph *graph, struct error *error) {
    for (struct node *node = graph->first; node; node = node->next) {
        int rank = padded_rank(node);
        const struct node *pad =
            rank && rank <= LIMIT_TENSOR_RANK ? sole_producer(node_input(node, 0)) : NULL;
        const int64_t *pads = pad ? spatial_zero_pads(pad, rank) : NULL;
        if (pads && !add_pads(graph, node, pads, rank, error))
            return false;
    }

    return true;
}
