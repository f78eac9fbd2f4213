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

struct language *backend_language(const struct backend *backend) {
    return backend->language;
}

const struct service *backend_service(const struct backend *backend) {
    return &backend->service;
}

bool backend_is_ready(const struct backend *backend) {
    return backend->kind->is_ready(backend);
}

static bool is_ready(void *state) {
    return backend_is_ready(state);
}

static struct model_status *list_models(void *state, const struct http_request *request, bool details,
                                        size_t *ret_count) {
    const struct backend *backend = state;
    bool ready = is_ready(state);
    struct model_status *status = calloc(1, sizeof *status);

    *ret_count = 1;
    if (!status)
        return NULL;

    strcpy(status->name, backend->name);
    strcpy(status->state, ready ? "ready" : "starting");
    text_copy(status->meaning.title, sizeof status->meaning.title, backend->settings.title);
    text_copy(status->meaning.description, sizeof status->meaning.description, backend->settings.description);
    if (ready)
        backend->kind->describe(backend, status);

    return status;
}

static bool write_metrics(void *state, struct buffer *text) {
    struct backend *backend = state;

    backend->kind->update_metrics(backend);
    metrics_write(backend->metrics, text);
    metrics_write_process(text);
    return !text->failed;
}

static void find_load(void *state, struct service_load *ret) {
    const struct backend *backend = state;
    if (backend_is_ready(backend))
        backend->kind->find_load(backend, ret);
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
                                        .metrics = backend->metrics,
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
    backend->metrics = metrics_create();
    if (!backend->metrics)
        return error_set(error, ERROR_MEMORY, "out of memory");
    backend->workers = workers_create(backend->options.decode_threads, "decode", error);

    /* The server last: handlers use all the others. */
    return backend->workers && backend->kind->start(backend, error) && start_server(backend, error);
}

static void set_defaults(struct backend_options *options, const struct model_settings *settings) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (!options->decode_threads)
        options->decode_threads = processors < 1 ? 1 : processors > 16 ? 16 : (int)processors;
    if (!options->max_batch)
        options->max_batch = settings->batch ? settings->batch : 8;
    if (options->max_batch > BATCHER_LARGEST)
        options->max_batch = BATCHER_LARGEST;
    if (!options->queue_limit)
        options->queue_limit = 256;
    if (!options->timeout_ms)
        options->timeout_ms = 60000;
}

/* Its files decide of which kind it is. */
static bool find_model(struct backend *backend, struct error *error) {
    const struct backend_options *options = &backend->options;
    struct model_files files;
    if (!model_find(options->model, &backend->model_path, &backend->variant, error) ||
        !model_files_find(backend->model_path, backend->variant, &files, error))
        return false;

    backend->kind = files.kind == MODEL_LANGUAGE ? &backend_language_model : &backend_network;
    /* What is wrong with it is told when the model is loaded. */
    struct error ignored;
    model_settings_read(files.folder, files.kind, &backend->settings, &ignored);
    text_copy(backend->name, sizeof backend->name, options->name ? options->name : files.name);
    model_files_release(&files);
    return true;
}

struct backend *backend_create(struct http_loops *loops, const struct backend_options *options,
                               struct error *error) {
    struct backend *backend = calloc(1, sizeof *backend);
    if (!backend) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    backend->loops = loops;
    backend->options = *options;
    backend->service = (struct service){
        .context = backend,
        .find_load = find_load,
        .is_ready = is_ready,
        .list_models = list_models,
        .write_metrics = write_metrics,
    };

    if (find_model(backend, error)) {
        set_defaults(&backend->options, &backend->settings);
        if (start_parts(backend, error))
            return backend;
    }

    backend_free(backend);
    return NULL;
}

bool backend_wait_ready(struct backend *backend, struct error *error) {
    return backend->kind->wait_ready(backend, error);
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
    if (backend->kind) /* jobs under way finish before the server that counts them is freed */
        backend->kind->finish(backend);

    workers_free(backend->workers);
    server_free(backend->server);
    if (backend->kind)
        backend->kind->release(backend);
    metrics_free(backend->metrics);
    free(backend->model_path);
    free(backend->variant);
    free(backend);
}
