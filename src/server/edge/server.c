#include "server/edge/server.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/edge/links.h"
#include "server/edge/respond.h"

#define FIRST_INHERITED_FD 3 /* systemd's SD_LISTEN_FDS_START */

struct server {
    struct server_options options;
    struct http_server *http;
    struct rate_limiter *limiter;
    bool loopback_only;   /* every listener has an address of loopback */
    pthread_mutex_t lock; /* guards keys, and loopback_only while listening begins */
    struct api_keys *keys;
};

/* ---- Contexts ---- */

/* The last address of X-Forwarded-For: what the proxy next to us saw. Some proxies add a line of their own
 * after the caller's. */
static void read_forwarded(const struct http_request *request, char *ret, size_t size) {
    const char *header = NULL;
    for (int i = 0; i < request->header_count; i++)
        if (http_names_equal(request->headers[i].name, "X-Forwarded-For"))
            header = request->headers[i].value;
    if (!header)
        return;

    const char *last = strrchr(header, ',');
    struct in6_addr address;
    char text[64];

    last = last ? last + 1 : header;
    last += strspn(last, " \t");
    size_t length = strcspn(last, " \t");
    if (length == 0 || length >= sizeof text)
        return;

    memcpy(text, last, length);
    text[length] = 0;
    if (inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1)
        text_copy(ret, size, text);
}

/* Whether some part of this server answers the row. */
static bool is_offered(const struct server *server, const struct endpoint *row) {
    const struct server_options *options = &server->options;
    return (options->frontend && row->frontend) || (options->gateway && row->gateway) ||
           (options->backend && row->backend) || (options->service && row->service) || options->pass;
}

/* Find the request's row of the table, and the model that its path names. Rows that this server does not
 * offer are none. */
static void find_endpoint(struct context *context, const struct http_request *request) {
    const struct endpoint *path_row, *endpoint;
    const char *name;
    size_t length;

    endpoint = endpoint_find(request->path, request->method, &path_row, &name, &length);
    if (!path_row || !is_offered(context->server, path_row))
        return;
    context->path_row = path_row;
    context->endpoint = endpoint;

    const struct endpoint *row = endpoint ? endpoint : path_row;
    context->label = row->label;
    context->errors = row->errors;
    if (!length)
        return;

    if (length >= sizeof context->model) /* a name that is too long is cut, and no model is called that */
        length = sizeof context->model - 1;
    memcpy(context->model, name, length);
    context->model[length] = 0;
}

static struct context *context_create(struct server *server, const struct http_request *request) {
    struct context *context = calloc(1, sizeof *context);
    if (!context)
        return NULL;

    context->server = server;
    context->label = "other";
    trace_read(&context->trace, request);
    text_copy(context->client, sizeof context->client, request->peer);
    if (server->options.trust_forwarded)
        read_forwarded(request, context->client, sizeof context->client);
    context->tells_https = request->secure && !server->options.no_hsts;
    find_endpoint(context, request);

    return context;
}

static void context_free(struct context *context) {
    if (!context)
        return;
    api_keys_release(context->keys);
    free(context->cookie);
    free(context);
}

/* ---- The chain ---- */

/* OPTIONS asks about the server as a whole. */
static bool is_asterisk(const struct http_request *request) {
    return strcmp(request->target, "*") == 0;
}

/* A path with "." or ".." segments or a backslash: no row has one, and upstreams may read it otherwise. */
static bool link_check_path(struct http_request *request) {
    const char *path = request->path;
    bool good = is_asterisk(request) || (path[0] == '/' && request->target[0] == '/' && !strchr(path, '\\'));

    for (const char *at = path; good && at; at = strchr(at + 1, '/')) {
        size_t length = strcspn(at + 1, "/");
        good = !(length == 1 && at[1] == '.') && !(length == 2 && at[1] == '.' && at[2] == '.');
    }
    if (good)
        return true;

    struct error error;
    error_set(&error, ERROR_INVALID, "the path contains \".\" or \"..\" segments or a backslash");
    respond_error(request, &error);
    return false;
}

