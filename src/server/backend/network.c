/* What a backend has where the model is a network: photos and tensors, which become jobs. */
#include <unistd.h>

#include "base/limits.h"
#include "base/text.h"
#include "server/backend/private.h"

static bool start(struct backend *backend, struct error *error) {
    const struct backend_options *options = &backend->options;
    const struct fetch_options fetching = {.limit = LIMIT_IMAGE_BYTES,
                                           .allow_private = options->allow_private};
    const struct batcher_options batching = {
        .max_batch = options->max_batch,
        .max_wait_us = options->max_wait_us,
        .start = backend_model_start,
        .run = backend_model_run,
        .prepare = backend_model_prepare,
        .is_wanted = backend_model_is_wanted,
        .done = backend_model_done,
        .end = backend_model_end,
        .context = backend,
    };

    kinds_init(&backend->kinds);
    backend_counts_init(&backend->counts, backend->metrics, backend->name);
    backend->fetcher = fetcher_create(&fetching, error);
    backend->batcher = backend->fetcher ? batcher_create(&batching, error) : NULL;
    return backend->batcher;
}

static bool wait_ready(struct backend *backend, struct error *error) {
    return batcher_wait_started(backend->batcher, error);
}

static bool is_ready(const struct backend *backend) {
    return atomic_load(&backend->ready);
}

static const char *kind_name(const struct backend *backend) {
    return model_head(backend->model) == HEAD_NONE ? "tensor" : "classifier";
}

static void find_load(const struct backend *backend, struct service_load *ret) {
    ret->kind = kind_name(backend);
}

static void describe(const struct backend *backend, struct model_status *ret) {
    struct model_meaning *meaning = &ret->meaning;
    struct model_description description;

    model_describe(backend->model, &description);
    text_copy(meaning->preprocessing, sizeof meaning->preprocessing, description.preprocessing);
    text_copy(meaning->labels, sizeof meaning->labels, description.labels);
    text_copy(meaning->head, sizeof meaning->head, description.head);
    text_copy(meaning->head_source, sizeof meaning->head_source, description.head_source);
    meaning->independent = head_is_independent(model_head(backend->model));
    text_copy(meaning->kind, sizeof meaning->kind, kind_name(backend));
    text_copy(ret->precision, sizeof ret->precision, engine_precision_used(model_engine(backend->model)));
}

static void update_metrics(struct backend *backend) {
    backend_counts_set_length(&backend->counts, batcher_length(backend->batcher),
                              atomic_load(&backend->pending));
}

static void finish(struct backend *backend) {
    fetcher_free(backend->fetcher);
    while (atomic_load(&backend->pending))
        usleep(1000);
    batcher_free(backend->batcher);
}

static void release(struct backend *backend) {
    model_free(backend->model);
    kinds_release(&backend->kinds);
}

const struct backend_kind backend_network = {
    .start = start,
    .wait_ready = wait_ready,
    .is_ready = is_ready,
    .describe = describe,
    .find_load = find_load,
    .update_metrics = update_metrics,
    .finish = finish,
    .release = release,
};
