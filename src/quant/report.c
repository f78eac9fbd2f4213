#include "quant/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "quant/runner.h"

#define BATCH 8
#define MOST_RUNS 400

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "no memory to compare the models");
}

static void processor_name(char *ret, size_t size) {
    char line[256];
    snprintf(ret, size, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof line, file)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon) {
            snprintf(ret, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

static int by_value(const void *a, const void *b) {
    double first = *(const double *)a, second = *(const double *)b;
    return first < second ? -1 : first > second;
}

struct timed {
    struct runner *runner;
    double runs[MOST_RUNS];
    double *result;
};

static bool time_once(struct timed *timed, int sample, int run, struct error *error) {
    int output;
    int64_t row;
    double start = clock_ms();
    if (!runner_classes(timed->runner, sample, &output, &row, error))
        return false;
    timed->runs[run] = clock_ms() - start;
    return true;
}

/* Turn by turn, so that whatever else the machine does meets all alike. */
static bool time_all(struct timed *timed, int count, const struct report *report, double seconds,
                     struct error *error) {
    enum { WARM_UP = 3 };
    int runs = 0;
    double end = clock_ms() + seconds * 1000;
    for (int i = -WARM_UP; i < MOST_RUNS && (i < 5 || clock_ms() < end); i++) {
        for (int j = 0; j < count; j++)
            if (!time_once(&timed[j], report->samples[(i + WARM_UP) % report->count], i < 0 ? 0 : i, error))
                return false;
        runs = i < 0 ? 0 : i + 1;
    }
    for (int j = 0; j < count; j++) {
        qsort(timed[j].runs, (size_t)runs, sizeof(double), by_value);
        *timed[j].result = timed[j].runs[runs / 2];
    }
    return true;
}

static bool measure_speed(struct report *report, double seconds, struct error *error) {
    struct engine *engines[] = {report->sides[0].engine, report->sides[1].engine, report->fast};
    double *results[] = {&report->sides[0].milliseconds, &report->sides[1].milliseconds,
                         &report->fast_milliseconds};
    struct timed *timed = calloc(3, sizeof *timed);
    int count = report->fast ? 3 : 2;
    bool done = timed || no_memory(error);
    for (int i = 0; done && i < count; i++) {
        timed[i].result = results[i];
        timed[i].runner = runner_create_for(engines[i], report->sides[i % 2].set, 1, error);
        done = timed[i].runner != NULL;
    }
    done = done && time_all(timed, count, report, seconds, error);
    for (int i = 0; timed && i < count; i++)
        runner_free(timed[i].runner);
    free(timed);
    return done;
}

/* All answers of a side: [count, classes], malloc'ed. */
static float *run_side(const struct report_side *side, const struct report *report, int64_t *ret_classes,
                       int *done_count, quant_progress progress, void *context, struct error *error) {
    int output, count = report->count;
    int64_t classes = 0;
    struct runner *runner = runner_create_for(side->engine, side->set, count < BATCH ? count : BATCH, error);
    float *values = NULL;
    bool done = runner && runner_classes(runner, report->samples[0], &output, &classes, error);
    if (done && !(values = malloc((size_t)count * (size_t)classes * sizeof *values)))
        done = no_memory(error);
    for (int i = 0; done && i < count; i += BATCH) {
        int part = count - i < BATCH ? count - i : BATCH;
        done =
            runner_collect(runner, report->samples + i, part, output, classes, values + i * classes, error);
        *done_count += part;
        if (done && progress && !progress(context, "comparing", (uint64_t)*done_count, (uint64_t)count * 2))
            done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
    }
    for (int i = 0; done && i < count; i++)
        answers_normalise(values + i * classes, classes);
    runner_free(runner);
    if (done) {
        *ret_classes = classes;
        return values;
    }
    free(values);
    return NULL;
}

static bool list_changes(struct report *report, const struct answers *a, const struct answers *b,
                         struct error *error) {
    report->divergences = calloc((size_t)report->count + 1, sizeof *report->divergences);
    report->changes = calloc((size_t)report->count + 1, sizeof *report->changes);
    if (!report->divergences || !report->changes)
        return no_memory(error);
    for (int i = 0; i < report->count; i++) {
        const float *p = a->values + i * a->classes, *q = b->values + i * b->classes;
        int64_t first = answers_best(p, a->classes), second = answers_best(q, b->classes);
        report->divergences[i] = answers_divergence(p, q, a->classes);
        if (first != second)
            report->changes[report->change_count++] =
                (struct report_change){report->samples[i], {(int)first, (int)second}, {p[first], q[second]}};
    }
    return true;
}

static bool count_hits(struct report *report, struct answers *const answers, struct error *error) {
    cleanup(freep) int *classes = calloc((size_t)report->count + 1, sizeof *classes);
    if (!classes)
        return no_memory(error);
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < report->count; i++)
            classes[i] = report->sides[side].set->photos[report->samples[i]].class;
        report->sides[side].hits = answers_hits(&answers[side], classes);
    }
    return true;
}

static bool measure_answers(struct report *report, quant_progress progress, void *context,
                            struct error *error) {
    int done_count = 0;
    struct answers answers[2] = {{.count = report->count}, {.count = report->count}};
    float *values[2] = {0};
    bool done = true;
    for (int i = 0; i < 2 && done; i++) {
        values[i] =
            run_side(&report->sides[i], report, &answers[i].classes, &done_count, progress, context, error);
        answers[i].values = values[i];
        done = values[i] != NULL;
    }
    if (done && answers[0].classes != answers[1].classes)
        done = error_set(error, ERROR_INVALID,
                         "%s tells %lld classes apart and %s %lld: their answers cannot be compared",
                         report->sides[0].name, (long long)answers[0].classes, report->sides[1].name,
                         (long long)answers[1].classes);
    if (done) {
        report->likeness = answers_compare(&answers[0], &answers[1]);
        done = list_changes(report, &answers[0], &answers[1], error) && count_hits(report, answers, error);
    }
    free(values[0]);
    free(values[1]);
    return done;
}

bool report_measure(struct report *report, const int *samples, int count, double seconds,
                    quant_progress progress, void *context, struct error *error) {
    report->samples = samples;
    report->count = count;
    report->threads = engine_threads(report->sides[1].engine);
    processor_name(report->processor, sizeof report->processor);
    for (int i = 0; i < 2; i++) {
        struct stat status;
        if (stat(report->sides[i].path, &status) == 0)
            report->sides[i].bytes = (uint64_t)status.st_size;
    }
    return measure_answers(report, progress, context, error) && measure_speed(report, seconds, error);
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
