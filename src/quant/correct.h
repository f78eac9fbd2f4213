/* Two corrections of a quantised network that need no training.
 *
 * Both follow Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and
 * Bias Correction (2019), with means and ranges from calibration photos instead of batch norm.
 * One thread at a time for each graph. */
#pragma once
#include "quant/scheme.h"

/* Bias correction: rounding the weights of a channel moves the mean of its output by (rounded - weights) *
 * mean of the input. Sets the `correction` of every convolution and Gemm to that. The scheme must be settled.
 */
bool correct_bias(struct scheme *scheme, const struct observations *observations, struct error *error);

/* Cross-layer equalisation of a float graph: channels between two convolutions, with Relu or Clip from zero
 * between them, are scaled to use the range alike; the first's weights are divided, the second's multiplied.
 * The graph's results stay the same with Relu, and with Clip where values stay below 1.25 times those of
 * `observations`. *ret_count: pairs. New weights belong to the graph. */
bool equalize_layers(struct graph *graph, const struct observations *observations, int *ret_count,
                     struct error *error);
/* Is there a depthwise convolution? They gain from equalisation. */
bool has_depthwise(const struct graph *graph);
