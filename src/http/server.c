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
#define SERVER_NAME "guichet"

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
        error_set(error, ERROR_MEMORY, "not enough memory for TLS");
        return NULL;
    }

    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(tls, "ECDHE+AESGCM:ECDHE+CHACHA20"); /* of TLS 1.2: forward secret, no CBC */
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);

    const char *failed = access(certificate, R_OK) ? certificate : access(key, R_OK) ? key : NULL;
    if (failed) { /* OpenSSL would not say why */
        error_set_errno(error, ERROR_IO, errno, "%s", failed);
        SSL_CTX_free(tls);
        return NULL;
    }

    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1)
        failed = certificate;
    else if (SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(tls) != 1)
        failed = key;

    if (!failed)
        return tls;

    const char *reason = ERR_reason_error_string(ERR_peek_error());
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

    SSL_CTX_free(old); /* open connections have references */
    return true;
}

/* ---- Accepting ---- */

/* A connection on its way to its loop. */
struct arrival {
    struct http_task task;
    struct server_part *part;
    int fd;
    SSL *ssl;
    struct peer_name peer;
    bool scarce;
};

static void run_arrival(struct http_task *task) {
    struct arrival arrival = *(struct arrival *)(void *)task;
    free(task);
    server_connection_start(arrival.part, arrival.fd, arrival.ssl, &arrival.peer, arrival.scarce);
}

static struct peer_name name_peer(const struct sockaddr_storage *address) {
    struct peer_name name = {"local"};
    const void *ip = NULL;
    int family = address->ss_family;
    if (family == AF_INET)
        ip = &((const struct sockaddr_in *)address)->sin_addr;
    else if (family == AF_INET6)
        ip = &((const struct sockaddr_in6 *)address)->sin6_addr;

    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)ip)) {
        ip = (const uint8_t *)ip + 12;
        family = AF_INET;
    }

    if (ip)
        inet_ntop(family, ip, name.text, sizeof name.text);
    return name;
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

/* Give an accepted socket to a loop. `scarce`: it is counted as one for which there is no room. */
static void assign_connection(struct http_server *server, int fd, const struct sockaddr_storage *address,
                              bool scarce) {
    SSL *ssl = server->certificate ? begin_tls(server) : NULL;
    struct arrival *arrival = server->certificate && !ssl ? NULL : malloc(sizeof *arrival);

    if (!arrival) {
        SSL_free(ssl);
        close(fd);
        if (scarce)
            atomic_fetch_sub(&server->scarce, 1);
        return;
    }

    struct server_part *part = choose_part(server);
    *arrival =
        (struct arrival){.part = part, .fd = fd, .ssl = ssl, .peer = name_peer(address), .scarce = scarce};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    atomic_fetch_add(&server->connections, 1);
    atomic_fetch_add(&part->count, 1);
    if (part->loop == http_loop_current())
        run_arrival(&arrival->task);
    else
        http_loop_submit(part->loop, &arrival->task, run_arrival);
}

/* A connection for which there is no room gets one answer at once, so that questions for health are answered
 * also then; where too many of those are under way, it is closed. */
static void assign_scarce(struct http_server *server, int fd, const struct sockaddr_storage *address) {
    if (atomic_fetch_add(&server->scarce, 1) < SERVER_SPARES - 1) {
        assign_connection(server, fd, address, true);
        return;
    }
    atomic_fetch_sub(&server->scarce, 1);
    close(fd);
}

/* Have the spare files open, as far as there are any. */
static void open_spares(struct http_server *server) {
    for (int i = 0; i < SERVER_SPARES; i++)
        if (server->spare_fds[i] < 0)
            server->spare_fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Out of files: a connection that cannot be accepted would wake the loop again and again. Accept it in the
 * place of a spare file. */
static void accept_with_spare(struct http_server *server, int listener) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    int spare = 0;

    while (spare < SERVER_SPARES && server->spare_fds[spare] < 0)
        spare++;
    if (spare == SERVER_SPARES)
        return;

    close(server->spare_fds[spare]);
    server->spare_fds[spare] = -1;
    int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        assign_scarce(server, fd, &address);
    open_spares(server);
}

