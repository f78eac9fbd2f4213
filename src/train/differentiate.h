/* A graph that computes a number, and its gradients: the same graph with more nodes, each made by the
 * `differentiate` of an operator's one definition (ops/gradient.h). What comes out is lowered to a plan as
 * any other graph. One thread at a time for each graph. */
#pragma once
#include "graph/graph.h"

/* `graph`: bound, with every type and shape known (passes_specialize). `loss`: a float32 of one element.
 * ret_gradients[i]: the gradient of the loss by wanted[i], of its shape; zeros where the loss does not depend
 * on it. ERROR_MODEL names a node without a gradient. */
bool train_differentiate(struct graph *graph, struct value *loss, struct value *const *wanted, int count,
                         struct value **ret_gradients, struct error *error);
