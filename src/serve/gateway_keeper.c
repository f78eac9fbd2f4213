/* The keeper: a thread that has backends' names looked up now and then, connects what is new, and checks who
 * is healthy. It waits for nobody, so a name server or a backend that is slow delays no other, nor the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "serve/gateway_private.h"

#define BACKENDS_FILE_BYTES (1u << 20)
#define CHECK_TIMEOUT_MS 2000
#define CHECKS_AT_ONCE 256
#define NAMES_WAIT_MS 1000 /* at the start and on SIGHUP: names that take longer come when they come */
#define IDENTITY_WAIT_MS 1000
#define UNWELL_CHECK_MS 250 /* somebody waits for it to come back */

/* ---- Which targets there are ---- */

struct targets {
    struct route_target *items;
    size_t count, capacity;
};

/* `address` "": the model is known, and nobody answers for it there. */
static bool targets_add(struct targets *targets, const char *model, const struct backend_url *url,
                        const char *address) {
    if (targets->count == targets->capacity) {
        size_t capacity = targets->capacity ? 2 * targets->capacity : 64;
        struct route_target *items = realloc(targets->items, capacity * sizeof *items);
        if (!items)
            return false;
        targets->items = items;
        targets->capacity = capacity;
    }
    struct route_target *target = &targets->items[targets->count++];
    *target = (struct route_target){.model = model, .url = url};
    snprintf(target->address, sizeof target->address, "%.63s", address);
    return true;
}

/* Every address of a name is a replica (Kubernetes' headless services). */
static bool targets_add_entry(struct gateway *gateway, struct targets *targets,
                              const struct backend_entry *entry) {
    char addresses[REPLICAS_MOST][NAME_ADDRESS_BYTES];
    int count = name_book_find(gateway->names, entry->url.host, addresses);
    bool good = count >= 0 || targets_add(targets, entry->model, &entry->url, "");
    for (int i = 0; i < count && good; i++)
        good = targets_add(targets, entry->model, &entry->url, addresses[i]);
    return good;
}

static bool targets_have(const struct targets *targets, const char *model) {
    for (size_t i = 0; i < targets->count; i++)
        if (targets->items[i].address[0] && strcmp(targets->items[i].model, model) == 0)
            return true;
    return false;
}

/* A model whose new names are all unknown yet keeps the replicas that it had: better those than none. They
 * are in the table until it is updated, and so are the URLs that are borrowed here. */
static bool targets_keep(struct gateway *gateway, struct targets *targets) {
    size_t count = targets->count;
    bool good = true;
    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < count && good; i++) {
        const char *model = targets->items[i].model;
        const struct route *route = route_table_find(&gateway->table, model, strlen(model));
        if (!route || targets_have(targets, model))
            continue;
        for (int r = 0; r < route->count && good; r++)
            good = targets_add(targets, model, &route->replicas[r]->url, route->replicas[r]->address);
    }
    pthread_mutex_unlock(&gateway->lock);
    return good;
}

struct http_upstream *gateway_connect(const struct gateway *gateway, const struct route_target *target,
                                      struct error *error) {
    char url[2 * BACKEND_HOST_BYTES + BACKEND_BASE_BYTES];
    bool bracketed = strchr(target->url->host, ':') != NULL;
    snprintf(url, sizeof url, bracketed ? "%s://[%s]:%d%s" : "%s://%s:%d%s",
             target->url->tls ? "https" : "http", target->url->host, target->url->port, target->url->base);
    return http_upstream_create(gateway->loops,
                                &(struct http_upstream_options){.url = url,
                                                                .address = target->address,
                                                                .ca_file = gateway->options.ca_file},
                                error);
}

/* Upstreams for what is new, made before anybody can choose it. */
static bool targets_connect(struct gateway *gateway, struct targets *targets, struct error *error) {
    for (size_t i = 0; i < targets->count; i++) {
        struct route_target *target = &targets->items[i];
        pthread_mutex_lock(&gateway->lock);
        const struct route *route = route_table_find(&gateway->table, target->model, strlen(target->model));
        bool there = !target->address[0] || (route && route_replica(route, target));
        pthread_mutex_unlock(&gateway->lock);
        if (!there && !(target->upstream = gateway_connect(gateway, target, error)))
            return false;
    }
    return true;
}

