/* Weights as 8-bit integers: real = scale * integer, with a scale for each output channel. Pure functions:
 * any thread. */
#pragma once
#include <stdint.h>

#include "tensor/tensor.h"

#define QUANT_WEIGHT_TOP 127
#define QUANT_BIAS_TOP (1 << 24) /* a float32 holds every integer up to here */

/* The number of channels along `axis` (-1: one for all). */
int64_t weights_channels(const struct tensor *weights, int axis);
/* ret [channels]: the smallest scale that holds the largest magnitude of each channel, and with which the
 * bias
 * ([channels], or NULL), as an integer in steps of scale * input_scale, is at most QUANT_BIAS_TOP. */
void weights_choose_scales(const struct tensor *weights, int axis, const double *bias, double input_scale,
                           float *ret);
/* Round to the nearest; `integers` has as many elements as the weights. */
void weights_round(const struct tensor *weights, int axis, const float *scales, int8_t *integers);
/* bias [count] as 32-bit integers in steps of scales[i] * input_scale (a float32 product, as runtimes compute
 * it); scales [count], or [1] with `single`. */
void bias_round(const double *bias, int64_t count, const float *scales, bool single, float input_scale,
                int32_t *integers);
