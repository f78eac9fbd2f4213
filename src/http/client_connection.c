#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/limits.h"
#include "http/client_internal.h"

#define READ_ROUNDS 16 /* reads of one connection before the others have their turn */

#define POLL_NS 150000 /* a response is polled for that long at most … */
#define POLL_AFTER 10  /* … after so many in a row that came within it */

/* ---- The end of a connection ---- */

static void enter(struct client_connection *connection) {
    connection->busy++;
}

static void leave(struct client_connection *connection) {
    if (--connection->busy || connection->state != CLIENT_CLOSED)
        return;

    struct http_upstream *upstream = connection->pool->upstream;
    buffer_release(&connection->input);
    free(connection);
    upstream_release(upstream);
}

static void unlink_idle(struct client_connection *connection) {
    struct upstream_pool *pool = connection->pool;
    for (struct client_connection **at = &pool->idle; *at; at = &(*at)->next_idle) {
        if (*at == connection) {
            *at = connection->next_idle;
            pool->idle_count--;
            return;
        }
    }
}

void client_connection_close(struct client_connection *connection, bool reset) {
    if (connection->state == CLIENT_CLOSED)
        return;
    enter(connection);
    if (connection->state == CLIENT_IDLE)
        unlink_idle(connection);
    connection->state = CLIENT_CLOSED;
    reset ? stream_reset(&connection->stream) : stream_close(&connection->stream);

    struct upstream_pool *pool = connection->pool;
    *(connection->previous ? &connection->previous->next : &pool->first) = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    if (pool->cursor == connection)
        pool->cursor = connection->next;
    if (!pool->first)
        event_del(&pool->sweep);
    leave(connection);
}

void client_pool_close_idle(struct upstream_pool *pool) {
    while (pool->idle)
        client_connection_close(pool->idle, false);
}

/* The response is complete: keep the connection for the next call, or close it. */
static void make_idle(struct client_connection *connection, const struct http_call *call) {
    struct upstream_pool *pool = connection->pool;
    if (!connection->keep_alive || connection->write_broken || !call->finished ||
        stream_pending(&connection->stream) || pool->idle_count >= pool->upstream->options.idle_limit ||
        atomic_load(&pool->upstream->closed)) {
        client_connection_close(connection, false);
        return;
    }

    connection->state = CLIENT_IDLE;
    connection->deadline_ns = deadline_after(pool->upstream->options.idle_timeout_ms);
    connection->next_idle = pool->idle;
    pool->idle = connection;
    pool->idle_count++;
}

struct http_call *client_connection_detach(struct client_connection *connection) {
    struct http_call *call = connection->call;
    connection->call = NULL;
    if (call)
        call->connection = NULL;
    return call;
}

/* The connection is of no more use, and its call has failed. */
static void fail(struct client_connection *connection, enum http_failure failure, const char *reason) {
    struct http_call *call = client_connection_detach(connection);
    client_connection_close(connection, true);
    if (call)
        http_call_fail(call, failure, reason);
}

static void fail_broken(struct client_connection *connection) {
    const char *tls = stream_tls_failure(&connection->stream);
    char reason[128];

    if (tls) {
        snprintf(reason, sizeof reason, "the TLS handshake failed: %s", tls);
        fail(connection, HTTP_FAILED_PROTOCOL, reason);
        return;
    }
    if (connection->got_bytes)
        fail(connection, HTTP_FAILED_BROKEN, "the connection ended in the middle of the response");
    else
        fail(connection, HTTP_FAILED_CLOSED, "the connection ended before a response");
}

static void complete(struct client_connection *connection) {
    struct http_call *call = client_connection_detach(connection);
    make_idle(connection, call);
    http_call_complete(call);
}

/* ---- Responses ---- */

void client_connection_update_reading(struct client_connection *connection) {
    bool paused = connection->call && connection->call->paused;
    stream_want_read(&connection->stream, !paused || connection->stream.write_wants_read);
}

