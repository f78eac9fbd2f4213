#include "quant/histogram.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define LEVELS 256
#define PERCENTILE_TAIL 0.00005 /* at each end */
#define LANES 16

/* The smallest and largest value; false where one is not finite. LANES independent results let the compiler
 * use vectors.
 */
static bool find_extremes(const float *values, int64_t count, float *ret_low, float *ret_high) {
    float low[LANES], high[LANES], poison[LANES] = {0};
    for (int i = 0; i < LANES; i++) {
        low[i] = FLT_MAX;
        high[i] = -FLT_MAX;
    }

    for (int64_t at = 0; at < count; at += LANES) {
        int width = count - at < LANES ? (int)(count - at) : LANES;
        for (int i = 0; i < width; i++) {
            float value = values[at + i];
            low[i] = value < low[i] ? value : low[i];
            high[i] = value > high[i] ? value : high[i];
            poison[i] += value * 0.0f; /* 0, or not a number */
        }
    }

    for (int i = 1; i < LANES; i++) {
        low[0] = low[i] < low[0] ? low[i] : low[0];
        high[0] = high[i] > high[0] ? high[i] : high[0];
        poison[0] += poison[i];
    }

    *ret_low = low[0];
    *ret_high = high[0];
    return poison[0] == 0;
}

/* Double the range to the left or right: two bins become one. */
static void double_range(struct histogram *histogram, bool to_left) {
    uint64_t *bins = histogram->bins;
    uint64_t merged[HISTOGRAM_BINS / 2];
    for (int i = 0; i < HISTOGRAM_BINS / 2; i++)
        merged[i] = bins[2 * i] + bins[2 * i + 1];

    memset(bins, 0, sizeof histogram->bins);
    memcpy(bins + (to_left ? HISTOGRAM_BINS / 2 : 0), merged, sizeof merged);
    if (to_left)
        histogram->start -= HISTOGRAM_BINS * histogram->width;
    histogram->width *= 2;
}

static void cover(struct histogram *histogram, float low, float high) {
    if (histogram->width <= 0) {
        double extent = (double)high - low, least = fmaxf(fabsf(low), fabsf(high)) * 1e-6;
        histogram->start = low;
        histogram->width = fmax(fmax(extent, least), 1e-30) * 1.0001 / HISTOGRAM_BINS;
        histogram->low = low;
        histogram->high = high;
    }

    while (low < histogram->start)
        double_range(histogram, true);
    while (high >= histogram->start + HISTOGRAM_BINS * histogram->width)
        double_range(histogram, false);

    histogram->low = fminf(histogram->low, low);
    histogram->high = fmaxf(histogram->high, high);
}

bool histogram_add(struct histogram *histogram, const float *values, int64_t count, int64_t step) {
    float low, high;
    if (count <= 0)
        return true;
    if (!find_extremes(values, count, &low, &high))
        return false;

    cover(histogram, low, high);
    double start = histogram->start, per_width = 1 / histogram->width;
    step = step > 0 ? step : 1;

    for (int64_t i = 0; i < count; i += step) {
        int bin = (int)((values[i] - start) * per_width);
        bin = bin < 0 ? 0 : bin >= HISTOGRAM_BINS ? HISTOGRAM_BINS - 1 : bin;
        histogram->bins[bin]++;
        histogram->total++;
    }

    return true;
}

double histogram_quantile(const struct histogram *histogram, double share) {
    double wanted = share * (double)histogram->total, below = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++) {
        double here = (double)histogram->bins[i];
        if (here > 0 && below + here >= wanted)
            return histogram->start + histogram->width * (i + (wanted - below) / here);
        below += here;
    }

    return histogram->high;
}

static double find_bin_center(const struct histogram *histogram, int bin) {
    return histogram->start + (bin + 0.5) * histogram->width;
}

/* Sums over the bins below i: counts, first and second moments. */
struct moments {
    double zeroth[HISTOGRAM_BINS + 1], first[HISTOGRAM_BINS + 1], second[HISTOGRAM_BINS + 1];
};

static void make_moments(const struct histogram *histogram, struct moments *ret) {
    ret->zeroth[0] = ret->first[0] = ret->second[0] = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++) {
        double centre = find_bin_center(histogram, i), count = (double)histogram->bins[i];
        ret->zeroth[i + 1] = ret->zeroth[i] + count;
        ret->first[i + 1] = ret->first[i] + count * centre;
        ret->second[i + 1] = ret->second[i] + count * centre * centre;
    }
}

static int find_bin(const struct histogram *histogram, double value) {
    double bin = (value - histogram->start) / histogram->width;
    return bin <= 0 ? 0 : bin >= HISTOGRAM_BINS ? HISTOGRAM_BINS : (int)bin;
}

/* Sum over the bins from `from` to `to` of (value - edge)^2. */
static double squares_from_edge(const struct moments *m, int from, int to, double edge) {
    double zeroth = m->zeroth[to] - m->zeroth[from], first = m->first[to] - m->first[from];
    return m->second[to] - m->second[from] - 2 * edge * first + edge * edge * zeroth;
}

/* Expected squared error: step^2 / 12 inside the range, the squared distance to its edge outside. */
static double compute_range_error(const struct histogram *histogram, const struct moments *m, double low,
                                  double high) {
    int first = find_bin(histogram, low), last = find_bin(histogram, high);
    double step = (high - low) / (LEVELS - 1), inside = m->zeroth[last] - m->zeroth[first];
    return inside * step * step / 12 + squares_from_edge(m, 0, first, low) +
           squares_from_edge(m, last, HISTOGRAM_BINS, high);
}

