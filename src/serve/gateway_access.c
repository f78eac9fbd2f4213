/* Who may pass the gateway, what every reply carries, and the line that is written of it. */
#include <arpa/inet.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "serve/gateway_private.h"
#include "serve/web_reply.h"

/* The origin that a page was loaded from, where it may call us; NULL else. */
static const char *cors_origin(const struct gateway *gateway, const struct http_request *request) {
    const char *allowed = gateway->options.cors;
    const char *origin = allowed ? http_request_header(request, "Origin") : NULL;
    if (!origin)
        return NULL;
    size_t wanted = strlen(origin);
    for (const char *at = allowed; *at;) {
        at += strspn(at, " ,");
        size_t length = strcspn(at, " ,");
        if ((length == 1 && *at == '*') || (length == wanted && strncasecmp(at, origin, length) == 0))
            return origin;
        at += length;
    }
    return NULL;
}

void gateway_reply(struct gateway *gateway, struct http_request *request, int status,
                   const struct http_header *headers, int header_count, struct http_body *body) {
    struct http_header all[PROXY_HEADERS_MOST + 8];
    int count = 0;
    const struct visit *visit = request->user;
    for (int i = 0; i < header_count && count < PROXY_HEADERS_MOST; i++)
        all[count++] = headers[i];
    if (visit)
        all[count++] = (struct http_header){"X-Request-Id", visit->trace.request_id};
    const char *origin = cors_origin(gateway, request);
    if (origin) {
        all[count++] = (struct http_header){"Access-Control-Allow-Origin", origin};
        all[count++] = (struct http_header){"Access-Control-Expose-Headers", "X-Request-Id, Retry-After"};
        all[count++] = (struct http_header){"Vary", "Origin"};
    }
    http_reply(request, status, all, count, body);
}

static void error_reply(struct gateway *gateway, struct http_request *request, const struct error *error,
                        const char *retry_after, const char *challenge) {
    struct http_header headers[3] = {{"Content-Type", "application/json"}};
    int count = 1;
    if (retry_after)
        headers[count++] = (struct http_header){"Retry-After", retry_after};
    if (challenge)
        headers[count++] = (struct http_header){"WWW-Authenticate", challenge};
    json_t *object = json_pack("{s:s}", "error", error->message);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    static const char unprintable[] = "{\"error\":\"a name in the request is not UTF-8\"}";
    struct http_body *body =
        text ? http_body_take(text, strlen(text)) : http_body_create(unprintable, sizeof unprintable - 1);
    gateway_reply(gateway, request, error_http_status(error->code), headers, count, body);
}

void gateway_reply_error(struct gateway *gateway, struct http_request *request, const struct error *error) {
    bool later = error->code == ERROR_UNAVAILABLE || error->code == ERROR_RATE;
    error_reply(gateway, request, error, later ? "1" : NULL, NULL);
}

/* The last address of X-Forwarded-For: what the proxy next to us saw. */
static void client_forwarded(const char *header, char *ret, size_t size) {
    const char *last = strrchr(header, ',');
    last = last ? last + 1 : header;
    last += strspn(last, " \t");
    size_t length = strcspn(last, " \t");
    struct in6_addr address;
    char text[64];
    if (length == 0 || length >= sizeof text)
        return;
    memcpy(text, last, length);
    text[length] = 0;
    if (inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1)
        snprintf(ret, size, "%s", text);
}

/* False: has replied with 401. The name of the key takes the place of the address. */
static bool key_check(struct gateway *gateway, struct http_request *request, struct visit *visit) {
    const char *key = http_request_header(request, "X-Api-Key");
    const char *authorization = http_request_header(request, "Authorization");
    if (!key && authorization && strncasecmp(authorization, "Bearer ", 7) == 0)
        key = authorization + 7 + strspn(authorization + 7, " ");
    pthread_mutex_lock(&gateway->lock);
    bool needed = gateway->keys != NULL;
    const char *name = needed && key ? api_keys_find(gateway->keys, key, strlen(key)) : NULL;
    if (name)
        snprintf(visit->client, sizeof visit->client, "%s", name);
    pthread_mutex_unlock(&gateway->lock);
    if (!needed || name)
        return true;
    struct error error;
    error_set(&error, ERROR_UNAUTHORIZED,
              key ? "this API key is not known here"
                  : "an API key is needed, in Authorization: Bearer KEY or X-Api-Key: KEY");
    error_reply(gateway, request, &error, NULL, "Bearer");
    return false;
}

