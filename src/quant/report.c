#include "quant/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "quant/processor.h"

#define BATCH 8
#define MOST_RUNS 400

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to compare the models");
}

struct timed {
    struct model_classifier *classifier;
    const struct photo_set *set;
    double runs[MOST_RUNS];
    double *result;
    struct estimate *estimate;
};

static bool time_once(struct timed *timed, int sample, int run, struct error *error) {
    const struct photo_set *set = timed->set;
    struct prediction best;
    double start = clock_ms();
    if (!model_classify_prepared(timed->classifier, set->tensors + sample * set->elements, 1, set->width,
                                 set->height, 1, &best, error))
        return false;

    timed->runs[run] = clock_ms() - start;
    return true;
}

/* In turns, so that other load on the machine affects all alike. */
static bool time_all(struct timed *timed, int count, const struct report *report, double seconds,
                     struct estimate *ret_speedup, struct error *error) {
    enum { WARM_UP = 3 };
    int runs = 0;
    double end = clock_ms() + seconds * 1000;
    for (int i = -WARM_UP; i < MOST_RUNS && (i < 5 || clock_ms() < end); i++) {
        for (int j = 0; j < count; j++)
            if (!time_once(&timed[j], report->samples[(i + WARM_UP) % report->count], i < 0 ? 0 : i, error))
                return false;
        runs = i < 0 ? 0 : i + 1;
    }

    /* Run by run, since other load changes: the second side against the first as `auto` runs it. */
    cleanup(freep) double *ratios = calloc((size_t)runs + 1, sizeof *ratios);
    if (!ratios)
        return no_memory(error);
    for (int i = 0; i < runs; i++)
        ratios[i] = timed[count == 3 ? 2 : 0].runs[i] / timed[1].runs[i];
    *ret_speedup = estimate_median(ratios, (size_t)runs);
    for (int j = 0; j < count; j++) {
        *timed[j].estimate = estimate_median(timed[j].runs, (size_t)runs);
        *timed[j].result = timed[j].estimate->value;
    }
    return true;
}

static bool measure_speed(struct report *report, double seconds, struct error *error) {
    struct model *models[] = {report->sides[0].model, report->sides[1].model, report->fast};
    double *results[] = {&report->sides[0].milliseconds, &report->sides[1].milliseconds,
                         &report->fast_milliseconds};
    struct estimate *estimates[] = {&report->sides[0].time, &report->sides[1].time, &report->fast_time};
    struct timed *timed = calloc(3, sizeof *timed);
    int count = report->fast ? 3 : 2;
    bool done = false;

    if (!timed)
        return no_memory(error);

    for (int i = 0; i < count; i++) {
        timed[i].result = results[i];
        timed[i].estimate = estimates[i];
        timed[i].set = report->sides[i % 2].set;
        timed[i].classifier = model_classifier_create(models[i], error);
        if (!timed[i].classifier)
            goto out;
    }
    done = time_all(timed, count, report, seconds, &report->speedup, error);

out:
    for (int i = 0; i < count; i++)
        model_classifier_free(timed[i].classifier);
    free(timed);
    return done;
}

/* The context of note_photo. */
struct side_run {
    struct report *report;
    struct report_side *side;
    struct predictions *predictions;
};

static void note_photo(void *context, const struct evaluated_photo *photo) {
    struct side_run *run = context;
    struct predictions *predictions = run->predictions;
    size_t classes = (size_t)predictions->classes;
    predictions->best[photo->photo] = photo->best[0].index;
    memcpy(predictions->probabilities + photo->photo * classes, photo->probabilities,
           classes * sizeof *photo->probabilities);

    int sample = run->report->samples[photo->photo];
    hits_add(&run->side->hits, photo->best, photo->top, run->side->set->photos[sample].class_index);
}

/* Every sample through the model of a side. `done_count`: photos of both sides so far. */
static bool run_side(struct report *report, struct report_side *side, int *done_count,
                     struct predictions *ret, progress_report progress, void *context, struct error *error) {
    const struct photo_set *set = side->set;
    struct side_run run = {report, side, ret};
    struct evaluator *evaluator = evaluator_create(side->model, BATCH, note_photo, &run, error);
    bool done = evaluator != NULL;

    for (int i = 0; done && i < report->count; i++) {
        const float *tensor = set->tensors + report->samples[i] * set->elements;
        done = evaluator_add(evaluator, (size_t)i, tensor, set->width, set->height, error);
        ++*done_count;
        if (done && progress &&
            !progress(context, "comparing", (uint64_t)*done_count, (uint64_t)report->count * 2))
            done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }

    done = done && evaluator_finish(evaluator, error);
    evaluator_free(evaluator);
    return done;
}