static void on_accept(evutil_socket_t listener, short what, void *context) {
    struct http_server *server = context;

    open_spares(server);
    for (int round = 0; round < ACCEPT_ROUNDS; round++) {
        struct sockaddr_storage address = {0};
        socklen_t size = sizeof address;
        int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            if (atomic_load(&server->connections) < server->options.connection_limit)
                assign_connection(server, fd, &address, false);
            else
                assign_scarce(server, fd, &address);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            accept_with_spare(server, listener);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* ---- Listening ---- */

/* A listener on its way to its loop. */
struct listener_arrival {
    struct http_server *server;
    int index;
};

static void add_listener(void *context) {
    struct listener_arrival arrival = *(struct listener_arrival *)context;
    struct http_server *server = arrival.server;
    struct server_listener *listener = &server->listeners[arrival.index];
    free(context);

    event_assign(&listener->event, http_loop_base(http_loops_get(server->loops, 0)), listener->fd,
                 EV_READ | EV_PERSIST, on_accept, server);
    event_add(&listener->event, NULL);
    listener->added = true;
}

static int socket_port(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size))
        return 0;

    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return address.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&address)->sin6_port) : 0;
}

bool http_server_listen_fd(struct http_server *server, int fd, struct error *error) {
    bool room = server->listener_count < SERVER_LISTENERS;
    struct listener_arrival *arrival = room ? malloc(sizeof *arrival) : NULL;
    if (!arrival) {
        close(fd);
        return error_set(error, ERROR_IO, "more than %d listening sockets", SERVER_LISTENERS);
    }

    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK)) {
        free(arrival);
        return error_set_errno(error, ERROR_IO, errno, "file %d is not a socket to listen on", fd);
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);

    *arrival = (struct listener_arrival){server, server->listener_count};
    server->listeners[server->listener_count++].fd = fd;
    if (!server->port)
        server->port = socket_port(fd);
    while (!http_loop_post(http_loops_get(server->loops, 0), add_listener, arrival))
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
        return error_set(error, ERROR_INVALID, "%s: not an address to listen on: %s", address,
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
    if (sockets < 0)
        return 0;
    return sockets < SERVER_LISTENERS ? sockets : SERVER_LISTENERS;
}

static bool is_loopback_socket(int fd) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;

    if (getsockname(fd, (struct sockaddr *)&address, &size))
        return false;
    if (address.ss_family == AF_INET)
        return ntohl(((struct sockaddr_in *)&address)->sin_addr.s_addr) >> 24 == 127;
    return address.ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&address)->sin6_addr);
}

bool http_server_is_loopback(const struct http_server *server) {
    for (int i = 0; i < server->listener_count; i++)
        if (!is_loopback_socket(server->listeners[i].fd))
            return false;
    return server->listener_count > 0;
}

int http_server_port(const struct http_server *server) {
    return server->port;
}

int http_server_connections(const struct http_server *server) {
    return atomic_load(&server->connections);
}

/* ---- Life ---- */

static void stop_sweeping_if_idle(struct server_part *part) {
    if (!part->first && !memory_budget_trim())
        event_del(&part->sweep);
}

static void on_sweep(evutil_socket_t fd, short what, void *context) {
    server_part_sweep(context);
    memory_budget_trim();
    stop_sweeping_if_idle(context);
}

void server_part_forget(struct server_part *part) {
    struct http_server *server = part->server;
    stop_sweeping_if_idle(part);
    atomic_fetch_sub(&part->count, 1);

    /* Under the mutex: who waits for the last connection may free the server right afterwards. */
    pthread_mutex_lock(&server->mutex);
    if (atomic_fetch_sub(&server->connections, 1) == 1)
        pthread_cond_broadcast(&server->emptied);
    pthread_mutex_unlock(&server->mutex);
}

static void set_defaults(struct http_server_options *options) {
#define DEFAULT(field, value) \
    if (!options->field)      \
    options->field = value
    DEFAULT(header_limit, LIMIT_HEADER_BYTES);
    DEFAULT(header_lines, LIMIT_HEADER_LINES);
    DEFAULT(body_limit, LIMIT_BODY_BYTES);
    DEFAULT(connection_limit, 20000);
    DEFAULT(header_timeout_ms, 10000);
    DEFAULT(body_stall_ms, 10000);
    DEFAULT(body_timeout_ms, 120000);
    DEFAULT(idle_timeout_ms, 75000);
    DEFAULT(write_timeout_ms, 30000);
#undef DEFAULT
}

