#include "serve/frontend.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/limits.h"
#include "serve/frontend_private.h"
#include "serve/web_reply.h"

#define RESOLVE_SECONDS 10
#define IDENTITY_WAIT_MS 1000
#define CALLS_MS 65000

static const char choice[] = "/model/"; /* before the name, where one is chosen */

void frontend_reply(struct http_request *request, int status, const struct http_header *headers,
                    int header_count, const char *cookie, struct http_body *body) {
    struct http_header all[PROXY_HEADERS_MOST + 4];
    int count = 0;
    const struct page_visit *visit = request->user;
    for (int i = 0; i < header_count && count < PROXY_HEADERS_MOST; i++)
        all[count++] = headers[i];
    if (visit)
        all[count++] = (struct http_header){"X-Request-Id", visit->trace.request_id};
    if (cookie)
        all[count++] = (struct http_header){"Set-Cookie", cookie};
    http_reply(request, status, all, count, body);
}

void frontend_reply_json(struct http_request *request, int status, json_t *json, const char *cookie) {
    static const struct http_header headers[] = {{"Content-Type", "application/json"},
                                                 {"Cache-Control", "no-store"}};
    static const char sorry[] = "{\"error\":\"a name in the request is not UTF-8\"}";
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    frontend_reply(request, text ? status : 400, headers, 2, cookie,
                   text ? http_body_take(text, strlen(text)) : http_body_create(sorry, sizeof sorry - 1));
}

void frontend_reply_error(struct http_request *request, const struct error *error) {
    frontend_reply_json(request, error_http_status(error->code), json_pack("{s:s}", "error", error->message),
                        NULL);
}

static void metrics_count(struct frontend *frontend, enum frontend_route route, int status, double ms) {
    static const char *const names[] = {"page", "session", "choice", "predict", "health", "passed"};
    char labels[96] = "", code[16];
    metrics_label(labels, sizeof labels, "route", names[route]);
    metric_observe(metrics_get(frontend->metrics, METRIC_SECONDS, "guichet_frontend_request_seconds",
                               "From a request's first byte to its reply.", labels),
                   ms / 1e3);
    snprintf(code, sizeof code, "%d", status);
    metrics_label(labels, sizeof labels, "status", code);
    metric_add(metrics_get(frontend->metrics, METRIC_COUNTER, "guichet_frontend_requests_total",
                           "Requests, by what became of them.", labels),
               1);
}

/* The gateway's figures, where they are wanted and it answers, and ours behind them. */
static void metrics_answered(struct frontend *frontend, struct http_request *request,
                             const struct http_answer *answer, const struct session *session) {
    static const struct http_header headers[] = {{"Content-Type", METRICS_CONTENT_TYPE}};
    struct buffer text = {.limit = 64 << 20};
    (void)session;
    if (answer->failure == HTTP_ANSWERED && answer->status == 200)
        buffer_append(&text, answer->body->bytes, answer->body->size);
    else
        metrics_write_process(&text);
    metrics_write(frontend->metrics, &text);
    buffer_printf(&text,
                  "# HELP guichet_frontend_connections Connections of callers.\n"
                  "# TYPE guichet_frontend_connections gauge\n"
                  "guichet_frontend_connections %d\n",
                  http_server_connections(frontend->server));
    frontend_reply(request, 200, headers, 1, NULL, http_body_create(text.bytes, text.size));
    buffer_release(&text);
}

static void answer_metrics(struct frontend *frontend, struct http_request *request) {
    if (frontend->options.gateway_metrics)
        frontend_ask(frontend, request, "GET", "/metrics", false, NULL, metrics_answered);
    else
        metrics_answered(frontend, request, &(struct http_answer){.failure = HTTP_FAILED_CONNECT}, NULL);
}

static void passed_answered(struct frontend *frontend, struct http_request *request,
                            const struct http_answer *answer, const struct session *session) {
    (void)session;
    frontend_pass_back(frontend, request, answer, NULL);
}

/* "/model/NAME", and nothing behind it. */
static bool path_is_choice(const char *path) {
    return strncmp(path, choice, sizeof choice - 1) == 0 && !strchr(path + sizeof choice - 1, '/');
}

/* What one of the frontend's own addresses takes; NULL where it is none of them. */
static const char *methods_of(const char *path) {
    if (strcmp(path, "/predict") == 0)
        return "POST";
    if (path_is_choice(path))
        return "PUT";
    return strcmp(path, "/session") == 0 || web_reply_is_file(WEB_FRONTEND, path) ? "GET, HEAD" : NULL;
}

