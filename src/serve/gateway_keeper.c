/* The keeper: a thread that looks backends' names up now and then, connects what is new, and checks who is
 * healthy. Everything of the gateway that may block happens here. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
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
#define UNWELL_CHECK_MS 250 /* somebody waits for it to come back */

/* ---- Which targets there are ---- */

struct targets {
    struct route_target *items;
    char (*addresses)[BACKEND_HOST_BYTES];
    size_t count, capacity;
};

static bool targets_add(struct targets *targets, const struct backend_entry *entry, const char *address) {
    if (targets->count == targets->capacity) {
        size_t capacity = targets->capacity ? 2 * targets->capacity : 64;
        struct route_target *items = realloc(targets->items, capacity * sizeof *items);
        if (items)
            targets->items = items;
        char(*addresses)[BACKEND_HOST_BYTES] = realloc(targets->addresses, capacity * sizeof *addresses);
        if (addresses)
            targets->addresses = addresses;
        if (!items || !addresses)
            return false;
        targets->capacity = capacity;
    }
    if (address)
        snprintf(targets->addresses[targets->count], BACKEND_HOST_BYTES, "%s", address);
    /* The address is pointed to once all are there: the array moves while it grows. */
    targets->items[targets->count++] = (struct route_target){entry->model, &entry->url, address ? "" : NULL};
    return true;
}

/* A name that cannot be looked up now keeps the addresses that it had; one that never could has no replica,
 * and its model is known all the same. */
static bool targets_add_known(struct gateway *gateway, struct targets *targets,
                              const struct backend_entry *entry) {
    bool good = true, any = false;
    pthread_mutex_lock(&gateway->lock);
    const struct route *route = route_table_find(&gateway->table, entry->model, strlen(entry->model));
    for (int i = 0; route && i < route->count && good; i++) {
        const struct replica *replica = route->replicas[i];
        if (replica->url.port != entry->url.port || strcmp(replica->url.host, entry->url.host) != 0)
            continue;
        good = targets_add(targets, entry, replica->address);
        any = true;
    }
    pthread_mutex_unlock(&gateway->lock);
    return good && (any || targets_add(targets, entry, NULL));
}

/* Every address of a name is a replica (Kubernetes' headless services). Behind https, where the certificate
 * is the name's, the name itself is the one replica. */
static bool targets_add_entry(struct gateway *gateway, struct targets *targets,
                              const struct backend_entry *entry) {
    if (entry->url.tls)
        return targets_add(targets, entry, entry->url.host);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo(entry->url.host, NULL, &hints, &found) != 0)
        return targets_add_known(gateway, targets, entry);
    bool good = true;
    for (const struct addrinfo *at = found; at && good; at = at->ai_next) {
        char text[NI_MAXHOST];
        if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            good = targets_add(targets, entry, text);
    }
    freeaddrinfo(found);
    return good;
}

/* Looks everything up and makes the table follow. Under keeper_lock, without the lock. */
static bool table_follow(struct gateway *gateway, const struct backend_list *list, struct error *error) {
    struct targets targets = {0};
    bool good = true;
    for (size_t i = 0; i < list->count && good; i++)
        good = targets_add_entry(gateway, &targets, &list->entries[i]);
    for (size_t i = 0; i < targets.count; i++)
        if (targets.items[i].address)
            targets.items[i].address = targets.addresses[i];
    if (good) {
        pthread_mutex_lock(&gateway->lock);
        good = route_table_update(&gateway->table, targets.items, targets.count);
        pthread_mutex_unlock(&gateway->lock);
    }
    free(targets.items);
    free(targets.addresses);
    if (!good)
        return error_set(error, ERROR_MEMORY, "out of memory");
    gateway_attach(gateway);
    return true;
}

/* ---- Connecting ---- */

