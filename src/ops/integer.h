/* 8-bit integers with scale and zero point: what integer.c and qlinear.c share. */
#pragma once
#include "ops/family.h"

/* x - zero as int32, malloc'ed; NULL where memory is out. `zero` may be NULL or without data; `zero_shape`
 * (as many elements) broadcasts to x. */
int32_t *tensor_centred(const struct tensor *x, const struct tensor *zero, const struct shape *zero_shape);

/* Round half to even, add the zero point, saturate to int8 or uint8; NaN becomes the zero point. The bits of
 * the result. */
uint8_t requantize(double value, double zero, bool is_signed);