static bool list_changes(struct report *report, const struct predictions *a, const struct predictions *b,
                         struct error *error) {
    report->divergences = calloc((size_t)report->count + 1, sizeof *report->divergences);
    report->changes = calloc((size_t)report->count + 1, sizeof *report->changes);
    if (!report->divergences || !report->changes)
        return no_memory(error);

    for (int i = 0; i < report->count; i++) {
        int first = a->best[i], second = b->best[i];
        report->divergences[i] = predictions_divergence(a, b, i);
        if (first != second)
            report->changes[report->change_count++] =
                (struct report_change){report->samples[i],
                                       {first, second},
                                       {a->probabilities[(int64_t)i * a->classes + first],
                                        b->probabilities[(int64_t)i * b->classes + second]}};
    }
    return true;
}

static bool measure_predictions(struct report *report, progress_report progress, void *context,
                                struct error *error) {
    const struct model *a = report->sides[0].model, *b = report->sides[1].model;
    struct predictions predictions[2] = {0};
    int done_count = 0;
    bool done = false;

    if (model_class_count(a) != model_class_count(b))
        return error_set(error, ERROR_INVALID, "%s has %d classes and %s has %d: they cannot be compared",
                         model_name(a), model_class_count(a), model_name(b), model_class_count(b));

    for (int i = 0; i < 2; i++)
        if (!predictions_create(report->count, model_class_count(a), model_head(a), &predictions[i], error) ||
            !run_side(report, &report->sides[i], &done_count, &predictions[i], progress, context, error))
            goto out;

    report->agreement = predictions_compare(&predictions[0], &predictions[1]);
    done = list_changes(report, &predictions[0], &predictions[1], error);
    if (!done)
        goto out;
    report->same = estimate_share((double)report->agreement.same / fmax(report->agreement.count, 1),
                                  report->agreement.count);
    report->divergence = estimate_mean(report->divergences, (size_t)report->count);
    report->divergence.low = fmax(report->divergence.low, 0);
out:
    predictions_release(&predictions[0]);
    predictions_release(&predictions[1]);
    return done;
}

bool report_measure(struct report *report, const int *samples, int count, double seconds,
                    progress_report progress, void *context, struct error *error) {
    report->samples = samples;
    report->count = count;
    report->threads = engine_threads(model_engine(report->sides[1].model));
    processor_name(report->processor, sizeof report->processor);

    for (int i = 0; i < 2; i++) {
        struct stat status;
        if (stat(model_path(report->sides[i].model), &status) == 0)
            report->sides[i].bytes = (uint64_t)status.st_size;
    }

    return measure_predictions(report, progress, context, error) && measure_speed(report, seconds, error);
}

const char *report_label(const struct report_side *side, int index) {
    return model_label(side->model, index, NULL);
}

void report_release(struct report *report) {
    free(report->divergences);
    free(report->changes);
    report->divergences = NULL;
    report->changes = NULL;
}

static int by_damage(const void *a, const void *b) {
    double first = (*(const struct quant_layer *const *)a)->damage,
           second = (*(const struct quant_layer *const *)b)->damage;
    return first < second ? 1 : first > second ? -1 : 0;
}

int report_worst_layers(const struct report *report, const struct quant_layer **ret, int most) {
    const struct quant_result *quant = report->quant;
    int count = 0;
    if (!quant)
        return 0;

    const struct quant_layer **all = calloc((size_t)quant->layer_count + 1, sizeof(struct quant_layer *));
    for (int i = 0; all && i < quant->layer_count; i++)
        if (quant->layers[i].damage >= 0)
            all[count++] = &quant->layers[i];

    if (all)
        qsort(all, (size_t)count, sizeof(struct quant_layer *), by_damage);
    count = count < most ? count : most;

    for (int i = 0; i < count; i++)
        ret[i] = all[i];

    free(all);
    return count;
}
