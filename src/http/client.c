#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/client_internal.h"

#define ANSWER_HEADER_LIMIT (64u << 10)
#define READ_ROUNDS 16

enum client_state { CLIENT_CONNECTING, CLIENT_WAITING, CLIENT_BODY, CLIENT_IDLE, CLIENT_CLOSED };

struct client_connection {
    struct http_stream stream;
    struct upstream_pool *pool;
    struct client_connection *previous, *next, *next_idle;
    enum client_state state;
    int busy;            /* functions of this connection on the stack */
    int64_t deadline_ns; /* of connecting, or of idling */
    struct http_call *call;
    struct buffer input; /* of an incomplete head */
    struct http_head_scanner scanner;
    struct http_chunk_decoder chunks;
    enum http_framing framing;
    uint64_t body_left;
    bool keep_alive, write_broken, got_bytes;
    bool followed; /* bytes came behind the head */
};

struct http_call {
    struct upstream_pool *pool;
    struct client_connection *connection; /* NULL between attempts and when it failed */
    void (*done)(void *context, const struct http_answer *answer);
    void *context;
    int64_t deadline_ns;
    bool to_head;
    struct buffer head;     /* of the request, while it may have to be sent to another address */
    struct http_body *body; /* likewise */
    unsigned start_address;
    int attempt;
    struct http_timer *failing; /* a failure found within http_call_start, told soon */
    struct http_answer answer;
    char *text; /* the answer's header table and head */
};

static void on_read(evutil_socket_t fd, short what, void *context);
static void on_write(evutil_socket_t fd, short what, void *context);

/* ---- Connections ---- */

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

/* Its call, if any, has been taken from it. */
static void close_connection(struct client_connection *connection) {
    if (connection->state == CLIENT_CLOSED)
        return;
    struct upstream_pool *pool = connection->pool;
    connection->busy++;
    if (connection->state == CLIENT_IDLE)
        unlink_idle(connection);
    connection->state = CLIENT_CLOSED;
    stream_close(&connection->stream);
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
        close_connection(pool->idle);
}

struct client_connection *client_connection_next(struct client_connection *connection) {
    return connection->next;
}

static void make_idle(struct client_connection *connection) {
    struct upstream_pool *pool = connection->pool;
    if (!connection->keep_alive || connection->write_broken || connection->stream.pending.size ||
        connection->stream.body || pool->idle_count >= pool->upstream->options.idle_limit ||
        atomic_load(&pool->upstream->closed)) {
        close_connection(connection);
        return;
    }
    connection->state = CLIENT_IDLE;
    connection->deadline_ns = clock_ns() + (int64_t)pool->upstream->options.idle_timeout_ms * 1000000;
    connection->next_idle = pool->idle;
    pool->idle = connection;
    pool->idle_count++;
}

/* ---- The end of a call ---- */

static void free_call(struct http_call *call) {
    struct http_upstream *upstream = call->pool->upstream;
    http_timer_cancel(call->failing);
    http_body_release(call->answer.body);
    http_body_release(call->body);
    buffer_release(&call->head);
    free(call->text);
    free(call);
    upstream_release(upstream);
}

/* Take the call from its connection, which goes on living or not. */
static struct http_call *detach(struct client_connection *connection) {
    struct http_call *call = connection->call;
    connection->call = NULL;
    if (call)
        call->connection = NULL;
    return call;
}

static void finish(struct http_call *call) {
    call->done(call->context, &call->answer);
    free_call(call);
}

static void fail_call(struct http_call *call, enum http_failure failure, const char *reason) {
    http_body_release(call->answer.body);
    call->answer = (struct http_answer){.failure = failure, .reused = call->answer.reused, .reason = reason};
    finish(call);
}

/* The connection is of no use any more, and its call has failed. */
static void fail(struct client_connection *connection, enum http_failure failure, const char *reason) {
    struct http_call *call = detach(connection);
    close_connection(connection);
    if (call)
        fail_call(call, failure, reason);
}