static struct quant_range find_mse_range(const struct histogram *histogram) {
    enum { STEPS = 80 };
    struct moments moments;
    make_moments(histogram, &moments);
    double low = fmin(histogram->low, 0), high = fmax(histogram->high, 0), best = INFINITY;
    struct quant_range range = {(float)low, (float)high};
    int low_steps = low < 0 ? STEPS : 1, high_steps = high > 0 ? STEPS : 1;

    for (int i = 0; i < low_steps; i++)
        for (int j = 0; j < high_steps; j++) {
            double a = low * (1 - 0.95 * i / STEPS), b = high * (1 - 0.95 * j / STEPS);
            double error = compute_range_error(histogram, &moments, a, b);
            if (error < best * (1 - 1e-9)) {
                best = error;
                range = (struct quant_range){(float)a, (float)b};
            }
        }

    return range;
}

static struct quant_range find_percentile_range(const struct histogram *histogram) {
    return (struct quant_range){
        (float)fmax(histogram_quantile(histogram, PERCENTILE_TAIL), histogram->low),
        (float)fmin(histogram_quantile(histogram, 1 - PERCENTILE_TAIL), histogram->high)};
}

/* The bins within [first, last), with the counts outside added to the outermost ones. Returns their sum. */
static double fill_window(const double *bins, int first, int last, double *ret) {
    double total = 0, below = 0, above = 0;
    for (int i = 0; i < first; i++)
        below += bins[i];
    for (int i = last; i < HISTOGRAM_BINS; i++)
        above += bins[i];

    memcpy(ret, bins + first, (size_t)(last - first) * sizeof *ret);
    ret[0] += below;
    ret[last - first - 1] += above;

    for (int i = 0; i < last - first; i++)
        total += ret[i];

    return total;
}

/* Divergence of the window from itself in LEVELS steps: the weight of a step is spread over those of its bins
 * that are not empty. `inner`: the window without what was added at its ends. */
static double compute_window_divergence(const double *reference, const double *inner, int count,
                                        double total) {
    double divergence = 0, inner_total = 0;
    for (int i = 0; i < count; i++)
        inner_total += inner[i];

    if (!(inner_total > 0))
        return INFINITY;

    for (int level = 0; level < LEVELS; level++) {
        int from = (int)((int64_t)level * count / LEVELS), to = (int)((int64_t)(level + 1) * count / LEVELS);
        double sum = 0;
        int filled = 0;
        for (int i = from; i < to; i++) {
            sum += inner[i];
            filled += reference[i] > 0;
        }
        double share = filled ? fmax(sum / filled / inner_total, 1e-12) : 0;
        for (int i = from; i < to; i++)
            if (reference[i] > 0)
                divergence += reference[i] / total * log(reference[i] / total / share);
    }

    return divergence;
}

/* Divergence of the part within [low, high]; infinite where it has too few bins for LEVELS. */
static double compute_range_divergence(const struct histogram *histogram, const double *bins, double low,
                                       double high) {
    double window[HISTOGRAM_BINS];
    int first = find_bin(histogram, low), last = find_bin(histogram, high) + 1;
    last = last > HISTOGRAM_BINS ? HISTOGRAM_BINS : last;
    if (last - first < LEVELS / 2)
        return INFINITY;

    double total = fill_window(bins, first, last, window);
    return total > 0 ? compute_window_divergence(window, bins + first, last - first, total) : INFINITY;
}

/* Moves one end inwards after the other. */
static struct quant_range find_entropy_range(const struct histogram *histogram) {
    enum { STEPS = 64 };
    double bins[HISTOGRAM_BINS];
    for (int i = 0; i < HISTOGRAM_BINS; i++)
        bins[i] = (double)histogram->bins[i];

    int zero = find_bin(histogram, 0);
    /* Activation functions make many exact zeros, and every range keeps 0 exact: count that bin as its
     * neighbour. */
    if (histogram->low <= 0 && zero + 1 < HISTOGRAM_BINS)
        bins[zero] = fmin(bins[zero], bins[zero + 1]);
    double ends[2] = {fmin(histogram->low, 0), fmax(histogram->high, 0)};
    double best = compute_range_divergence(histogram, bins, ends[0], ends[1]);

    for (int end = 1; end >= 0; end--) {
        double whole = ends[end];
        for (int i = STEPS - 1; i > STEPS / 16 && whole != 0; i--) {
            double tried[2] = {ends[0], ends[1]};
            tried[end] = whole * i / STEPS;
            double divergence = compute_range_divergence(histogram, bins, tried[0], tried[1]);
            if (divergence < best) {
                best = divergence;
                ends[end] = tried[end];
            }
        }
    }

    return (struct quant_range){(float)ends[0], (float)ends[1]};
}

struct quant_range histogram_range(const struct histogram *histogram, enum quant_method method) {
    struct quant_range range = {histogram->low, histogram->high};
    if (!histogram->total)
        return (struct quant_range){0, 0};

    if (method == QUANT_ENTROPY)
        range = find_entropy_range(histogram);
    else if (method == QUANT_PERCENTILE)
        range = find_percentile_range(histogram);
    else if (method == QUANT_MSE)
        range = find_mse_range(histogram);

    return (struct quant_range){fminf(range.low, 0), fmaxf(range.high, 0)};
}

static const char *const method_names[QUANT_METHODS] = {"auto", "minmax", "entropy", "percentile", "mse"};

bool quant_method_parse(const char *name, enum quant_method *ret) {
    for (int i = 0; i < QUANT_METHODS; i++)
        if (strcmp(method_names[i], name) == 0) {
            *ret = (enum quant_method)i;
            return true;
        }
    return false;
}

const char *quant_method_name(enum quant_method method) {
    return method_names[method];
}