static void reply_method(struct http_request *request, const char *allow) {
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"Allow", allow}};
    char text[80];
    int length = snprintf(text, sizeof text, "{\"error\":\"this address takes %s\"}", allow);
    frontend_reply(request, 405, headers, 2, NULL, http_body_create(text, (size_t)length));
}

/* False: not one of the frontend's own routes. */
static bool own_route(struct frontend *frontend, struct http_request *request) {
    struct page_visit *visit = request->user;
    bool get = request->method == HTTP_GET || request->method == HTTP_HEAD;
    const char *path = request->path;
    struct web_reply file;
    if (get && web_reply_make(WEB_FRONTEND, request, &file)) {
        visit->route = ROUTE_PAGE;
        frontend_reply(request, file.status, file.headers, file.header_count, NULL, file.body);
    } else if (get && strcmp(path, "/session") == 0) {
        visit->route = ROUTE_SESSION;
        frontend_session(frontend, request);
    } else if (request->method == HTTP_PUT && path_is_choice(path)) {
        visit->route = ROUTE_CHOICE;
        frontend_choose(frontend, request, path + sizeof choice - 1);
    } else if (request->method == HTTP_POST && strcmp(path, "/predict") == 0) {
        visit->route = ROUTE_PREDICT;
        frontend_predict(frontend, request);
    } else if (get && (strcmp(path, "/healthz") == 0 || strcmp(path, "/readyz") == 0)) {
        visit->route = ROUTE_HEALTH;
        frontend_reply_json(request, 200, json_pack("{s:b}", path[1] == 'h' ? "live" : "ready", 1), NULL);
    } else if (get && strcmp(path, "/metrics") == 0) {
        visit->route = ROUTE_HEALTH;
        answer_metrics(frontend, request);
    } else if (request->method == HTTP_OPTIONS || !methods_of(path)) {
        return false;
    } else {
        reply_method(request, methods_of(path));
    }
    return true;
}

static void frontend_handle(void *context, struct http_request *request) {
    struct frontend *frontend = context;
    struct error error;
    if (path_is_devious(request->path) || request->target[0] != '/') {
        error_set(&error, ERROR_INVALID, "this path climbs; write it without \".\" and \"..\"");
        frontend_reply_error(request, &error);
    } else if (!own_route(frontend, request)) {
        frontend_ask(frontend, request, request->method == HTTP_HEAD ? "GET" : request->method_name,
                     request->target, true, NULL, passed_answered);
    }
}

static bool frontend_admit(void *context, struct http_request *request) {
    struct page_visit *visit = calloc(1, sizeof *visit);
    struct error error;
    (void)context;
    if (!visit) {
        error_set(&error, ERROR_MEMORY, "out of memory");
        http_reply_error(request, &error);
        return false;
    }
    request->user = visit;
    visit->route = ROUTE_PASSED;
    trace_read(&visit->trace, request);
    return true;
}

static void frontend_done(void *context, const struct http_request *request, int status, size_t body_bytes,
                          bool gone) {
    struct frontend *frontend = context;
    struct page_visit *visit = request ? request->user : NULL;
    double ms = request && request->started_ns ? (double)(clock_ns() - request->started_ns) / 1e6 : 0;
    metrics_count(frontend, visit ? visit->route : ROUTE_PASSED, status, ms);
    if (request && frontend->options.access_log != ACCESS_LOG_OFF) {
        const struct access_entry entry = {
            .trace = visit ? &visit->trace : NULL,
            .tier = "frontend",
            .client = request->peer,
            .model = visit ? visit->model : "",
            .upstream = visit && visit->tries ? "gateway" : "",
            .total_ms = ms,
            .upstream_ms = visit ? visit->upstream_ms : 0,
            .tries = visit ? visit->tries : 0,
            .status = status,
            .bytes = body_bytes,
            .gone = gone,
        };
        access_log_write(frontend->options.access_log, request, &entry);
    }
    free(visit);
}

/* Has the gateway's name looked up again, in case it has moved, and its token renewed; waits for neither. */
static void *keeper_run(void *context) {
    struct frontend *frontend = context;
    struct error error;
    bool well = true;
    pthread_mutex_lock(&frontend->lock);
    while (!frontend->stopping) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += well ? RESOLVE_SECONDS : 1;
        if (pthread_cond_timedwait(&frontend->keeper_wake, &frontend->lock, &until) != ETIMEDOUT)
            continue;
        pthread_mutex_unlock(&frontend->lock);
        bool was_well = well;
        well = http_upstream_known(frontend->upstream, &error) &&
               (!frontend->identity || identity_refresh(frontend->identity, &frontend->gateway, 0, &error));
        if (!well && was_well)
            fprintf(stderr, "guichet frontend: %s\n", error.message);
        http_upstream_resolve(frontend->upstream);
        pthread_mutex_lock(&frontend->lock);
    }
    pthread_mutex_unlock(&frontend->lock);
    return NULL;
}

