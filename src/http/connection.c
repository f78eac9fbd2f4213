#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "http/server_internal.h"
#include "http/url.h"

#define PROBE_AFTER_NS 200000000ll
#define READ_ROUNDS 16 /* reads of one connection before the others have their turn */

static int64_t after_ms(int milliseconds) {
    return clock_ns() + (int64_t)milliseconds * 1000000;
}

static const struct http_server_options *options_of(const struct connection *connection) {
    return &connection->part->server->options;
}

void connection_enter(struct connection *connection) {
    connection->busy++;
}

void connection_leave(struct connection *connection) {
    if (--connection->busy || connection->state != CONNECTION_CLOSED)
        return;
    buffer_release(&connection->input);
    free(connection);
}

static void connection_close(struct connection *connection) {
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection->state = CONNECTION_CLOSED;
    struct server_part *part = connection->part;
    struct http_server *server = part->server;
    stream_close(&connection->stream);
    *(connection->previous ? &connection->previous->next : &part->first) = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    if (part->cursor == connection)
        part->cursor = connection->next;
    if (!part->first)
        event_del(&part->sweep);
    atomic_fetch_sub(&part->count, 1);
    /* Under the mutex, so that the one who waits for the last connection may free the server right
     * afterwards. */
    pthread_mutex_lock(&server->mutex);
    if (atomic_fetch_sub(&server->connections, 1) == 1)
        pthread_cond_broadcast(&server->emptied);
    pthread_mutex_unlock(&server->mutex);
}

void connection_drop(struct connection *connection) {
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection_enter(connection);
    struct exchange *exchange = connection->exchange;
    bool handling = connection->state == CONNECTION_HANDLING;
    connection->exchange = NULL;
    if (exchange && handling)
        exchange_abandon(exchange);
    else if (exchange)
        exchange_finish(exchange, true);
    connection_close(connection);
    connection_leave(connection);
}

static void set_state(struct connection *connection, enum connection_state state, int64_t deadline_ns) {
    connection->state = state;
    connection->deadline_ns = deadline_ns;
}

/* ---- Refusals ---- */

static void refuse(struct connection *connection, int status, const char *message) {
    if (!connection->exchange)
        connection->exchange = exchange_create(connection, NULL, 0, 0);
    struct exchange *exchange = connection->exchange;
    if (!exchange) {
        connection_drop(connection);
        return;
    }
    connection->unread = true;
    exchange->request.received_ns = clock_ns();
    exchange->status = status;
    struct buffer text = {0};
    buffer_append_string(&text, "{\"error\": ");
    http_append_json_string(&text, message);
    buffer_append_string(&text, "}\n");
    exchange->reply_body = http_body_create(text.bytes, text.size);
    buffer_append_string(&exchange->reply_headers, "Content-Type: application/json\r\n");
    if (status == 503)
        buffer_append_string(&exchange->reply_headers, "Retry-After: 1\r\n");
    buffer_release(&text);
    connection_reply(connection);
}

/* ---- Reading requests ---- */

static void hand_over(struct connection *connection) {
    struct exchange *exchange = connection->exchange;
    exchange->request.received_ns = clock_ns();
    if (!exchange->request.body)
        exchange->request.body = http_body_create(NULL, 0);
    if (!exchange->request.body) {
        connection_drop(connection);
        return;
    }
    set_state(connection, CONNECTION_HANDLING, INT64_MAX);
    options_of(connection)->handle(options_of(connection)->context, &exchange->request);
}

/* May the client send the body? Asks the handler, and says so to a client that waits for it. */
static bool admit(struct connection *connection, bool expect_continue) {
    const struct http_server_options *options = options_of(connection);
    if (options->admit) {
        bool had_body = connection->framing != HTTP_BODY_NONE;
        connection->unread = had_body; /* should the handler reply now, the body stays unread */
        set_state(connection, CONNECTION_HANDLING, INT64_MAX);
        if (!options->admit(options->context, &connection->exchange->request))
            return false;
        if (connection->state != CONNECTION_HANDLING)
            return false;
        connection->unread = false;
    }
    if (expect_continue && connection->framing != HTTP_BODY_NONE) {
        static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
        if (stream_send(&connection->stream, interim, sizeof interim - 1, NULL) == STREAM_BROKEN) {
            set_state(connection, CONNECTION_BODY, 0);
            connection_drop(connection);
            return false;
        }
    }
    return true;
}

