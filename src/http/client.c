#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "http/client_internal.h"

#define WHOLE_TIMEOUT_MS 60000

/* ---- The end of a call ---- */

static void free_call(struct http_call *call) {
    struct http_upstream *upstream = call->pool->upstream;
    http_timer_cancel(call->failing);
    http_body_release(call->response.body);
    http_body_release(call->body);
    buffer_release(&call->unsent);
    http_response_reader_release(&call->reader);
    free(call);
    upstream_release(upstream);
}

void http_call_complete(struct http_call *call) {
    if (!call->head && !call->response.body)
        call->response.body = http_body_create(NULL, 0);
    if (!call->head && !call->response.body) {
        http_call_fail(call, HTTP_FAILED_MEMORY, "not enough memory for a response");
        return;
    }

    call->done(call->context, &call->response);
    free_call(call);
}

void http_call_fail(struct http_call *call, enum http_failure failure, const char *reason) {
    http_body_release(call->response.body);
    call->response.body = NULL;
    if (!call->head) /* no part of a response that should be whole */
        call->response = (struct http_response){.reused = call->response.reused, .content_length = -1};
    call->response.failure = failure;
    call->response.reason = reason;

    call->done(call->context, &call->response);
    free_call(call);
}

/* ---- Requests ---- */

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
        if (http_names_equal(name, names[i]))
            return true;

    return false;
}

static void append_framing(const struct http_call_options *options, struct buffer *text) {
    if (options->body_in_pieces) {
        if (options->body_length < 0)
            http_append_header(text, "Transfer-Encoding", "chunked");
        else
            http_append_length(text, (uint64_t)options->body_length);
        return;
    }

    size_t size = options->body ? options->body->size : 0;
    bool needs_length = strcmp(options->method, "GET") != 0 && strcmp(options->method, "HEAD") != 0;
    if (needs_length || size)
        http_append_length(text, size);
}

static bool write_request_head(const struct http_upstream *upstream, const struct http_call_options *options,
                               struct buffer *text) {
    text->size = 0;
    text->failed = false;
    buffer_append_string(text, options->method);
    buffer_append(text, " ", 1);
    buffer_append_string(text, upstream->url.path);
    buffer_append_string(text, options->target);
    buffer_append_string(text, " HTTP/1.1\r\n");

    bool host = false;
    for (int i = 0; i < options->header_count; i++) {
        const struct http_header *header = &options->headers[i];
        if (http_header_is_hop_by_hop(header->name) || http_names_equal(header->name, "Content-Length") ||
            !http_header_is_valid(header))
            continue;
        host |= http_names_equal(header->name, "Host");
        http_append_header(text, header->name, header->value);
    }

    if (!host)
        http_append_header(text, "Host", upstream->host_header);
    append_framing(options, text);
    return buffer_append(text, "\r\n", 2);
}

void http_call_note_sent(struct http_call *call) {
    if (call->reader.in_body)
        return;

    bool waits = call->finished || http_call_pending(call) > 0;
    call->progress_deadline_ns =
        call->first_byte_timeout_ms && waits ? deadline_after(call->first_byte_timeout_ms) : INT64_MAX;
}

/* ---- Starting ---- */

static struct http_call *create_call(struct http_upstream *upstream, struct http_loop *loop,
                                     const struct http_call_options *options) {
    struct http_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;

    call->pool = &upstream->pools[http_loop_index(loop)];
    call->head = options->head;
    call->piece = options->piece;
    call->writable = options->writable;
    call->done = options->done;
    call->context = options->context;
    call->reader.to_head = !strcmp(options->method, "HEAD");
    call->response.content_length = -1;

    call->first_byte_timeout_ms = options->first_byte_timeout_ms;
    call->silence_timeout_ms = options->silence_timeout_ms;
    int timeout_ms = options->timeout_ms || options->head ? options->timeout_ms : WHOLE_TIMEOUT_MS;
    call->deadline_ns = timeout_ms ? deadline_after(timeout_ms) : INT64_MAX;

    call->in_pieces = options->body_in_pieces;
    call->finished = !call->in_pieces;
    call->chunked = call->in_pieces && options->body_length < 0;
    call->body_left = call->chunked ? -1 : options->body_length;
    upstream_reference(upstream);
    return call;
}

