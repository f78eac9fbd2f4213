/* A backend's life, its routes, and the jobs that predictions are. */
#include "serve/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "model/find.h"
#include "serve/backend_private.h"
#include "serve/web_reply.h"

#define LONGEST_TIMEOUT_MS 3600000

/* ---- Jobs ---- */

struct job *job_of_work(struct work *work) {
    return (struct job *)(void *)((char *)work - offsetof(struct job, work));
}

void job_free(struct job *job) {
    atomic_fetch_sub(&job->backend->pending, 1);
    http_body_release(job->fetched);
    inference_free(job->inference);
    free(job->address);
    free(job->tensor);
    free(job->predictions);
    free(job);
}

void job_fail(struct job *job, const struct error *error) {
    struct http_request *request = job->request;
    job_measure(job, false);
    job_free(job);
    http_reply_error(request, error);
}

/* X-Request-Timeout-Ms, else the option. */
static int64_t find_deadline(const struct backend *backend, const struct http_request *request) {
    const char *header = http_request_header(request, "X-Request-Timeout-Ms");
    long milliseconds = header ? strtol(header, NULL, 10) : 0;
    if (milliseconds < 1)
        milliseconds = backend->options.timeout_ms;
    if (milliseconds > LONGEST_TIMEOUT_MS)
        milliseconds = LONGEST_TIMEOUT_MS;
    return request->started_ns + milliseconds * 1000000;
}

struct job *job_create(struct backend *backend, struct http_request *request, enum job_kind kind) {
    struct error error;
    if (!atomic_load(&backend->ready)) {
        error_set(&error, ERROR_UNAVAILABLE, "the model %s is still being loaded: try again soon",
                  backend->name);
        http_reply_error(request, &error);
        return NULL;
    }
    if (atomic_fetch_add(&backend->pending, 1) >= backend->options.queue_limit) {
        atomic_fetch_sub(&backend->pending, 1);
        metric_add(backend->metrics.failure, 1);
        error_set(&error, ERROR_UNAVAILABLE, "too many requests are waiting for the model %s: try again soon",
                  backend->name);
        http_reply_error(request, &error);
        return NULL;
    }
    struct job *job = calloc(1, sizeof *job);
    if (!job) {
        atomic_fetch_sub(&backend->pending, 1);
        http_reply_error(request, &(struct error){ERROR_MEMORY, "no memory for another request"});
        return NULL;
    }
    job->backend = backend;
    job->request = request;
    job->kind = kind;
    job->item.key = -1;
    job->item.deadline_ns = find_deadline(backend, request);
    return job;
}

void job_work(struct job *job, void (*run)(struct work *work)) {
    job->work.run = run;
    workers_submit(job->backend->workers, &job->work);
}

bool job_is_alive(struct job *job) {
    if (!http_request_is_gone(job->request) && clock_ns() < job->item.deadline_ns)
        return true;
    struct error error;
    error_set(&error, ERROR_TIMEOUT, "the request waited longer than it was allowed to");
    batcher_expect(job->backend->batcher, -1);
    job_fail(job, &error);
    return false;
}

/* ---- Routes ---- */

enum route {
    ROUTE_HELLO,
    ROUTE_HEALTH,
    ROUTE_READY,
    ROUTE_METRICS,
    ROUTE_MODELS,
    ROUTE_PREDICT,
    ROUTE_MODEL_PREDICT,
    ROUTE_MODEL,
    ROUTE_V2,
    ROUTE_V2_LIVE,
    ROUTE_V2_READY,
    ROUTE_V2_MODELS,
    ROUTE_V2_INDEX,
    ROUTE_V2_MODEL,
    ROUTE_V2_MODEL_READY,
    ROUTE_V2_INFER,
    ROUTE_V1_PREDICT,
    ROUTE_V1_MODEL,
    ROUTE_V1_METADATA,
    ROUTE_OTHER,
};

