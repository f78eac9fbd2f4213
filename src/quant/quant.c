#include "quant/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "onnx/onnx.h"
#include "quant/correct.h"
#include "quant/load.h"
#include "quant/shuffle.h"

#define HELD_OUT_EACH 3   /* a third of the photos is reported on, and half as many choose */
#define MIRROR_BELOW 128  /* fewer that choose are also used mirrored */
#define TRIAL_SECONDS 3.0 /* for measuring one candidate */
#define SENSITIVITY_SECONDS 8.0
#define TRIAL_BATCH 8

struct quant_job {
    const struct model *model;
    const struct photo_set *set;
    const struct quant_options *options;
    struct graph *graph, *equalized; /* equalized: a copy with other weights, or NULL */
    struct scheme scheme, scheme_equalized;
    struct observations observations, observations_equalized;
    int *calibration, *judged; /* samples; judged: those that choose */
    int calibration_count, judged_count;
    struct trial trial;
    uint64_t key;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to quantise");
}

int quant_photos_wanted(int count, double max_loss) {
    int wanted = max_loss > 0 ? (int)ceil(100 / max_loss) * HELD_OUT_EACH / 2 : 300;
    wanted = wanted > 1200 ? 1200 : wanted < 100 ? 100 : wanted;
    return count >= wanted ? 0 : wanted;
}

static int ascending(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* A third of the photos is reported on, a sixth chooses, half of them calibrate: what is chosen by photos
 * looks better on them than it is. Fewer than six choose and calibrate; of one or two, each does all. */
static bool split_photos(struct quant_job *job, struct quant_result *result, struct error *error) {
    int count = job->set->count;
    job->calibration = calloc((size_t)count + 1, sizeof *job->calibration);
    job->judged = calloc((size_t)count * 2 + 2, sizeof *job->judged);
    result->held_out_photos = arena_allocate_array(result->arena, (size_t)count + 1, sizeof(int));
    if (!job->calibration || !job->judged || !result->held_out_photos)
        return no_memory(error);

    int *order = result->held_out_photos, reported = count < HELD_OUT_EACH ? count : count / HELD_OUT_EACH,
        choosing = reported / 2;
    shuffle(order, count, job->options->seed);
    for (int i = count < HELD_OUT_EACH ? 0 : reported; i < count; i++) {
        if (i < reported + choosing || choosing == 0)
            job->judged[result->choosing++] = order[i];
        if (i >= reported + choosing || count < HELD_OUT_EACH)
            job->calibration[job->calibration_count++] = order[i];
    }
    qsort(order, (size_t)reported, sizeof *order, ascending);
    qsort(job->calibration, (size_t)job->calibration_count, sizeof *order, ascending);
    qsort(job->judged, (size_t)result->choosing, sizeof *order, ascending);

    job->judged_count = result->choosing;
    for (int i = 0; result->choosing < MIRROR_BELOW && i < result->choosing; i++)
        job->judged[job->judged_count++] = job->judged[i] + count;

    result->calibrated = job->calibration_count;
    result->held_out = reported;
    return true;
}

/* How many photos a candidate is judged on, by how long the float network takes. */
static bool choose_judged(struct quant_job *job, struct runner *runner, int batch, struct error *error) {
    struct predictions one;
    const struct model *model = job->model;
    if (!predictions_create(1, model_class_count(model), model_head(model), &one, error))
        return false;

    /* The first run makes the plan. */
    double start = 0;
    bool done = runner_collect(runner, job->judged, model_output(model), &one, error);
    if (done) {
        start = clock_ms();
        done = runner_collect(runner, job->judged, model_output(model), &one, error);
    }

    predictions_release(&one);
    if (!done)
        return false;

    double photo = (clock_ms() - start) / 1000 / batch * 2.5; /* with the rounding of a candidate */
    int fits = (int)(TRIAL_SECONDS / fmax(photo, 1e-6));
    int least = job->judged_count < 24 ? job->judged_count : 24;
    fits = fits < least ? least : fits;
    job->judged_count = job->judged_count < fits ? job->judged_count : fits;
    return true;
}

/* The float network's predictions, which candidates are compared with. */
static bool run_reference(struct quant_job *job, struct error *error) {
    struct trial *trial = &job->trial;
    struct graph *copy = graph_clone(job->graph);
    if (!copy)
        return no_memory(error);

    int batch = job->judged_count < TRIAL_BATCH ? job->judged_count : TRIAL_BATCH;
    *trial = (struct trial){.set = job->set,
                            .samples = job->judged,
                            .output = model_output(job->model),
                            .batch = TRIAL_BATCH,
                            .threads = job->options->threads,
                            .progress = job->options->progress,
                            .context = job->options->context};
    trial->float_runner = runner_create(copy, job->set, batch, job->options->threads, NULL, error);

    return trial->float_runner && choose_judged(job, trial->float_runner, batch, error) &&
           predictions_create(job->judged_count, model_class_count(job->model), model_head(job->model),
                              &trial->reference, error) &&
           runner_collect(trial->float_runner, job->judged, trial->output, &trial->reference, error);
}

static bool calibrate(struct quant_job *job, const struct graph *graph, struct scheme *scheme, uint64_t salt,
                      struct observations *observations, struct error *error) {
    int *values = NULL, *axes = NULL, count = 0;
    struct observe_state state = {job->options->state_path, job->key + salt};
    scheme_settle(scheme);
    bool done = scheme_watch(scheme, &values, &axes, &count, error) &&
                observations_create(values, axes, count, observations, error);

    free(values);
    free(axes);
    if (!done)
        return false;

    const struct observe_options options = {.set = job->set,
                                            .samples = job->calibration,
                                            .count = job->calibration_count,
                                            .threads = job->options->threads,
                                            .share_weights_with = job->trial.float_runner,
                                            .state = &state,
                                            .progress = job->options->progress,
                                            .context = job->options->context};
    return observe(graph, &options, observations, error);
}

/* The method with the best agreement, or the one that options name. */
static bool choose_method(struct quant_job *job, struct scheme *scheme,
                          const struct observations *observations, enum quant_method *method,
                          struct agreement *ret, struct error *error) {
    static const enum quant_method all[] = {QUANT_MSE, QUANT_MINMAX, QUANT_PERCENTILE, QUANT_ENTROPY};
    enum quant_method asked = *method, best = asked;

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct agreement agreement;
        enum quant_method tried = asked == QUANT_AUTO ? all[i] : asked;
        if (job->options->progress && !job->options->progress(job->options->context, "choosing ranges", i, 4))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted");
        scheme_set_ranges(scheme, observations, tried);
        if (!trial_run(&job->trial, scheme, job->judged_count, &agreement, error))
            return false;
        if (i == 0 || agreement_is_better(&agreement, ret)) {
            *ret = agreement;
            best = tried;
        }
        if (asked != QUANT_AUTO)
            break;
    }

    scheme_set_ranges(scheme, observations, best);
    *method = best;
    return true;
}