static void begin_body(struct connection *connection) {
    const struct http_server_options *options = options_of(connection);
    set_state(connection, CONNECTION_BODY, after_ms(options->body_stall_ms));
    connection->body_deadline_ns = after_ms(options->body_timeout_ms);
    connection->chunks = (struct http_chunk_decoder){0};
    /* The kernel gives the pages of a large block as they are written to, so a client that announces much and
     * sends little costs little. */
    struct http_body *body = http_body_create(NULL, (size_t)connection->body_left);
    connection->exchange->request.body = body;
    if (!body) {
        refuse(connection, 503, "no memory for the body of this request");
        return;
    }
    body->size = 0;
    body->bytes[0] = 0;
}

static int method_number(const char *name) {
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"};
    int i = 0;
    while (i < HTTP_OTHER && strcmp(name, names[i]))
        i++;
    return i;
}

/* Split a target into path (decoded) and query. */
static bool split_target(struct exchange *exchange, char *target) {
    struct http_request *request = &exchange->request;
    char *mark = strchr(target, '?');
    request->target = target;
    request->query = mark ? mark + 1 : "";
    request->path = exchange->path;
    size_t length = mark ? (size_t)(mark - target) : strlen(target);
    return url_decode(target, length, exchange->path, length + 1, false);
}

/* A head is complete: `size` bytes. */
static void begin_request(struct connection *connection, const char *bytes, size_t size) {
    const struct http_server_options *options = options_of(connection);
    int lines = connection->scanner.lines;
    struct exchange *exchange = connection->exchange = exchange_create(connection, bytes, size, lines);
    connection->scanner = (struct http_head_scanner){0};
    if (!exchange) {
        connection_drop(connection);
        return;
    }
    struct http_head head;
    const char *reason = "";
    int status = http_head_parse_request(exchange->text, size, exchange->headers, lines, &head, &reason);
    exchange->malformed = !head.target;
    if (head.target) {
        exchange->request.method = (enum http_method)method_number(head.method);
        exchange->request.method_name = head.method;
        exchange->request.minor_version = head.minor_version;
        exchange->request.headers = head.headers;
        exchange->request.header_count = head.header_count;
        if (!split_target(exchange, head.target) && !status) {
            status = 400;
            reason = "the address of the request is badly escaped";
        }
    }
    connection->keep_alive = head.keep_alive;
    connection->framing = head.framing;
    connection->body_left = head.framing == HTTP_BODY_LENGTH ? head.content_length : 0;
    if (status) {
        refuse(connection, status, reason);
        return;
    }
    if (connection->body_left > options->body_limit) {
        refuse(connection, 413, "the body is larger than this server takes");
        return;
    }
    if (!admit(connection, head.expect_continue))
        return;
    if (head.framing == HTTP_BODY_NONE)
        hand_over(connection);
    else
        begin_body(connection);
}

/* Count body bytes against what the server may hold in all. */
static bool reserve_body(struct connection *connection, size_t size) {
    struct http_server *server = connection->part->server;
    connection->exchange->body_reserved += size;
    if (atomic_fetch_add(&server->body_bytes, size) + size <= options_of(connection)->body_total_limit)
        return true;
    refuse(connection, 503, "too many large requests at once: try again soon");
    return false;
}

/* `size` bytes have come into the body: go on, or hand the request over. */
static void note_body(struct connection *connection, size_t size) {
    connection->deadline_ns = after_ms(options_of(connection)->body_stall_ms);
    if (!reserve_body(connection, size) || connection->framing != HTTP_BODY_LENGTH)
        return;
    struct http_body *body = connection->exchange->request.body;
    body->bytes[body->size] = 0;
    connection->body_left -= size;
    if (!connection->body_left)
        hand_over(connection);
}

