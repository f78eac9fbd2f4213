/* The discovery thread: resolves backends' host names periodically, connects new replicas and checks their
 * health. It never blocks on a response, so a slow name server or backend delays neither others nor shutdown.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/edge/forwarding.h"
#include "server/gateway/private.h"

#define CHECK_TIMEOUT_MS 2000
#define CHECKS_AT_ONCE 256
#define NAMES_WAIT_MS 1000 /* at start and on SIGHUP; slower names are added later */
#define IDENTITY_WAIT_MS 1000
#define UNWELL_CHECK_MS 250 /* requests may be waiting for the replica */

/* ---- Targets ---- */

struct targets {
    struct route_target *items;
    size_t count, capacity;
};

/* `address` "": the model is known, but this backend has no address yet. */
static bool add_target(struct targets *targets, const char *model, const struct url *url,
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

/* Every address of a host name is a replica (as with Kubernetes' headless services). */
static bool add_entry(struct gateway *gateway, struct targets *targets, const struct backend_entry *entry) {
    char addresses[LIMIT_REPLICAS][NAME_ADDRESS_BYTES];
    int count = resolver_find(gateway->resolver, entry->url.host, addresses);

    bool good = count >= 0 || add_target(targets, entry->model, &entry->url, "");
    for (int i = 0; i < count && good; i++)
        good = add_target(targets, entry->model, &entry->url, addresses[i]);
    return good;
}

static bool have_target(const struct targets *targets, const char *model) {
    for (size_t i = 0; i < targets->count; i++)
        if (targets->items[i].address[0] && strcmp(targets->items[i].model, model) == 0)
            return true;
    return false;
}

/* Keep the current replicas of a model whose new names are all unresolved. The URLs borrowed here stay valid
 * until the table is updated. */
static bool keep_known(struct gateway *gateway, struct targets *targets) {
    size_t count = targets->count;
    bool good = true;

    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < count && good; i++) {
        const char *model = targets->items[i].model;
        const struct route *route = route_table_find(&gateway->table, model, strlen(model));
        if (!route || have_target(targets, model))
            continue;
        for (int r = 0; r < route->count && good; r++)
            good = add_target(targets, model, &route->replicas[r]->url, route->replicas[r]->address);
    }
    pthread_mutex_unlock(&gateway->lock);
    return good;
}

struct http_upstream *discovery_connect(const struct gateway *gateway, const struct route_target *target,
                                        struct error *error) {
    return http_upstream_create(gateway->loops,
                                &(struct http_upstream_options){.url = target->url,
                                                                .address = target->address,
                                                                .ca_file = gateway->options.ca_file},
                                error);
}

/* Create upstreams for new replicas, before they are in the table. */
static bool connect_targets(struct gateway *gateway, struct targets *targets, struct error *error) {
    for (size_t i = 0; i < targets->count; i++) {
        struct route_target *target = &targets->items[i];
        pthread_mutex_lock(&gateway->lock);
        const struct route *route = route_table_find(&gateway->table, target->model, strlen(target->model));
        bool there = !target->address[0] || (route && route_replica(route, target));
        pthread_mutex_unlock(&gateway->lock);
        if (!there && !(target->upstream = discovery_connect(gateway, target, error)))
            return false;
    }
    return true;
}

/* Update the table from the backends whose names are resolved. discovery_lock held, lock not. */
static bool update_table(struct gateway *gateway, struct error *error) {
    struct targets targets = {0};
    bool good = true;

    for (size_t i = 0; i < gateway->backends.count && good; i++)
        good = add_entry(gateway, &targets, &gateway->backends.entries[i]);
    good = good && keep_known(gateway, &targets);
    if (!good)
        error_set(error, ERROR_MEMORY, "out of memory");
    good = good && connect_targets(gateway, &targets, error);

    if (good) {
        pthread_mutex_lock(&gateway->lock);
        good = route_table_update(&gateway->table, targets.items, targets.count) ||
               error_set(error, ERROR_MEMORY, "out of memory");
        pthread_mutex_unlock(&gateway->lock);
    }

    for (size_t i = 0; i < targets.count; i++)
        http_upstream_free(targets.items[i].upstream); /* unused: a duplicate, or the update failed */
    free(targets.items);
    return good;
}