static void release_server(struct http_server *server) {
    for (int i = 0; i < SERVER_SPARES; i++)
        if (server->spare_fds[i] >= 0)
            close(server->spare_fds[i]);
    SSL_CTX_free(server->tls);
    pthread_mutex_destroy(&server->mutex);
    pthread_cond_destroy(&server->emptied);
    free(server->certificate);
    free(server->key);
    free(server->name);
    free(server->parts);
    free(server);
}

static void init_waiting(struct http_server *server) {
    pthread_condattr_t attributes;
    pthread_mutex_init(&server->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->emptied, &attributes);
    pthread_condattr_destroy(&attributes);
}

static bool init_tls(struct http_server *server, struct error *error) {
    const struct http_server_options *options = &server->options;
    if (!options->tls_certificate || !options->tls_key)
        return true;

    server->certificate = strdup(options->tls_certificate);
    server->key = strdup(options->tls_key);
    if (!server->certificate || !server->key)
        return error_set(error, ERROR_MEMORY, "not enough memory for a server");
    return http_server_reload_tls(server, error);
}

struct http_server *http_server_create(struct http_loops *loops, const struct http_server_options *options,
                                       struct error *error) {
    int count = http_loops_count(loops);
    struct http_server *server = calloc(1, sizeof *server);
    struct server_part *parts = calloc((size_t)count, sizeof *parts);
    char *name = strdup(options->server_name ? options->server_name : SERVER_NAME);
    if (!server || !parts || !name) {
        free(server);
        free(parts);
        free(name);
        error_set(error, ERROR_MEMORY, "not enough memory for a server");
        return NULL;
    }

    server->parts = parts;
    server->loops = loops;
    server->options = *options;
    server->options.server_name = server->name = name;
    set_defaults(&server->options);
    init_waiting(server);
    for (int i = 0; i < SERVER_SPARES; i++)
        server->spare_fds[i] = -1;
    open_spares(server);

    for (int i = 0; i < count; i++) {
        parts[i].server = server;
        parts[i].loop = http_loops_get(loops, i);
        event_assign(&parts[i].sweep, http_loop_base(parts[i].loop), -1, EV_PERSIST, on_sweep, &parts[i]);
    }

    if (init_tls(server, error))
        return server;
    release_server(server);
    return NULL;
}

static void end_part_stop(struct http_server *server, int *counter) {
    pthread_mutex_lock(&server->mutex);
    --*counter;
    pthread_cond_broadcast(&server->emptied);
    pthread_mutex_unlock(&server->mutex);
}

/* One part is to stop. */
struct part_stop {
    struct http_server *server;
    struct server_part *part;
    int *left; /* parts that have not run this yet; guarded by the server's mutex */
    bool drop;
};

static void close_listeners(struct http_server *server) {
    for (int i = 0; i < server->listener_count; i++) {
        struct server_listener *listener = &server->listeners[i];
        if (!listener->added)
            continue;
        on_accept(listener->fd, EV_READ, server); /* connections made already have begun */
        event_del(&listener->event);
        close(listener->fd);
        listener->added = false;
    }
}

static void stop_part(void *context) {
    struct part_stop *stop = context;
    if (http_loop_index(stop->part->loop) == 0)
        close_listeners(stop->server);
    server_part_drain(stop->part, stop->drop);
    end_part_stop(stop->server, stop->left);
}

/* Run stop_part on every loop and wait until it did; then wait for the last connection until `until_ns`. */
static bool stop_parts(struct http_server *server, bool drop, int64_t until_ns) {
    int count = http_loops_count(server->loops), left = count;
    struct part_stop *stops = calloc((size_t)count, sizeof *stops);
    if (!stops)
        return false;

    for (int i = 0; i < count; i++) {
        stops[i] = (struct part_stop){server, &server->parts[i], &left, drop};
        while (!http_loop_post(server->parts[i].loop, stop_part, &stops[i]))
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

    free(stops);
    return empty;
}

bool http_server_stop(struct http_server *server, int grace_ms) {
    if (server->stopped)
        return true;

    bool clean = stop_parts(server, false, clock_ns() + (int64_t)grace_ms * 1000000);

    /* A connection that was on its way to its loop meanwhile is dropped by the next round. */
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