static size_t take_chunks(struct connection *connection, const char *bytes, size_t size) {
    struct http_body *body = connection->exchange->request.body;
    size_t at = 0;
    while (connection->state == CONNECTION_BODY) {
        size_t used = 0, run_size = 0;
        const char *run = NULL;
        enum http_chunk_result result =
            http_chunk_decode(&connection->chunks, bytes + at, size - at, &used, &run, &run_size);
        at += used;
        if (result == HTTP_CHUNK_MORE)
            return at;
        if (result == HTTP_CHUNK_END) {
            hand_over(connection);
        } else if (result == HTTP_CHUNK_BAD) {
            refuse(connection, 400, "a chunk of the body is malformed");
        } else if (run_size > options_of(connection)->body_limit - body->size) {
            refuse(connection, 413, "the body is larger than this server takes");
        } else if (!http_body_append(body, run, run_size)) {
            refuse(connection, 503, "no memory for the body of this request");
        } else {
            note_body(connection, run_size);
        }
    }
    return at;
}

static size_t take_body(struct connection *connection, const char *bytes, size_t size) {
    if (connection->framing == HTTP_BODY_CHUNKED)
        return take_chunks(connection, bytes, size);
    struct http_body *body = connection->exchange->request.body;
    size_t run = size < connection->body_left ? size : (size_t)connection->body_left;
    memcpy(body->bytes + body->size, bytes, run);
    body->size += run;
    note_body(connection, run);
    return run;
}

static size_t take_head(struct connection *connection, const char *bytes, size_t size) {
    size_t at = 0;
    if (connection->state == CONNECTION_IDLE) {
        /* Empty lines before a request are forgiven (RFC 9112, 2.2). */
        while (size - at >= 2 && bytes[at] == '\r' && bytes[at + 1] == '\n')
            at += 2;
        if (at == size || (size - at == 1 && bytes[at] == '\r'))
            return at;
        connection->started_ns = clock_ns();
        connection->scanner = (struct http_head_scanner){0};
        set_state(connection, CONNECTION_HEAD, after_ms(options_of(connection)->header_timeout_ms));
    }
    ptrdiff_t length = http_head_scan(&connection->scanner, bytes + at, size - at);
    size_t limit = options_of(connection)->header_limit;
    if (length < 0) {
        refuse(connection, 400, "the request is no HTTP");
    } else if ((size_t)length > limit || (!length && size - at >= limit)) {
        refuse(connection, 431, "the request's headers are larger than this server takes");
    } else if (length) {
        begin_request(connection, bytes + at, (size_t)length);
        return at + (size_t)length;
    }
    return at;
}

/* Take what can be taken of the input; the bytes used. */
static size_t process(struct connection *connection, const char *bytes, size_t size) {
    size_t at = 0;
    for (;;) {
        enum connection_state before = connection->state;
        size_t used = 0;
        switch (before) {
        case CONNECTION_IDLE:
        case CONNECTION_HEAD:
            if (at < size)
                used = take_head(connection, bytes + at, size - at);
            break;
        case CONNECTION_BODY:
            if (at < size)
                used = take_body(connection, bytes + at, size - at);
            break;
        case CONNECTION_HANDLING:
        case CONNECTION_REPLYING:
            return at;
        default:
            return size;
        }
        at += used;
        if (!used && connection->state == before)
            return at;
    }
}

/* ---- Events ---- */

/* Reading stops while there is a request in work and as much read ahead as a head may be long. */
static void update_reading(struct connection *connection) {
    if (connection->state == CONNECTION_CLOSED)
        return;
    bool working = connection->state == CONNECTION_HANDLING || connection->state == CONNECTION_REPLYING;
    bool full = working && connection->input.size >= options_of(connection)->header_limit;
    bool want = !connection->read_closed_ns && !full;
    if (want && !connection->stream.reading && stream_has_buffered(&connection->stream))
        event_active(&connection->stream.read_event, EV_READ, 1);
    stream_want_read(&connection->stream, want);
}

