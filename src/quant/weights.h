/* Weights as 8-bit integers, symmetric about zero: real = scale * integer, a scale for each output channel.
 * Pure functions: any thread. */
#pragma once
#include <stdint.h>

#include "tensor/tensor.h"

#define QUANT_WEIGHT_TOP 127
#define QUANT_BIAS_TOP (1 << 24) /* a float32 holds every integer up to here */

/* Of float32 weights; `axis` counts the channels, or -1: all are one. */
int64_t weights_channels(const struct tensor *weights, int axis);
/* ret [channels]: the smallest scale that holds each channel's largest magnitude, and with which the bias
 * ([channels], or NULL), kept as an integer in steps of scale * input_scale, stays exact enough. */
void weights_choose_scales(const struct tensor *weights, int axis, const double *bias, double input_scale,
                           float *ret);
/* Round to the nearest. integers: as many as the weights have elements. */
void weights_round(const struct tensor *weights, int axis, const float *scales, int8_t *integers);
/* bias [count] as 32-bit integers in steps of scales[i] * input_scale (a float32 product, as a reader
 * computes it); scales [count], or [1] with `single`. */
void bias_round(const double *bias, int64_t count, const float *scales, bool single, float input_scale,
                int32_t *integers);