/* Before a remote gateway, that one knows the keys. */
static bool link_authenticate_with(struct server *server, struct http_request *request) {
    if (server->options.pass)
        return true;

    pthread_mutex_lock(&server->lock);
    struct api_keys *keys = api_keys_reference(server->keys);
    pthread_mutex_unlock(&server->lock);

    bool passed = link_authenticate(request, keys, server->options.control);
    api_keys_release(keys);
    return passed;
}

/* 404 and 405, once for every tier; OPTIONS tells the methods. */
static bool link_find_route(struct server *server, struct http_request *request) {
    struct context *context = context_of(request);
    const struct server_options *options = &server->options;
    char methods[64];
    struct error error;

    if (is_asterisk(request)) {
        respond_options(request, "GET, HEAD, POST, PUT");
        return false;
    }
    if (!context->path_row) {
        error_set(&error, ERROR_NOT_FOUND,
                  "nothing is at this path; GET /models lists the models, /docs says "
                  "what can be asked");
        respond_error(request, &error);
        return false;
    }

    if (options->pass && cors_is_preflight(request))
        return true; /* the gateway knows which origins may call */
    if (!context->endpoint) {
        endpoint_list_methods(context->path_row, methods, sizeof methods);
        if (request->method == HTTP_OPTIONS)
            respond_options(request, methods);
        else
            respond_method_not_allowed(request, methods);
        return false;
    }

    if (!context->model[0] || !options->check_model || context->endpoint->names_new)
        return true;

    context->model_known = options->check_model(options->service->context, context->model, &error);
    if (context->model_known)
        return true;

    respond_error(request, &error); /* the context is gone with it */
    return false;
}

static size_t body_limit(const struct server *server) {
    return server->options.body_limit ? server->options.body_limit : LIMIT_BODY_BYTES;
}

/* A body that announces more than the limit, whether it is read whole or passed on in pieces. */
static bool link_check_length(const struct server *server, struct http_request *request) {
    struct error error;
    if (request->content_length < 0 || (uint64_t)request->content_length <= body_limit(server))
        return true;
    error_set(&error, ERROR_TOO_LARGE, "the request's body has more than %zu bytes", body_limit(server));
    respond_error(request, &error);
    return false;
}

/* There are as many connections as there can be: only questions for health, which need nothing else, are
 * answered. */
static bool link_allow_scarce(struct http_request *request) {
    const struct endpoint *row = context_of(request)->endpoint;
    struct error error;

    if (row && row->right == RIGHT_NONE)
        return true;
    error_set(&error, ERROR_UNAVAILABLE, "too many connections: try again shortly");
    respond_error(request, &error);
    return false;
}

static bool is_loopback_only(struct server *server) {
    pthread_mutex_lock(&server->lock);
    bool loopback_only = server->loopback_only;
    pthread_mutex_unlock(&server->lock);
    return loopback_only;
}

/* False: a link has answered. */
static bool walk_chain(struct server *server, struct http_request *request) {
    const struct server_options *options = &server->options;

    return link_check_path(request) &&
           (!is_loopback_only(server) || link_check_host(request, options->host_names)) &&
           link_allow_origin(request, options->cors) && link_serve_file(request, options->files) &&
           link_check_origin(request) && link_authenticate_with(server, request) &&
           link_limit_rate(request, server->limiter) && link_find_route(server, request) &&
           link_check_length(server, request);
}

/* The head of a request is here. A long body is refused before it is read; a short one is read first, so that
 * the connection can go on after a refusal. */
static enum http_admission admit(void *state, struct http_request *request) {
    struct server *server = state;

    request->user = context_create(server, request);
    if (!request->user) {
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return HTTP_ADMIT_ANSWERED;
    }
    if (request->scarce && !link_allow_scarce(request))
        return HTTP_ADMIT_ANSWERED;
    if (request->content_length >= 0 && request->content_length <= LIMIT_SHORT_BODY_BYTES)
        return HTTP_ADMIT_WHOLE;
    if (!walk_chain(server, request))
        return HTTP_ADMIT_ANSWERED;
    context_of(request)->admitted = true;

