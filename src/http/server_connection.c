#include <poll.h>
#include <stdlib.h>

#include "http/server_internal.h"

#define READ_ROUNDS 16          /* reads of one connection before the others have their turn */
#define PRESENCE_INTERVAL_MS 20 /* between the first checks whether a half-closed client is still there */
#define PRESENCE_CHECKS 25      /* then the sweep goes on with it */

/* ---- The end of a connection ---- */

void server_connection_enter(struct server_connection *connection) {
    connection->busy++;
}

void server_connection_leave(struct server_connection *connection) {
    if (--connection->busy || connection->state != CONNECTION_CLOSED)
        return;

    buffer_release(&connection->input);
    free(connection);
}

static void close_connection(struct server_connection *connection) {
    if (connection->state == CONNECTION_CLOSED)
        return;
    connection->state = CONNECTION_CLOSED;

    struct server_part *part = connection->part;
    http_timer_cancel(connection->presence);
    connection->presence = NULL;
    connection->reset ? stream_reset(&connection->stream) : stream_close(&connection->stream);

    *(connection->previous ? &connection->previous->next : &part->first) = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    if (part->cursor == connection)
        part->cursor = connection->next;
    if (connection->scarce)
        atomic_fetch_sub(&part->server->scarce, 1);
    server_part_forget(part);
}

void server_connection_drop(struct server_connection *connection) {
    if (connection->state == CONNECTION_CLOSED)
        return;
    server_connection_enter(connection);

    struct server_request *request = connection->request;
    bool handling = connection->state == CONNECTION_HANDLING || connection->state == CONNECTION_STREAMING;
    size_t sent = request ? server_connection_bytes_sent(connection) : 0;
    connection->request = NULL;
    if (request)
        server_request_drop(request, handling, sent);

    close_connection(connection);
    server_connection_leave(connection);
}

/* ---- Events ---- */

void server_connection_update_reading(struct server_connection *connection) {
    if (connection->state == CONNECTION_CLOSED)
        return;

    bool want = !connection->read_closed_ns && server_connection_read_room(connection);
    if (want && !connection->stream.reading && stream_has_buffered(&connection->stream))
        stream_read_soon(&connection->stream);
    stream_want_read(&connection->stream, want);
}

static void watch_presence(struct server_connection *connection);

/* The client sends no more. It may have gone, or wait for its reply with only its sending side shut down. */
static void end_reading(struct server_connection *connection) {
    if (!connection->read_closed_ns)
        connection->read_closed_ns = clock_ns();

    switch (connection->state) {
    case CONNECTION_HEAD:
    case CONNECTION_BODY:
        server_connection_refuse(connection, 400, "the request ended early");
        return;
    case CONNECTION_HANDLING:
        if (server_connection_is_reading_body(connection))
            server_connection_abandon_body(connection, true);
        watch_presence(connection);
        return;
    case CONNECTION_STREAMING:
        watch_presence(connection);
        return;
    case CONNECTION_REPLYING:
        return;
    default:
        server_connection_drop(connection);
    }
}

/* One read and what follows from it. False when there is nothing more to read now. */
static bool read_once(struct server_connection *connection) {
    bool more;
    ssize_t count = server_connection_read(connection, &more);
    if (count == STREAM_AGAIN)
        return false;
    if (count < 0) {
        if (stream_drop_tls(&connection->stream))
            server_connection_refuse(connection, 400, "plain http came to a port for https");
        else
            server_connection_drop(connection);
        return false;
    }
    if (count == 0) {
        end_reading(connection);
        return false;
    }

    return connection->state != CONNECTION_CLOSED && (more || stream_has_buffered(&connection->stream));
}

static void read_available(struct server_connection *connection) {
    for (int round = 0; round < READ_ROUNDS && connection->state != CONNECTION_CLOSED; round++)
        if (connection->read_closed_ns || !read_once(connection))
            break;

    server_connection_update_reading(connection);
    if (connection->state != CONNECTION_CLOSED && connection->stream.reading &&
        stream_has_buffered(&connection->stream))
        stream_read_soon(&connection->stream);
}

static void on_read(evutil_socket_t fd, short what, void *context) {
    struct server_connection *connection = context;
    server_connection_enter(connection);
    if (connection->stream.write_wants_read)
        server_connection_flush(connection);
    if (server_connection_is_reading_body(connection))
        server_connection_resume(connection); /* the handler has just asked for the body */
    read_available(connection);
    server_connection_leave(connection);
}

static void on_write(evutil_socket_t fd, short what, void *context) {
    struct server_connection *connection = context;
    server_connection_enter(connection);
    bool read_waits = connection->stream.read_wants_write;
    server_connection_flush(connection);
    if (read_waits && connection->state != CONNECTION_CLOSED)
        read_available(connection);
    server_connection_leave(connection);
}

/* Without more bytes the connection cannot go on. */
static bool needs_input(const struct server_connection *connection) {
    return connection->state == CONNECTION_IDLE || connection->state == CONNECTION_HEAD ||
           connection->state == CONNECTION_BODY || server_connection_is_reading_body(connection);
}

