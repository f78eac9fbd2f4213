/* The values that a tensor takes, and the range that 256 integers should cover.
 *
 * A histogram starts with the range of the first values, and doubles it as needed. One thread at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define HISTOGRAM_BINS 2048

struct histogram {
    float low, high;     /* smallest and largest value */
    double start, width; /* bin i: [start + i width, start + (i + 1) width); width 0: no value yet */
    uint64_t total;      /* values in the bins */
    uint64_t bins[HISTOGRAM_BINS];
};

/* Count every `step`-th value; the smallest and largest are those of all. False, and nothing is counted,
 * where one is not finite. */
bool histogram_add(struct histogram *histogram, const float *values, int64_t count, int64_t step);
/* The value below which `share` (0 to 1) of the counted values are. */
double histogram_quantile(const struct histogram *histogram, double share);

enum quant_method {
    QUANT_AUTO,    /* the best of the others on held-out photos */
    QUANT_MINMAX,  /* the whole range */
    QUANT_ENTROPY, /* loses the least information: Kullback-Leibler divergence, as TensorRT's 8-bit inference
                      chooses */
    QUANT_PERCENTILE, /* all but the outermost hundredth of a percent */
    QUANT_MSE,        /* the smallest mean squared error of rounding and clipping together */
};
#define QUANT_METHODS 5

/* "minmax" <-> enum; false: no such method. */
bool quant_method_parse(const char *name, enum quant_method *ret);
const char *quant_method_name(enum quant_method method);

struct quant_range {
    float low, high;
};

/* The range to cover, by a method that is not QUANT_AUTO; {0, 0} for an empty histogram. It includes 0, which
 * must be exact. */
struct quant_range histogram_range(const struct histogram *histogram, enum quant_method method);