/* "*" stands for one segment; the first of a path is the model. */
static const struct {
    const char *pattern;
    enum route route;
    const char *allow; /* methods */
    const char *label; /* in metrics and logs */
} routes[] = {
    {"/hello", ROUTE_HELLO, "GET, HEAD", "hello"},
    {"/healthz", ROUTE_HEALTH, "GET, HEAD", "health"},
    {"/readyz", ROUTE_READY, "GET, HEAD", "health"},
    {"/metrics", ROUTE_METRICS, "GET, HEAD", "metrics"},
    {"/models", ROUTE_MODELS, "GET, HEAD", "models"},
    {"/predict", ROUTE_PREDICT, "POST", "predict"},
    {"/model/*/predict", ROUTE_MODEL_PREDICT, "POST", "predict"},
    {"/model/*/metrics", ROUTE_METRICS, "GET, HEAD", "metrics"},
    {"/model/*", ROUTE_MODEL, "PUT", "model"},
    {"/v2", ROUTE_V2, "GET, HEAD", "metadata"},
    {"/v2/health/live", ROUTE_V2_LIVE, "GET, HEAD", "health"},
    {"/v2/health/ready", ROUTE_V2_READY, "GET, HEAD", "health"},
    {"/v2/models", ROUTE_V2_MODELS, "GET, HEAD", "metadata"},
    {"/v2/repository/index", ROUTE_V2_INDEX, "POST", "metadata"},
    {"/v2/models/*", ROUTE_V2_MODEL, "GET, HEAD", "metadata"},
    {"/v2/models/*/versions/1", ROUTE_V2_MODEL, "GET, HEAD", "metadata"},
    {"/v2/models/*/ready", ROUTE_V2_MODEL_READY, "GET, HEAD", "health"},
    {"/v2/models/*/versions/1/ready", ROUTE_V2_MODEL_READY, "GET, HEAD", "health"},
    {"/v2/models/*/infer", ROUTE_V2_INFER, "POST", "infer"},
    {"/v2/models/*/versions/1/infer", ROUTE_V2_INFER, "POST", "infer"},
    {"/v1/models/*:predict", ROUTE_V1_PREDICT, "POST", "predict_v1"},
    {"/v1/models/*/versions/1:predict", ROUTE_V1_PREDICT, "POST", "predict_v1"},
    {"/v1/models/*", ROUTE_V1_MODEL, "GET, HEAD", "metadata"},
    {"/v1/models/*/versions/1", ROUTE_V1_MODEL, "GET, HEAD", "metadata"},
    {"/v1/models/*/metadata", ROUTE_V1_METADATA, "GET, HEAD", "metadata"},
    {"/v1/models/*/versions/1/metadata", ROUTE_V1_METADATA, "GET, HEAD", "metadata"},
};

/* *ret_name: the run of the path that the '*' stands for. */
static bool match(const char *pattern, const char *path, const char **ret_name, size_t *ret_length) {
    const char *star = strchr(pattern, '*');
    size_t before = star ? (size_t)(star - pattern) : strlen(pattern);
    *ret_name = NULL;
    if (!star || strncmp(pattern, path, before))
        return !star && !strcmp(pattern, path);
    const char *behind = star + 1, *name = path + before;
    size_t rest = strlen(name), tail = strlen(behind);
    if (rest <= tail || strcmp(name + rest - tail, behind) || memchr(name, '/', rest - tail))
        return false;
    *ret_name = name;
    *ret_length = rest - tail;
    return true;
}

static bool is_ours(const struct backend *backend, const char *name, size_t length) {
    return !name || (strlen(backend->name) == length && !memcmp(backend->name, name, length));
}

static void answer_text(struct http_request *request, const char *json) {
    http_reply_bytes(request, 200, "application/json", json, strlen(json));
}

static void serve(struct backend *backend, struct http_request *request, enum route route) {
    switch (route) {
    case ROUTE_HELLO:
        answer_text(request, "\"Hello!\"\n");
        return;
    case ROUTE_HEALTH:
        answer_text(request, "{\"status\": \"alive\"}\n");
        return;
    case ROUTE_READY:
        backend_answer_ready(backend, request);
        return;
    case ROUTE_METRICS:
        backend_answer_metrics(backend, request);
        return;
    case ROUTE_MODELS:
        backend_answer_models(backend, request);
        return;
    case ROUTE_MODEL:
        json_reply(request, 200, json_pack("{s:s}", "model", backend->name));
        return;
    case ROUTE_PREDICT:
    case ROUTE_MODEL_PREDICT:
        backend_predict(backend, request);
        return;
    case ROUTE_V2_INFER:
        backend_infer(backend, request);
        return;
    case ROUTE_V1_PREDICT:
        backend_tensorflow_predict(backend, request);
        return;
    case ROUTE_V2:
        backend_answer_protocol(backend, request, "server");
        return;
    case ROUTE_V2_LIVE:
        answer_text(request, "{\"live\": true}\n");
        return;
    case ROUTE_V2_READY:
    case ROUTE_V2_MODEL_READY:
        backend_answer_protocol(backend, request, "ready");
        return;
    case ROUTE_V2_MODELS:
        backend_answer_protocol(backend, request, "models");
        return;
    case ROUTE_V2_INDEX:
        backend_answer_protocol(backend, request, "index");
        return;
    case ROUTE_V2_MODEL:
        backend_answer_protocol(backend, request, "model");
        return;
    case ROUTE_V1_METADATA:
        backend_answer_protocol(backend, request, "signature");
        return;
    case ROUTE_V1_MODEL:
    default:
        backend_answer_protocol(backend, request, "tensorflow");
    }
}