/* A head has been read. */
static void begin_response(struct client_connection *connection) {
    struct http_call *call = connection->call;
    connection->keep_alive = call->reader.keep_alive;
    call->progress_deadline_ns =
        call->silence_timeout_ms ? deadline_after(call->silence_timeout_ms) : INT64_MAX;
    if (call->head) {
        call->head(call->context, &call->response);
        return;
    }

    int64_t left = http_body_left(&call->reader.decoder);
    size_t size = left > 0 ? (size_t)left : 0;
    if (size > connection->pool->upstream->options.response_limit) {
        fail(connection, HTTP_FAILED_TOO_LARGE, "the response is too large");
        return;
    }
    struct http_body *body = call->response.body = http_body_create(NULL, size);
    if (!body) {
        fail(connection, HTTP_FAILED_MEMORY, "not enough memory for a response");
        return;
    }
    body->size = 0;
    body->bytes[0] = 0;
}

static void take_data(struct client_connection *connection, const char *bytes, size_t size) {
    struct http_call *call = connection->call;
    if (call->head) {
        call->piece(call->context, bytes, size);
        return;
    }

    struct http_body *body = call->response.body;
    if (size > connection->pool->upstream->options.response_limit - body->size)
        fail(connection, HTTP_FAILED_TOO_LARGE, "the response is too large");
    else if (!http_body_append(body, bytes, size))
        fail(connection, HTTP_FAILED_MEMORY, "not enough memory for a response");
}

/* Consume bytes of the response, until they are used up, the call pauses or ends; returns the bytes consumed.
 * The connection may be idle, closed or on its next call after this. */
static size_t take(struct client_connection *connection, const char *bytes, size_t size) {
    struct http_call *call = connection->call;
    size_t at = 0;
    while (call && connection->call == call && !call->paused) {
        size_t used = 0, run_size = 0;
        const char *run = NULL;
        enum http_response_event event =
            http_response_read(&call->reader, bytes + at, size - at, &used, &run, &run_size, &call->response);
        at += used;

        switch (event) {
        case HTTP_RESPONSE_MORE:
            return at;
        case HTTP_RESPONSE_HEAD:
            begin_response(connection);
            break;
        case HTTP_RESPONSE_DATA:
            take_data(connection, run, run_size);
            break;
        case HTTP_RESPONSE_END:
            connection->keep_alive &= at == size; /* more than its response: not to be trusted */
            complete(connection);
            break;
        case HTTP_RESPONSE_MALFORMED:
            fail(connection, HTTP_FAILED_PROTOCOL, call->reader.reason);
            break;
        case HTTP_RESPONSE_NO_MEMORY:
            fail(connection, HTTP_FAILED_MEMORY, "not enough memory for a response");
            break;
        }
    }
    return at;
}

/* Consume bytes, and keep those that a paused call will want. */
static void take_input(struct client_connection *connection, const char *bytes, size_t size) {
    struct http_call *call = connection->call;
    size_t used = take(connection, bytes, size);
    if (used < size && call && connection->call == call &&
        !buffer_append(&connection->input, bytes + used, size - used))
        fail(connection, HTTP_FAILED_MEMORY, "not enough memory for a response");
}

/* What was kept while the call was paused; also an end that was not told. */
static void take_kept(struct client_connection *connection) {
    struct buffer input = connection->input;
    connection->input = (struct buffer){0};
    take_input(connection, input.size ? input.bytes : "", input.size);
    buffer_release(&input);
}

static void response_ended(struct client_connection *connection) {
    const struct http_call *call = connection->call;
    bool until_close = call && call->reader.in_body && http_body_is_until_close(&call->reader.decoder);
    if (until_close)
        complete(connection);
    else
        fail_broken(connection);
}

/* ---- Reading ---- */

/* Responses that keep beginning within POLL_NS are polled for. The first that is late ends that, so a slow
 * upstream costs no processor time. */
static void note_first_byte(struct client_connection *connection) {
    struct upstream_pool *pool = connection->pool;
    http_loop_poll_until(pool->loop, 0);

    bool quick = clock_ns() - connection->sent_ns < POLL_NS;
    pool->quick_responses = quick ? pool->quick_responses + (pool->quick_responses < POLL_AFTER) : 0;
}

static void note_received(struct http_call *call) {
    if (call->reader.in_body && call->silence_timeout_ms)
        call->progress_deadline_ns = deadline_after(call->silence_timeout_ms);
}

/* A whole response of known length is read straight into its body. */
static ssize_t read_direct(struct client_connection *connection) {
    struct http_call *call = connection->call;
    struct http_body *body = call->response.body;
    size_t left = (size_t)http_body_left(&call->reader.decoder);
    ssize_t count = stream_read(&connection->stream, body->bytes + body->size, left);
    if (count <= 0)
        return count;

    body->size += (size_t)count;
    body->bytes[body->size] = 0;
    http_body_skip(&call->reader.decoder, (size_t)count);
    note_received(call);
    if ((size_t)count == left)
        complete(connection);
    return count;
}

