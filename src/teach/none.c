#include "teach/none.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"

#define REFUSED 0.03 /* of the taught photos, at the threshold */
#define SURENESS \
    4.0 /* how far below the others' best the score of such a photo lies that is as usual as half */

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to tell foreign photos apart");
}

void teach_none_release(struct teach_none *none) {
    free(none->mean);
    free(none->known);
    *none = (struct teach_none){0};
}

static float *allocate(int64_t rows, int64_t columns) {
    size_t count;
    return size_multiply((size_t)rows, (size_t)columns, &count) ? calloc(count + 1, sizeof(float)) : NULL;
}

/* Directions of all samples: [count, width]. */
static void find_directions(const struct ridge_samples *samples, float *mean, float *ret) {
    int64_t count = samples->count, width = samples->width;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < width; j++)
            mean[j] += samples->features[i * width + j] / (float)count;

    for (int64_t i = 0; i < count; i++) {
        double square = 0;
        for (int64_t j = 0; j < width; j++) {
            double value = ret[i * width + j] = samples->features[i * width + j] - mean[j];
            square += value * value;
        }
        float scale = square > 0 ? (float)(1 / sqrt(square)) : 0;
        for (int64_t j = 0; j < width; j++)
            ret[i * width + j] *= scale;
    }
}

/* The sample that is number `place` of those to compare with. */
static int64_t known_sample(const struct ridge_samples *samples, int known, int place) {
    return (int64_t)place * samples->count / known;
}

/* Of each sample the largest cosine to another one that is known. */
static void find_nearest(const struct ridge_samples *samples, const float *directions, int known, int threads,
                         double *ret) {
    int64_t width = samples->width;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < samples->count; i++) {
        ret[i] = -1;
        for (int k = 0; k < known; k++) {
            int64_t other = known_sample(samples, known, k);
            float sum = 0;
            for (int64_t j = 0; j < width; j++)
                sum += directions[i * width + j] * directions[other * width + j];
            if (other != i)
                ret[i] = fmax(ret[i], (double)sum);
        }
    }
}

static int compare_numbers(const void *a, const void *b) {
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

bool teach_none_fit(const struct ridge_samples *samples, int threads, struct teach_none *ret,
                    struct error *error) {
    int known = samples->count < TEACH_NONE_KNOWN ? samples->count : TEACH_NONE_KNOWN;
    struct teach_none none = {
        .mean = allocate(samples->width, 1), .known = allocate(samples->width, known), .count = known};
    cleanup(freep) float *directions = allocate(samples->count, samples->width);
    cleanup(freep) double *nearest = calloc((size_t)samples->count + 1, sizeof *nearest);
    if (!none.mean || !none.known || !directions || !nearest) {
        teach_none_release(&none);
        return no_memory(error);
    }

    find_directions(samples, none.mean, directions);
    find_nearest(samples, directions, known, threads, nearest);
    qsort(nearest, (size_t)samples->count, sizeof *nearest, compare_numbers);
    double low = nearest[(int)(REFUSED * samples->count)], usual = nearest[samples->count / 2];
    for (int k = 0; k < known; k++)
        for (int64_t j = 0; j < samples->width; j++)
            none.known[j * known + k] = directions[known_sample(samples, known, k) * samples->width + j];

    none.threshold = low - 1e-6;
    none.slope = (float)(-SURENESS / fmax(usual - low, 1e-3));
    none.shift = (float)(-(double)none.slope * none.threshold);
    *ret = none;
    return true;
}