static void fail_broken(struct client_connection *connection) {
    if (connection->got_bytes)
        fail(connection, HTTP_FAILED_BROKEN, "the connection ended in the middle of the answer");
    else
        fail(connection, HTTP_FAILED_CLOSED, "the connection ended before an answer");
}

static void complete(struct client_connection *connection) {
    struct http_call *call = detach(connection);
    make_idle(connection);
    if (!call->answer.body)
        call->answer.body = http_body_create(NULL, 0);
    if (!call->answer.body)
        fail_call(call, HTTP_FAILED_MEMORY, "no memory for an answer");
    else
        finish(call);
}

/* ---- Reading answers ---- */

static bool begin_answer(struct client_connection *connection, const char *bytes, size_t size) {
    struct http_call *call = connection->call;
    int lines = connection->scanner.lines;
    connection->scanner = (struct http_head_scanner){0};
    size_t table = (size_t)lines * sizeof(struct http_header);
    free(call->text);
    call->text = malloc(table + size + 1);
    if (!call->text) {
        fail(connection, HTTP_FAILED_MEMORY, "no memory for an answer");
        return false;
    }
    char *text = call->text + table;
    memcpy(text, bytes, size);
    text[size] = 0;
    struct http_head head;
    const char *reason = "";
    if (http_head_parse_answer(text, size, call->to_head, (struct http_header *)(void *)call->text, lines,
                               &head, &reason)) {
        fail(connection, HTTP_FAILED_PROTOCOL, reason);
        return false;
    }
    if (head.status < 200 && head.status != 101)
        return true; /* an interim answer: the real one follows */
    if (head.content_length > connection->pool->upstream->options.answer_limit &&
        head.framing == HTTP_BODY_LENGTH) {
        fail(connection, HTTP_FAILED_TOO_LARGE, "the answer is too large");
        return false;
    }
    call->answer.status = head.status;
    call->answer.headers = head.headers;
    call->answer.header_count = head.header_count;
    call->answer.reason = "";
    connection->keep_alive = head.keep_alive && head.status != 101;
    connection->framing = head.framing;
    connection->body_left = head.framing == HTTP_BODY_LENGTH ? head.content_length : 0;
    connection->chunks = (struct http_chunk_decoder){0};
    call->answer.body = http_body_create(NULL, (size_t)connection->body_left);
    if (!call->answer.body) {
        fail(connection, HTTP_FAILED_MEMORY, "no memory for an answer");
        return false;
    }
    call->answer.body->size = 0;
    call->answer.body->bytes[0] = 0;
    connection->state = CLIENT_BODY;
    if (head.framing == HTTP_BODY_NONE) {
        connection->keep_alive &= !connection->followed;
        complete(connection);
    }
    return true;
}

static size_t take_head(struct client_connection *connection, const char *bytes, size_t size) {
    ptrdiff_t length = http_head_scan(&connection->scanner, bytes, size);
    if (length < 0 || (size_t)length > ANSWER_HEADER_LIMIT || (!length && size > ANSWER_HEADER_LIMIT)) {
        fail(connection, HTTP_FAILED_PROTOCOL, "the answer is no HTTP");
        return size;
    }
    connection->followed = (size_t)length < size;
    return length && !begin_answer(connection, bytes, (size_t)length) ? size : (size_t)length;
}

static bool append(struct client_connection *connection, const char *bytes, size_t size) {
    struct http_body *body = connection->call->answer.body;
    if (size > connection->pool->upstream->options.answer_limit - body->size)
        fail(connection, HTTP_FAILED_TOO_LARGE, "the answer is too large");
    else if (!http_body_append(body, bytes, size))
        fail(connection, HTTP_FAILED_MEMORY, "no memory for an answer");
    else
        return true;
    return false;
}

static size_t take_chunks(struct client_connection *connection, const char *bytes, size_t size) {
    size_t at = 0;
    for (;;) {
        size_t used = 0, run_size = 0;
        const char *run = NULL;
        enum http_chunk_result result =
            http_chunk_decode(&connection->chunks, bytes + at, size - at, &used, &run, &run_size);
        at += used;
        if (result == HTTP_CHUNK_MORE)
            return at;
        if (result == HTTP_CHUNK_DATA) {
            if (append(connection, run, run_size))
                continue;
            return size;
        }
        if (result == HTTP_CHUNK_BAD) {
            fail(connection, HTTP_FAILED_PROTOCOL, "a chunk of the answer is malformed");
            return size;
        }
        connection->keep_alive &= at == size;
        complete(connection);
        return size;
    }
}