static bool method_fits(const char *allow, enum http_method method) {
    return !strcmp(allow, "POST")  ? method == HTTP_POST
           : !strcmp(allow, "PUT") ? method == HTTP_PUT
                                   : method == HTTP_GET || method == HTTP_HEAD;
}

static void handle(void *context, struct http_request *request) {
    struct backend *backend = context;
    struct error error;
    struct web_reply file;
    if (web_reply_make(WEB_BACKEND, request, &file)) {
        request->user = (void *)(uintptr_t) "docs";
        http_reply(request, file.status, file.headers, file.header_count, file.body);
        return;
    }
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const char *name;
        size_t length = 0;
        if (!match(routes[i].pattern, request->path, &name, &length))
            continue;
        request->user = (void *)(uintptr_t)routes[i].label;
        if (!is_ours(backend, name, length)) {
            error_set(&error, ERROR_NOT_FOUND, "there is no model \"%.*s\" here; there is: %s",
                      length > 100 ? 100 : (int)length, name, backend->name);
            http_reply_error(request, &error);
        } else if (!method_fits(routes[i].allow, request->method)) {
            http_reply_method_not_allowed(request, routes[i].allow);
        } else {
            serve(backend, request, routes[i].route);
        }
        return;
    }
    error_set(&error, ERROR_NOT_FOUND, "there is nothing at this address");
    http_reply_error(request, &error);
}

/* ---- Life ---- */

static bool listen_somewhere(struct backend *backend, struct error *error) {
    int inherited = http_inherited_sockets();
    for (int i = 0; i < inherited; i++)
        if (!http_server_listen_fd(backend->server, 3 + i, error))
            return false;
    return inherited ||
           http_server_listen(backend->server, backend->options.address, backend->options.port, error);
}

static bool start_parts(struct backend *backend, struct error *error) {
    struct fetch_options fetching = {.allow_private = backend->options.allow_private};
    struct batcher_options batching = {
        .max_batch = backend->options.max_batch,
        .max_wait_us = backend->options.max_wait_us,
        .start = backend_model_start,
        .run = backend_model_run,
        .prepare = backend_model_prepare,
        .is_wanted = backend_model_is_wanted,
        .done = backend_model_done,
        .end = backend_model_end,
        .context = backend,
    };
    struct http_server_options serving = {
        .handle = handle,
        .done = backend_done,
        .context = backend,
        .body_limit = backend->options.body_limit,
    };
    backend->workers = workers_create(backend->options.decode_threads, "decode", error);
    backend->fetcher = backend->workers ? fetcher_create(&fetching, error) : NULL;
    backend->server = backend->fetcher ? http_server_create(backend->loops, &serving, error) : NULL;
    /* Before the first request can come: handlers look at it. */
    backend->batcher = backend->server ? batcher_create(&batching, error) : NULL;
    return backend->batcher && listen_somewhere(backend, error);
}

/* The last part of a path, without ".onnx", and the variant behind it. */
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
    if (!options->queue_limit)
        options->queue_limit = 256;
    if (!options->timeout_ms)
        options->timeout_ms = 60000;
}

struct backend *backend_create(struct http_loops *loops, const struct backend_options *options,
                               struct error *error) {
    struct backend *backend = calloc(1, sizeof *backend);
    if (!backend) {
        error_set(error, ERROR_MEMORY, "no memory for a backend");
        return NULL;
    }
    backend->loops = loops;
    backend->options = *options;
    set_defaults(&backend->options);
    bool good = model_find(options->model, &backend->model_path, &backend->variant, error);
    if (good && options->name)
        snprintf(backend->name, sizeof backend->name, "%s", options->name);
    else if (good)
        name_model(backend);
    good =
        good && (backend_metrics_create(backend) || error_set(error, ERROR_MEMORY, "no memory for metrics"));
    if (good && start_parts(backend, error))
        return backend;
    backend_free(backend);
    return NULL;
}

bool backend_wait_ready(struct backend *backend, struct error *error) {
    return batcher_wait_started(backend->batcher, error);
}

int backend_port(const struct backend *backend) {
    return http_server_port(backend->server);
}

const char *backend_description(const struct backend *backend) {
    return backend->description;
}

bool backend_stop(struct backend *backend, int grace_ms) {
    return !backend->server || http_server_stop(backend->server, grace_ms);
}

void backend_free(struct backend *backend) {
    if (!backend)
        return;
    backend_stop(backend, 0);
    /* Whatever is still under way is answered, to nobody, before the server that counts it goes. */
    fetcher_free(backend->fetcher);
    while (atomic_load(&backend->pending))
        usleep(1000);
    batcher_free(backend->batcher);
    workers_free(backend->workers);
    http_server_free(backend->server);
    model_free(backend->model);
    metrics_free(backend->metrics.registry);
    free(backend->model_path);
    free(backend->variant);
    free(backend);
}