static bool server_start(struct frontend *frontend, struct error *error) {
    const struct frontend_options *options = &frontend->options;
    frontend->server = http_server_create(frontend->loops,
                                          &(struct http_server_options){
                                              .handle = frontend_handle,
                                              .admit = frontend_admit,
                                              .done = frontend_done,
                                              .context = frontend,
                                              .body_limit = options->body_limit,
                                              .tls_certificate = options->tls_certificate,
                                              .tls_key = options->tls_key,
                                          },
                                          error);
    if (!frontend->server)
        return false;
    int inherited = http_inherited_sockets();
    for (int i = 0; i < inherited; i++)
        if (!http_server_listen_fd(frontend->server, 3 + i, error))
            return false;
    if (inherited > 0)
        return true;
    if (!options->addresses || !options->addresses[0])
        return http_server_listen(frontend->server, NULL, options->port, error);
    for (const char *const *address = options->addresses; *address; address++)
        if (!http_server_listen(frontend->server, *address, options->port, error))
            return false;
    return true;
}

static bool parts_create(struct frontend *frontend, struct error *error) {
    if (!backend_url_parse(frontend->options.gateway, strlen(frontend->options.gateway), &frontend->gateway,
                           error))
        return error_prefix(error, "the gateway's address");
    if (frontend->options.google_identity &&
        (!(frontend->identity = identity_create(frontend->loops, error)) ||
         !identity_refresh(frontend->identity, &frontend->gateway, IDENTITY_WAIT_MS, error)))
        return false;
    frontend->upstream =
        http_upstream_create(frontend->loops,
                             &(struct http_upstream_options){.url = frontend->options.gateway,
                                                             .ca_file = frontend->options.ca_file},
                             error);
    if (!frontend->upstream)
        return false;
    int number = pthread_create(&frontend->keeper, NULL, keeper_run, frontend);
    if (number)
        return error_set_errno(error, ERROR_IO, number, "starting a thread");
    frontend->keeper_runs = true;
    return server_start(frontend, error);
}

struct frontend *frontend_create(struct http_loops *loops, const struct frontend_options *options,
                                 struct error *error) {
    struct frontend *frontend = calloc(1, sizeof *frontend);
    if (!frontend || sodium_init() < 0 || !(frontend->metrics = metrics_create())) {
        free(frontend);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    frontend->options = *options;
    frontend->options.timeout_ms = options->timeout_ms ? options->timeout_ms : CALLS_MS;
    frontend->loops = loops;
    frontend->keys = options->keys;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&frontend->lock, NULL);
    pthread_cond_init(&frontend->keeper_wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (parts_create(frontend, error))
        return frontend;
    frontend_free(frontend);
    return NULL;
}

int frontend_port(const struct frontend *frontend) {
    return http_server_port(frontend->server);
}

bool frontend_reload(struct frontend *frontend, const struct session_keys *keys, struct error *error) {
    if (frontend->options.tls_certificate && !http_server_reload_tls(frontend->server, error))
        return false;
    pthread_mutex_lock(&frontend->lock);
    frontend->keys = *keys;
    pthread_mutex_unlock(&frontend->lock);
    return true;
}

bool frontend_stop(struct frontend *frontend, int grace_ms) {
    return http_server_stop(frontend->server, grace_ms);
}

void frontend_free(struct frontend *frontend) {
    if (!frontend)
        return;
    if (frontend->server) {
        http_server_stop(frontend->server, 0);
        frontend_passages_end(frontend);
    }
    if (frontend->keeper_runs) {
        pthread_mutex_lock(&frontend->lock);
        frontend->stopping = true;
        pthread_cond_signal(&frontend->keeper_wake);
        pthread_mutex_unlock(&frontend->lock);
        pthread_join(frontend->keeper, NULL);
    }
    http_server_free(frontend->server);
    http_upstream_free(frontend->upstream);
    identity_free(frontend->identity);
    metrics_free(frontend->metrics);
    pthread_cond_destroy(&frontend->keeper_wake);
    pthread_mutex_destroy(&frontend->lock);
    free(frontend);
}