static size_t take_body(struct client_connection *connection, const char *bytes, size_t size) {
    if (connection->framing == HTTP_BODY_CHUNKED)
        return take_chunks(connection, bytes, size);
    if (connection->framing == HTTP_BODY_UNTIL_CLOSE) {
        append(connection, bytes, size);
        return size;
    }
    size_t run = size < connection->body_left ? size : (size_t)connection->body_left;
    if (!append(connection, bytes, run))
        return size;
    connection->body_left -= run;
    connection->keep_alive &=
        run == size; /* an upstream that says more than its answer is not to be trusted */
    if (!connection->body_left)
        complete(connection);
    return size;
}

/* The connection may be idle, closed or on its next call after this. */
static void take(struct client_connection *connection, const char *bytes, size_t size) {
    struct http_call *call = connection->call;
    size_t at = 0;
    while (at < size && connection->call == call && call &&
           (connection->state == CLIENT_WAITING || connection->state == CLIENT_BODY)) {
        connection->got_bytes = true;
        bool head = connection->state == CLIENT_WAITING;
        size_t used = head ? take_head(connection, bytes + at, size - at)
                           : take_body(connection, bytes + at, size - at);
        if (!used) {
            if (!buffer_append(&connection->input, bytes + at, size - at))
                fail(connection, HTTP_FAILED_MEMORY, "no memory for an answer");
            return;
        }
        at += used;
    }
}

static void answer_ended(struct client_connection *connection) {
    if (connection->state == CLIENT_BODY && connection->framing == HTTP_BODY_UNTIL_CLOSE)
        complete(connection);
    else
        fail_broken(connection);
}

static bool read_once(struct client_connection *connection) {
    struct http_loop *loop = connection->stream.loop;
    bool direct = connection->state == CLIENT_BODY && connection->framing == HTTP_BODY_LENGTH;
    struct http_body *body = direct ? connection->call->answer.body : NULL;
    char *into = direct ? body->bytes + body->size : loop->scratch;
    size_t room = direct ? (size_t)connection->body_left : sizeof loop->scratch;
    ssize_t count = stream_read(&connection->stream, into, room);
    if (count == STREAM_AGAIN)
        return false;
    if (count <= 0) {
        count == 0 ? answer_ended(connection) : fail_broken(connection);
        return false;
    }
    if (connection->state == CLIENT_IDLE) {
        close_connection(connection);
        return false;
    }
    size_t size = (size_t)count;
    if (direct) {
        body->size += size;
        body->bytes[body->size] = 0;
        connection->body_left -= size;
        if (!connection->body_left)
            complete(connection);
    } else if (connection->input.size) {
        struct buffer input = connection->input;
        connection->input = (struct buffer){0};
        if (buffer_append(&input, into, size))
            take(connection, input.bytes, input.size);
        else
            fail(connection, HTTP_FAILED_MEMORY, "no memory for an answer");
        buffer_release(&input);
    } else {
        take(connection, into, size);
    }
    return connection->state != CLIENT_CLOSED && (size == room || stream_has_buffered(&connection->stream));
}

static void on_read(evutil_socket_t fd, short what, void *context) {
    struct client_connection *connection = context;
    connection->busy++;
    if (connection->stream.write_wants_read && stream_flush(&connection->stream) == STREAM_BROKEN)
        connection->write_broken = true;
    for (int round = 0; round < READ_ROUNDS && connection->state != CLIENT_CLOSED; round++)
        if (!read_once(connection))
            break;
    if (connection->state != CLIENT_CLOSED && stream_has_buffered(&connection->stream))
        event_active(&connection->stream.read_event, EV_READ, 1);
    leave(connection);
}