void server_connection_resume(struct server_connection *connection) {
    bool next = connection->state == CONNECTION_IDLE && connection->input.size;
    if (next || server_connection_is_reading_body(connection))
        server_connection_process_input(connection);

    if (connection->read_closed_ns && needs_input(connection))
        end_reading(connection);
    if (connection->part->draining && connection->state == CONNECTION_IDLE)
        server_connection_drop(connection);
    server_connection_update_reading(connection);
}

void server_connection_start(struct server_part *part, int fd, SSL *ssl, const struct peer_name *peer,
                             bool scarce) {
    struct server_connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        if (scarce)
            atomic_fetch_sub(&part->server->scarce, 1);
        SSL_free(ssl);
        evutil_closesocket(fd);
        server_part_forget(part);
        return;
    }

    connection->part = part;
    connection->peer = *peer;
    connection->scarce = scarce;
    stream_open(&connection->stream, part->loop, fd, ssl, on_read, on_write, connection);
    if (!part->first) {
        struct timeval interval = {0, SERVER_SWEEP_MS * 1000};
        event_add(&part->sweep, &interval);
    } else {
        part->first->previous = connection;
    }

    connection->next = part->first;
    part->first = connection;

    /* A connection on which nothing is sent ends like one with a slow head, but silently; a
     * TLS handshake has no longer than a head. */
    connection->state = CONNECTION_IDLE;
    const struct http_server_options *options = server_connection_options(connection);
    connection->deadline_ns = deadline_after(scarce ? SERVER_SCARCE_MS
                                             : ssl  ? options->header_timeout_ms
                                                    : options->idle_timeout_ms);
    server_connection_enter(connection);
    read_available(connection); /* often the request is here already */
    if (part->draining && connection->state == CONNECTION_IDLE)
        server_connection_drop(connection);
    server_connection_leave(connection);
}

static void drain_connection(struct server_connection *connection) {
    server_connection_enter(connection);
    if (connection->state == CONNECTION_IDLE)
        read_available(connection); /* a request that is here already has begun */
    if (connection->state == CONNECTION_IDLE)
        server_connection_drop(connection);
    server_connection_leave(connection);
}

/* ---- Deadlines and presence ---- */

/* TCP tells a client that left from one that waits for its reply only after something was sent. */
static void check_presence(struct server_connection *connection) {
    struct pollfd poller = {.fd = connection->stream.fd, .events = 0};
    if (poll(&poller, 1, 0) > 0 && poller.revents & (POLLERR | POLLHUP))
        server_connection_drop(connection);
    else if (connection->read_closed_ns)
        server_connection_probe(connection);
}

static void on_presence(void *context) {
    struct server_connection *connection = context;
    connection->presence = NULL;
    if (connection->state != CONNECTION_HANDLING && connection->state != CONNECTION_STREAMING)
        return;

    server_connection_enter(connection);
    check_presence(connection);
    if (connection->state != CONNECTION_CLOSED && ++connection->presence_checks < PRESENCE_CHECKS)
        connection->presence = http_timer_start(server_connection_loop(connection), PRESENCE_INTERVAL_MS,
                                                on_presence, connection);
    server_connection_leave(connection);
}

/* A reply that is about to be made needs no probe, so the first check waits for an interval. */
static void watch_presence(struct server_connection *connection) {
    if (connection->state == CONNECTION_CLOSED || connection->presence)
        return;
    connection->presence_checks = 0;
    connection->presence =
        http_timer_start(server_connection_loop(connection), PRESENCE_INTERVAL_MS, on_presence, connection);
}

static void check_connection(struct server_connection *connection, int64_t now) {
    server_connection_enter(connection);
    bool body_late = connection->state == CONNECTION_BODY && now >= connection->body_deadline_ns;

    if (now >= connection->deadline_ns || body_late) {
        if (connection->state == CONNECTION_HEAD) {
            server_connection_refuse(connection, 408, "the request's headers took too long to arrive");
        } else if (connection->state == CONNECTION_BODY) {
            server_connection_refuse(connection, 408, "the request's body took too long to arrive");
        } else if (connection->state == CONNECTION_HANDLING) {
            connection->deadline_ns = INT64_MAX;
            server_connection_abandon_body(connection, true);
        } else {
            server_connection_drop(connection);
        }
    } else if ((connection->state == CONNECTION_HANDLING || connection->state == CONNECTION_STREAMING) &&
               !connection->stream.reading) {
        check_presence(connection);
    }

    server_connection_leave(connection);
}

/* ---- All connections of a part ---- */

void server_part_sweep(struct server_part *part) {
    int64_t now = clock_ns();
    if (!part->cursor)
        part->cursor = part->first;

    for (int i = 0; i < SERVER_SWEEP_LIMIT && part->cursor; i++) {
        struct server_connection *connection = part->cursor;
        part->cursor = connection->next; /* closing a connection moves the cursor past it */
        check_connection(connection, now);
    }
}

void server_part_drain(struct server_part *part, bool drop) {
    part->draining = true;

    /* Closing one connection may close others, which move the cursor. */
    for (part->cursor = part->first; part->cursor;) {
        struct server_connection *connection = part->cursor;
        part->cursor = connection->next;
        drop ? server_connection_drop(connection) : drain_connection(connection);
    }
}