/* A replica that is not attached yet, with a count for the caller; NULL when all are. */
static struct replica *unattached_take(struct gateway *gateway, struct replica *after) {
    struct replica *found = NULL;
    bool passed = after == NULL;
    pthread_mutex_lock(&gateway->lock);
    for (size_t i = 0; i < gateway->table.count && !found; i++)
        for (int r = 0; r < gateway->table.routes[i]->count && !found; r++) {
            struct replica *replica = gateway->table.routes[i]->replicas[r];
            if (passed && !replica->attached)
                found = replica_acquire(replica);
            passed |= replica == after;
        }
    pthread_mutex_unlock(&gateway->lock);
    return found;
}

static struct http_upstream *replica_connect(const struct gateway *gateway, const struct replica *replica,
                                             struct error *error) {
    char url[2 * BACKEND_HOST_BYTES + BACKEND_BASE_BYTES];
    bool bracketed = strchr(replica->address, ':') != NULL;
    snprintf(url, sizeof url, bracketed ? "%s://[%s]:%d%s" : "%s://%s:%d%s",
             replica->url.tls ? "https" : "http", replica->address, replica->url.port, replica->url.base);
    return http_upstream_create(
        gateway->loops, &(struct http_upstream_options){.url = url, .ca_file = gateway->options.ca_file},
        error);
}

void gateway_attach(struct gateway *gateway) {
    struct replica *replica, *last = NULL;
    while ((replica = unattached_take(gateway, last))) {
        struct error error;
        struct http_upstream *upstream = replica_connect(gateway, replica, &error);
        if (upstream && gateway->identity && !identity_refresh(gateway->identity, &replica->url, &error))
            fprintf(stderr, "guichet gateway: %s\n", error.message);
        pthread_mutex_lock(&gateway->lock);
        bool taken = upstream && !replica->attached;
        if (taken) {
            replica->upstream = upstream;
            replica->attached = true;
        }
        replica_release(last);
        pthread_mutex_unlock(&gateway->lock);
        if (!taken)
            http_upstream_free(upstream);
        last = replica; /* one that cannot be connected now is not asked for again in this round */
    }
    pthread_mutex_lock(&gateway->lock);
    replica_release(last);
    pthread_mutex_unlock(&gateway->lock);
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
    pthread_mutex_lock(&gateway->keeper_lock);
    bool good = gateway->options.supervisor || table_follow(gateway, &list, error);
    backend_list_release(&gateway->backends);
    gateway->backends = list;
    pthread_mutex_unlock(&gateway->keeper_lock);
    return good;
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
            struct check *check = replica->attached && !replica->checking && replica->check_at <= now
                                      ? malloc(sizeof *check)
                                      : NULL;
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

static void identities_refresh(struct gateway *gateway) {
    struct error error;
    for (size_t i = 0; gateway->identity && i < gateway->backends.count; i++)
        if (!identity_refresh(gateway->identity, &gateway->backends.entries[i].url, &error))
            fprintf(stderr, "guichet gateway: %s\n", error.message);
}

static void *keeper_run(void *context) {
    struct gateway *gateway = context;
    int64_t resolve_at = clock_ns() + gateway->options.resolve_ms * 1000000ll;
    int tick_ms = gateway->options.check_ms < UNWELL_CHECK_MS ? gateway->options.check_ms : UNWELL_CHECK_MS;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&gateway->keeper_lock);
    while (!gateway->stopping) {
        checks_start(gateway);
        int64_t next = until.tv_sec * 1000000000ll + until.tv_nsec + tick_ms * 1000000ll;
        until = (struct timespec){next / 1000000000, next % 1000000000};
        while (!gateway->stopping &&
               pthread_cond_timedwait(&gateway->keeper_wake, &gateway->keeper_lock, &until) != ETIMEDOUT)
            ;
        if (gateway->stopping || clock_ns() < resolve_at)
            continue;
        struct error error;
        if (!gateway->options.supervisor && !table_follow(gateway, &gateway->backends, &error))
            fprintf(stderr, "guichet gateway: looking backends up: %s\n", error.message);
        identities_refresh(gateway);
        resolve_at = clock_ns() + gateway->options.resolve_ms * 1000000ll;
        clock_gettime(CLOCK_MONOTONIC, &until);
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
