#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "http/server_internal.h"

#define ACCEPT_ROUNDS 64 /* connections accepted before other events have their turn */

/* ---- TLS ---- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_size,
                           const unsigned char *offered, unsigned int offered_size, void *context) {
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, out_size, ours, sizeof ours - 1, offered, offered_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *load_tls(const char *certificate, const char *key, struct error *error) {
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (!tls) {
        error_set(error, ERROR_MEMORY, "no memory for TLS");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    ERR_clear_error();
    const char *failed = SSL_CTX_use_certificate_chain_file(tls, certificate) != 1      ? certificate
                         : SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1 ? key
                         : SSL_CTX_check_private_key(tls) != 1                          ? key
                                                                                        : NULL;
    if (!failed)
        return tls;
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    error_set(error, ERROR_IO, "%s: cannot be used for TLS: %s", failed,
              reason ? reason : "it is not readable");
    SSL_CTX_free(tls);
    return NULL;
}

bool http_server_reload_tls(struct http_server *server, struct error *error) {
    if (!server->certificate)
        return true;
    SSL_CTX *fresh = load_tls(server->certificate, server->key, error);
    if (!fresh)
        return false;
    pthread_mutex_lock(&server->mutex);
    SSL_CTX *old = server->tls;
    server->tls = fresh;
    pthread_mutex_unlock(&server->mutex);
    SSL_CTX_free(old); /* counted: its connections keep it */
    return true;
}

/* ---- Accepting ---- */

struct arrival {
    struct http_task task;
    struct server_part *part;
    int fd;
    SSL *ssl;
    char peer[48];
};

static void run_arrival(struct http_task *task) {
    struct arrival arrival = *(struct arrival *)(void *)task;
    free(task);
    connection_start(arrival.part, arrival.fd, arrival.ssl, arrival.peer);
}

static void name_peer(const struct sockaddr_storage *address, char text[48]) {
    strcpy(text, "local");
    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, 48);
    } else if (address->ss_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *)address)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(ip))
            inet_ntop(AF_INET, ip->s6_addr + 12, text, 48);
        else
            inet_ntop(AF_INET6, ip, text, 48);
    }
}

/* The loop with the fewest connections. */
static struct server_part *choose_part(struct http_server *server) {
    struct server_part *best = &server->parts[0];
    for (int i = 1; i < http_loops_count(server->loops); i++)
        if (atomic_load(&server->parts[i].count) < atomic_load(&best->count))
            best = &server->parts[i];
    return best;
}

static SSL *begin_tls(struct http_server *server) {
    pthread_mutex_lock(&server->mutex);
    SSL *ssl = SSL_new(server->tls);
    pthread_mutex_unlock(&server->mutex);
    if (ssl)
        SSL_set_accept_state(ssl);
    return ssl;
}

static void place_connection(struct http_server *server, int fd, const struct sockaddr_storage *address) {
    SSL *ssl = NULL;
    if (atomic_load(&server->connections) >= server->options.connection_limit ||
        (server->certificate && !(ssl = begin_tls(server)))) {
        close(fd);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct server_part *part = choose_part(server);
    struct arrival arrival = {.task.run = run_arrival, .part = part, .fd = fd, .ssl = ssl};
    name_peer(address, arrival.peer);
    struct arrival *sent = NULL;
    if (part->loop != http_loop_current() && !(sent = malloc(sizeof *sent))) {
        SSL_free(ssl);
        close(fd);
        return;
    }
    atomic_fetch_add(&server->connections, 1);
    atomic_fetch_add(&part->count, 1);
    if (sent) {
        *sent = arrival;
        http_loop_submit(part->loop, &sent->task);
    } else {
        connection_start(part, fd, ssl, arrival.peer);
    }
}

/* Out of files: a connection that nobody can take would wake us for ever. Take it with the spare file and
 * close it. */
static void refuse_with_spare(struct http_server *server, int listener) {
    if (server->spare_fd < 0)
        return;
    close(server->spare_fd);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_accept(evutil_socket_t listener, short what, void *context) {
    struct http_server *server = context;
    for (int round = 0; round < ACCEPT_ROUNDS; round++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            place_connection(server, fd, &address);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            refuse_with_spare(server, listener);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* ---- Listening ---- */

struct add_listener {
    struct http_server *server;
    int index;
};

static void add_listener(void *context) {
    struct add_listener add = *(struct add_listener *)context;
    free(context);
    struct http_server *server = add.server;
    event_assign(&server->listeners[add.index].event, http_loops_get(server->loops, 0)->base,
                 server->listeners[add.index].fd, EV_READ | EV_PERSIST, on_accept, server);
    event_add(&server->listeners[add.index].event, NULL);
    server->listeners[add.index].added = true;
}

static int socket_port(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size))
        return 0;
    return address.ss_family == AF_INET    ? ntohs(((struct sockaddr_in *)&address)->sin_port)
           : address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port)
                                           : 0;
}

bool http_server_listen_fd(struct http_server *server, int fd, struct error *error) {
    struct add_listener *add = server->listener_count < SERVER_LISTENERS ? malloc(sizeof *add) : NULL;
    if (!add) {
        close(fd);
        return error_set(error, ERROR_IO, "more than %d listening sockets", SERVER_LISTENERS);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
        free(add);
        return error_set_errno(error, ERROR_IO, errno, "file %d is no socket to listen on", fd);
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    *add = (struct add_listener){server, server->listener_count};
    server->listeners[server->listener_count++].fd = fd;
    if (!server->port)
        server->port = socket_port(fd);
    while (!http_loop_post(http_loops_get(server->loops, 0), add_listener, add))
        usleep(10000);
    return true;
}

/* Bind and listen; -1 and errno on failure. */
static int open_listener(const struct addrinfo *info) {
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (info->ai_family == AF_INET6) {
        bool any = IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)(void *)info->ai_addr)->sin6_addr);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int){!any}, sizeof(int));
    }
    if (!bind(fd, info->ai_addr, info->ai_addrlen) && !listen(fd, SOMAXCONN))
        return fd;
    int number = errno;
    close(fd);
    errno = number;
    return -1;
}