/* Process what was kept, and keep what is not used yet. */
static void process_input(struct connection *connection) {
    size_t size = connection->input.size;
    if (!size)
        return;
    /* A last reply on the connection lets go of the input: only `size` still says what it was. */
    size_t used = process(connection, connection->input.bytes, size);
    if (connection->state == CONNECTION_CLOSED || used == size) {
        buffer_release(&connection->input);
    } else if (used) {
        connection->input.size -= used;
        memmove(connection->input.bytes, connection->input.bytes + used, connection->input.size + 1);
    }
}

static void read_ended(struct connection *connection) {
    connection->read_closed_ns = clock_ns();
    switch (connection->state) {
    case CONNECTION_HEAD:
    case CONNECTION_BODY:
        refuse(connection, 400, "the request ended early");
        return;
    case CONNECTION_HANDLING:
    case CONNECTION_REPLYING:
        return; /* perhaps half-closed: the reply is still wanted. connection_check finds out. */
    default:
        connection_drop(connection);
    }
}

/* Bytes from the loop's scratch: take what can be taken, keep the rest. */
static void keep_input(struct connection *connection, const char *bytes, size_t size) {
    bool kept_before = connection->input.size > 0;
    size_t used = kept_before ? 0 : process(connection, bytes, size);
    if (connection->state == CONNECTION_CLOSED || used == size)
        return;
    if (!buffer_append(&connection->input, bytes + used, size - used))
        connection_drop(connection);
    else if (kept_before)
        process_input(connection);
}

/* One read and what follows from it. False when there is nothing more to read now. */
static bool read_once(struct connection *connection) {
    struct http_loop *loop = connection->stream.loop;
    struct http_body *body = connection->state == CONNECTION_BODY ? connection->exchange->request.body : NULL;
    bool direct = body && connection->framing == HTTP_BODY_LENGTH && !connection->input.size;
    bool working = connection->state == CONNECTION_HANDLING || connection->state == CONNECTION_REPLYING;
    size_t limit = options_of(connection)->header_limit;
    char *into = direct ? body->bytes + body->size : loop->scratch;
    size_t room = direct ? (size_t)connection->body_left : sizeof loop->scratch;
    if (working) {
        room = connection->input.size < limit ? limit - connection->input.size : 0;
        if (!room)
            return false;
        if (room > sizeof loop->scratch)
            room = sizeof loop->scratch;
    }
    ssize_t count = stream_read(&connection->stream, into, room);
    if (count == STREAM_AGAIN)
        return false;
    if (count < 0) {
        connection_drop(connection);
        return false;
    }
    if (count == 0) {
        read_ended(connection);
        return false;
    }
    size_t size = (size_t)count;
    if (direct) {
        body->size += size;
        note_body(connection, size);
        return connection->state != CONNECTION_CLOSED && stream_has_buffered(&connection->stream);
    }
    keep_input(connection, into, size);
    return connection->state != CONNECTION_CLOSED &&
           (size == room || stream_has_buffered(&connection->stream));
}

static void flush_reply(struct connection *connection) {
    connection->deadline_ns = after_ms(options_of(connection)->write_timeout_ms);
    connection_replied(connection, stream_flush(&connection->stream));
    connection_resume(connection);
}

static void read_available(struct connection *connection) {
    if (connection->stream.write_wants_read && connection->state == CONNECTION_REPLYING)
        flush_reply(connection);
    for (int round = 0; round < READ_ROUNDS && connection->state != CONNECTION_CLOSED; round++)
        if (!read_once(connection))
            break;
    if (connection->state != CONNECTION_CLOSED && stream_has_buffered(&connection->stream) &&
        connection->stream.reading)
        event_active(&connection->stream.read_event, EV_READ, 1);
    update_reading(connection);
}