/* Makes the table follow the backends that were read, as far as their names are known. Under keeper_lock,
 * without the lock. */
static bool table_follow(struct gateway *gateway, struct error *error) {
    struct targets targets = {0};
    bool good = true;
    for (size_t i = 0; i < gateway->backends.count && good; i++)
        good = targets_add_entry(gateway, &targets, &gateway->backends.entries[i]);
    good = good && targets_keep(gateway, &targets);
    if (!good)
        error_set(error, ERROR_MEMORY, "out of memory");
    good = good && targets_connect(gateway, &targets, error);
    if (good) {
        pthread_mutex_lock(&gateway->lock);
        good = route_table_update(&gateway->table, targets.items, targets.count) ||
               error_set(error, ERROR_MEMORY, "out of memory");
        pthread_mutex_unlock(&gateway->lock);
    }
    for (size_t i = 0; i < targets.count; i++)
        http_upstream_free(targets.items[i].upstream); /* of one that was named twice, or came to nothing */
    free(targets.items);
    return good;
}

/* ---- Reading the files ---- */

static bool backends_read(const struct gateway *gateway, struct backend_list *ret, struct error *error) {
    const struct gateway_options *options = &gateway->options;
    struct backend_list list = {0};
    bool good = !options->backends || backend_list_parse(&list, options->backends, "backends", error);
    if (good && options->backends_file) {
        size_t size;
        cleanup(freep) char *text = file_read(options->backends_file, BACKENDS_FILE_BYTES, &size, error);
        good = text ? backend_list_parse(&list, text, options->backends_file, error)
                    : error_prefix(error, "file of backends");
    }
    if (!good) {
        backend_list_release(&list);
        return false;
    }
    *ret = list;
    return true;
}

static void identities_refresh(struct gateway *gateway, int wait_ms) {
    struct error error;
    for (size_t i = 0; gateway->identity && i < gateway->backends.count; i++)
        if (!identity_refresh(gateway->identity, &gateway->backends.entries[i].url, wait_ms, &error) &&
            wait_ms) {
            fprintf(stderr, "guichet gateway: %s\n", error.message);
            wait_ms = 0; /* the keeper goes on asking */
        }
}

/* The list is taken over. Names that are quick to be known are known when it returns; the keeper sees to the
 * others. */
static bool backends_take(struct gateway *gateway, struct backend_list *list, struct error *error) {
    pthread_mutex_lock(&gateway->keeper_lock);
    bool good = name_book_set(gateway->names, list) || error_set(error, ERROR_MEMORY, "out of memory");
    if (good) {
        struct backend_list old = gateway->backends;
        gateway->backends = *list;
        *list = old;
        name_book_step(gateway->names, clock_ns(), gateway->options.resolve_ms);
    }
    pthread_mutex_unlock(&gateway->keeper_lock);
    backend_list_release(list);
    if (!good)
        return false;
    name_book_wait(gateway->names, NAMES_WAIT_MS);
    pthread_mutex_lock(&gateway->keeper_lock);
    name_book_changed(gateway->names);
    good = table_follow(gateway, error);
    identities_refresh(gateway, IDENTITY_WAIT_MS);
    pthread_mutex_unlock(&gateway->keeper_lock);
    return good;
}

bool gateway_keeper_reload(struct gateway *gateway, struct error *error) {
    const char *keys_file = gateway->options.api_keys_file;
    struct api_keys *keys = NULL;
    struct backend_list list;
    if (keys_file && !(keys = api_keys_read(keys_file, error)))
        return false;
    if (!backends_read(gateway, &list, error)) {
        api_keys_free(keys);
        return false;
    }
    pthread_mutex_lock(&gateway->lock);
    struct api_keys *old = gateway->keys;
    gateway->keys = keys;
    pthread_mutex_unlock(&gateway->lock);
    api_keys_free(old);
    if (!gateway->options.supervisor)
        return backends_take(gateway, &list, error);
    backend_list_release(&list);
    return true;
}

/* ---- Health ---- */

struct check {
    struct gateway *gateway;
    struct replica *replica;
};

