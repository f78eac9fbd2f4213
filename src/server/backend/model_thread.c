/* The model's thread: load, warm up, run batches. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/backend/private.h"

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
    struct error reason;
    if (!model_takes_photos(model, &reason)) {
        log_line("guichet: %s takes no photos, and is served over V2 and TensorFlow Serving: %s",
                 model_name(model), reason.message);
        return;
    }

    model_describe(model, &description);
    const struct {
        const char *what, *source, *more;
    } facts[] = {{"preprocessing", description.preprocessing, ""},
                 {"labels", description.labels, ""},
                 {"scores", description.head_source, description.head}};
    char text[512] = "";
    size_t used = 0;

    for (size_t i = 0; i < sizeof facts / sizeof *facts && used < sizeof text; i++) {
        const char *source = facts[i].source ? facts[i].source : "";
        if (strncmp(source, "assumed", 7) == 0 || strncmp(source, "none", 4) == 0)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s %s%s%s", used ? "; " : "",
                                     facts[i].what, source, *facts[i].more ? ": " : "", facts[i].more);
    }
    if (used)
        log_line("guichet: %s: %s", model_name(model), text);
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

/* Pack the weights of a network whose inputs may have any size, before its files are let go: a plan for the
 * smallest shapes that it could take. Where it takes none of these, its first request does it. */
static void prepare_least(struct engine_context *context, const struct engine *engine) {
    struct tensor inputs[INFERENCE_PORTS] = {0};
    int count = engine_input_count(engine);
    struct error ignored;

    for (int i = 0; i < count && i < INFERENCE_PORTS; i++) {
        const struct engine_port *port = engine_input(engine, i);
        inputs[i] = (struct tensor){.dtype = port->dtype, .shape = port->shape};
        for (int axis = 0; axis < port->shape.rank; axis++)
            if (port->shape.dims[axis] < 0)
                inputs[i].shape.dims[axis] = 1;
    }
    if (count <= INFERENCE_PORTS)
        engine_prepare(context, inputs, count, &ignored);
}

bool backend_model_start(void *context, struct error *error) {
    struct backend *backend = context;
    double start = clock_ms();
    struct model_options options = {
        .engine = {.precision = backend->options.precision, .threads = backend->options.threads},
        .variant = backend->variant,
        .any_network = true};
    backend->model = model_load(backend->model_path, &options, error);
    if (!backend->model)
        return false;

    if (!batch_runner_start(&backend->runner, backend->model, backend->options.max_batch, error) ||
        (backend->runner.classifier && !model_classifier_warm_up(backend->runner.classifier, 1, error)))
        return false;

    struct engine *engine = model_engine(backend->model);
    if (!backend->runner.classifier)
        prepare_least(backend->runner.context, engine);
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
    batch_runner_end(&backend->runner);
}

bool backend_model_is_wanted(void *context, struct batcher_item *item) {
    return !http_request_is_gone(((struct job *)item)->request);
}

bool backend_model_run(void *context, struct batcher_item **items, int count, struct error *error) {
    struct backend *backend = context;
    double start = clock_ms();
    bool done = batch_run(&backend->runner, items, count, error);
    double took = clock_ms() - start;

    for (int i = 0; i < count; i++)
        ((struct job *)items[i])->timing.infer = took;
    backend_counts_add_batch(&backend->counts, count);
    return done;
}

void backend_model_done(void *context, struct batcher_item *item, const struct error *error) {
    struct job *job = (struct job *)item;
    const struct error failure = error ? *error : job->failure; /* the job goes first */
    if (failure.code != ERROR_NONE)
        job_fail(job, &failure);
    else if (job->kind == JOB_TENSORS)
        job_finish_tensors(job);
    else
        job_finish_photo(job);
}

/* The plan, and its weights packed; what a network wants to be another number of rows needs none. */
bool backend_model_prepare(void *context, int key, int rows) {
    struct backend *backend = context;
    struct engine *engine = model_engine(backend->model);
    const struct request_kind *kind = &backend->kinds.list[key];
    struct tensor inputs[INFERENCE_PORTS];
    struct error error;

    if (model_input(backend->model)->batch > 0)
        return true;
    kind_inputs(kind, rows, inputs);
    if (kind->apart && !engine_rows_are_apart(engine, inputs, kind->input_count, rows))
        return false;

    struct engine_context *plans = engine_context_create(engine, &error);
    bool done = plans && engine_prepare(plans, inputs, kind->input_count, &error);
    engine_context_free(plans);
    return done;
}
