/* What the gateway answers itself: listings, health, metrics, the repository; and which path leads to which
 * model. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "serve/gateway_private.h"
#include "serve/session.h"
#include "serve/web_reply.h"

static void reply_json(struct gateway *gateway, struct http_request *request, int status, json_t *json) {
    static const struct http_header headers[] = {{"Content-Type", "application/json"}};
    char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
    json_decref(json);
    struct http_body *body = text ? http_body_take(text, strlen(text)) : NULL;
    if (!body) {
        struct error error;
        error_set(&error, ERROR_MEMORY, "out of memory");
        gateway_reply_error(gateway, request, &error);
        return;
    }
    gateway_reply(gateway, request, status, headers, 1, body);
}

static void reply_method(struct gateway *gateway, struct http_request *request, const char *allow) {
    struct http_header headers[] = {{"Content-Type", "application/json"}, {"Allow", allow}};
    char text[120];
    int length = snprintf(text, sizeof text, "{\"error\":\"this address takes %s\"}", allow);
    gateway_reply(gateway, request, 405, headers, 2, http_body_create(text, (size_t)length));
}

void gateway_model_names(struct gateway *gateway, struct buffer *names) {
    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < gateway->table.count; i++)
        if (!buffer_printf(names, "%s%s", i ? ", " : "", gateway->table.routes[i]->model))
            break;
    pthread_mutex_unlock(&gateway->lock);
}

/* Under the lock, where there is any model: the default one, or the first where that is not here. */
static const struct route *default_route(const struct gateway *gateway) {
    const char *name = gateway->options.default_model;
    const struct route *route = name ? route_table_find(&gateway->table, name, strlen(name)) : NULL;
    return route ? route : gateway->table.routes[0];
}

/* A copy of what a listing needs, the default model first, so that nothing is asked of anybody under the
 * lock. */
struct listed {
    char model[BACKEND_NAME_BYTES];
    bool ready;
    double typical_ms;
};

static struct listed *list_take(struct gateway *gateway, size_t *ret_count) {
    int64_t now = clock_ns();
    pthread_mutex_lock(&gateway->lock);
    size_t count = gateway->table.count;
    struct listed *list = calloc(count + 1, sizeof *list);
    const struct route *first = count > 0 ? default_route(gateway) : NULL;
    for (size_t i = 0, at = 1; list && i < count; i++) {
        const struct route *route = gateway->table.routes[i];
        struct listed *listed = &list[route == first ? 0 : at++];
        strcpy(listed->model, route->model);
        listed->ready = route_ready(route, now);
        listed->typical_ms = route->typical_ms;
    }
    pthread_mutex_unlock(&gateway->lock);
    *ret_count = list ? count : 0;
    return list;
}

static void details_take(struct gateway *gateway, const struct listed *listed,
                         struct gateway_model_details *ret) {
    *ret = (struct gateway_model_details){0};
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    if (supervisor) {
        supervisor->describe(supervisor->context, listed->model, ret);
        return;
    }
    strcpy(ret->state, listed->ready ? "ready" : "failed");
    if (!listed->ready)
        strcpy(ret->reason, "no backend of it answers");
}

static json_t *details_json(const struct listed *listed, const struct gateway_model_details *details) {
    json_t *entry = json_pack("{s:s, s:s}", "name", listed->model, "state", details->state);
    if (details->bytes > 0)
        json_object_set_new(entry, "bytes", json_integer(details->bytes));
    if (details->precision[0])
        json_object_set_new(entry, "precision", json_string(details->precision));
    if (listed->typical_ms > 0)
        json_object_set_new(entry, "typical_ms", json_real(listed->typical_ms));
    if (details->reason[0])
        json_object_set_new(entry, "reason", json_string(details->reason));
    return entry;
}

static json_t *index_json(const struct listed *listed, const struct gateway_model_details *details) {
    const char *state = strcmp(details->state, "ready") == 0      ? "READY"
                        : strcmp(details->state, "starting") == 0 ? "LOADING"
                                                                  : "UNAVAILABLE";
    return json_pack("{s:s, s:s, s:s, s:s}", "name", listed->model, "version", "1", "state", state, "reason",
                     details->reason[0] || strcmp(state, "UNAVAILABLE") != 0
                         ? details->reason
                         : "not loaded; it starts on first use");
}

enum listing { LIST_NAMES, LIST_DETAILS, LIST_INDEX };

static json_t *models_list(struct gateway *gateway, enum listing form, bool ready_only) {
    size_t count;
    struct listed *list = list_take(gateway, &count);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        struct gateway_model_details details;
        if (form != LIST_NAMES)
            details_take(gateway, &list[i], &details);
        if (form == LIST_NAMES)
            json_array_append_new(array, json_string(list[i].model));
        else if (form == LIST_DETAILS)
            json_array_append_new(array, details_json(&list[i], &details));
        else if (!ready_only || strcmp(details.state, "ready") == 0)
            json_array_append_new(array, index_json(&list[i], &details));
    }
    free(list);
    return array;
}

