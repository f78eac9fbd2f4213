/* From a specialised, fused graph to a plan: each node becomes steps, each value a tensor in some layout.
 *
 * Layouts are kept from step to step: a primitive chooses its own, and a reorder is added only where two
 * disagree. A node without a faster step runs as the operator's reference kernel. One thread; the plan is
 * immutable afterwards. */
#pragma once
#include "plan/plan.h"

struct lower_options {
    enum dtype compute; /* DTYPE_F32 or DTYPE_BF16: what convolutions and matmuls work in */
    bool exact; /* NaN and infinities go where ONNX lets them go: what does more than multiply, add and move
                   is left to the reference kernels, and nothing is computed by way of sums of others */
};

/* Takes the graph over, also on failure. The graph is specialised: every shape is known. The calling thread's
 * number of OpenMP threads is the one that the plan is made for. NULL with an error: out of memory, or a node
 * that no step can compute. */
struct plan *lower_graph(struct graph *graph, struct weights_store *weights,
                         const struct lower_options *options, struct error *error);
