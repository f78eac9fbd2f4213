/* What values a tensor takes, and which part of their range 256 integers should cover.
 *
 * A histogram grows as values come: its first range is that of the first values, and it doubles towards
 * whatever lies outside. One thread at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define HISTOGRAM_BINS 2048

struct histogram {
    float low, high;     /* smallest and largest value seen */
    double start, width; /* bin i holds [start + i width, start + (i + 1) width); width 0: nothing seen yet */
    uint64_t total;      /* values in the bins */
    uint64_t bins[HISTOGRAM_BINS];
};

/* Count `values` (every `step`-th of them; smallest and largest are found among all). False, and nothing
 * counted, where one is not finite. */
bool histogram_add(struct histogram *histogram, const float *values, int64_t count, int64_t step);
/* The value below which `share` (0 to 1) of the counted values lie. */
double histogram_quantile(const struct histogram *histogram, double share);

enum quant_method {
    QUANT_AUTO,    /* the best of the others on held-out photos */
    QUANT_MINMAX,  /* all that was seen */
    QUANT_ENTROPY, /* loses the least information: Kullback-Leibler divergence, as TensorRT's 8-bit inference
                      chooses */
    QUANT_PERCENTILE, /* all but the outermost hundredth of a percent */
    QUANT_MSE,        /* the smallest mean squared error of rounding and clipping together */
};
#define QUANT_METHODS 5

/* "minmax" <-> enum; false where the name is none of them. */
bool quant_method_parse(const char *name, enum quant_method *ret);
const char *quant_method_name(enum quant_method method);

struct quant_range {
    float low, high;
};

/* The range to cover, by a method that is not QUANT_AUTO; {0, 0} for an empty histogram. Always holds 0,
 * which must be exact. */
struct quant_range histogram_range(const struct histogram *histogram, enum quant_method method);