/* ---- Reading the files ---- */

static bool read_file(struct backend_list *list, const char *path, struct error *error) {
    size_t size;
    cleanup(freep) char *text = file_read(path, LIMIT_BACKENDS_FILE_BYTES, &size, error);

    if (!text)
        return error_prefix(error, "file of backends");
    return backend_list_parse(list, text, path, error);
}

/* A list of a relay's single upstream. */
static bool read_relay(struct backend_list *list, const char *url, struct error *error) {
    char text[LIMIT_URL_BYTES + sizeof RELAY_ROUTE + 2];
    int length = snprintf(text, sizeof text, "%s=%s", RELAY_ROUTE, url);

    if ((size_t)length >= sizeof text || strpbrk(url, " ,\t\r\n#"))
        return error_set(error, ERROR_INVALID, "the gateway's URL: \"%.100s\" is not a URL", url);
    return backend_list_parse(list, text, "the gateway's URL", error);
}

static bool read_backends(const struct gateway *gateway, struct backend_list *ret, struct error *error) {
    const struct gateway_options *options = &gateway->options;
    struct backend_list list = {0};

    if ((!options->relay || read_relay(&list, options->relay, error)) &&
        (!options->backends || backend_list_parse(&list, options->backends, "--backend", error)) &&
        (!options->backends_file || read_file(&list, options->backends_file, error))) {
        *ret = list;
        return true;
    }
    backend_list_release(&list);
    return false;
}

static void refresh_identities(struct gateway *gateway, int wait_ms) {
    struct error error;
    for (size_t i = 0; gateway->identity && i < gateway->backends.count; i++)
        if (!identity_refresh(gateway->identity, &gateway->backends.entries[i].url, wait_ms, &error) &&
            wait_ms) {
            log_line("guichet gateway: %s", error.message);
            wait_ms = 0; /* the discovery thread keeps asking */
        }
}

/* Takes ownership of the list. Waits a moment for names to be resolved; the discovery thread adds the rest.
 */
static bool take_backends(struct gateway *gateway, struct backend_list *list, struct error *error) {
    pthread_mutex_lock(&gateway->discovery_lock);
    bool good = resolver_set(gateway->resolver, list) || error_set(error, ERROR_MEMORY, "out of memory");

    if (good) {
        struct backend_list old = gateway->backends;
        gateway->backends = *list;
        *list = old;
        resolver_step(gateway->resolver, clock_ns(), gateway->options.resolve_ms);
    }

    pthread_mutex_unlock(&gateway->discovery_lock);
    backend_list_release(list);
    if (!good)
        return false;

    resolver_wait(gateway->resolver, NAMES_WAIT_MS);
    pthread_mutex_lock(&gateway->discovery_lock);
    resolver_changed(gateway->resolver);
    good = update_table(gateway, error);
    refresh_identities(gateway, IDENTITY_WAIT_MS);
    pthread_mutex_unlock(&gateway->discovery_lock);
    return good;
}

bool discovery_reload(struct gateway *gateway, struct error *error) {
    struct backend_list list;

    if (gateway->options.supervisor)
        return true;
    return read_backends(gateway, &list, error) && take_backends(gateway, &list, error);
}

/* ---- Health ---- */

struct check {
    struct gateway *gateway;
    struct replica *replica;
};

/* Lock held. What a backend tells with its health. */
static void read_load(struct replica *replica, const struct http_response *response) {
    for (int i = 0; i < response->header_count; i++) {
        const struct http_header *header = &response->headers[i];
        if (http_names_equal(header->name, HEADER_KIND))
            text_copy(replica->kind, sizeof replica->kind, header->value);
        else if (http_names_equal(header->name, HEADER_QUEUED_TOKENS))
            replica->queued_tokens = strtoll(header->value, NULL, 10);
    }
}