static void check_answered(void *context, const struct http_answer *answer) {
    struct check *check = context;
    struct gateway *gateway = check->gateway;
    bool healthy = answer->failure == HTTP_ANSWERED && answer->status >= 200 && answer->status < 300;
    /* A connection that was kept and had died says nothing; nor does a 404 of a server that knows no /readyz.
     */
    bool unsaid = (answer->failure == HTTP_FAILED_CLOSED && answer->reused) ||
                  (answer->failure == HTTP_ANSWERED && answer->status == 404);
    pthread_mutex_lock(&gateway->lock);
    check->replica->checking = false;
    if (!unsaid || (answer->failure == HTTP_ANSWERED))
        replica_checked(check->replica, healthy || unsaid);
    if (!check->replica->healthy)
        check->replica->check_at = clock_ns() + UNWELL_CHECK_MS * 1000000ll;
    replica_release(check->replica);
    gateway->checks--;
    pthread_mutex_unlock(&gateway->lock);
    free(check);
}

static void check_start(void *context) {
    struct check *check = context;
    struct http_call *call =
        http_call_start(check->replica->upstream, http_loops_get(check->gateway->loops, 0),
                        &(struct http_call_options){.method = "GET",
                                                    .target = "/readyz",
                                                    .timeout_ms = CHECK_TIMEOUT_MS,
                                                    .done = check_answered,
                                                    .context = check});
    if (!call)
        check_answered(check,
                       &(struct http_answer){.failure = HTTP_FAILED_CLOSED, .reused = true, .reason = ""});
}

/* Start the checks that are due. */
static void checks_start(struct gateway *gateway) {
    struct check *started[CHECKS_AT_ONCE];
    int count = 0;
    int64_t now = clock_ns();
    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < gateway->table.count; i++)
        for (int r = 0; r < gateway->table.routes[i]->count && count < CHECKS_AT_ONCE; r++) {
            struct replica *replica = gateway->table.routes[i]->replicas[r];
            struct check *check =
                !replica->checking && replica->check_at <= now ? malloc(sizeof *check) : NULL;
            if (!check)
                continue;
            *check = (struct check){gateway, replica_acquire(replica)};
            replica->checking = true;
            replica->check_at = now + gateway->options.check_ms * 1000000ll;
            gateway->checks++;
            started[count++] = check;
        }
    pthread_mutex_unlock(&gateway->lock);
    for (int i = 0; i < count; i++)
        if (!http_loop_post(http_loops_get(gateway->loops, 0), check_start, started[i]))
            check_answered(started[i], &(struct http_answer){.failure = HTTP_FAILED_CLOSED, .reused = true});
}

static void *keeper_run(void *context) {
    struct gateway *gateway = context;
    int tick_ms = gateway->options.check_ms < UNWELL_CHECK_MS ? gateway->options.check_ms : UNWELL_CHECK_MS;
    pthread_mutex_lock(&gateway->keeper_lock);
    while (!gateway->stopping) {
        struct error error;
        int64_t now = clock_ns(), next = now + tick_ms * 1000000ll;
        struct timespec until = {next / 1000000000, next % 1000000000};
        checks_start(gateway);
        name_book_step(gateway->names, now, gateway->options.resolve_ms);
        if (name_book_changed(gateway->names) && !table_follow(gateway, &error))
            fprintf(stderr, "guichet gateway: looking backends up: %s\n", error.message);
        identities_refresh(gateway, 0);
        while (!gateway->stopping &&
               pthread_cond_timedwait(&gateway->keeper_wake, &gateway->keeper_lock, &until) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&gateway->keeper_lock);
    return NULL;
}

bool gateway_keeper_start(struct gateway *gateway, struct error *error) {
    int number = pthread_create(&gateway->keeper, NULL, keeper_run, gateway);
    if (number)
        return error_set_errno(error, ERROR_IO, number, "starting a thread");
    gateway->keeper_runs = true;
    return true;
}

void gateway_keeper_stop(struct gateway *gateway) {
    if (!gateway->keeper_runs)
        return;
    pthread_mutex_lock(&gateway->keeper_lock);
    gateway->stopping = true;
    pthread_cond_signal(&gateway->keeper_wake);
    pthread_mutex_unlock(&gateway->keeper_lock);
    pthread_join(gateway->keeper, NULL);
    gateway->keeper_runs = false;
    /* Checks under way end by themselves, at their deadline at the latest. */
    for (;;) {
        pthread_mutex_lock(&gateway->lock);
        int checks = gateway->checks;
        pthread_mutex_unlock(&gateway->lock);
        if (checks == 0)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}