bool http_server_listen(struct http_server *server, const char *address, int port, struct error *error) {
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int failure = getaddrinfo(address ? address : "::", service, &hints, &list);
    if (failure)
        return error_set(error, ERROR_INVALID, "%s: no address to listen on: %s", address,
                         gai_strerror(failure));
    int number = 0, opened = 0;
    for (struct addrinfo *info = list; info && !(opened && !port); info = info->ai_next) {
        int fd = open_listener(info);
        if (fd < 0)
            number = number == EADDRINUSE ? number : errno;
        else if (http_server_listen_fd(server, fd, error))
            opened++;
    }
    freeaddrinfo(list);
    if (opened && number != EADDRINUSE)
        return true;
    if (!address && (number == EAFNOSUPPORT || number == EADDRNOTAVAIL))
        return http_server_listen(server, "0.0.0.0", port, error); /* a machine without IPv6 */
    return error_set_errno(error, ERROR_IO, number, "cannot listen on %s port %d",
                           address ? address : "every address", port);
}

int http_inherited_sockets(void) {
    const char *process = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    if (!process || !count || atol(process) != (long)getpid())
        return 0;
    int sockets = atoi(count);
    return sockets < 0 ? 0 : sockets > SERVER_LISTENERS ? SERVER_LISTENERS : sockets;
}

int http_server_port(const struct http_server *server) {
    return server->port;
}

int http_server_connections(const struct http_server *server) {
    return atomic_load(&server->connections);
}

/* ---- Life ---- */

static void on_sweep(evutil_socket_t fd, short what, void *context) {
    struct server_part *part = context;
    int64_t now = clock_ns();
    if (!part->cursor)
        part->cursor = part->first;
    for (int i = 0; i < SERVER_SWEEP_LIMIT && part->cursor; i++) {
        struct connection *connection = part->cursor;
        part->cursor = connection->next; /* closing a connection moves the cursor past it */
        connection_check(connection, now);
    }
}

static void set_defaults(struct http_server_options *options) {
#define DEFAULT(field, value) \
    if (!options->field)      \
    options->field = value
    DEFAULT(header_limit, LIMIT_HEADER_BYTES);
    DEFAULT(body_limit, LIMIT_BODY_BYTES);
    DEFAULT(body_total_limit, (size_t)1 << 30);
    DEFAULT(connection_limit, 20000);
    DEFAULT(header_timeout_ms, 10000);
    DEFAULT(body_stall_ms, 10000);
    DEFAULT(body_timeout_ms, 120000);
    DEFAULT(idle_timeout_ms, 75000);
    DEFAULT(write_timeout_ms, 30000);
    DEFAULT(server_name, "guichet");
#undef DEFAULT
}

static void release_server(struct http_server *server) {
    if (server->spare_fd >= 0)
        close(server->spare_fd);
    SSL_CTX_free(server->tls);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->emptied);
    free(server->certificate);
    free(server->key);
    free(server->name);
    free(server->parts);
    free(server);
}

