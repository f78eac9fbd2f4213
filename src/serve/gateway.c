#include "serve/gateway.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "serve/gateway_private.h"

static void gateway_handle(void *context, struct http_request *request) {
    struct gateway *gateway = context;
    struct error error;
    if (path_is_devious(request->path) || request->target[0] != '/') {
        error_set(&error, ERROR_INVALID, "this path climbs; write it without \".\" and \"..\"");
    } else if (gateway_answer(gateway, request)) {
        return;
    } else {
        error_set(&error, ERROR_NOT_FOUND, "nothing is at this address; /models lists the models");
    }
    gateway_reply_error(gateway, request, &error);
}

static void options_complete(struct gateway_options *options) {
    options->bound = options->bound ? options->bound : 256;
    options->timeout_ms = options->timeout_ms ? options->timeout_ms : 60000;
    options->check_ms = options->check_ms ? options->check_ms : 2000;
    options->resolve_ms = options->resolve_ms ? options->resolve_ms : 10000;
}

static void locks_init(struct gateway *gateway) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&gateway->lock, NULL);
    pthread_mutex_init(&gateway->keeper_lock, NULL);
    pthread_cond_init(&gateway->keeper_wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

static bool parts_create(struct gateway *gateway, struct error *error) {
    const struct gateway_options *options = &gateway->options;
    if (sodium_init() < 0)
        return error_set(error, ERROR_INTERNAL, "libsodium does not start");
    if (!(gateway->metrics = metrics_create()) || !(gateway->names = name_book_create()))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (options->rate > 0 &&
        !(gateway->limiter = rate_limiter_create(options->rate, options->burst >= 1 ? options->burst : 1)))
        return error_set(error, ERROR_MEMORY, "out of memory");
    if (options->google_identity && !(gateway->identity = identity_create(gateway->loops, error)))
        return false;
    return gateway_keeper_reload(gateway, error) && gateway_keeper_start(gateway, error);
}

static bool server_start(struct gateway *gateway, struct error *error) {
    const struct gateway_options *options = &gateway->options;
    gateway->server = http_server_create(gateway->loops,
                                         &(struct http_server_options){
                                             .handle = gateway_handle,
                                             .admit = gateway_admit,
                                             .done = gateway_done,
                                             .context = gateway,
                                             .body_limit = options->body_limit,
                                             .tls_certificate = options->tls_certificate,
                                             .tls_key = options->tls_key,
                                         },
                                         error);
    if (!gateway->server)
        return false;
    int inherited = options->port < 0 ? 0 : http_inherited_sockets();
    for (int i = 0; i < inherited; i++)
        if (!http_server_listen_fd(gateway->server, 3 + i, error))
            return false;
    if (inherited > 0)
        return true;
    int port = options->port < 0 ? 0 : options->port;
    if (!options->addresses || !options->addresses[0])
        return http_server_listen(gateway->server, NULL, port, error);
    for (const char *const *address = options->addresses; *address; address++)
        if (!http_server_listen(gateway->server, *address, port, error))
            return false;
    return true;
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
    options_complete(&gateway->options);
    locks_init(gateway);
    route_table_init(&gateway->table, gateway->options.bound);
    if (parts_create(gateway, error) && server_start(gateway, error))
        return gateway;
    gateway_free(gateway);
    return NULL;
}

int gateway_port(const struct gateway *gateway) {
    return http_server_port(gateway->server);
}

bool gateway_reload(struct gateway *gateway, struct error *error) {
    if (gateway->options.tls_certificate && !http_server_reload_tls(gateway->server, error))
        return false;
    return gateway_keeper_reload(gateway, error);
}

bool gateway_stop(struct gateway *gateway, int grace_ms) {
    return http_server_stop(gateway->server, grace_ms);
}

/* Everybody who still waits for a model is told that none comes. */
static void waiting_end(struct gateway *gateway) {
    struct error error;
    error_set(&error, ERROR_UNAVAILABLE, "the service is shutting down");
    for (size_t i = 0; i < gateway->table.count; i++)
        gateway_exchanges_resume(gateway, gateway->table.routes[i]->model, &error);
}

void gateway_free(struct gateway *gateway) {
    if (!gateway)
        return;
    if (gateway->server) {
        http_server_stop(gateway->server, 0);
        waiting_end(gateway);
        gateway_exchanges_end(gateway);
    }
    gateway_keeper_stop(gateway);
    http_server_free(gateway->server);
    route_table_release(&gateway->table);
    backend_list_release(&gateway->backends);
    name_book_free(gateway->names);
    identity_free(gateway->identity);
    api_keys_free(gateway->keys);
    rate_limiter_free(gateway->limiter);
    metrics_free(gateway->metrics);
    pthread_cond_destroy(&gateway->keeper_wake);
    pthread_mutex_destroy(&gateway->keeper_lock);
    pthread_mutex_destroy(&gateway->lock);
    free(gateway);
}

bool gateway_model_add(struct gateway *gateway, const char *model) {
    pthread_mutex_lock(&gateway->lock);
    bool added = route_table_add(&gateway->table, model) != NULL;
    pthread_mutex_unlock(&gateway->lock);
    return added;
}

void gateway_model_remove(struct gateway *gateway, const char *model) {
    struct error error;
    error_set(&error, ERROR_NOT_FOUND, "model \"%s\" is not here any more", model);
    gateway_exchanges_resume(gateway, model, &error);
    pthread_mutex_lock(&gateway->lock);
    route_table_remove(&gateway->table, model);
    pthread_mutex_unlock(&gateway->lock);
}

bool gateway_model_place(struct gateway *gateway, const char *model, int port, struct error *error) {
    struct backend_url url = {.port = (uint16_t)port, .host = "127.0.0.1"};
    struct route_target target = {model, &url, "127.0.0.1", NULL};
    if (port && !(target.upstream = gateway_connect(gateway, &target, error)))
        return false;
    pthread_mutex_lock(&gateway->lock);
    struct route *route = route_table_find(&gateway->table, model, strlen(model));
    bool good = route && route_update(route, &target, port ? 1 : 0);
    pthread_mutex_unlock(&gateway->lock);
    http_upstream_free(target.upstream); /* where it was there already */
    if (!good)
        return error_set(error, ERROR_MEMORY, "model \"%s\": out of memory", model);
    if (port)
        gateway_exchanges_resume(gateway, model, NULL);
    return true;
}

void gateway_model_fail(struct gateway *gateway, const char *model, const struct error *reason) {
    gateway_exchanges_resume(gateway, model, reason);
}

bool gateway_model_usage(struct gateway *gateway, const char *model, struct gateway_usage *ret) {
    pthread_mutex_lock(&gateway->lock);
    const struct route *route = route_table_find(&gateway->table, model, strlen(model));
    if (route)
        *ret = (struct gateway_usage){route_outstanding(route), route->last_used,
                                      route_ready(route, clock_ns())};
    pthread_mutex_unlock(&gateway->lock);
    return route != NULL;
}