    /* What goes on to an upstream need not be here whole; what is small enough is, so that it can be sent
     * again. */
    const struct endpoint *row = context_of(request)->endpoint;
    bool forwarded =
        row && row->scope == SCOPE_MODEL && row->model != MODEL_IN_BODY && !server->options.backend;
    return forwarded && request->content_length > LIMIT_REPLAY_BYTES ? HTTP_ADMIT_STREAM : HTTP_ADMIT_WHOLE;
}

/* The body is too long, too slow or malformed. */
static void refuse(void *state, struct http_request *request, int status, const char *reason) {
    enum error_code code = status == 408   ? ERROR_SLOW_REQUEST
                           : status == 413 ? ERROR_TOO_LARGE
                           : status == 503 ? ERROR_UNAVAILABLE
                                           : ERROR_INVALID;
    struct error error;

    (void)state;
    error_set(&error, code, "%s", reason);
    respond_error(request, &error);
}

/* … and the handler's turn. */
static void handle(void *state, struct http_request *request) {
    struct server *server = state;
    const struct server_options *options = &server->options;
    const struct context *context = context_of(request);
    const struct endpoint *row = context->endpoint;

    if (!context->admitted && !walk_chain(server, request))
        return;
    if (!row) { /* OPTIONS, which the remote gateway answers: see link_find_route */
        options->pass(options->frontend, request);
        return;
    }
    if (options->check_model && !link_find_model(request, options->check_model, options->service->context))
        return;

    if (options->frontend && row->frontend)
        row->frontend(options->frontend, request);
    else if (options->pass && row->scope != SCOPE_PROCESS)
        options->pass(options->frontend, request);
    else if (options->gateway && row->gateway)
        row->gateway(options->gateway, request);
    else if (options->backend && row->backend)
        row->backend(options->backend, request);
    else
        row->service(options->service, request);
}

/* ---- What is written of each request ---- */

static const struct {
    unsigned before; /* tiers of ours that may stand before it, and add headers */
    const char *name, *requests, *seconds, *retries, *connections;
} tiers[] = {
    [TIER_BACKEND] = {2, "backend", "guichet_requests_total", "guichet_request_seconds",
                      "guichet_retries_total", "guichet_connections"},
    [TIER_GATEWAY] = {1, "gateway", "guichet_gateway_requests_total", "guichet_gateway_request_seconds",
                      "guichet_gateway_retries_total", "guichet_gateway_connections"},
    [TIER_FRONTEND] = {0, "frontend", "guichet_frontend_requests_total", "guichet_frontend_request_seconds",
                       "guichet_frontend_retries_total", "guichet_frontend_connections"},
    /* The gateway of one machine, under the names that dashboards look for. */
    [TIER_SERVE] = {0, "serve", "guichet_gateway_requests_total", "guichet_gateway_request_seconds",
                    "guichet_gateway_retries_total", "guichet_gateway_connections"},
};

static struct metric *retries_of(const struct server *server, const char *labels) {
    return metrics_get(server->options.metrics, METRIC_COUNTER, tiers[server->options.tier].retries,
                       "Times that a request was sent to an upstream again.", labels);
}

static struct metric *requests_of(const struct server *server, const char *labels) {
    return metrics_get(server->options.metrics, METRIC_COUNTER, tiers[server->options.tier].requests,
                       "Requests by model, route and status; 499: the client left.", labels);
}