/* Equalised weights are calibrated again, and kept where the agreement is better. */
static bool try_equalized(struct quant_job *job, struct agreement *best, struct quant_result *result,
                          struct error *error) {
    struct agreement agreement;
    int pairs = 0;
    if (!has_depthwise(job->graph))
        return true;

    job->equalized = graph_clone(job->graph);
    if (!job->equalized)
        return no_memory(error);
    if (!equalize_layers(job->equalized, &job->observations, &pairs, error))
        return false;
    if (!pairs)
        return true;
    if (!scheme_create(job->equalized, job->options->activations, job->options->per_tensor,
                       &job->scheme_equalized, error) ||
        !calibrate(job, job->equalized, &job->scheme_equalized, 1, &job->observations_equalized, error))
        return false;

    enum quant_method method = job->options->method;
    if (!choose_method(job, &job->scheme_equalized, &job->observations_equalized, &method, &agreement, error))
        return false;

    if (agreement_is_better(&agreement, best)) {
        *best = agreement;
        result->method = method;
        result->equalized = true;
        result->pairs = pairs;
    }

    return true;
}

static bool try_corrected(struct quant_job *job, struct scheme *scheme,
                          const struct observations *observations, const struct agreement *best,
                          struct quant_result *result, struct error *error) {
    struct agreement agreement;
    if (!correct_bias(scheme, observations, error))
        return false;

    scheme->correct_bias = true;
    if (!trial_run(&job->trial, scheme, job->judged_count, &agreement, error))
        return false;

    scheme->correct_bias = result->corrected = agreement_is_better(&agreement, best);
    return true;
}

