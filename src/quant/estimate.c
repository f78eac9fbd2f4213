#include "quant/estimate.h"

#include <math.h>
#include <stdlib.h>

struct estimate estimate_exact(double value) {
    return (struct estimate){value, value, value};
}

/* The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion (within 1 % from 3 degrees on). */
static double student(double degrees) {
    const double z = 1.959964;
    if (degrees < 2)
        return 12.706;
    if (degrees < 3)
        return 4.303;
    double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * degrees) + (5 * z5 + 16 * z3 + 3 * z) / (96 * degrees * degrees) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * degrees * degrees * degrees);
}

struct estimate estimate_mean(const double *values, size_t count) {
    double mean = 0, squares = 0;
    for (size_t i = 0; i < count; i++)
        mean += values[i] / (double)count;
    if (count < 2)
        return (struct estimate){mean, -INFINITY, INFINITY};

    for (size_t i = 0; i < count; i++)
        squares += (values[i] - mean) * (values[i] - mean);
    double half = student((double)count - 1) * sqrt(squares / (double)(count - 1) / (double)count);
    return (struct estimate){mean, mean - half, mean + half};
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct estimate estimate_median(double *values, size_t count) {
    if (!count)
        return estimate_exact(NAN);
    qsort(values, count, sizeof *values, ascending);
    /* Ranks n/2 ± z √n / 2; with few numbers the least and the largest. */
    double half = 1.96 * sqrt((double)count) / 2, middle = (double)count / 2;
    long low = (long)floor(middle - half), high = (long)ceil(middle + half);
    low = low < 0 ? 0 : low;
    high = high >= (long)count ? (long)count - 1 : high;
    double value = count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
    return (struct estimate){value, values[low], values[high]};
}

struct estimate estimate_share(double share, double count) {
    const double z = 1.959964, z2 = z * z;
    if (!(count > 0))
        return (struct estimate){share, 0, 1};
    double middle = (share + z2 / (2 * count)) / (1 + z2 / count),
           half = z / (1 + z2 / count) * sqrt(share * (1 - share) / count + z2 / (4 * count * count));
    return (struct estimate){share, fmax(0, middle - half), fmin(1, middle + half)};
}

static json_t *number(double value) {
    if (!isfinite(value))
        return json_null();
    double scale = value == 0 ? 1 : pow(10, 6 - ceil(log10(fabs(value))));
    return json_real(round(value * scale) / scale);
}

json_t *estimate_json(struct estimate estimate) {
    return json_pack("{s:o, s:o, s:o}", "value", number(estimate.value), "low", number(estimate.low), "high",
                     number(estimate.high));
}