static void finish_check(void *context, const struct http_response *response) {
    struct check *check = context;
    struct gateway *gateway = check->gateway;
    bool healthy = response->failure == HTTP_COMPLETE && response->status >= 200 && response->status < 300;

    /* Inconclusive: a reused connection had been closed, or the server has no /readyz. */
    bool inconclusive = (response->failure == HTTP_FAILED_CLOSED && response->reused) ||
                        (response->failure == HTTP_COMPLETE && response->status == 404);

    pthread_mutex_lock(&gateway->lock);
    check->replica->checking = false;
    if (response->failure == HTTP_COMPLETE)
        read_load(check->replica, response);
    if (!inconclusive || (response->failure == HTTP_COMPLETE))
        replica_checked(check->replica, healthy || inconclusive);
    if (!inconclusive && response->failure != HTTP_COMPLETE)
        proxy_leave_replica(gateway, check->replica);
    if (!check->replica->healthy)
        check->replica->check_at = clock_ns() + UNWELL_CHECK_MS * 1000000ll;
    replica_release(check->replica);
    gateway->checks--;
    pthread_mutex_unlock(&gateway->lock);

    free(check);
}

static void start_check(void *context) {
    static const struct http_header headers[] = {{HEADER_ASK_RUN, "1"}};
    struct check *check = context;
    struct http_call *call =
        http_call_start(check->replica->upstream, http_loops_get(check->gateway->loops, 0),
                        &(struct http_call_options){.method = "GET",
                                                    .target = "/readyz",
                                                    .headers = headers,
                                                    .header_count = 1,
                                                    .timeout_ms = CHECK_TIMEOUT_MS,
                                                    .done = finish_check,
                                                    .context = check});
    if (!call)
        finish_check(check,
                     &(struct http_response){.failure = HTTP_FAILED_CLOSED, .reused = true, .reason = ""});
}

/* Start the checks that are due. */
static void start_checks(struct gateway *gateway) {
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
        if (!http_loop_post(http_loops_get(gateway->loops, 0), start_check, started[i]))
            finish_check(started[i], &(struct http_response){.failure = HTTP_FAILED_CLOSED, .reused = true});
}

static void *run_discovery(void *context) {
    struct gateway *gateway = context;
    bool checks = gateway->options.check_ms > 0;
    int tick_ms =
        checks && gateway->options.check_ms < UNWELL_CHECK_MS ? gateway->options.check_ms : UNWELL_CHECK_MS;

    pthread_mutex_lock(&gateway->discovery_lock);
    while (!gateway->stopping) {
        struct error error;
        int64_t now = clock_ns(), next = now + tick_ms * 1000000ll;
        struct timespec until = {next / 1000000000, next % 1000000000};

        if (checks)
            start_checks(gateway);

        resolver_step(gateway->resolver, now, gateway->options.resolve_ms);
        if (resolver_changed(gateway->resolver) && !update_table(gateway, &error))
            log_line("guichet gateway: resolving backends: %s", error.message);

        refresh_identities(gateway, 0);
        while (!gateway->stopping && pthread_cond_timedwait(&gateway->discovery_wake,
                                                            &gateway->discovery_lock, &until) != ETIMEDOUT)
            ;
    }
    pthread_mutex_unlock(&gateway->discovery_lock);
    return NULL;
}

bool discovery_start(struct gateway *gateway, struct error *error) {
    int number = pthread_create(&gateway->discovery, NULL, run_discovery, gateway);
    if (number)
        return error_set_errno(error, ERROR_IO, number, "starting a thread");
    gateway->discovery_runs = true;
    return true;
}

void discovery_stop(struct gateway *gateway) {
    if (!gateway->discovery_runs)
        return;
    pthread_mutex_lock(&gateway->discovery_lock);
    gateway->stopping = true;
    pthread_cond_signal(&gateway->discovery_wake);
    pthread_mutex_unlock(&gateway->discovery_lock);
    pthread_join(gateway->discovery, NULL);
    gateway->discovery_runs = false;

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