struct http_server *http_server_create(struct http_loops *loops, const struct http_server_options *options,
                                       struct error *error) {
    int count = http_loops_count(loops);
    struct http_server *server = calloc(1, sizeof *server);
    struct server_part *parts = calloc((size_t)count, sizeof *parts);
    if (!server || !parts) {
        free(server);
        free(parts);
        error_set(error, ERROR_MEMORY, "no memory for a server");
        return NULL;
    }
    server->parts = parts;
    server->loops = loops;
    server->options = *options;
    set_defaults(&server->options);
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->emptied, &attributes);
    pthread_condattr_destroy(&attributes);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    server->options.server_name = server->name = strdup(server->options.server_name);
    for (int i = 0; i < count; i++) {
        parts[i].server = server;
        parts[i].loop = http_loops_get(loops, i);
        event_assign(&parts[i].sweep, parts[i].loop->base, -1, EV_PERSIST, on_sweep, &parts[i]);
    }
    bool loaded = true;
    if (options->tls_certificate && options->tls_key) {
        server->certificate = strdup(options->tls_certificate);
        server->key = strdup(options->tls_key);
        loaded = server->certificate && server->key && http_server_reload_tls(server, error);
    }
    if (!loaded || !server->name) {
        if (loaded)
            error_set(error, ERROR_MEMORY, "no memory for a server");
        release_server(server);
        return NULL;
    }
    return server;
}

static void count_task(struct http_server *server, int *counter) {
    pthread_mutex_lock(&server->mutex);
    --*counter;
    pthread_cond_broadcast(&server->emptied);
    pthread_mutex_unlock(&server->mutex);
}

struct stopping {
    struct http_server *server;
    struct server_part *part;
    int *left; /* parts that have not run this yet; guarded by the server's mutex */
    bool drop;
};

static void close_listeners(struct http_server *server) {
    for (int i = 0; i < server->listener_count; i++) {
        if (!server->listeners[i].added)
            continue;
        on_accept(server->listeners[i].fd, EV_READ, server); /* who has connected already has begun */
        event_del(&server->listeners[i].event);
        close(server->listeners[i].fd);
        server->listeners[i].added = false;
    }
}

static void stop_part(void *context) {
    struct stopping *stopping = context;
    struct server_part *part = stopping->part;
    if (http_loop_index(part->loop) == 0)
        close_listeners(stopping->server);
    part->draining = true;
    /* Closing one connection may close others; what is behind a closed one is unknown, so begin again then.
     */
    struct connection *next;
    for (struct connection *connection = part->first; connection; connection = next) {
        part->cursor = connection->next;
        stopping->drop ? connection_drop(connection) : connection_drain(connection);
        next = part->cursor;
    }
    count_task(stopping->server, stopping->left);
}

/* Run stop_part on every loop and wait until it did; then wait for the last connection until `until_ns`. */
static bool stop_parts(struct http_server *server, bool drop, int64_t until_ns) {
    int count = http_loops_count(server->loops), left = count;
    struct stopping *stopping = calloc((size_t)count, sizeof *stopping);
    if (!stopping)
        return false;
    for (int i = 0; i < count; i++) {
        stopping[i] = (struct stopping){server, &server->parts[i], &left, drop};
        while (!http_loop_post(server->parts[i].loop, stop_part, &stopping[i]))
            usleep(10000);
    }
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    pthread_mutex_lock(&server->mutex);
    while (left)
        pthread_cond_wait(&server->emptied, &server->mutex);
    int outcome = 0;
    while (atomic_load(&server->connections) && outcome != ETIMEDOUT)
        outcome = pthread_cond_timedwait(&server->emptied, &server->mutex, &until);
    bool empty = !atomic_load(&server->connections);
    pthread_mutex_unlock(&server->mutex);
    free(stopping);
    return empty;
}

bool http_server_stop(struct http_server *server, int grace_ms) {
    if (server->stopped)
        return true;
    bool clean = stop_parts(server, false, clock_ns() + (int64_t)grace_ms * 1000000);
    /* A connection that was being handed to its loop meanwhile is dropped by the next round. */
    while (!clean && !stop_parts(server, true, clock_ns() + 100000000))
        ;
    server->stopped = true;
    return clean;
}

void http_server_free(struct http_server *server) {
    if (!server)
        return;
    http_server_stop(server, 0);
    release_server(server);
}