static void on_read(evutil_socket_t fd, short what, void *context) {
    connection_enter(context);
    read_available(context);
    connection_leave(context);
}

static void on_write(evutil_socket_t fd, short what, void *context) {
    struct connection *connection = context;
    connection_enter(connection);
    bool read_waits = connection->stream.read_wants_write;
    if (connection->state == CONNECTION_REPLYING) {
        flush_reply(connection);
    } else if (stream_flush(&connection->stream) == STREAM_BROKEN) {
        connection_drop(connection);
    }
    if (read_waits && connection->state != CONNECTION_CLOSED)
        read_available(connection);
    connection_leave(connection);
}

void connection_resume(struct connection *connection) {
    if (connection->state == CONNECTION_IDLE)
        process_input(connection);
    if (connection->read_closed_ns && connection->state <= CONNECTION_BODY)
        read_ended(connection);
    update_reading(connection);
}

void connection_start(struct server_part *part, int fd, SSL *ssl, const char *peer) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        SSL_free(ssl);
        evutil_closesocket(fd);
        atomic_fetch_sub(&part->count, 1);
        atomic_fetch_sub(&part->server->connections, 1);
        return;
    }
    connection->part = part;
    memcpy(connection->peer, peer, sizeof connection->peer);
    stream_open(&connection->stream, part->loop, fd, ssl, on_read, on_write, connection);
    if (!part->first) {
        struct timeval interval = {0, SERVER_SWEEP_MS * 1000};
        event_add(&part->sweep, &interval);
    } else {
        part->first->previous = connection;
    }
    connection->next = part->first;
    part->first = connection;
    /* A connection on which nothing is sent is cut off like a slow head, but silently. */
    set_state(connection, CONNECTION_IDLE, after_ms(options_of(connection)->idle_timeout_ms));
    connection_enter(connection);
    update_reading(connection);
    read_available(connection); /* often the request is here already */
    if (part->draining && connection->state == CONNECTION_IDLE)
        connection_drop(connection);
    connection_leave(connection);
}

void connection_drain(struct connection *connection) {
    connection_enter(connection);
    if (connection->state == CONNECTION_IDLE)
        read_available(connection); /* what is here already has begun */
    if (connection->state == CONNECTION_IDLE)
        connection_drop(connection);
    connection_leave(connection);
}

/* ---- Deadlines ---- */

/* A client that closed its sending side may be waiting for the reply, or be gone altogether. TCP tells the
 * two apart only when something is sent: an interim answer, which every HTTP/1.1 client skips. A client that
 * is gone answers with a reset. */
static void check_presence(struct connection *connection, int64_t now) {
    struct pollfd poller = {.fd = connection->stream.fd, .events = 0};
    if (poll(&poller, 1, 0) > 0 && poller.revents & (POLLERR | POLLHUP)) {
        connection_drop(connection);
        return;
    }
    if (!connection->probed && connection->read_closed_ns &&
        now - connection->read_closed_ns > PROBE_AFTER_NS && connection->exchange->request.minor_version) {
        static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
        connection->probed = true;
        if (stream_send(&connection->stream, interim, sizeof interim - 1, NULL) == STREAM_BROKEN)
            connection_drop(connection);
    }
}

void connection_check(struct connection *connection, int64_t now) {
    connection_enter(connection);
    bool body_late = connection->state == CONNECTION_BODY && now >= connection->body_deadline_ns;
    if (now >= connection->deadline_ns || body_late) {
        if (connection->state == CONNECTION_HEAD)
            refuse(connection, 408, "the request's headers took too long to arrive");
        else if (connection->state == CONNECTION_BODY)
            refuse(connection, 408, "the request's body took too long to arrive");
        else
            connection_drop(connection);
    } else if (connection->state == CONNECTION_HANDLING && !connection->stream.reading) {
        check_presence(connection, now);
    }
    connection_leave(connection);
}
