#include "server/gateway/gateway.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/edge/context.h"
#include "server/edge/respond.h"
#include "server/gateway/private.h"

/* ---- What it tells of itself ---- */

/* A model is ready, or is started when it is wanted. */
static bool is_ready(void *state) {
    struct gateway *gateway = state;
    int64_t now = clock_ns();
    bool ready = gateway->options.supervisor != NULL;

    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; !ready && i < gateway->table.count; i++)
        ready = route_ready(gateway->table.routes[i], now);
    pthread_mutex_unlock(&gateway->lock);
    return ready;
}

/* Lock held. The default model's route, else the first that `key` may use; NULL: none. */
static const struct route *find_default_route(const struct gateway *gateway, const struct api_key *key) {
    const char *name = gateway->options.default_model;
    const struct route *route = name ? route_table_find(&gateway->table, name, strlen(name)) : NULL;

    if (route && api_key_allows_model(key, route->model))
        return route;
    for (size_t i = 0; i < gateway->table.count; i++)
        if (api_key_allows_model(key, gateway->table.routes[i]->model))
            return gateway->table.routes[i];
    return NULL;
}

/* Lock held. What the table knows of a model. */
static void describe_route(const struct route *route, bool details, int64_t now, struct model_status *ret) {
    bool ready = route_ready(route, now);

    *ret = (struct model_status){.typical_ms = details ? route_typical_ms(route) : 0};
    strcpy(ret->name, route->model);
    strcpy(ret->state, ready ? "ready" : "failed");
    if (!ready)
        strcpy(ret->reason, "no backend of it answers");
    for (int i = 0; details && i < route->count && !ret->meaning.kind[0]; i++)
        strcpy(ret->meaning.kind, route->replicas[i]->kind);
}

/* A copy, so that the supervisor is not asked under the lock. */
static struct model_status *list_models(void *state, const struct http_request *request, bool details,
                                        size_t *ret_count) {
    struct gateway *gateway = state;
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    const struct api_key *key = context_of(request)->key;
    int64_t now = clock_ns();

    pthread_mutex_lock(&gateway->lock);
    struct model_status *list = calloc(gateway->table.count + 1, sizeof *list);
    const struct route *first = find_default_route(gateway, key);
    size_t count = 0;
    if (list && first)
        describe_route(first, details, now, &list[count++]);
    for (size_t i = 0; list && i < gateway->table.count; i++) {
        const struct route *route = gateway->table.routes[i];
        if (route != first && api_key_allows_model(key, route->model))
            describe_route(route, details, now, &list[count++]);
    }
    pthread_mutex_unlock(&gateway->lock);

    for (size_t i = 0; details && supervisor && i < count; i++)
        supervisor->describe(supervisor->context, &list[i]);
    *ret_count = count;
    return list;
}

/* Lock held. */
static void write_replicas(const struct gateway *gateway, struct buffer *text) {
    int64_t now = clock_ns();

    buffer_append_string(
        text, "# HELP guichet_gateway_outstanding Requests at a model's replicas or waiting for one.\n"
              "# TYPE guichet_gateway_outstanding gauge\n");
    for (size_t i = 0; i < gateway->table.count; i++)
        buffer_printf(text, "guichet_gateway_outstanding{model=\"%s\"} %d\n", gateway->table.routes[i]->model,
                      route_outstanding(gateway->table.routes[i]));

    buffer_append_string(text,
                         "# HELP guichet_gateway_replica_up Whether a replica is healthy and not ejected.\n"
                         "# TYPE guichet_gateway_replica_up gauge\n");
    for (size_t i = 0; i < gateway->table.count; i++)
        for (int r = 0; r < gateway->table.routes[i]->count; r++) {
            const struct replica *replica = gateway->table.routes[i]->replicas[r];
            buffer_printf(text, "guichet_gateway_replica_up{model=\"%s\",replica=\"%s\"} %d\n",
                          gateway->table.routes[i]->model, replica->name,
                          replica->healthy && replica->ejected_until <= now);
        }
}

static bool write_metrics(void *state, struct buffer *text) {
    struct gateway *gateway = state;
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;

    metrics_write(gateway->metrics, text);
    pthread_mutex_lock(&gateway->lock);
    write_replicas(gateway, text);
    pthread_mutex_unlock(&gateway->lock);
    metrics_write_process(text);
    if (supervisor)
        supervisor->write_metrics(supervisor->context, text);
    return !text->failed;
}

const struct service *gateway_service(const struct gateway *gateway) {
    return &gateway->service;
}

struct metrics *gateway_metrics(const struct gateway *gateway) {
    return gateway->metrics;
}

const struct gateway_supervisor *gateway_supervisor(const struct gateway *gateway) {
    return gateway->options.supervisor;
}

const struct gateway_options *gateway_options(const struct gateway *gateway) {
    return &gateway->options;
}

void gateway_count_kept(struct gateway *gateway, int change) {
    pthread_mutex_lock(&gateway->lock);
    gateway->proxied += change;
    pthread_mutex_unlock(&gateway->lock);
}

struct identity *gateway_identity(const struct gateway *gateway) {
    return gateway->identity;
}

/* ---- Life ---- */

static void complete_options(struct gateway_options *options) {
    options->bound = options->bound ? options->bound : 256;
    options->timeout_ms = options->timeout_ms ? options->timeout_ms : 60000;
    options->check_ms = options->check_ms ? options->check_ms : 2000;
    options->resolve_ms = options->resolve_ms ? options->resolve_ms : 10000;
}