static void tell_failure(void *context) {
    struct http_call *call = context;
    struct client_connection *connection = call->connection;
    call->failing = NULL;
    if (connection) {
        client_connection_detach(connection);
        client_connection_close(connection, true);
        http_call_fail(call, HTTP_FAILED_CLOSED, "the request's body is shorter than announced");
        return;
    }

    struct error error;
    bool known = http_upstream_known(call->pool->upstream, &error);
    http_call_fail(call, HTTP_FAILED_CONNECT, known ? "no connection can be made" : error.message);
}

struct http_call *http_call_start(struct http_upstream *upstream, struct http_loop *loop,
                                  const struct http_call_options *options) {
    struct http_call *call = create_call(upstream, loop, options);
    if (!call)
        return NULL;

    struct client_connection *idle = call->pool->idle;
    struct buffer *text = idle ? http_loop_buffer(loop) : &call->unsent;
    if (!write_request_head(upstream, options, text)) {
        free_call(call);
        return NULL;
    }

    if (idle) {
        client_connection_send(client_connection_reuse(call), text, options->body);
        http_call_note_sent(call);
        return call;
    }

    call->body = http_body_reference(options->body);
    call->start_address = atomic_fetch_add(&upstream->next_address, 1);
    http_call_note_sent(call);
    if (client_connection_open(call))
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
        client_connection_detach(connection);
        client_connection_close(connection, true);
    }
    free_call(call);
}

void http_call_pause(struct http_call *call, bool paused) {
    struct client_connection *connection = call->connection;
    if (call->paused == paused)
        return;

    call->paused = paused;
    if (!paused && call->reader.in_body)
        call->progress_deadline_ns =
            call->silence_timeout_ms ? deadline_after(call->silence_timeout_ms) : INT64_MAX;
    else if (!paused)
        http_call_note_sent(call);

    if (!connection || connection->state != CLIENT_BUSY)
        return;

    client_connection_update_reading(connection);
    if (!paused)
        stream_read_soon(&connection->stream);
}

/* ---- Bodies in pieces ---- */

static bool is_connected(const struct http_call *call) {
    return call->connection && call->connection->state == CLIENT_BUSY;
}

/* Send runs now (`last`) or with what follows soon, or keep them until there is a connection. */
static bool send_runs(struct http_call *call, const struct iovec *runs, int count, bool last) {
    if (!is_connected(call)) {
        for (int i = 0; i < count; i++)
            buffer_append(&call->unsent, runs[i].iov_base, runs[i].iov_len);
        return !call->unsent.failed;
    }

    struct client_connection *connection = call->connection;
    enum stream_result result = last ? stream_send(&connection->stream, runs, count, NULL)
                                     : stream_write(&connection->stream, runs, count);
    connection->write_broken |= result == STREAM_BROKEN;
    if (result == STREAM_BROKEN && !call->paused)
        stream_read_soon(&connection->stream);

    return result != STREAM_BROKEN;
}

bool http_call_write(struct http_call *call, const void *bytes, size_t size) {
    if (call->finished || (call->connection && call->connection->write_broken))
        return false;
    if (!size)
        return true;

    if (call->body_left >= 0) {
        if (size > (uint64_t)call->body_left)
            return false;
        call->body_left -= (int64_t)size;
    }

    char line[24];
    int length = snprintf(line, sizeof line, "%zx\r\n", size);
    struct iovec chunk[3] = {
        {line, (size_t)length}, {(char *)(uintptr_t)bytes, size}, {(char *)(uintptr_t) "\r\n", 2}};
    bool sent = send_runs(call, call->chunked ? chunk : chunk + 1, call->chunked ? 3 : 1, false);

    call->above_high |= http_call_pending(call) > LIMIT_OUTPUT_HIGH_BYTES;
    http_call_note_sent(call);
    return sent;
}

size_t http_call_pending(const struct http_call *call) {
    if (is_connected(call))
        return stream_pending(&call->connection->stream);
    return call->unsent.size + (call->body ? call->body->size : 0);
}

void http_call_finish(struct http_call *call) {
    if (call->finished)
        return;

    call->finished = true;
    if (call->body_left > 0) {
        if (!call->failing)
            call->failing = http_timer_start(call->pool->loop, 0, tell_failure, call);
        return;
    }

    struct iovec last = {(char *)(uintptr_t) "0\r\n\r\n", 5};
    send_runs(call, &last, call->chunked ? 1 : 0, true);
    http_call_note_sent(call);
}
