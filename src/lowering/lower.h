/* From a specialised, fused graph to a plan: each node becomes steps, each value a tensor in some layout.
 *
 * Layouts are kept from step to step: a primitive chooses its own, and a reorder comes in only where two
 * disagree. Whatever has no faster step runs as the operator's plain computation. One thread; the plan is
 * immutable afterwards. */
#pragma once
#include "plan/plan.h"

struct lower_options {
    enum dtype compute; /* DTYPE_F32 or DTYPE_BF16: what convolutions and matrix products work in */
};

/* Takes the graph over (also on failure). The graph is specialised: every shape known. */
struct plan *lower_graph(struct graph *graph, struct weights_store *weights,
                         const struct lower_options *options, struct error *error);