static void answer_models(struct gateway *gateway, struct http_request *request) {
    char details[8];
    bool rich = http_request_query(request, "details", details, sizeof details) && strcmp(details, "1") == 0;
    reply_json(gateway, request, 200, models_list(gateway, rich ? LIST_DETAILS : LIST_NAMES, false));
}

static void answer_v2_models(struct gateway *gateway, struct http_request *request) {
    reply_json(gateway, request, 200, json_pack("{s:o}", "models", models_list(gateway, LIST_NAMES, false)));
}

static void answer_index(struct gateway *gateway, struct http_request *request) {
    json_t *asked =
        json_loadb(request->body->bytes ? request->body->bytes : "", request->body->size, 0, NULL);
    bool ready_only = json_is_true(json_object_get(asked, "ready"));
    json_decref(asked);
    reply_json(gateway, request, 200, models_list(gateway, LIST_INDEX, ready_only));
}

/* Somebody can be asked: a model is ready, or will be started when it is wanted. */
static bool is_ready(struct gateway *gateway) {
    if (gateway->options.supervisor)
        return true;
    bool ready = false;
    int64_t now = clock_ns();
    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < gateway->table.count; i++)
        ready |= route_ready(gateway->table.routes[i], now);
    pthread_mutex_unlock(&gateway->lock);
    return ready;
}

static void answer_live(struct gateway *gateway, struct http_request *request) {
    reply_json(gateway, request, 200, json_pack("{s:b}", "live", 1));
}

static void answer_ready(struct gateway *gateway, struct http_request *request) {
    bool ready = is_ready(gateway);
    reply_json(gateway, request, ready ? 200 : 503, json_pack("{s:b}", "ready", ready));
}

static void answer_v2(struct gateway *gateway, struct http_request *request) {
    reply_json(gateway, request, 200,
               json_pack("{s:s, s:s, s:[s, s, s]}", "name", "guichet", "version", GUICHET_VERSION,
                         "extensions", "binary_tensor_data", "classification", "model_repository"));
}

static void answer_hello(struct gateway *gateway, struct http_request *request) {
    reply_json(gateway, request, 200, json_string("Hello!"));
}

static void answer_metrics(struct gateway *gateway, struct http_request *request) {
    static const struct http_header headers[] = {{"Content-Type", METRICS_CONTENT_TYPE}};
    struct buffer text = {.limit = 16 << 20};
    struct error error;
    if (!gateway_metrics_write(gateway, &text)) {
        buffer_release(&text);
        error_set(&error, ERROR_MEMORY, "out of memory");
        gateway_reply_error(gateway, request, &error);
        return;
    }
    struct http_body *body = http_body_create(text.bytes, text.size);
    buffer_release(&text);
    gateway_reply(gateway, request, 200, headers, 1, body);
}

/* v1's POST /predict: the model that ?model= names, else the default one. */
static void answer_predict(struct gateway *gateway, struct http_request *request) {
    char model[BACKEND_NAME_BYTES] = "", target[LIMIT_HEADER_BYTES];
    if (!http_request_query(request, "model", model, sizeof model)) {
        pthread_mutex_lock(&gateway->lock);
        if (gateway->table.count > 0)
            strcpy(model, default_route(gateway)->model);
        pthread_mutex_unlock(&gateway->lock);
    }
    struct error error;
    int length = snprintf(target, sizeof target, "/model/%s/predict%s%s", model, *request->query ? "?" : "",
                          request->query);
    if ((size_t)length >= sizeof target || (*model && !session_model_valid(model, strlen(model)))) {
        error_set(&error, ERROR_INVALID, "?model= is not the name of a model");
        gateway_reply_error(gateway, request, &error);
        return;
    }
    struct visit *visit = request->user;
    visit->route = "predict";
    gateway_exchange(gateway, request, model, strlen(model), target, EXCHANGE_ASK);
}

struct own_route {
    const char *path;
    const char *allow;
    const char *name; /* in logs and metrics */
    void (*answer)(struct gateway *gateway, struct http_request *request);
};

static const struct own_route own_routes[] = {
    {"/predict", "POST", "predict", answer_predict},
    {"/models", "GET, HEAD", "models", answer_models},
    {"/healthz", "GET, HEAD", "health", answer_live},
    {"/readyz", "GET, HEAD", "health", answer_ready},
    {"/metrics", "GET, HEAD", "metrics", answer_metrics},
    {"/hello", "GET, HEAD", "hello", answer_hello},
    {"/v2", "GET, HEAD", "v2", answer_v2},
    {"/v2/", "GET, HEAD", "v2", answer_v2},
    {"/v2/health/live", "GET, HEAD", "health", answer_live},
    {"/v2/health/ready", "GET, HEAD", "health", answer_ready},
    {"/v2/models", "GET, HEAD", "models", answer_v2_models},
    {"/v2/repository/index", "POST, GET, HEAD", "repository", answer_index},
};

