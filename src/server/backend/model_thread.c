/* The model's thread: load, warm up, run batches. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/backend/private.h"
#include "server/backend/protocol/inference.h"

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

/* One line, where something that decides what is recognised is stated nowhere. */
static void warn_of_assumptions(const struct model *model) {
    struct model_description description;
    model_describe(model, &description);
    bool preprocessing = strncmp(description.preprocessing, "assumed", 7) == 0;
    bool labels =
        strncmp(description.labels, "assumed", 7) == 0 || strncmp(description.labels, "none", 4) == 0;
    if (preprocessing || labels)
        log_line("guichet: %s: %s%s%s%s%s", model_name(model), preprocessing ? "preprocessing " : "",
                 preprocessing ? description.preprocessing : "", preprocessing && labels ? "; " : "",
                 labels ? "labels " : "", labels ? description.labels : "");
}

static void *detach_baked(void *context) {
    const struct backend *backend = context;
    struct error error;
    if (!engine_detach_baked(model_engine(backend->model), &error))
        log_line("guichet: %s: %s; do not overwrite that file", backend->name, error.message);
    return NULL;
}

/* From now on somebody may write over the model's files: this process needs nothing of them. */
static bool detach(struct backend *backend, struct error *error) {
    struct engine *engine = model_engine(backend->model);
    if (!engine_detach(engine, error))
        return false;
    if (strcmp(engine_baked_state(engine), "used") == 0)
        backend->is_detaching = pthread_create(&backend->detaching, NULL, detach_baked, backend) == 0;
    return true;
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
    if (!backend->classifier || !model_classifier_warm_up(backend->classifier, 1, error))
        return false;

    struct engine *engine = model_engine(backend->model);
    warn_of_assumptions(backend->model);
    double took = clock_ms() - start;
    char baked[512];
    refresh_baked(engine, baked, sizeof baked);
    if (!detach(backend, error))
        return false;

    snprintf(backend->description, sizeof backend->description, "%s, %s, %d threads, loaded in %.0f ms%s",
             backend->name, engine_precision_used(engine), engine_threads(engine), took, baked);
    backend_counts_set_ready(&backend->counts, took / 1e3);
    atomic_store(&backend->ready, true);

    return true;
}

void backend_model_end(void *context) {
    struct backend *backend = context;
    atomic_store(&backend->ready, false);
    if (backend->is_detaching)
        pthread_join(backend->detaching, NULL);
    engine_context_free(backend->context);
    model_classifier_free(backend->classifier);
    free(backend->staging);
}

bool backend_model_is_wanted(void *context, struct batcher_item *item) {
    return !http_request_is_gone(((struct job *)item)->request);
}

/* The tensors of a batch, one after the other. NULL when memory is out. */
static const void *gather(struct backend *backend, struct batcher_item **items, int count) {
    const struct job *first = (const struct job *)items[0];
    size_t photo = first->prepared.bytes, bytes;
    if (count == 1)
        return first->prepared.tensor;
    if (!size_multiply(photo, (size_t)count, &bytes))
        return NULL;

    if (bytes > backend->staging_size) {
        free(backend->staging);
        backend->staging = aligned_alloc(64, size_align(bytes, 64));
        backend->staging_size = backend->staging ? bytes : 0;
    }

    for (int i = 0; backend->staging && i < count; i++)
        memcpy((char *)backend->staging + (size_t)i * photo, ((const struct job *)items[i])->prepared.tensor,
               photo);

    return backend->staging;
}

static bool run_photos(struct backend *backend, struct batcher_item **items, int count, struct error *error) {
    const struct job *first = (const struct job *)items[0];
    const void *tensors = gather(backend, items, count);
    int top = 1, classes = model_class_count(backend->model);

    for (int i = 0; i < count; i++)
        if (((struct job *)items[i])->top > top)
            top = ((struct job *)items[i])->top;

    top = top < classes ? top : classes;
    cleanup(freep) struct prediction *all = calloc((size_t)count * (size_t)top, sizeof *all);
    cleanup(freep) bool *unusable = calloc((size_t)count, sizeof *unusable);
    if (!all || !unusable || !tensors)
        return error_set(error, ERROR_MEMORY, "not enough memory for a batch of %d photos", count);
    if (!model_classify_each(backend->classifier, tensors, count, first->prepared.width,
                             first->prepared.height, top, all, unusable, error))
        return false;

    for (int i = 0; i < count; i++) {
        struct job *job = (struct job *)items[i];
        job->unusable = unusable[i];
        job->prediction_count = job->top < top ? job->top : top;
        memcpy(job->predictions, all + (size_t)i * (size_t)top, (size_t)job->prediction_count * sizeof *all);
    }
    return true;
}

static bool run_tensors(struct backend *backend, struct job *job, struct error *error) {
    if (!backend->context)
        backend->context = engine_context_create(model_engine(backend->model), error);
    return backend->context && inference_run(job->inference, model_engine(backend->model), backend->context,
                                             backend->options.max_batch, error);
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
    backend_counts_add_batch(&backend->counts, count);

    return done;
}

static void job_fail_unusable(struct job *job) {
    struct error error;
    model_unusable_error(job->backend->model, &error);
    job_fail(job, &error);
}

void backend_model_done(void *context, struct batcher_item *item, const struct error *error) {
    struct job *job = (struct job *)item;
    if (error)
        job_fail(job, error);
    else if (job->kind == JOB_TENSORS)
        job_finish_tensors(job);
    else if (job->unusable)
        job_fail_unusable(job);
    else
        job_finish_photo(job);
}

bool backend_model_prepare(void *context, int size) {
    struct backend *backend = context;
    struct error error;
    int width, height;

    if (!photo_input_size(model_input(backend->model), &width, &height))
        return false;

    struct model_classifier *classifier = model_classifier_create(backend->model, &error);
    bool done = classifier && model_classifier_warm_up(classifier, size, &error);
    model_classifier_free(classifier);

    return done;
}
