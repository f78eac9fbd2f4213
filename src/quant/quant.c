#include "quant/quant.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "onnx/onnx.h"
#include "quant/correct.h"
#include "quant/hash.h"
#include "quant/load.h"

#define HELD_OUT_EACH 3   /* every third photo is kept for judging */
#define MIRROR_BELOW 128  /* so few held-out photos are judged mirrored as well */
#define TRIAL_SECONDS 3.0 /* that one measure of a whole candidate may take */
#define SENSITIVITY_SECONDS 8.0
#define TRIAL_BATCH 8

struct job {
    const struct photo_set *set;
    const struct quant_options *options;
    struct graph *graph, *equalised; /* equalised: a copy with other weights, or NULL */
    struct scheme scheme, scheme_equalised;
    struct observations observations, observations_equalised;
    int *calibration, *judged; /* samples */
    int calibration_count, judged_count, held_out;
    float *reference;
    struct trial trial;
    uint64_t key;
};

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "no memory to quantise");
}

int quant_photos_wanted(int count, double max_loss) {
    int wanted = max_loss > 0 ? (int)ceil(100 / max_loss) * HELD_OUT_EACH / 2 : 300;
    wanted = wanted > 1200 ? 1200 : wanted < 100 ? 100 : wanted;
    return count >= wanted ? 0 : wanted;
}

/* Every third photo judges, the others calibrate; a single photo does both. */
static bool split_photos(struct job *job, struct quant_result *result, struct error *error) {
    int count = job->set->count;
    job->calibration = calloc((size_t)count + 1, sizeof *job->calibration);
    job->judged = calloc((size_t)count * 2 + 2, sizeof *job->judged);
    result->held_out_photos = arena_allocate_array(result->arena, (size_t)count + 1, sizeof(int));
    if (!job->calibration || !job->judged || !result->held_out_photos)
        return no_memory(error);
    for (int i = 0; i < count; i++)
        if (i % HELD_OUT_EACH == HELD_OUT_EACH - 1 || count < HELD_OUT_EACH)
            job->judged[job->held_out++] = i;
    for (int i = 0; i < count; i++)
        if (i % HELD_OUT_EACH != HELD_OUT_EACH - 1 || count < HELD_OUT_EACH)
            job->calibration[job->calibration_count++] = i;
    memcpy(result->held_out_photos, job->judged, (size_t)job->held_out * sizeof(int));
    job->judged_count = job->held_out;
    for (int i = 0; job->held_out < MIRROR_BELOW && i < job->held_out; i++)
        job->judged[job->judged_count++] = job->judged[i] + count;
    result->calibrated = job->calibration_count;
    result->held_out = job->held_out;
    return true;
}

/* The float network's answers, and how long they take: that decides how many photos a candidate is judged on.
 */
static bool run_reference(struct job *job, struct error *error) {
    struct graph *copy = graph_clone(job->graph);
    struct trial *trial = &job->trial;
    if (!copy)
        return no_memory(error);
    int batch = job->judged_count < TRIAL_BATCH ? job->judged_count : TRIAL_BATCH;
    struct runner *runner = runner_create(copy, job->set, batch, job->options->threads, NULL, error);
    bool done = runner && runner_classes(runner, job->judged[0], &trial->output, &trial->classes, error);
    if (done) {
        double start = clock_ms();
        int ignored;
        done = runner_classes(runner, job->judged[0], &ignored, &trial->classes, error);
        double photo = (clock_ms() - start) / 1000 / batch * 2.5; /* with the rounding of a candidate */
        int fits = (int)(TRIAL_SECONDS / fmax(photo, 1e-6)),
            least = job->judged_count < 24 ? job->judged_count : 24;
        fits = fits < least ? least : fits;
        job->judged_count = job->judged_count < fits ? job->judged_count : fits;
    }
    if (done &&
        !(job->reference = malloc((size_t)job->judged_count * (size_t)trial->classes * sizeof(float))))
        done = no_memory(error);
    done = done && runner_collect(runner, job->judged, job->judged_count, trial->output, trial->classes,
                                  job->reference, error);
    for (int i = 0; done && i < job->judged_count; i++)
        answers_normalise(job->reference + i * trial->classes, trial->classes);
    *trial = (struct trial){.set = job->set,
                            .samples = job->judged,
                            .count = job->judged_count,
                            .reference = job->reference,
                            .output = trial->output,
                            .classes = trial->classes,
                            .batch = TRIAL_BATCH,
                            .threads = job->options->threads,
                            .float_runner = runner,
                            .progress = job->options->progress,
                            .context = job->options->context};
    return done;
}

static bool calibrate(struct job *job, const struct graph *graph, struct scheme *scheme, uint64_t salt,
                      struct observations *observations, struct error *error) {
    int *values = NULL, *axes = NULL, count = 0;
    struct observe_state state = {job->options->state_path, job->key + salt};
    scheme_settle(scheme);
    bool done = scheme_watch(scheme, &values, &axes, &count, error) &&
                observations_create(values, axes, count, observations, error);
    free(values);
    free(axes);
    return done && observe(graph, job->set, job->calibration, job->calibration_count, job->options->threads,
                           job->trial.float_runner, &state, job->options->progress, job->options->context,
                           observations, error);
}