/* ---- Sending ---- */

static struct client_connection *begin_connection(struct http_call *call,
                                                  const struct upstream_address *address) {
    struct upstream_pool *pool = call->pool;
    int fd = socket(address->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct client_connection *connection = fd >= 0 ? calloc(1, sizeof *connection) : NULL;
    SSL *ssl = connection && pool->upstream->tls ? SSL_new(pool->upstream->tls) : NULL;
    if (!connection || (pool->upstream->tls && !ssl) ||
        (connect(fd, (const struct sockaddr *)&address->address, address->size) && errno != EINPROGRESS)) {
        if (fd >= 0)
            close(fd);
        SSL_free(ssl);
        free(connection);
        return NULL;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (ssl) {
        SSL_set_connect_state(ssl);
        SSL_set_tlsext_host_name(ssl, pool->upstream->url.host);
        SSL_set1_host(ssl, pool->upstream->url.host);
    }
    stream_open(&connection->stream, pool->loop, fd, ssl, on_read, on_write, connection);
    upstream_reference(pool->upstream);
    connection->pool = pool;
    connection->state = CLIENT_CONNECTING;
    connection->deadline_ns = clock_ns() + (int64_t)pool->upstream->options.connect_timeout_ms * 1000000;
    connection->next = pool->first;
    if (pool->first) {
        pool->first->previous = connection;
    } else {
        struct timeval interval = {0, CLIENT_SWEEP_MS * 1000};
        event_add(&pool->sweep, &interval);
    }
    pool->first = connection;
    connection->call = call;
    call->connection = connection;
    stream_want_write(&connection->stream, true);
    return connection;
}

/* Connect to the next address that takes a socket. */
static bool try_addresses(struct http_call *call) {
    struct upstream_address address;
    while (upstream_address(call->pool->upstream, call->start_address, call->attempt++, &address))
        if (begin_connection(call, &address))
            return true;
    return false;
}

static void connect_failed(struct client_connection *connection, const char *reason) {
    struct http_call *call = detach(connection);
    close_connection(connection);
    if (call && !try_addresses(call))
        fail_call(call, HTTP_FAILED_CONNECT, reason);
}

static void send_request(struct client_connection *connection, const char *head, size_t size,
                         struct http_body *body) {
    connection->state = CLIENT_WAITING;
    connection->got_bytes = false;
    connection->write_broken = false;
    connection->scanner = (struct http_head_scanner){0};
    if (stream_send(&connection->stream, head, size, body) == STREAM_BROKEN)
        connection->write_broken = true; /* perhaps an answer was sent before: reading will tell */
    stream_want_read(&connection->stream, true);
}

static void on_write(evutil_socket_t fd, short what, void *context) {
    struct client_connection *connection = context;
    connection->busy++;
    if (connection->state == CLIENT_CONNECTING) {
        int failure = 0;
        socklen_t size = sizeof failure;
        getsockopt(connection->stream.fd, SOL_SOCKET, SO_ERROR, &failure, &size);
        if (failure) {
            connect_failed(connection, failure == ECONNREFUSED ? "connection refused" : "unreachable");
        } else {
            struct http_call *call = connection->call;
            stream_want_write(&connection->stream, false);
            send_request(connection, call->head.bytes, call->head.size, call->body);
            http_body_release(call->body);
            call->body = NULL;
            buffer_release(&call->head);
        }
    } else {
        bool read_waits = connection->stream.read_wants_write;
        if (stream_flush(&connection->stream) == STREAM_BROKEN)
            connection->write_broken = true;
        if (read_waits)
            on_read(fd, EV_READ, connection);
    }
    leave(connection);
}

bool http_header_is_hop_by_hop(const char *name) {
    static const char *const names[] = {"connection",
                                        "keep-alive",
                                        "proxy-connection",
                                        "proxy-authenticate",
                                        "proxy-authorization",
                                        "te",
                                        "trailer",
                                        "transfer-encoding",
                                        "upgrade",
                                        "expect"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if ((name[0] | 0x20) == names[i][0] &&
            !strcasecmp(name, names[i])) /* most differ in the first letter */
            return true;
    return false;
}

static bool write_request_head(const struct http_upstream *upstream, const struct http_call_options *options,
                               struct buffer *head) {
    head->size = 0;
    head->failed = false;
    buffer_append_string(head, options->method);
    buffer_append(head, " ", 1);
    buffer_append_string(head, upstream->url.path);
    buffer_append_string(head, options->target);
    buffer_append_string(head, " HTTP/1.1\r\n");
    bool host = false;
    for (int i = 0; i < options->header_count; i++) {
        const struct http_header *header = &options->headers[i];
        if (http_header_is_hop_by_hop(header->name) || !strcasecmp(header->name, "content-length") ||
            !http_header_is_valid(header))
            continue;
        host |= !strcasecmp(header->name, "host");
        buffer_append_string(head, header->name);
        buffer_append(head, ": ", 2);
        buffer_append_string(head, header->value);
        buffer_append(head, "\r\n", 2);
    }
    if (!host) {
        buffer_append_string(head, "Host: ");
        buffer_append_string(head, upstream->host_header);
        buffer_append(head, "\r\n", 2);
    }
    bool needs_length = strcmp(options->method, "GET") && strcmp(options->method, "HEAD");
    if (needs_length || (options->body && options->body->size))
        buffer_printf(head, "Content-Length: %zu\r\n", options->body ? options->body->size : 0);
    return buffer_append(head, "\r\n", 2);
}

static void tell_failure(void *context) {
    struct http_call *call = context;
    struct error error;
    call->failing = NULL;
    bool known = http_upstream_known(call->pool->upstream, &error);
    fail_call(call, HTTP_FAILED_CONNECT, known ? "no connection can be made" : error.message);
}

static bool start_on_idle(struct http_call *call, const struct http_call_options *options) {
    struct client_connection *connection = call->pool->idle;
    struct buffer *head = &call->pool->loop->head;
    if (!connection || !write_request_head(call->pool->upstream, options, head))
        return false;
    unlink_idle(connection);
    connection->call = call;
    call->connection = connection;
    call->answer.reused = true;
    connection->busy++;
    send_request(connection, head->bytes, head->size, options->body);
    if (connection->write_broken) /* its end is told by the event, never from within http_call_start */
        event_active(&connection->stream.read_event, EV_READ, 1);
    leave(connection);
    return true;
}

struct http_call *http_call_start(struct http_upstream *upstream, struct http_loop *loop,
                                  const struct http_call_options *options) {
    struct http_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    call->pool = &upstream->pools[http_loop_index(loop)];
    call->done = options->done;
    call->context = options->context;
    call->deadline_ns = clock_ns() + (int64_t)(options->timeout_ms ? options->timeout_ms : 60000) * 1000000;
    call->to_head = !strcmp(options->method, "HEAD");
    upstream_reference(upstream);
    if (start_on_idle(call, options))
        return call;
    if (!write_request_head(upstream, options, &call->head)) {
        free_call(call);
        return NULL;
    }
    call->body = http_body_reference(options->body);
    call->start_address = atomic_fetch_add(&upstream->next_address, 1);
    if (try_addresses(call))
        return call;
    call->failing = http_timer_start(loop, 0, tell_failure, call);
    if (call->failing)
        return call;
    free_call(call);
    return NULL;
}

void http_call_cancel(struct http_call *call) {
    if (!call)
        return;
    struct client_connection *connection = call->connection;
    if (connection) {
        detach(connection);
        close_connection(connection);
    }
    free_call(call);
}

void client_connection_check(struct client_connection *connection, int64_t now) {
    connection->busy++;
    if (connection->state == CLIENT_IDLE) {
        if (now >= connection->deadline_ns)
            close_connection(connection);
    } else if (connection->state == CLIENT_CONNECTING && now >= connection->deadline_ns) {
        connect_failed(connection, "connecting took too long");
    } else if (connection->call && now >= connection->call->deadline_ns) {
        fail(connection, HTTP_FAILED_TIMEOUT, "the answer took too long");
    }
    leave(connection);
}
