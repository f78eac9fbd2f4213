/* The model's thread: load, warm up, run batches. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "serve/backend_private.h"

#define WARM_SIDE 224 /* of a photo, where the recipe leaves the size open */

/* The size of the tensors that photos become; false where every photo has its own. */
static bool fixed_size(const struct model *model, int *ret_width, int *ret_height) {
    const struct image_recipe *recipe = model_recipe(model);
    bool fixed = recipe->do_center_crop || (recipe->do_resize && recipe->resize_short <= 0);
    *ret_width = *ret_height = WARM_SIDE;
    return image_recipe_size(recipe, WARM_SIDE, WARM_SIDE, ret_width, ret_height) && fixed;
}

/* Classify `count` grey photos. */
static bool run_grey(struct model *model, struct model_classifier *classifier, int count,
                     struct error *error) {
    int width, height;
    fixed_size(model, &width, &height);
    struct prediction *predictions = calloc((size_t)count, sizeof *predictions);
    float *tensors = calloc((size_t)count * 3 * (size_t)width * (size_t)height, sizeof *tensors);
    bool done = predictions && tensors;
    if (done)
        done = model_classify_tensors(classifier, tensors, count, height, width, 1, predictions, error);
    else
        error_set(error, ERROR_MEMORY, "no memory to warm the model up");
    free(predictions);
    free(tensors);
    return done;
}

/* What a log line says of the baked file, "" where there is none. One that was refused (another processor,
 * another version of the model) is made again from what the warm-up has packed; where it cannot be written,
 * the model serves all the same. */
static void refresh_baked(struct engine *engine, char *ret, size_t size) {
    const char *state = engine_baked_state(engine);
    struct error error;
    if (!*state)
        *ret = 0;
    else if (strcmp(state, "used") == 0)
        snprintf(ret, size, " from its baked file");
    else if (engine_bake(engine, NULL, &error))
        snprintf(ret, size, " (%.250s; made again)", state);
    else
        snprintf(ret, size, " (%.250s; it cannot be made again: %.200s)", state, error.message);
}

bool backend_model_start(void *context, struct error *error) {
    struct backend *backend = context;
    double start = clock_ms();
    struct model_options options = {
        .engine = {.precision = backend->options.precision, .threads = backend->options.threads},
        .variant = backend->variant};
    backend->model = model_load(backend->model_path, &options, error);
    if (!backend->model)
        return false;
    backend->classifier = model_classifier_create(backend->model, error);
    if (!backend->classifier || !run_grey(backend->model, backend->classifier, 1, error))
        return false;
    struct engine *engine = model_engine(backend->model);
    double took = clock_ms() - start;
    char baked[512];
    refresh_baked(engine, baked, sizeof baked);
    snprintf(backend->description, sizeof backend->description, "%s, %s, %d threads, loaded in %.0f ms%s",
             backend->name, engine_precision_used(engine), engine_threads(engine), took, baked);
    metric_add(backend->metrics.loads, 1);
    metric_set(backend->metrics.load_seconds, took / 1e3);
    metric_set(backend->metrics.ready, 1);
    atomic_store(&backend->ready, true);
    return true;
}

void backend_model_end(void *context) {
    struct backend *backend = context;
    atomic_store(&backend->ready, false);
    engine_context_free(backend->context);
    model_classifier_free(backend->classifier);
    free(backend->staging);
}

bool backend_model_is_wanted(void *context, struct batcher_item *item) {
    return !http_request_is_gone(((struct job *)item)->request);
}

/* The tensors of a batch, one behind the other. NULL when memory is out. */
static const float *gather(struct backend *backend, struct batcher_item **items, int count, size_t values) {
    const struct job *first = (const struct job *)items[0];
    size_t bytes;
    if (count == 1)
        return first->tensor;
    if (!size_multiply(values * sizeof(float), (size_t)count, &bytes))
        return NULL;
    if (bytes > backend->staging_size) {
        free(backend->staging);
        backend->staging = aligned_alloc(64, size_align(bytes, 64));
        backend->staging_size = backend->staging ? bytes : 0;
    }
    for (int i = 0; backend->staging && i < count; i++)
        memcpy(backend->staging + (size_t)i * values, ((const struct job *)items[i])->tensor,
               values * sizeof(float));
    return backend->staging;
}

static bool run_photos(struct backend *backend, struct batcher_item **items, int count, struct error *error) {
    const struct job *first = (const struct job *)items[0];
    const float *tensors = gather(backend, items, count, 3 * (size_t)first->width * (size_t)first->height);
    int top = 1, classes = model_class_count(backend->model);
    for (int i = 0; i < count; i++)
        if (((struct job *)items[i])->top > top)
            top = ((struct job *)items[i])->top;
    top = top < classes ? top : classes;
    struct prediction *all = calloc((size_t)count * (size_t)top, sizeof *all);
    bool done = all && tensors;
    if (!done)
        error_set(error, ERROR_MEMORY, "no memory for a batch of %d photos", count);
    done = done && model_classify_tensors(backend->classifier, tensors, count, first->height, first->width,
                                          top, all, error);
    for (int i = 0; done && i < count; i++) {
        struct job *job = (struct job *)items[i];
        job->prediction_count = job->top < top ? job->top : top;
        memcpy(job->predictions, all + (size_t)i * (size_t)top, (size_t)job->prediction_count * sizeof *all);
    }
    free(all);
    return done;
}

static bool run_tensors(struct backend *backend, struct job *job, struct error *error) {
    if (!backend->context)
        backend->context = engine_context_create(model_engine(backend->model), error);
    return backend->context &&
           inference_run(job->inference, model_engine(backend->model), backend->context, error);
}

bool backend_model_run(void *context, struct batcher_item **items, int count, struct error *error) {
    struct backend *backend = context;
    struct job *first = (struct job *)items[0];
    double start = clock_ms();
    bool done = first->kind == JOB_TENSORS ? run_tensors(backend, first, error)
                                           : run_photos(backend, items, count, error);
    double took = clock_ms() - start;
    for (int i = 0; i < count; i++)
        ((struct job *)items[i])->timing.infer = took;
    metric_observe(backend->metrics.batch, count);
    metric_add(backend->metrics.executions, 1);
    return done;
}

void backend_model_done(void *context, struct batcher_item *item, const struct error *error) {
    struct job *job = (struct job *)item;
    if (error)
        job_fail(job, error);
    else if (job->kind == JOB_TENSORS)
        backend_tensors_done(job);
    else
        backend_photo_done(job);
}

bool backend_model_prepare(void *context, int size) {
    struct backend *backend = context;
    struct error error;
    int width, height;
    if (!fixed_size(backend->model, &width, &height))
        return false;
    struct model_classifier *classifier = model_classifier_create(backend->model, &error);
    bool done = classifier && run_grey(backend->model, classifier, size, &error);
    model_classifier_free(classifier);
    return done;
}
