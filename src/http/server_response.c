#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/limits.h"
#include "http/server_internal.h"

#define LINGER_MS 2000

/* ---- Heads ---- */

static bool has_no_body(const struct server_request *request) {
    int status = request->status;
    return request->request.method == HTTP_HEAD || status < 200 || status == 204 || status == 304;
}

static bool is_added_here(const char *name) {
    return http_names_equal(name, "Content-Length") || http_names_equal(name, "Date") ||
           http_names_equal(name, "Server") || http_names_equal(name, "Transfer-Encoding");
}

static void set_head(struct server_request *request, int status, const struct http_header *headers,
                     int header_count) {
    struct buffer *lines = &request->reply_headers;
    request->status = status;
    for (int i = 0; i < header_count; i++) {
        if (http_names_equal(headers[i].name, "Connection")) {
            request->close |= http_list_contains(headers[i].value, "close");
            continue;
        }
        if (!is_added_here(headers[i].name) && http_header_is_valid(&headers[i]))
            http_append_header(lines, headers[i].name, headers[i].value);
    }
}

static void append_framing(const struct server_request *request, struct buffer *text) {
    const struct reply_progress *reply = &request->reply;
    if (request->status < 200 || request->status == 204 || request->status == 304)
        return;

    if (!reply->begun)
        http_append_length(text, request->reply_body ? request->reply_body->size : 0);
    else if (reply->length_left >= 0)
        http_append_length(text, (uint64_t)reply->length_left);
    else if (reply->chunked)
        http_append_header(text, "Transfer-Encoding", "chunked");
}

/* The head of the connection's reply, in the loop's buffer. NULL when memory is out. */
static const struct buffer *write_head(const struct server_connection *connection) {
    const struct server_request *request = connection->request;
    struct buffer *text = http_loop_buffer(server_connection_loop(connection));
    buffer_append_string(text, "HTTP/1.1 ");
    buffer_append_number(text, (uint64_t)request->status);
    buffer_append(text, " ", 1);
    buffer_append_string(text, http_status_text(request->status));
    buffer_append(text, "\r\n", 2);
    http_append_header(text, "Server", server_connection_options(connection)->server_name);
    http_append_header(text, "Date", http_loop_date(server_connection_loop(connection)));
    buffer_append(text, request->reply_headers.bytes, request->reply_headers.size);

    append_framing(request, text);
    if (!connection->keep_alive)
        http_append_header(text, "Connection", "close");
    else if (!request->request.minor_version)
        http_append_header(text, "Connection", "keep-alive");

    buffer_append(text, "\r\n", 2);
    return text->failed ? NULL : text;
}

/* A reply begins: what is left of the body is not read, and the connection may have to close afterwards. */
static void begin_reply(struct server_connection *connection, enum connection_state state,
                        int64_t deadline_ns) {
    struct server_request *request = connection->request;
    server_connection_abandon_body(connection, false);
    if (connection->unread || server_connection_is_draining(connection) || request->close ||
        (connection->read_closed_ns && !connection->input.size))
        connection->keep_alive = false;

    connection->probed = false;
    connection->owed_ns = 0;
    connection->state = state;
    connection->deadline_ns = deadline_ns;
}

/* ---- Besides replies ---- */

static struct iovec run_of(const char *text) {
    return (struct iovec){(char *)(uintptr_t)text, strlen(text)};
}

/* A write failed within a call of the handler's: the call says so, and the next event drops the connection.
 */
static bool note_result(struct server_connection *connection, enum stream_result result) {
    if (result != STREAM_BROKEN)
        return true;

    connection->broken = true;
    stream_write_soon(&connection->stream);
    return false;
}

void server_connection_send_interim(struct server_connection *connection) {
    struct iovec run = run_of("HTTP/1.1 100 Continue\r\n\r\n");
    note_result(connection, stream_send(&connection->stream, &run, 1, NULL));
}

/* Before a reply the probe is an interim response, which every HTTP/1.1 client skips; within a chunked one, a
 * leading zero of the next chunk's size. */
