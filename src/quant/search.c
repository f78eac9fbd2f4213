#include "quant/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "quant/runner.h"

#define LEAST_PHOTOS 2
#define MOST_PHOTOS 32

static bool interrupted(const struct trial *trial, const char *stage, int done, int total,
                        struct error *error) {
    if (!trial->progress || trial->progress(trial->context, stage, (uint64_t)done, (uint64_t)total))
        return false;
    error_set(error, ERROR_UNAVAILABLE, "interrupted");
    return true;
}

bool trial_run(const struct trial *trial, struct scheme *scheme, int count, struct agreement *ret,
               struct error *error) {
    struct predictions predictions = {0};
    struct runner *runner = NULL;
    bool done = false;
    count = count < trial->reference.count ? count : trial->reference.count;
    scheme_settle(scheme);
    struct graph *graph = scheme_write(scheme, error);
    if (!graph)
        return false;

    runner = runner_create(graph, trial->set, trial->batch < count ? trial->batch : count, trial->threads,
                           trial->float_runner, error);
    if (!runner ||
        !predictions_create(count, trial->reference.classes, trial->reference.head, &predictions, error))
        goto out;
    if (!runner_collect(runner, trial->samples, trial->output, &predictions, error))
        goto out;

    *ret = predictions_compare(&trial->reference, &predictions);
    done = true;
out:
    predictions_release(&predictions);
    runner_free(runner);
    return done;
}

bool agreement_is_better(const struct agreement *a, const struct agreement *b) {
    return a->mean < b->mean;
}

/* Every layer in float but unit `number`. */
static void exclude_all_but(struct scheme *scheme, int number) {
    for (int i = 0; i < scheme->count; i++)
        if (unit_is_layer(&scheme->units[i]))
            scheme->units[i].excluded = i != number;
}

/* An addition is measured with the layers around it: alone it would not run in integers. */
static bool is_measured(const struct unit *unit) {
    return unit_has_weights(unit);
}

static int photos_for(double seconds, double first_seconds, int first_photos, int layers) {
    double each = seconds / (layers > 0 ? layers : 1), photo = first_seconds / first_photos;
    int count = (int)(each / fmax(photo, 1e-6));
    count = count < LEAST_PHOTOS ? LEAST_PHOTOS : count > MOST_PHOTOS ? MOST_PHOTOS : count;
    return count;
}

/* The first trial packs the weights that all share; the second takes as long as each of the others will. */
static bool choose_photos(const struct trial *trial, struct scheme *scheme, int layers, double seconds,
                          int *ret, struct error *error) {
    struct agreement ignored;
    int photos = LEAST_PHOTOS < trial->reference.count ? LEAST_PHOTOS : trial->reference.count;
    if (!trial_run(trial, scheme, photos, &ignored, error))
        return false;

    double start = clock_ms();
    if (!trial_run(trial, scheme, photos, &ignored, error))
        return false;

    *ret = photos_for(seconds, (clock_ms() - start) / 1000, photos, layers);
    return true;
}

static bool measure_each(const struct trial *trial, struct scheme *scheme, int layers, double seconds,
                         struct error *error) {
    int photos = 0, done = 0;
    for (int i = 0; i < scheme->count; i++) {
        struct agreement agreement;
        if (!is_measured(&scheme->units[i]))
            continue;
        exclude_all_but(scheme, i);
        if (interrupted(trial, "measuring layers", done++, layers, error) ||
            (!photos && !choose_photos(trial, scheme, layers, seconds, &photos, error)) ||
            !trial_run(trial, scheme, photos, &agreement, error))
            return false;
        scheme->units[i].damage = agreement.mean;
    }

    return true;
}

bool search_sensitivity(const struct trial *trial, struct scheme *scheme, double seconds,
                        struct error *error) {
    int layers = 0;
    bool *excluded = calloc((size_t)scheme->count + 1, sizeof *excluded);
    if (!excluded)
        return error_set(error, ERROR_MEMORY, "not enough memory to measure the layers");

    for (int i = 0; i < scheme->count; i++) {
        excluded[i] = scheme->units[i].excluded;
        layers += is_measured(&scheme->units[i]);
    }

    bool done = measure_each(trial, scheme, layers, seconds, error);
    for (int i = 0; i < scheme->count; i++)
        scheme->units[i].excluded = excluded[i];

    free(excluded);
    return done;
}

static int by_damage(const void *a, const void *b) {
    const struct unit *const *first = a, *const *second = b;
    if ((*first)->damage != (*second)->damage)
        return (*first)->damage < (*second)->damage ? 1 : -1;
    return *first < *second ? -1 : 1;
}

struct search {
    const struct trial *trial;
    struct scheme *scheme;
    struct unit **layers; /* [count] the most damaging first */
    int count, allowed, tried;
};

/* With the first `kept` layers in float. */
static bool search_try(struct search *search, int kept, struct agreement *ret, struct error *error) {
    for (int i = 0; i < search->count; i++)
        search->layers[i]->excluded = i < kept;
    if (interrupted(search->trial, "choosing layers", search->tried++, 0, error))
        return false;
    return trial_run(search->trial, search->scheme, search->trial->reference.count, ret, error);
}

static bool is_met(const struct search *search, const struct agreement *agreement) {
    return agreement->count - agreement->same <= search->allowed;
}

/* Try 1, 2, 4, … layers in float until the target is met, at most a third of them; then the fewest that meet
 * it. */
static bool search_run(struct search *search, struct search_result *ret, struct error *error) {
    int best = 0, failed = 0, most = (search->count + 2) / 3;
    struct agreement agreement;
    if (!search_try(search, 0, &ret->before, error))
        return false;

    ret->after = ret->before;
    ret->met = is_met(search, &ret->before);

    for (int kept = 1; !ret->met && kept <= most; kept = kept < most && kept * 2 > most ? most : kept * 2) {
        if (!search_try(search, kept, &agreement, error))
            return false;
        if (agreement.same > ret->after.same) {
            ret->after = agreement;
            best = kept;
        }
        ret->met = is_met(search, &agreement);
        failed = ret->met ? failed : kept;
    }

    for (int low = failed, high = best; ret->met && high - low > 1;) {
        int middle = (low + high) / 2;
        if (!search_try(search, middle, &agreement, error))
            return false;
        if (is_met(search, &agreement)) {
            ret->after = agreement;
            high = best = middle;
        } else {
            low = middle;
        }
    }

    for (int i = 0; i < search->count; i++)
        search->layers[i]->excluded = i < best;

    ret->kept = best;
    scheme_settle(search->scheme);
    return true;
}

int search_allowed(int count, double max_loss) {
    int allowed = (int)floor(count * max_loss / 100 + 1e-9);
    return allowed < 1 && max_loss > 0 ? 1 : allowed;
}

bool search_keep_out(const struct trial *trial, struct scheme *scheme, double max_loss,
                     struct search_result *ret, struct error *error) {
    struct search search = {
        .trial = trial, .scheme = scheme, .allowed = search_allowed(trial->reference.count, max_loss)};
    search.layers = calloc((size_t)scheme->count + 1, sizeof(struct unit *));
    if (!search.layers)
        return error_set(error, ERROR_MEMORY, "not enough memory to choose layers");

    for (int i = 0; i < scheme->count; i++)
        if (is_measured(&scheme->units[i]) && scheme->units[i].damage >= 0)
            search.layers[search.count++] = &scheme->units[i];

    qsort(search.layers, (size_t)search.count, sizeof(struct unit *), by_damage);
    *ret = (struct search_result){.allowed = search.allowed};
    bool done = search_run(&search, ret, error);
    free(search.layers);
    return done;
}
