/* A measured number with the interval that it lies in with 95 % confidence. Pure functions: any thread. */
#pragma once
#include <jansson.h>
#include <stddef.h>

struct estimate {
    double value, low, high;
};

/* Known without doubt. */
struct estimate estimate_exact(double value);
/* A mean of `count` numbers that do not depend on one another, by Student's t. One number tells nothing:
 * low and high are infinite then. */
struct estimate estimate_mean(const double *values, size_t count);
/* A median, by its order statistics. values are sorted in place. */
struct estimate estimate_median(double *values, size_t count);
/* A share of `count` trials (Wilson 1927). */
struct estimate estimate_share(double share, double count);
/* {"value", "low", "high"}, rounded to so many significant digits; null for what is not finite. */
json_t *estimate_json(struct estimate estimate);