/* Labels come from the table of endpoints and from models that exist, so that no caller can make series. */
static void count(const struct server *server, const struct context *context, int status, double ms) {
    char labels[MODEL_NAME_BYTES + 96] = "";
    const char digits[4] = {(char)('0' + status / 100 % 10), (char)('0' + status / 10 % 10),
                            (char)('0' + status % 10)};

    metrics_label(labels, sizeof labels, "model", context && context->model_known ? context->model : "");
    metrics_label(labels, sizeof labels, "route", context ? context->label : "refused");
    metric_observe(metrics_get(server->options.metrics, METRIC_SECONDS, tiers[server->options.tier].seconds,
                               "From a request's first byte to the end of its response.", labels),
                   ms / 1e3);
    if (context && context->tries > 1)
        metric_add(retries_of(server, labels), context->tries - 1);

    metrics_label(labels, sizeof labels, "status", digits);
    metric_add(requests_of(server, labels), 1);
}

void server_prepare_metrics(const struct server *server, const char *model) {
    static const char *const routes[] = {"predict", "infer", "predict_v1"};
    static const char *const statuses[] = {"200", "503"};

    for (size_t r = 0; r < sizeof routes / sizeof *routes; r++) {
        char labels[MODEL_NAME_BYTES + 96] = "";
        metrics_label(labels, sizeof labels, "model", model);
        metrics_label(labels, sizeof labels, "route", routes[r]);
        if (server->options.gateway)
            retries_of(server, labels);

        for (size_t s = 0; s < sizeof statuses / sizeof *statuses; s++) {
            char whole[sizeof labels];
            strcpy(whole, labels);
            metrics_label(whole, sizeof whole, "status", statuses[s]);
            requests_of(server, whole);
        }
    }
}

static void finish(void *state, const struct http_request *request, int status, size_t body_bytes, bool cut) {
    const struct server *server = state;
    struct context *context = request ? request->user : NULL;
    bool gone = request && http_request_is_gone(request);
    double ms = request && request->started_ns ? (double)(clock_ns() - request->started_ns) / 1e6 : 0;

    count(server, context, gone ? 499 : status, ms);
    if (request && server->options.access_log != ACCESS_LOG_OFF) {
        const struct access_entry entry = {
            .trace = context ? &context->trace : NULL,
            .tier = tiers[server->options.tier].name,
            .client = context ? context->client : request->peer,
            .model = context ? context->model : "",
            .upstream = context ? context->upstream : "",
            .total_ms = ms,
            .upstream_ms = context ? context->upstream_ms : 0,
            .tries = context ? context->tries : 0,
            .batch = context ? context->batch : 0,
            .queue_ms = context ? context->queue_ms : 0,
            .tokens_in = context ? context->tokens_in : 0,
            .tokens_out = context ? context->tokens_out : 0,
            .status = status,
            .bytes = body_bytes,
            .gone = gone,
            .cut = cut,
        };
        access_log_write(server->options.access_log, request, &entry);
    }
    context_free(context);
}

/* ---- Life ---- */

static bool listen_inherited(struct server *server, int count, struct error *error) {
    for (int i = 0; i < count; i++)
        if (!http_server_listen_fd(server->http, FIRST_INHERITED_FD + i, error))
            return false;
    return true;
}

static bool listen_on_addresses(struct server *server, struct error *error) {
    const struct server_options *options = &server->options;
    if (!options->addresses || !options->addresses[0])
        return http_server_listen(server->http, NULL, options->port, error);

    for (const char *const *address = options->addresses; *address; address++)
        if (!http_server_listen(server->http, *address, options->port, error))
            return false;

    return true;
}

/* Requests wait at the lock until it is known which addresses there are. */
static bool start_listening(struct server *server, struct error *error) {
    int inherited = server->options.inherit ? http_inherited_sockets() : 0;

    pthread_mutex_lock(&server->lock);
    bool good =
        inherited > 0 ? listen_inherited(server, inherited, error) : listen_on_addresses(server, error);
    server->loopback_only = good && http_server_is_loopback(server->http);
    pthread_mutex_unlock(&server->lock);
    return good;
}