static bool method_allowed(const char *allow, enum http_method method) {
    return strstr(allow, "GET")
               ? method == HTTP_GET || method == HTTP_HEAD || (method == HTTP_POST && *allow == 'P')
               : method == HTTP_POST;
}

/* /v2/repository/models/M/load and /unload */
static bool answer_repository(struct gateway *gateway, struct http_request *request) {
    static const char prefix[] = "/v2/repository/models/";
    if (strncmp(request->path, prefix, sizeof prefix - 1) != 0)
        return false;
    const char *model = request->path + sizeof prefix - 1;
    size_t length = strcspn(model, "/");
    bool load = strcmp(model + length, "/load") == 0, unload = strcmp(model + length, "/unload") == 0;
    if (!load && !unload)
        return false;
    struct visit *visit = request->user;
    visit->route = "repository";
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    struct error error;
    pthread_mutex_lock(&gateway->lock);
    const struct route *route = route_table_find(&gateway->table, model, length);
    if (route)
        strcpy(visit->model, route->model);
    pthread_mutex_unlock(&gateway->lock);
    if (request->method != HTTP_POST) {
        reply_method(gateway, request, "POST");
    } else if (!supervisor) {
        error_set(&error, ERROR_INVALID, "this gateway does not start or stop its backends");
        gateway_reply_error(gateway, request, &error);
    } else if (load || !route) { /* an unknown name is explained there */
        gateway_exchange(gateway, request, model, length, "", EXCHANGE_LOAD);
    } else {
        supervisor->unload(supervisor->context, visit->model);
        reply_json(gateway, request, 200, json_object());
    }
    return true;
}

/* What follows `prefix` up to a slash, or the end, is the model's name. */
static bool model_match(const char *path, const char *prefix, const char **ret_model, size_t *ret_length) {
    size_t length = strlen(prefix);
    if (strncmp(path, prefix, length) != 0)
        return false;
    *ret_model = path + length;
    *ret_length = strcspn(*ret_model, "/");
    return *ret_length > 0;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

/* Behind the model's name: nothing, or its one version. */
static bool rest_is_version(const char *rest) {
    return *rest == 0 || strcmp(rest, "/versions/1") == 0;
}

/* A path that leads to a model; TensorFlow Serving's /v1/models/M:predict too. What asks for health or state
 * only looks. */
static bool answer_model(struct gateway *gateway, struct http_request *request) {
    const char *model;
    size_t length;
    struct visit *visit = request->user;
    bool look = false;
    if (model_match(request->path, "/model/", &model, &length)) {
        look = strcmp(model + length, "/metrics") == 0;
        visit->route = strcmp(model + length, "/predict") == 0 ? "predict" : look ? "metrics" : "model";
    } else if (model_match(request->path, "/v2/models/", &model, &length)) {
        look = ends_with(model + length, "/ready");
        visit->route = ends_with(model + length, "/infer") ? "infer" : look ? "health" : "v2";
    } else if (model_match(request->path, "/v1/models/", &model, &length)) {
        static const char verb[] = ":predict";
        bool predict = ends_with(model, verb);
        if (predict && model[length] == 0) /* the verb is on the name, not on a version */
            length -= sizeof verb - 1;
        visit->route = predict ? "v1_predict" : "v1";
        look = !predict && rest_is_version(model + length);
    } else {
        return false;
    }
    if (look && request->method != HTTP_GET && request->method != HTTP_HEAD)
        reply_method(gateway, request, "GET, HEAD");
    else
        gateway_exchange(gateway, request, model, length, request->target,
                         look ? EXCHANGE_LOOK : EXCHANGE_ASK);
    return true;
}

bool gateway_answer(struct gateway *gateway, struct http_request *request) {
    struct visit *visit = request->user;
    struct web_reply file;
    for (size_t i = 0; i < sizeof own_routes / sizeof own_routes[0]; i++) {
        const struct own_route *route = &own_routes[i];
        if (strcmp(request->path, route->path) != 0)
            continue;
        visit->route = route->name;
        if (method_allowed(route->allow, request->method))
            route->answer(gateway, request);
        else
            reply_method(gateway, request, route->allow);
        return true;
    }
    if (web_reply_make(WEB_GATEWAY, request, &file)) {
        visit->route = "docs";
        gateway_reply(gateway, request, file.status, file.headers, file.header_count, file.body);
        return true;
    }
    return answer_repository(gateway, request) || answer_model(gateway, request);
}
