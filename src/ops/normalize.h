/* What the normalisations share. Internal to ops/. */
#pragma once
#include "ops/binary.h"
#include "ops/family.h"

/* Mean and (biased) variance of `count` elements of a float32 or float64 tensor. */
void run_statistics(const struct tensor *tensor, int64_t start, int64_t count, double *ret_mean,
                    double *ret_variance);
/* to[i] = from[i] * scale + shift for `count` elements of float32 or float64 tensors. */
void normalize_run(const struct tensor *from, const struct tensor *to, int64_t start, int64_t count,
                   double scale, double shift);
/* output = output * scale + bias, both broadcast; each may be NULL or without data. */
void normalize_scale(const struct tensor *output, const struct tensor *scale, const struct tensor *bias);