/* One read and what follows from it. False when there is nothing more to read now. */
static bool read_once(struct client_connection *connection) {
    struct http_call *call = connection->call;
    char *scratch = http_loop_scratch(connection->pool->loop);
    bool direct = call && call->response.body && http_body_left(&call->reader.decoder) > 0;

    ssize_t count =
        direct ? read_direct(connection) : stream_read(&connection->stream, scratch, HTTP_SCRATCH_BYTES);
    if (count == STREAM_AGAIN)
        return false;
    if (count <= 0) {
        count == 0 ? response_ended(connection) : fail_broken(connection);
        return false;
    }
    if (!call) { /* bytes on an idle connection */
        client_connection_close(connection, true);
        return false;
    }

    if (!connection->got_bytes)
        note_first_byte(connection);
    connection->got_bytes = true;
    if (!direct) {
        note_received(call);
        take_input(connection, scratch, (size_t)count);
    }
    if (connection->state == CLIENT_CLOSED)
        return false;
    return (!direct && (size_t)count == HTTP_SCRATCH_BYTES) || stream_has_buffered(&connection->stream);
}

static bool is_paused(const struct client_connection *connection) {
    return connection->call && connection->call->paused;
}

static void flush(struct client_connection *connection);

static void on_read(evutil_socket_t fd, short what, void *context) {
    struct client_connection *connection = context;
    enter(connection);
    if (connection->stream.write_wants_read)
        flush(connection);
    if (connection->state == CLIENT_BUSY && connection->call->reader.in_body && !is_paused(connection))
        take_kept(connection);

    for (int round = 0; round < READ_ROUNDS; round++)
        if (connection->state == CLIENT_CLOSED || is_paused(connection) || !read_once(connection))
            break;

    if (connection->state != CLIENT_CLOSED) {
        client_connection_update_reading(connection);
        if (!is_paused(connection) && stream_has_buffered(&connection->stream))
            stream_read_soon(&connection->stream);
    }
    leave(connection);
}

/* ---- Writing ---- */

/* Tell a call that had to stop writing that it may go on, once little enough is pending. The call may end in
 * here. */
static void tell_writable(struct client_connection *connection) {
    struct http_call *call = connection->call;
    if (!call || !call->above_high || stream_pending(&connection->stream) >= LIMIT_OUTPUT_LOW_BYTES)
        return;

    call->above_high = false;
    if (call->writable && !connection->write_broken)
        call->writable(call->context);
}

/* Offer what is pending to the socket again, and tell a call that may write more. */
static void flush(struct client_connection *connection) {
    size_t before = stream_pending(&connection->stream);
    if (stream_flush(&connection->stream) == STREAM_BROKEN)
        connection->write_broken = true;

    struct http_call *call = connection->call;
    size_t pending = stream_pending(&connection->stream);
    client_connection_update_reading(connection);
    if (!call || pending >= before)
        return;

    http_call_note_sent(call);
    tell_writable(connection);
}

static void note_request(struct client_connection *connection) {
    struct upstream_pool *pool = connection->pool;
    connection->sent_ns = clock_ns();
    if (pool->quick_responses >= POLL_AFTER)
        http_loop_poll_until(pool->loop, connection->sent_ns + POLL_NS);
}

void client_connection_send(struct client_connection *connection, const struct buffer *text,
                            struct http_body *body) {
    struct iovec run = {text->bytes, text->size};
    bool more = connection->call->in_pieces && !connection->call->finished;
    enum stream_result result =
        more ? stream_write(&connection->stream, &run, 1) : stream_send(&connection->stream, &run, 1, body);
    connection->write_broken = result == STREAM_BROKEN;
    note_request(connection);
    client_connection_update_reading(connection);
    if (connection->write_broken) /* told by the event, never from within http_call_start */
        stream_read_soon(&connection->stream);
}

static void connect_failed(struct client_connection *connection, const char *reason) {
    struct http_call *call = client_connection_detach(connection);
    client_connection_close(connection, false);
    if (call && !client_connection_open(call))
        http_call_fail(call, HTTP_FAILED_CONNECT, reason);
}