void server_connection_probe(struct server_connection *connection) {
    struct server_request *request = connection->request;
    if (connection->state != CONNECTION_STREAMING) {
        if (!connection->probed && request->request.minor_version)
            server_connection_send_interim(connection);
        connection->probed = true;
        return;
    }

    struct reply_progress *reply = &request->reply;
    if (!reply->chunked || reply->bare || reply->probed || stream_pending(&connection->stream))
        return;
    struct iovec run = run_of("0");
    reply->probed = true;
    note_result(connection, stream_send(&connection->stream, &run, 1, NULL));
}

/* ---- The end of a reply ---- */

/* An aborted reply whose framing cannot show it: the body lasts until the connection closes, or none began.
 */
static bool needs_reset(const struct server_request *request) {
    const struct reply_progress *reply = &request->reply;
    return reply->aborted && (!reply->begun || reply->bare || (!reply->chunked && reply->length_left < 0));
}

static void end_connection(struct server_connection *connection) {
    if (connection->read_closed_ns || connection->reset) {
        connection->state = CONNECTION_LINGER;
        server_connection_drop(connection);
        return;
    }

    stream_finish(&connection->stream);
    connection->state = CONNECTION_LINGER;
    connection->deadline_ns = deadline_after(LINGER_MS);
    buffer_release(&connection->input);
}

static void finish_reply(struct server_connection *connection, enum stream_result result) {
    struct server_request *request = connection->request;
    if (result == STREAM_PENDING)
        return;
    if (result == STREAM_BROKEN) {
        server_connection_drop(connection);
        return;
    }

    bool cut = request->reply.aborted;
    if (request->reply.begun)
        request->sent = request->reply.written;
    else if (request->reply_body && !has_no_body(request))
        request->sent = request->reply_body->size;

    connection->reset = needs_reset(request);
    connection->keep_alive &= !cut;
    connection->request = NULL;
    server_request_finish(request, cut);

    if (connection->keep_alive) {
        connection->state = CONNECTION_IDLE;
        connection->deadline_ns = deadline_after(server_connection_options(connection)->idle_timeout_ms);
    } else {
        end_connection(connection);
    }
}

size_t server_connection_bytes_sent(const struct server_connection *connection) {
    const struct server_request *request = connection->request;
    const struct reply_progress *reply = &request->reply;
    bool whole = connection->state == CONNECTION_REPLYING && request->reply_body;
    if (!reply->begun)
        return whole ? stream_body_sent(&connection->stream) : 0;

    size_t pending = stream_pending(&connection->stream);
    return reply->written > pending ? reply->written - pending : 0;
}

/* The client has taken `taken` of what is pending. It must take some within the write timeout, and over all
 * the time that something has been pending LIMIT_REPLY_RATE: else it could keep its reply in memory for ever.
 */
static void restart_write_timeout(struct server_connection *connection, size_t taken) {
    int timeout_ms = server_connection_options(connection)->write_timeout_ms;
    if (!connection->owed_ns) {
        connection->owed_ns = clock_ns();
        connection->owed_taken = 0;
    }

    connection->owed_taken += taken;
    int64_t silent = deadline_after(timeout_ms),
            earned = (int64_t)(connection->owed_taken / LIMIT_REPLY_RATE);
    int64_t slow = connection->owed_ns + timeout_ms * 1000000ll + earned * 1000000000;
    connection->deadline_ns = silent < slow ? silent : slow;
}

/* Bytes became pending, or some of `before` were sent. */
static void note_output(struct server_connection *connection, size_t before) {
    size_t pending = stream_pending(&connection->stream);
    if (!pending) {
        connection->deadline_ns = INT64_MAX;
        connection->owed_ns = 0;
    } else if (pending < before || connection->deadline_ns == INT64_MAX) {
        restart_write_timeout(connection, pending < before ? before - pending : 0);
    }

    struct server_request *request = connection->request;
    if (request && request->reply.begun)
        memory_charge_set(&request->reply_charge, pending);
    if (request && pending > LIMIT_OUTPUT_HIGH_BYTES)
        request->reply.above_high = true;
}