static bool create_parts(struct server *server, struct http_loops *loops, struct error *error) {
    const struct server_options *options = &server->options;
    const struct http_server_options http = {
        .admit = admit,
        .refuse = refuse,
        .handle = handle,
        .done = finish,
        .context = server,
        .header_limit = LIMIT_HEADER_BYTES + tiers[options->tier].before * LIMIT_ADDED_HEADER_BYTES,
        .header_lines = LIMIT_HEADER_LINES + (int)tiers[options->tier].before * LIMIT_ADDED_HEADER_LINES,
        .body_limit = options->body_limit,
        .tls_certificate = options->tls_certificate,
        .tls_key = options->tls_key,
    };

    if (!host_check_names(options->host_names, error) ||
        (options->cors && !cors_check_list(options->cors, error)))
        return false;
    if (options->api_keys_file && !(server->keys = api_keys_read(options->api_keys_file, error)))
        return false;

    if (options->rate > 0) {
        server->limiter = rate_limiter_create(options->rate, options->burst >= 1 ? options->burst : 1);
        if (!server->limiter)
            return error_set(error, ERROR_MEMORY, "out of memory");
    }

    server->http = http_server_create(loops, &http, error);
    return server->http && start_listening(server, error);
}

struct server *server_create(struct http_loops *loops, const struct server_options *options,
                             struct error *error) {
    struct server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    server->options = *options;
    pthread_mutex_init(&server->lock, NULL);
    if (create_parts(server, loops, error))
        return server;

    server_free(server);
    return NULL;
}

/* "127.0.0.1:9000" or "[::1]:9000" to its parts. */
static bool read_address(const char *text, char ret_address[64], int *ret_port, struct error *error) {
    const char *colon = strrchr(text, ':'), *host = text;
    size_t length = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;

    if (length > 2 && host[0] == '[' && host[length - 1] == ']') {
        host++;
        length -= 2;
    } else if (memchr(host, ':', length) || host[0] == '[') {
        length = 0;
    }
    if (length == 0 || length >= 64 || !colon || !colon[1] || *end || port < 0 || port > 65535)
        return error_set(error, ERROR_INVALID, "--control %.80s: expected ADDRESS:PORT", text);

    memcpy(ret_address, host, length);
    ret_address[length] = 0;
    *ret_port = (int)port;
    return true;
}

struct server *server_create_control(struct http_loops *loops, const struct server_options *options,
                                     const char *address, struct error *error) {
    struct server_options control = *options;
    char host[64];
    const char *const addresses[] = {host, NULL};

    if (!read_address(address, host, &control.port, error))
        return NULL;

    control.addresses = addresses;
    control.inherit = false;
    control.tls_certificate = control.tls_key = NULL;
    control.api_keys_file = NULL;
    control.rate = 0;
    control.control = true;
    struct server *server = server_create(loops, &control, error);
    if (server)
        server->options.addresses = NULL; /* they were used */

    return server;
}

int server_port(const struct server *server) {
    return http_server_port(server->http);
}

void server_write_metrics(const struct server *server, struct buffer *text) {
    const char *name = tiers[server->options.tier].connections;
    buffer_printf(text, "# HELP %s Connections of callers.\n# TYPE %s gauge\n%s %d\n", name, name, name,
                  http_server_connections(server->http));
}

bool server_reload(struct server *server, struct error *error) {
    const struct server_options *options = &server->options;
    struct api_keys *keys = NULL;

    if (options->api_keys_file && !(keys = api_keys_read(options->api_keys_file, error)))
        return false;
    if (options->tls_certificate && !http_server_reload_tls(server->http, error)) {
        api_keys_release(keys);
        return false;
    }

    pthread_mutex_lock(&server->lock);
    struct api_keys *old = server->keys;
    server->keys = keys;
    pthread_mutex_unlock(&server->lock);
    api_keys_release(old);

    return true;
}

bool server_stop(struct server *server, int grace_ms) {
    return http_server_stop(server->http, grace_ms);
}

void server_free(struct server *server) {
    if (!server)
        return;

    if (server->http)
        http_server_stop(server->http, 0);
    http_server_free(server->http);
    rate_limiter_free(server->limiter);
    api_keys_release(server->keys);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