static void init_locks(struct gateway *gateway) {
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&gateway->lock, NULL);
    pthread_mutex_init(&gateway->discovery_lock, NULL);
    pthread_cond_init(&gateway->discovery_wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

static bool create_parts(struct gateway *gateway, struct error *error) {
    if (sodium_init() < 0)
        return error_set(error, ERROR_INTERNAL, "libsodium does not start");
    gateway->metrics = metrics_create();
    gateway->resolver = resolver_create();
    if (!gateway->metrics || !gateway->resolver)
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (gateway->options.google_identity && !(gateway->identity = identity_create(gateway->loops, error)))
        return false;
    return discovery_reload(gateway, error) && discovery_start(gateway, error);
}

struct gateway *gateway_create(struct http_loops *loops, const struct gateway_options *options,
                               struct error *error) {
    struct gateway *gateway = calloc(1, sizeof *gateway);
    if (!gateway) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    gateway->options = *options;
    gateway->loops = loops;
    gateway->service = (struct service){
        .context = gateway,
        .is_ready = is_ready,
        .list_models = list_models,
        .write_metrics = write_metrics,
    };

    complete_options(&gateway->options);
    init_locks(gateway);
    route_table_init(&gateway->table, gateway->options.bound);

    if (create_parts(gateway, error))
        return gateway;
    gateway_free(gateway);
    return NULL;
}

bool gateway_reload(struct gateway *gateway, struct error *error) {
    return discovery_reload(gateway, error);
}

void gateway_free(struct gateway *gateway) {
    struct error error;
    if (!gateway)
        return;

    error_set(&error, ERROR_UNAVAILABLE, "the service is shutting down");
    proxy_resume_waiting(gateway, NULL, &error);
    proxy_wait_idle(gateway);
    discovery_stop(gateway);
    route_table_release(&gateway->table);
    backend_list_release(&gateway->backends);
    resolver_free(gateway->resolver);
    identity_free(gateway->identity);
    metrics_free(gateway->metrics);
    pthread_cond_destroy(&gateway->discovery_wake);
    pthread_mutex_destroy(&gateway->discovery_lock);
    pthread_mutex_destroy(&gateway->lock);
    free(gateway);
}

/* ---- Models, by name ---- */

/* "a, b, c" of the models there are. */
static void list_names(struct gateway *gateway, struct buffer *names) {
    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < gateway->table.count; i++)
        if (!buffer_printf(names, "%s%s", i ? ", " : "", gateway->table.routes[i]->model))
            break;
    pthread_mutex_unlock(&gateway->lock);
}

bool gateway_check_model(void *state, const char *name, struct error *error) {
    struct gateway *gateway = state;
    struct buffer names = {.limit = 360};

    pthread_mutex_lock(&gateway->lock);
    bool found = route_table_find(&gateway->table, name, strlen(name)) != NULL;
    pthread_mutex_unlock(&gateway->lock);
    if (found)
        return true;

    list_names(gateway, &names);
    error_set_unknown_model(error, name, strlen(name), names.bytes ? names.bytes : "");
    buffer_release(&names);
    return false;
}

bool gateway_default_model(struct gateway *gateway, const struct http_request *request,
                           char ret[MODEL_NAME_BYTES]) {
    pthread_mutex_lock(&gateway->lock);
    const struct route *route = find_default_route(gateway, context_of(request)->key);
    if (route)
        strcpy(ret, route->model);
    pthread_mutex_unlock(&gateway->lock);
    return route != NULL;
}

bool gateway_model_add(struct gateway *gateway, const char *model) {
    pthread_mutex_lock(&gateway->lock);
    bool added = route_table_add(&gateway->table, model) != NULL;
    pthread_mutex_unlock(&gateway->lock);
    return added;
}

void gateway_model_remove(struct gateway *gateway, const char *model) {
    struct error error;

    error_set(&error, ERROR_NOT_FOUND, "model \"%s\" has been removed", model);
    proxy_resume_waiting(gateway, model, &error);
    pthread_mutex_lock(&gateway->lock);
    route_table_remove(&gateway->table, model);
    pthread_mutex_unlock(&gateway->lock);
}

bool gateway_model_start(struct gateway *gateway, const char *model, int port, struct error *error) {
    struct url url = {.host = "127.0.0.1", .port = port};
    struct route_target target = {.model = model, .url = &url, .address = "127.0.0.1"};

    target.upstream = discovery_connect(gateway, &target, error);
    if (!target.upstream)
        return false;
    pthread_mutex_lock(&gateway->lock);
    struct route *route = route_table_find(&gateway->table, model, strlen(model));
    bool updated = route && route_update(route, &target, 1);
    pthread_mutex_unlock(&gateway->lock);
    http_upstream_free(target.upstream); /* where the route had it already */
    if (!updated)
        return error_set(error, ERROR_MEMORY, "model \"%s\": out of memory", model);
    proxy_resume_waiting(gateway, model, NULL);
    return true;
}

void gateway_model_stop(struct gateway *gateway, const char *model) {
    pthread_mutex_lock(&gateway->lock);
    struct route *route = route_table_find(&gateway->table, model, strlen(model));
    if (route)
        route_update(route, NULL, 0);
    pthread_mutex_unlock(&gateway->lock);
}

void gateway_model_fail(struct gateway *gateway, const char *model, const struct error *reason) {
    proxy_resume_waiting(gateway, model, reason);
}

bool gateway_model_usage(struct gateway *gateway, const char *model, struct gateway_usage *ret) {
    pthread_mutex_lock(&gateway->lock);
    const struct route *route = route_table_find(&gateway->table, model, strlen(model));
    if (route)
        *ret = (struct gateway_usage){
            .outstanding = route_outstanding(route),
            .waiting_since = proxy_waiting_since(gateway, route),
            .last_used = route->last_used,
            .healthy = route_ready(route, clock_ns()),
        };
    pthread_mutex_unlock(&gateway->lock);
    return route != NULL;
}
