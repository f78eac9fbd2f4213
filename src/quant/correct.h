/* Two repairs of a quantised network that need no training.
 *
 * Both follow Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and
 * Bias Correction (2019), with means and ranges taken from calibration photos rather than from batch norm.
 * One thread at a time for each graph. */
#pragma once
#include "quant/scheme.h"

/* Bias correction: rounding a channel's weights moves the mean of its output by (rounded - weights) * mean of
 * the input. Sets `correction` of every convolution and Gemm to that. The scheme is settled. */
bool correct_bias(struct scheme *scheme, const struct observations *observations, struct error *error);

/* Cross-layer equalisation of a float graph: channels between two convolutions (with Relu or Clip from zero
 * between them) are scaled so that all use the range alike; the first's weights take the scale, the second's
 * its inverse. What the graph computes stays the same for Relu; for Clip to [0, a] on all photos whose values
 * stay below 1.25 times those of `observations`. *ret_count: how many pairs. New weights belong to the graph.
 */
bool equalise_layers(struct graph *graph, const struct observations *observations, int *ret_count,
                     struct error *error);
/* Is there a convolution with a filter a channel? They gain from equalisation. */
bool has_depthwise(const struct graph *graph);
