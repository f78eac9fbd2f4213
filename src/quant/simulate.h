/* Rounding to 8 bits and back, as one operator of our own for the float engine: what QuantizeLinear and
 * DequantizeLinear make of a tensor, in one pass. Attributes: scale (float), zero, least, most (int). */
#pragma once
#include "graph/graph.h"

/* y = (clamp(round(x / scale) + zero, least, most) - zero) * scale, halves to even. */
void simulate_rounding(const float *from, int64_t count, float scale, int zero, int least, int most,
                       float *to);
/* A bound node before `before` (NULL: at the end) that rounds `from` into `to`. NULL when memory is out. */
struct node *simulate_add(struct graph *graph, struct node *before, struct value *from, struct value *to,
                          float scale, int zero, enum dtype dtype);