/* The method that the photos like best, or the one that was asked for. */
static bool choose_method(struct job *job, struct scheme *scheme, const struct observations *observations,
                          enum quant_method *method, struct likeness *ret, struct error *error) {
    static const enum quant_method all[] = {QUANT_MSE, QUANT_MINMAX, QUANT_PERCENTILE, QUANT_ENTROPY};
    enum quant_method asked = *method, best = asked;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct likeness likeness;
        enum quant_method tried = asked == QUANT_AUTO ? all[i] : asked;
        if (job->options->progress && !job->options->progress(job->options->context, "choosing ranges", i, 4))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted");
        scheme_set_ranges(scheme, observations, tried);
        if (!trial_run(&job->trial, scheme, job->judged_count, &likeness, error))
            return false;
        if (i == 0 || likeness_is_better(&likeness, ret)) {
            *ret = likeness;
            best = tried;
        }
        if (asked != QUANT_AUTO)
            break;
    }
    scheme_set_ranges(scheme, observations, best);
    *method = best;
    return true;
}

/* Equalised weights have ranges of their own: calibrated again, and kept where the answers are nearer. */
static bool try_equalised(struct job *job, struct likeness *best, struct quant_result *result,
                          struct error *error) {
    struct likeness likeness;
    int pairs = 0;
    if (!has_depthwise(job->graph))
        return true;
    job->equalised = graph_clone(job->graph);
    if (!job->equalised)
        return no_memory(error);
    if (!equalise_layers(job->equalised, &job->observations, &pairs, error))
        return false;
    if (!pairs)
        return true;
    if (!scheme_create(job->equalised, job->options->activations, job->options->per_tensor,
                       &job->scheme_equalised, error) ||
        !calibrate(job, job->equalised, &job->scheme_equalised, 1, &job->observations_equalised, error))
        return false;
    enum quant_method method = job->options->method;
    if (!choose_method(job, &job->scheme_equalised, &job->observations_equalised, &method, &likeness, error))
        return false;
    if (likeness_is_better(&likeness, best)) {
        *best = likeness;
        result->method = method;
        result->equalised = true;
        result->pairs = pairs;
    }
    return true;
}

static bool try_corrected(struct job *job, struct scheme *scheme, const struct observations *observations,
                          const struct likeness *best, struct quant_result *result, struct error *error) {
    struct likeness likeness;
    if (!correct_bias(scheme, observations, error))
        return false;
    scheme->correct_bias = true;
    if (!trial_run(&job->trial, scheme, job->judged_count, &likeness, error))
        return false;
    scheme->correct_bias = result->corrected = likeness_is_better(&likeness, best);
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
                                      : "kept out: it costs too much of the answers";
        if (unit_has_weights(unit))
            layer.weights = shape_elements(&unit->node->inputs[1]->shape);
        if (!layer.name || !layer.op_type)
            return no_memory(error);
        result->layers[result->layer_count++] = layer;
        result->quantised_count += unit->active;
    }
    return true;
}

static int count_layers(const struct scheme *scheme) {
    int count = 0;
    for (int i = 0; i < scheme->count; i++)
        count += unit_has_weights(&scheme->units[i]);
    return count;
}

static bool job_run(struct job *job, const char *output, struct quant_result *result, struct error *error) {
    const struct quant_options *options = job->options;
    struct likeness best;
    result->method = options->method;
    if (!scheme_create(job->graph, options->activations, options->per_tensor, &job->scheme, error))
        return false;
    if (!count_layers(&job->scheme))
        return error_set(
            error, ERROR_INVALID,
            "there is nothing to quantise in it: no convolution and no product with constant weights");
    if (!split_photos(job, result, error) || !run_reference(job, error) ||
        !calibrate(job, job->graph, &job->scheme, 0, &job->observations, error) ||
        !choose_method(job, &job->scheme, &job->observations, &result->method, &best, error) ||
        !try_equalised(job, &best, result, error))
        return false;
    struct scheme *scheme = result->equalised ? &job->scheme_equalised : &job->scheme;
    const struct observations *observations =
        result->equalised ? &job->observations_equalised : &job->observations;
    if (!try_corrected(job, scheme, observations, &best, result, error) ||
        !search_sensitivity(&job->trial, scheme, SENSITIVITY_SECONDS, error) ||
        !search_keep_out(&job->trial, scheme, options->max_loss, &result->search, error))
        return false;
    struct graph *graph = scheme_write(scheme, error);
    bool done = graph && onnx_graph_write(graph, output, error) && list_layers(scheme, result, error);
    graph_free(graph);
    return done;
}

static void job_release(struct job *job) {
    runner_free(job->trial.float_runner);
    observations_release(&job->observations);
    observations_release(&job->observations_equalised);
    scheme_release(&job->scheme);
    scheme_release(&job->scheme_equalised);
    graph_free(job->equalised);
    graph_free(job->graph);
    free(job->calibration);
    free(job->judged);
    free(job->reference);
}

static bool network_key(const char *network, const struct photo_set *set, const struct quant_options *options,
                        uint64_t *ret, struct error *error) {
    struct file_map map;
    if (!file_map_open(network, LIMIT_MODEL_BYTES, &map, error))
        return false;
    *ret = hash_bytes(hash_bytes(HASH_START, map.bytes, map.size), &set->key, sizeof set->key) +
           (uint64_t)options->activations;
    file_map_close(&map);
    return true;
}

bool quant_run(const char *network, const struct photo_set *set, const char *output,
               const struct quant_options *options, struct quant_result *ret, struct error *error) {
    struct job job = {.set = set, .options = options};
    struct quant_result result = {.arena = arena_create()};
    bool done = result.arena ? network_key(network, set, options, &job.key, error) : no_memory(error);
    done = done && (job.graph = quant_graph_load(network, error)) != NULL;
    done = done && (job_run(&job, output, &result, error) || error_prefix(error, "%s", network));
    job_release(&job);
    if (done && options->state_path)
        unlink(options->state_path);
    if (done)
        *ret = result;
    else
        quant_result_release(&result);
    return done;
}

void quant_result_release(struct quant_result *result) {
    arena_free(result->arena);
    *result = (struct quant_result){0};
}