static void finish_connecting(struct client_connection *connection) {
    int failure = 0;
    socklen_t size = sizeof failure;
    getsockopt(connection->stream.fd, SOL_SOCKET, SO_ERROR, &failure, &size);
    if (failure) {
        connect_failed(connection, failure == ECONNREFUSED ? "connection refused" : "unreachable");
        return;
    }

    struct http_call *call = connection->call;
    connection->state = CLIENT_BUSY;
    stream_want_write(&connection->stream, false);
    client_connection_send(connection, &call->unsent, call->body);
    http_body_release(call->body);
    call->body = NULL;
    buffer_release(&call->unsent);
    http_call_note_sent(call);
    tell_writable(connection); /* what was written while it connected may have gone out at once */
}

static void on_write(evutil_socket_t fd, short what, void *context) {
    struct client_connection *connection = context;
    enter(connection);
    bool read_waits = connection->stream.read_wants_write;
    if (connection->state == CLIENT_CONNECTING)
        finish_connecting(connection);
    else
        flush(connection);

    if (read_waits && connection->state != CLIENT_CLOSED)
        on_read(fd, EV_READ, connection);
    leave(connection);
}

/* ---- Connecting ---- */

/* Bind a connection to its pool. */
static void add_to_pool(struct client_connection *connection, struct upstream_pool *pool) {
    upstream_reference(pool->upstream);
    connection->pool = pool;
    connection->next = pool->first;
    if (pool->first) {
        pool->first->previous = connection;
    } else {
        struct timeval interval = {0, CLIENT_SWEEP_MS * 1000};
        event_add(&pool->sweep, &interval);
    }
    pool->first = connection;
}

static bool open_connection(struct http_call *call, const struct upstream_address *address) {
    struct upstream_pool *pool = call->pool;
    const struct http_upstream *upstream = pool->upstream;
    int fd = socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct client_connection *connection = fd >= 0 ? calloc(1, sizeof *connection) : NULL;
    SSL *ssl = connection && upstream->tls ? SSL_new(upstream->tls) : NULL;
    if (!connection || (upstream->tls && !ssl) ||
        (connect(fd, (const struct sockaddr *)&address->address, address->size) && errno != EINPROGRESS)) {
        if (fd >= 0)
            close(fd);
        SSL_free(ssl);
        free(connection);
        return false;
    }

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (ssl) {
        SSL_set_connect_state(ssl);
        SSL_set_tlsext_host_name(ssl, upstream->url.host);
        SSL_set1_host(ssl, upstream->url.host);
    }
    stream_open(&connection->stream, pool->loop, fd, ssl, on_read, on_write, connection);
    add_to_pool(connection, pool);

    connection->state = CLIENT_CONNECTING;
    connection->deadline_ns = deadline_after(upstream->options.connect_timeout_ms);
    connection->call = call;
    call->connection = connection;
    stream_want_write(&connection->stream, true);
    return true;
}

bool client_connection_open(struct http_call *call) {
    struct upstream_address address;
    while (upstream_address(call->pool->upstream, call->start_address, call->attempt++, &address))
        if (open_connection(call, &address))
            return true;
    return false;
}

struct client_connection *client_connection_reuse(struct http_call *call) {
    struct client_connection *connection = call->pool->idle;
    if (!connection)
        return NULL;

    unlink_idle(connection);
    connection->state = CLIENT_BUSY;
    connection->got_bytes = false;
    connection->call = call;
    call->connection = connection;
    call->response.reused = true;
    return connection;
}

/* ---- Deadlines ---- */

void client_connection_check(struct client_connection *connection, int64_t now) {
    const struct http_call *call = connection->call;
    enter(connection);
    if (connection->state == CLIENT_IDLE) {
        if (now >= connection->deadline_ns)
            client_connection_close(connection, false);
    } else if (connection->state == CLIENT_CONNECTING && now >= connection->deadline_ns) {
        connect_failed(connection, "connecting took too long");
    } else if (call && now >= call->deadline_ns) {
        fail(connection, HTTP_FAILED_TIMEOUT, "the response took too long");
    } else if (call && !call->paused && now >= call->progress_deadline_ns) {
        fail(connection, HTTP_FAILED_TIMEOUT,
             call->reader.in_body ? "the response stalled" : "the response did not begin in time");
    }
    leave(connection);
}
