/* Loading a float network for quantisation. Any thread. */
#pragma once
#include "graph/graph.h"

/* Read, bind and simplify an ONNX file; batch norm is folded. Its opset becomes at least 13, the first with a
 * scale for each channel. ERROR_INVALID: it is quantised already; ERROR_MODEL: the file is damaged, or the
 * named operator cannot be converted to opset 13. */
struct graph *quant_graph_load(const char *path, struct error *error);
/* Can it be loaded so? Quick: does not read the weights. */
bool quant_network_check(const char *path, struct error *error);
/* Has it 8-bit integers already? */
bool quant_graph_is_quantized(const struct graph *graph);
/* Rewrite nodes of older opsets for opset 13, and bind all anew. ERROR_MODEL names a node that cannot be. */
bool quant_raise_opset(struct graph *graph, struct error *error);
#define QUANT_OPSET 13