/* False: has replied with 429. An IPv6 network of 64 bits counts as one client, as whoever has one has all of
 * it. */
static bool rate_check(struct gateway *gateway, struct http_request *request, const struct visit *visit) {
    if (!gateway->limiter)
        return true;
    struct in6_addr address;
    bool network = inet_pton(AF_INET6, visit->client, &address) == 1;
    double wait = 0;
    pthread_mutex_lock(&gateway->lock);
    bool good = network ? rate_limiter_take(gateway->limiter, (const char *)&address, 8, clock_ns(), &wait)
                        : rate_limiter_take(gateway->limiter, visit->client, strlen(visit->client),
                                            clock_ns(), &wait);
    pthread_mutex_unlock(&gateway->lock);
    if (good)
        return true;
    struct error error;
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%.0f", fmin(ceil(wait), 3600));
    error_set(&error, ERROR_RATE, "more requests than the %g a second that one caller has; wait %s s",
              gateway->options.rate, seconds);
    error_reply(gateway, request, &error, seconds, NULL);
    return false;
}

/* False: has answered a browser's question whether a page from elsewhere may call. */
static bool preflight_check(struct gateway *gateway, struct http_request *request) {
    if (request->method != HTTP_OPTIONS || !http_request_header(request, "Access-Control-Request-Method") ||
        !cors_origin(gateway, request))
        return true;
    static const struct http_header headers[] = {
        {"Access-Control-Allow-Methods", "GET, POST, PUT, OPTIONS"},
        {"Access-Control-Allow-Headers",
         "Authorization, Content-Type, Inference-Header-Content-Length, X-Api-Key, "
         "X-Request-Id, traceparent, tracestate"},
        {"Access-Control-Max-Age", "600"},
    };
    gateway_reply(gateway, request, 204, headers, 3, NULL);
    return false;
}

bool gateway_admit(void *context, struct http_request *request) {
    struct gateway *gateway = context;
    struct visit *visit = calloc(1, sizeof *visit);
    if (!visit) {
        struct error error;
        error_set(&error, ERROR_MEMORY, "out of memory");
        http_reply_error(request, &error);
        return false;
    }
    request->user = visit;
    visit->route = "other";
    trace_read(&visit->trace, request);
    snprintf(visit->client, sizeof visit->client, "%s", request->peer);
    const char *forwarded =
        gateway->options.trust_forwarded ? http_request_header(request, "X-Forwarded-For") : NULL;
    if (forwarded)
        client_forwarded(forwarded, visit->client, sizeof visit->client);
    if (!preflight_check(gateway, request))
        return false;
    const char *path = request->path;
    if (strcmp(path, "/healthz") == 0 || strcmp(path, "/readyz") == 0 ||
        strncmp(path, "/v2/health/", 11) == 0)
        return true;
    /* What the service can be asked is told to everybody: who opens /docs in a browser has no key to show. */
    bool open = web_reply_is_file(WEB_GATEWAY, path);
    return (open || key_check(gateway, request, visit)) && rate_check(gateway, request, visit);
}

void gateway_done(void *context, const struct http_request *request, int status, size_t body_bytes,
                  bool gone) {
    struct gateway *gateway = context;
    struct visit *visit = request ? request->user : NULL;
    double ms = request && request->started_ns ? (double)(clock_ns() - request->started_ns) / 1e6 : 0;
    gateway_metrics_count(gateway, visit, status, ms);
    if (request && gateway->options.access_log != ACCESS_LOG_OFF) {
        const struct access_entry entry = {
            .trace = visit ? &visit->trace : NULL,
            .tier = "gateway",
            .client = visit ? visit->client : request->peer,
            .model = visit ? visit->model : "",
            .upstream = visit ? visit->upstream : "",
            .total_ms = ms,
            .upstream_ms = visit ? visit->upstream_ms : 0,
            .tries = visit ? visit->tries : 0,
            .status = status,
            .bytes = body_bytes,
            .gone = gone,
        };
        access_log_write(gateway->options.access_log, request, &entry);
    }
    free(visit);
}