static bool list_layers(const struct scheme *scheme, struct quant_result *result, struct error *error) {
    result->layers = arena_allocate_array(result->arena, (size_t)scheme->count + 1, sizeof *result->layers);
    if (!result->layers)
        return no_memory(error);

    for (int i = 0; i < scheme->count; i++) {
        const struct unit *unit = &scheme->units[i];
        if (!unit_has_weights(unit) && !unit->reason)
            continue;
        struct quant_layer layer = {.active = unit->active, .damage = unit->damage};
        layer.name = arena_copy_string(result->arena, unit->node->name, strlen(unit->node->name));
        layer.op_type = arena_copy_string(result->arena, unit->node->op_type, strlen(unit->node->op_type));
        layer.reason = unit->active   ? NULL
                       : unit->reason ? unit->reason
                                      : "quantising it changes too many predictions";
        if (unit_has_weights(unit))
            layer.weights = shape_elements(&unit->node->inputs[1]->shape);
        if (!layer.name || !layer.op_type)
            return no_memory(error);
        result->layers[result->layer_count++] = layer;
        result->quantized_count += unit->active;
    }

    return true;
}

static int count_layers(const struct scheme *scheme) {
    int count = 0;
    for (int i = 0; i < scheme->count; i++)
        count += unit_has_weights(&scheme->units[i]);
    return count;
}

static bool run_job(struct quant_job *job, const char *output, struct quant_result *result,
                    struct error *error) {
    const struct quant_options *options = job->options;
    struct agreement best;
    result->method = options->method;
    if (!scheme_create(job->graph, options->activations, options->per_tensor, &job->scheme, error))
        return false;
    if (!count_layers(&job->scheme))
        return error_set(
            error, ERROR_INVALID,
            "nothing to quantise: it has no convolution and no matrix product with constant weights");
    if (!split_photos(job, result, error) || !run_reference(job, error) ||
        !calibrate(job, job->graph, &job->scheme, 0, &job->observations, error) ||
        !choose_method(job, &job->scheme, &job->observations, &result->method, &best, error) ||
        !try_equalized(job, &best, result, error))
        return false;

    struct scheme *scheme = result->equalized ? &job->scheme_equalized : &job->scheme;
    const struct observations *observations =
        result->equalized ? &job->observations_equalized : &job->observations;
    if (!try_corrected(job, scheme, observations, &best, result, error) ||
        !search_sensitivity(&job->trial, scheme, SENSITIVITY_SECONDS, error) ||
        !search_keep_out(&job->trial, scheme, options->max_loss, &result->search, error))
        return false;

    struct graph *graph = scheme_write(scheme, error);
    bool done = graph && onnx_graph_write(graph, output, error) && list_layers(scheme, result, error);
    graph_free(graph);
    return done;
}

static void release_job(struct quant_job *job) {
    runner_free(job->trial.float_runner);
    observations_release(&job->observations);
    observations_release(&job->observations_equalized);
    scheme_release(&job->scheme);
    scheme_release(&job->scheme_equalized);
    graph_free(job->equalized);
    graph_free(job->graph);
    free(job->calibration);
    free(job->judged);
    predictions_release(&job->trial.reference);
}

static bool compute_key(const char *network, const struct photo_set *set, const struct quant_options *options,
                        uint64_t *ret, struct error *error) {
    struct file_map map;
    if (!file_map_open(network, LIMIT_MODEL_BYTES, &map, error))
        return false;

    *ret = hash_bytes(hash_bytes(HASH_START, map.bytes, map.size), &set->key, sizeof set->key) +
           (uint64_t)options->activations + options->seed * 1000003;
    file_map_close(&map);
    return true;
}

bool quant_run(const struct model *model, const struct photo_set *set, const char *output,
               const struct quant_options *options, struct quant_result *ret, struct error *error) {
    const char *network = model_path(model);
    struct quant_job job = {.model = model, .set = set, .options = options};
    struct quant_result result = {.arena = arena_create()};
    if (!result.arena) {
        no_memory(error);
        goto fail;
    }

    if (!compute_key(network, set, options, &job.key, error))
        goto fail;

    job.graph = quant_graph_load(network, error);
    if (!job.graph)
        goto fail;
    if (!run_job(&job, output, &result, error)) {
        error_prefix(error, "%s", network);
        goto fail;
    }

    release_job(&job);
    if (options->state_path)
        unlink(options->state_path);
    *ret = result;
    return true;

fail:
    release_job(&job);
    quant_result_release(&result);
    return false;
}

void quant_result_release(struct quant_result *result) {
    arena_free(result->arena);
    *result = (struct quant_result){0};
}
