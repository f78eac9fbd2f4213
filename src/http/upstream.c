#include <netinet/in.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http/client_internal.h"
#include "base/text.h"
#include "http/names.h"

void upstream_reference(struct http_upstream *upstream) {
    atomic_fetch_add(&upstream->references, 1);
}

void upstream_release(struct http_upstream *upstream) {
    if (atomic_fetch_sub(&upstream->references, 1) != 1)
        return;

    SSL_CTX_free(upstream->tls);
    pthread_mutex_destroy(&upstream->mutex);
    free(upstream->ca_file);
    free(upstream->address);
    free(upstream);
}

bool upstream_address(struct http_upstream *upstream, unsigned start, int attempt,
                      struct upstream_address *ret) {
    pthread_mutex_lock(&upstream->mutex);
    bool found = attempt < upstream->address_count;
    if (found)
        *ret = upstream->addresses[(start + (unsigned)attempt) % (unsigned)upstream->address_count];
    pthread_mutex_unlock(&upstream->mutex);
    return found;
}

static bool copy_address(struct upstream_address *address, const struct addrinfo *info, int port) {
    if (info->ai_addrlen > sizeof address->address)
        return false;

    memcpy(&address->address, info->ai_addr, info->ai_addrlen);
    address->size = info->ai_addrlen;
    address->family = info->ai_family;
    if (address->family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)&address->address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)(void *)&address->address)->sin_port = htons((uint16_t)port);

    return true;
}

/* The name was looked up; the look-up's reference ends here. */
static void note_addresses(void *context, const struct addrinfo *found, const char *failure) {
    struct http_upstream *upstream = context;
    pthread_mutex_lock(&upstream->mutex);
    upstream->looking = false;
    text_copy(upstream->failure, sizeof upstream->failure, failure);

    if (found)
        upstream->address_count = 0;
    for (; found && upstream->address_count < UPSTREAM_ADDRESSES; found = found->ai_next)
        if (copy_address(&upstream->addresses[upstream->address_count], found, upstream->url.port))
            upstream->address_count++;
    pthread_mutex_unlock(&upstream->mutex);

    upstream_release(upstream);
}

void http_upstream_resolve(struct http_upstream *upstream) {
    pthread_mutex_lock(&upstream->mutex);
    bool begins = !upstream->looking;
    upstream->looking = true;
    pthread_mutex_unlock(&upstream->mutex);
    if (!begins)
        return;

    upstream_reference(upstream);
    const char *name = upstream->address ? upstream->address : upstream->url.host;
    if (!name_look_up(name, note_addresses, upstream))
        note_addresses(upstream, NULL, "no thread is left for the look-up");
}

bool http_upstream_known(struct http_upstream *upstream, struct error *error) {
    char origin[URL_ORIGIN_BYTES];
    url_write_origin(&upstream->url, origin);
    const char *path = upstream->url.path, *host = upstream->url.host;

    pthread_mutex_lock(&upstream->mutex);
    bool known = upstream->address_count > 0;
    if (!known && upstream->looking)
        error_set(error, ERROR_UNAVAILABLE, "%s%s: the name \"%s\" is still being looked up", origin, path,
                  host);
    else if (!known)
        error_set(error, ERROR_UPSTREAM, "%s%s: no address of \"%s\" is known: %s", origin, path, host,
                  upstream->failure);

    pthread_mutex_unlock(&upstream->mutex);
    return known;
}

static bool load_client_tls(struct http_upstream *upstream, struct error *error) {
    upstream->tls = SSL_CTX_new(TLS_client_method());
    if (!upstream->tls)
        return error_set(error, ERROR_MEMORY, "not enough memory for TLS");

    SSL_CTX_set_min_proto_version(upstream->tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(upstream->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(upstream->tls, SSL_VERIFY_PEER, NULL);

    const char *file = upstream->ca_file;
    int loaded = file ? SSL_CTX_load_verify_locations(upstream->tls, file, NULL)
                      : SSL_CTX_set_default_verify_paths(upstream->tls);
    return loaded == 1 || error_set(error, ERROR_IO, "%s: cannot read certificates to trust",
                                    file ? file : "the system's store");
}

static void on_sweep(evutil_socket_t fd, short what, void *context) {
    struct upstream_pool *pool = context;
    int64_t now = clock_ns();

    /* Checking one connection may end others, and the upstream with the last of them. */
    upstream_reference(pool->upstream);
    for (struct client_connection *connection = pool->first; connection; connection = pool->cursor) {
        pool->cursor = connection->next;
        client_connection_check(connection, now);
    }
    upstream_release(pool->upstream);
}

static void set_defaults(struct http_upstream_options *options) {
    if (!options->connect_timeout_ms)
        options->connect_timeout_ms = 1000;
    if (!options->idle_timeout_ms)
        options->idle_timeout_ms = 30000;
    if (!options->idle_limit)
        options->idle_limit = 64;
    if (!options->response_limit)
        options->response_limit = (size_t)64 << 20;
}

static bool copy_options(struct http_upstream *upstream, const struct http_upstream_options *options,
                         struct error *error) {
    upstream->options = *options;
    upstream->options.url = &upstream->url;
    set_defaults(&upstream->options);

    upstream->url = *options->url;
    url_write_host(&upstream->url, upstream->host_header);
    upstream->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
    upstream->address = options->address ? strdup(options->address) : NULL;

    bool copied = !upstream->ca_file == !options->ca_file && !upstream->address == !options->address;
    return copied || error_set(error, ERROR_MEMORY, "not enough memory for an upstream");
}

struct http_upstream *http_upstream_create(struct http_loops *loops,
                                           const struct http_upstream_options *options, struct error *error) {
    size_t count = (size_t)http_loops_count(loops);
    struct http_upstream *upstream = calloc(1, sizeof *upstream + count * sizeof *upstream->pools);
    if (!upstream) {
        error_set(error, ERROR_MEMORY, "not enough memory for an upstream");
        return NULL;
    }

    pthread_mutex_init(&upstream->mutex, NULL);
    upstream->references = 1;
    upstream->loops = loops;
    for (size_t i = 0; i < count; i++) {
        struct upstream_pool *pool = &upstream->pools[i];
        pool->upstream = upstream;
        pool->loop = http_loops_get(loops, (int)i);
        event_assign(&pool->sweep, http_loop_base(pool->loop), -1, EV_PERSIST, on_sweep, pool);
    }

    if (!copy_options(upstream, options, error) ||
        (upstream->url.secure && !load_client_tls(upstream, error))) {
        upstream_release(upstream);
        return NULL;
    }

    http_upstream_resolve(upstream);
    return upstream;
}

static void close_idle(void *context) {
    struct upstream_pool *pool = context;
    client_pool_close_idle(pool);
    upstream_release(pool->upstream);
}

void http_upstream_free(struct http_upstream *upstream) {
    if (!upstream)
        return;

    atomic_store(&upstream->closed, true);
    for (int i = 0; i < http_loops_count(upstream->loops); i++) {
        upstream_reference(upstream);
        while (!http_loop_post(upstream->pools[i].loop, close_idle, &upstream->pools[i]))
            usleep(10000);
    }
    upstream_release(upstream);
}