/* The handler of a streamed reply may go on. */
static void tell_writable(struct server_connection *connection) {
    struct reply_progress *reply = &connection->request->reply;
    if (!reply->above_high || stream_pending(&connection->stream) >= LIMIT_OUTPUT_LOW_BYTES)
        return;

    reply->above_high = false;
    if (reply->on_writable)
        reply->on_writable(reply->context);
}

void server_connection_flush(struct server_connection *connection) {
    size_t before = stream_pending(&connection->stream);
    enum stream_result result = connection->broken ? STREAM_BROKEN : stream_flush(&connection->stream);
    if (result == STREAM_BROKEN) {
        server_connection_drop(connection);
        return;
    }

    if (connection->state == CONNECTION_REPLYING) {
        note_output(connection, before);
        finish_reply(connection, result);
    } else if (connection->state == CONNECTION_STREAMING) {
        note_output(connection, before);
        tell_writable(connection);
    } else {
        return;
    }
    server_connection_resume(connection);
}

/* ---- Whole replies ---- */

void server_connection_reply(struct server_connection *connection) {
    struct server_request *request = connection->request;
    begin_reply(connection, CONNECTION_REPLYING,
                deadline_after(server_connection_options(connection)->write_timeout_ms));

    const struct buffer *text = write_head(connection);
    if (!text) {
        server_connection_drop(connection);
        return;
    }

    struct iovec run = {text->bytes, text->size};
    finish_reply(connection, stream_send(&connection->stream, &run, 1,
                                         has_no_body(request) ? NULL : request->reply_body));
}

static void reply_on_loop(struct server_request *request) {
    struct server_connection *connection = request->connection;
    request->on_gone = NULL;
    if (!connection) {
        server_request_finish(request, true);
        return;
    }

    server_connection_enter(connection);
    server_connection_reply(connection);
    /* Within the read callback, reading continues by itself. */
    if (connection->busy == 1)
        server_connection_resume(connection);
    server_connection_leave(connection);
}

static void run_reply(struct http_task *task) {
    reply_on_loop(HTTP_TASK_OWNER(task, struct server_request, reply_task));
}

void http_respond(struct http_request *request, int status, const struct http_header *headers,
                  int header_count, struct http_body *body) {
    struct server_request *self = (struct server_request *)request;
    set_head(self, status, headers, header_count);
    self->reply_body = body;
    if (body && !body->charge.bytes) /* a body with a charge of its own counts once */
        memory_charge_set(&self->reply_charge, body->size);

    if (http_loop_current() == request->loop) {
        reply_on_loop(self);
    } else {
        http_loop_submit(request->loop, &self->reply_task, run_reply);
    }
}

void http_respond_bytes(struct http_request *request, int status, const char *content_type, const void *bytes,
                        size_t size) {
    struct http_header header = {"Content-Type", content_type};
    http_respond(request, status, &header, content_type ? 1 : 0, http_body_create(bytes, size));
}

void http_respond_error(struct http_request *request, const struct error *error) {
    int status = error_http_status(error->code);
    struct http_header headers[2] = {{"Content-Type", "application/json"}, {"Retry-After", "1"}};
    struct buffer text = {0};
    buffer_append_string(&text, "{\"error\":");
    json_append_string(&text, error->message);
    buffer_append_string(&text, "}");

    http_respond(request, status, headers, status == 503 || status == 429 ? 2 : 1,
                 http_body_create(text.bytes, text.size));
    buffer_release(&text);
}

/* ---- Replies in pieces ---- */

