/* A float network made ready for quantising. Any thread. */
#pragma once
#include "graph/graph.h"

/* Read, bind and simplify an ONNX file; batch norm is folded. Its opset is raised to 13, the first that knows
 * a scale for each channel. ERROR_INVALID: it is quantised already; ERROR_MODEL: an operator that cannot be
 * raised, named, or a damaged file. */
struct graph *quant_graph_load(const char *path, struct error *error);
/* Could it be loaded so? Quick: weights are not touched. */
bool quant_network_check(const char *path, struct error *error);
/* Does it hold 8-bit integers already? */
bool quant_graph_is_quantised(const struct graph *graph);
/* Rewrite the nodes for opset 13 where theirs is older; they are bound anew. ERROR_MODEL naming a node that
 * cannot be. */
bool quant_raise_opset(struct graph *graph, struct error *error);
#define QUANT_OPSET 13
