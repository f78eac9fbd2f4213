#include "teach/teach.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "teach/folder.h"
#include "teach/tune.h"

enum { BINS = 10 };

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to teach");
}

void teach_result_release(struct teach_result *result) {
    photo_list_release(&result->list);
    teach_classes_release(&result->classes);
    teach_features_release(&result->features);
    ridge_head_release(&result->head);
    teach_none_release(&result->none);
    graph_free(result->tuned);
    graph_free(result->headed);
    teach_network_release(&result->network);
    free(result->score.confusion);
    *result = (struct teach_result){0};
}

/* Wilson's interval of a share. */
static void find_interval(int right, int count, double *ret_low, double *ret_high) {
    const double z = 1.959964;
    double n = count, p = right / n, square = z * z;
    double center = (p + square / (2 * n)) / (1 + square / n);
    double half = z / (1 + square / n) * sqrt(p * (1 - p) / n + square / (4 * n * n));
    *ret_low = fmax(center - half, 0);
    *ret_high = fmin(center + half, 1);
}

static bool score(struct teach_result *result, struct error *error) {
    const struct teach_features *features = &result->features;
    int classes = result->classes.count;
    double sums[BINS] = {0}, distance = 0;
    int right[BINS] = {0};
    struct teach_score score = {.confusion = calloc((size_t)classes * (size_t)classes, sizeof(int))};
    if (!score.confusion)
        return no_memory(error);

    for (int i = 0; i < features->count; i++) {
        const float *probabilities = result->head.left_out + (int64_t)i * classes;
        int best = 0;
        for (int c = 1; c < classes; c++)
            if (probabilities[c] > probabilities[best])
                best = c;

        int bin = (int)(probabilities[best] * BINS);
        bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
        sums[bin] += probabilities[best];
        right[bin] += best == features->classes[i];
        score.right += best == features->classes[i];
        score.confusion[(int64_t)features->classes[i] * classes + best]++;
    }

    for (int bin = 0; bin < BINS; bin++)
        distance += fabs(sums[bin] - right[bin]);
    score.calibration_error = distance / features->count;
    find_interval(score.right, features->count, &score.low, &score.high);
    result->score = score;
    return true;
}

/* Photos that do not decode are gone: are there enough of each class still? */
static bool count_classes(const char *folder, struct teach_result *result, struct error *error) {
    for (int c = 0; c < result->classes.count; c++)
        result->classes.photos[c] = 0;
    for (int i = 0; i < result->features.count; i++)
        result->classes.photos[result->features.classes[i]]++;
    for (int c = 0; c < result->classes.count; c++)
        if (result->classes.photos[c] < 2)
            return error_set(error, ERROR_INVALID,
                             "%s/%s: only %d of its photos can be decoded: a class needs at least two; the "
                             "first that cannot: %s",
                             folder, result->classes.names[c], result->classes.photos[c],
                             result->features.skipped_count ? result->features.skipped[0] : "");
    return true;
}

static bool check_none(const struct teach_options *options, const struct teach_classes *classes,
                       struct error *error) {
    for (int i = 0; options->none && i < classes->count; i++)
        if (strcmp(options->none, classes->names[i]) == 0)
            return error_set(error, ERROR_INVALID, "%s/%s is a class of its own: give another name to --none",
                             options->photos, options->none);
    return true;
}

static bool run(const struct model *model, const struct teach_options *options, struct teach_result *result,
                struct error *error) {
    if (!teach_folder_check(options, error) ||
        !teach_classes_read(options->photos, &result->list, &result->classes, error) ||
        !check_none(options, &result->classes, error) ||
        !teach_network_open(model, &result->network, error) ||
        !teach_features_compute(model, &result->network, &result->list, options->threads, options->report,
                                options->context, &result->features, error) ||
        !count_classes(options->photos, result, error))
        return false;

    const struct ridge_samples samples = {.features = result->features.values,
                                          .classes = result->features.classes,
                                          .count = result->features.count,
                                          .width = result->features.width,
                                          .class_count = result->classes.count};
    bool tunes = options->minutes > 0 || options->steps > 0;
    return ridge_fit(&samples, options->threads, &result->head, error) && score(result, error) &&
           (!options->none || teach_none_fit(&samples, options->threads, &result->none, error)) &&
           (!tunes || teach_tune(model, options, result, error)) &&
           teach_folder_write(model, options, result, error);
}

bool teach_run(const struct model *model, const struct teach_options *options, struct teach_result *ret,
               struct error *error) {
    struct teach_result result = {0};
    if (!run(model, options, &result, error)) {
        teach_result_release(&result);
        return false;
    }

    *ret = result;
    return true;
}

int teach_most_confused(const struct teach_result *result, int *ret_class, int *ret_other) {
    int classes = result->classes.count, most = 0;
    const int *confusion = result->score.confusion;
    for (int i = 0; i < classes; i++)
        for (int j = 0; j < classes; j++) {
            if (i == j || confusion[i * classes + j] <= most)
                continue;
            most = confusion[i * classes + j];
            *ret_class = i;
            *ret_other = j;
        }
    return most;
}