bool http_respond_begin(struct http_request *request, int status, const struct http_header *headers,
                        int header_count, int64_t length) {
    struct server_request *self = (struct server_request *)request;
    struct server_connection *connection = self->connection;
    set_head(self, status, headers, header_count);
    self->reply.begun = true;
    self->reply.bare = has_no_body(self);
    self->reply.length_left = length < 0 ? -1 : length;
    self->reply.chunked = length < 0 && request->minor_version;
    self->end_owed = false;
    if (!connection)
        return false;

    begin_reply(connection, CONNECTION_STREAMING, INT64_MAX);
    if (length < 0 && !self->reply.chunked && !self->reply.bare)
        connection->keep_alive = false;

    const struct buffer *text = write_head(connection);
    if (!text)
        return note_result(connection, STREAM_BROKEN);

    struct iovec run = {text->bytes, text->size};
    enum stream_result result = stream_write(&connection->stream, &run, 1);
    note_output(connection, stream_pending(&connection->stream));

    return note_result(connection, result);
}

/* Frame a piece and send it. */
static enum stream_result send_piece(struct server_connection *connection, const void *bytes, size_t size) {
    struct reply_progress *reply = &connection->request->reply;
    struct iovec piece = {(char *)(uintptr_t)bytes, size};
    if (!reply->chunked)
        return stream_write(&connection->stream, &piece, 1);

    char line[24];
    int length = snprintf(line, sizeof line, "%zx\r\n", size);
    struct iovec runs[3] = {{line, (size_t)length}, piece, run_of("\r\n")};
    reply->probed = false;
    return stream_write(&connection->stream, runs, 3);
}

bool http_respond_write(struct http_request *request, const void *bytes, size_t size) {
    struct server_request *self = (struct server_request *)request;
    struct server_connection *connection = self->connection;
    if (!connection || connection->broken)
        return false;
    if (!size || self->reply.bare)
        return true;

    if (self->reply.length_left >= 0) {
        if (size > (uint64_t)self->reply.length_left)
            return false;
        self->reply.length_left -= (int64_t)size;
    }

    size_t before = stream_pending(&connection->stream);
    enum stream_result result = send_piece(connection, bytes, size);
    self->reply.written += size;
    note_output(connection, before + size);
    return note_result(connection, result);
}

size_t http_respond_pending(const struct http_request *request) {
    const struct server_connection *connection = ((const struct server_request *)request)->connection;
    return connection ? stream_pending(&connection->stream) : 0;
}

void http_respond_on_writable(struct http_request *request, void (*function)(void *context), void *context) {
    struct server_request *self = (struct server_request *)request;
    self->reply.on_writable = function;
    self->reply.context = context;
}

static void end_reply(struct server_request *request) {
    struct server_connection *connection = request->connection;
    struct reply_progress *reply = &request->reply;
    request->on_gone = NULL;
    request->end_owed = false;
    if (!connection) {
        server_request_finish(request, true);
        return;
    }

    server_connection_enter(connection);
    if (!reply->begun)
        begin_reply(connection, CONNECTION_REPLYING, INT64_MAX);
    connection->state = CONNECTION_REPLYING;
    connection->deadline_ns = deadline_after(server_connection_options(connection)->write_timeout_ms);

    struct iovec last = run_of("0\r\n\r\n");
    bool chunked = reply->chunked && !reply->bare && !reply->aborted;
    enum stream_result result = connection->broken ? STREAM_BROKEN
                                : chunked          ? stream_send(&connection->stream, &last, 1, NULL)
                                                   : stream_flush(&connection->stream);
    finish_reply(connection, result);

    if (connection->busy == 1)
        server_connection_resume(connection);
    server_connection_leave(connection);
}

void http_respond_end(struct http_request *request) {
    struct server_request *self = (struct server_request *)request;
    self->reply.aborted |= !self->reply.bare && self->reply.length_left > 0;
    end_reply(self);
}

void http_respond_abort(struct http_request *request) {
    struct server_request *self = (struct server_request *)request;
    self->reply.aborted = true;
    end_reply(self);
}

/* ---- Statuses ---- */

const char *http_status_text(int status) {
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (texts[i].status == status)
            return texts[i].text;

    return "Unknown";
}
