/* A backend's life, and what it tells of itself. */
#include "server/backend/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "model/find.h"
#include "server/backend/private.h"
#include "server/edge/respond.h"

/* ---- What it tells of itself ---- */

const char *backend_name(const struct backend *backend) {
    return backend->name;
}

struct model *backend_model(const struct backend *backend) {
    return atomic_load(&backend->ready) ? backend->model : NULL;
}

const struct service *backend_service(const struct backend *backend) {
    return &backend->service;
}

static bool is_ready(void *state) {
    return atomic_load(&((const struct backend *)state)->ready);
}

/* Of a loaded model. */
static void describe(const struct model *model, struct model_meaning *ret) {
    struct model_description description;
    model_describe(model, &description);
    text_copy(ret->preprocessing, sizeof ret->preprocessing, description.preprocessing);
    text_copy(ret->labels, sizeof ret->labels, description.labels);
    text_copy(ret->head, sizeof ret->head, description.head);
    text_copy(ret->head_source, sizeof ret->head_source, description.head_source);
    ret->independent = head_is_independent(model_head(model));
    text_copy(ret->kind, sizeof ret->kind, model_head(model) == HEAD_NONE ? "tensor" : "classifier");
}

static struct model_status *list_models(void *state, const struct http_request *request, bool details,
                                        size_t *ret_count) {
    const struct backend *backend = state;
    bool ready = atomic_load(&backend->ready);
    struct model_status *status = calloc(1, sizeof *status);

    *ret_count = 1;
    if (!status)
        return NULL;

    strcpy(status->name, backend->name);
    strcpy(status->state, ready ? "ready" : "starting");
    if (ready) {
        describe(backend->model, &status->meaning);
        text_copy(status->precision, sizeof status->precision,
                  engine_precision_used(model_engine(backend->model)));
    }

    return status;
}

static bool write_metrics(void *state, struct buffer *text) {
    struct backend *backend = state;
    return backend_counts_write(&backend->counts, batcher_length(backend->batcher),
                                atomic_load(&backend->pending), text);
}

static bool check_model(void *state, const char *name, struct error *error) {
    const struct backend *backend = state;

    if (strcmp(backend->name, name) == 0)
        return true;
    error_set_unknown_model(error, name, strlen(name), backend->name);
    return false;
}

/* ---- Life ---- */

static bool start_server(struct backend *backend, struct error *error) {
    const struct backend_options *options = &backend->options;
    const char *const addresses[] = {options->address, NULL};

    backend->server = server_create(backend->loops,
                                    &(struct server_options){
                                        .tier = TIER_BACKEND,
                                        .metrics = backend_counts_registry(&backend->counts),
                                        .addresses = addresses,
                                        .port = options->port,
                                        .inherit = true,
                                        .body_limit = options->body_limit,
                                        .access_log = options->log,
                                        .files = WEB_BACKEND,
                                        .host_names = options->host_names,
                                        .backend = backend,
                                        .service = &backend->service,
                                        .check_model = check_model,
                                    },
                                    error);
    return backend->server != NULL;
}

static bool start_parts(struct backend *backend, struct error *error) {
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

    if (!backend_counts_init(&backend->counts, backend->name))
        return error_set(error, ERROR_MEMORY, "out of memory");
    backend->workers = workers_create(options->decode_threads, "decode", error);
    if (!backend->workers)
        return false;

    backend->fetcher = fetcher_create(&fetching, error);
    if (!backend->fetcher)
        return false;
    /* The server last: handlers use all the others. */
    backend->batcher = batcher_create(&batching, error);
    return backend->batcher && start_server(backend, error);
}

/* The last component of a path, without ".onnx", followed by the variant. */
static void name_model(struct backend *backend) {
    const char *path = backend->model_path, *end = path + strlen(path);
    while (end > path + 1 && end[-1] == '/')
        end--;

    const char *start = end;
    while (start > path && start[-1] != '/')
        start--;

    int length = (int)(end - start);
    if (length > 5 && !memcmp(end - 5, ".onnx", 5))
        length -= 5;

    snprintf(backend->name, sizeof backend->name, "%.*s%s%s", length, start, backend->variant ? ":" : "",
             backend->variant ? backend->variant : "");
}

static void set_defaults(struct backend_options *options) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (!options->decode_threads)
        options->decode_threads = processors < 1 ? 1 : processors > 16 ? 16 : (int)processors;
    if (!options->max_batch)
        options->max_batch = 8;
    if (options->max_batch > BATCHER_LARGEST)
        options->max_batch = BATCHER_LARGEST;
    if (!options->queue_limit)
        options->queue_limit = 256;
    if (!options->timeout_ms)
        options->timeout_ms = 60000;
}

struct backend *backend_create(struct http_loops *loops, const struct backend_options *options,
                               struct error *error) {
    struct backend *backend = calloc(1, sizeof *backend);
    if (!backend) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    kinds_init(&backend->kinds);
    backend->loops = loops;
    backend->options = *options;
    backend->service = (struct service){
        .context = backend,
        .is_ready = is_ready,
        .list_models = list_models,
        .write_metrics = write_metrics,
    };

    set_defaults(&backend->options);
    if (!model_find(options->model, &backend->model_path, &backend->variant, error))
        goto failed;

    if (options->name)
        text_copy(backend->name, sizeof backend->name, options->name);
    else
        name_model(backend);

    if (start_parts(backend, error))
        return backend;

failed:
    backend_free(backend);
    return NULL;
}

bool backend_wait_ready(struct backend *backend, struct error *error) {
    return batcher_wait_started(backend->batcher, error);
}

int backend_port(const struct backend *backend) {
    return server_port(backend->server);
}

const char *backend_description(const struct backend *backend) {
    return backend->description;
}

bool backend_stop(struct backend *backend, int grace_ms) {
    return !backend->server || server_stop(backend->server, grace_ms);
}

void backend_free(struct backend *backend) {
    if (!backend)
        return;

    backend_stop(backend, 0);
    /* Jobs under way finish, without a client, before the server that counts them is freed. */
    fetcher_free(backend->fetcher);
    while (atomic_load(&backend->pending))
        usleep(1000);

    batcher_free(backend->batcher);
    workers_free(backend->workers);
    server_free(backend->server);
    model_free(backend->model);
    backend_counts_release(&backend->counts);
    kinds_release(&backend->kinds);
    free(backend->model_path);
    free(backend->variant);
    free(backend);
}
