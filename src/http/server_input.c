#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/url.h"
#include "http/server_internal.h"

#define BODY_STEP (256u << 10) /* bytes of a body that are charged at a time */

static bool is_working(const struct server_connection *connection) {
    return connection->state == CONNECTION_HANDLING || connection->state == CONNECTION_STREAMING ||
           connection->state == CONNECTION_REPLYING;
}

static void set_state(struct server_connection *connection, enum connection_state state,
                      int64_t deadline_ns) {
    connection->state = state;
    connection->deadline_ns = deadline_ns;
}

/* ---- Requests ---- */

/* `head` NULL: it cannot be read. */
static bool create_request(struct server_connection *connection, const char *head, size_t size, int lines) {
    struct server_request *request =
        server_request_create(server_connection_server(connection), head, size, lines);
    connection->request = request;
    if (!request)
        return false;

    request->connection = connection;
    request->peer = connection->peer;
    request->request = (struct http_request){
        .method = HTTP_OTHER,
        .method_name = "-",
        .target = "-",
        .path = "-",
        .query = "",
        .peer = request->peer.text,
        .secure = stream_is_secure(&connection->stream),
        .minor_version = 1,
        .started_ns = connection->started_ns,
        .loop = server_connection_loop(connection),
    };

    return true;
}

/* The handler knows the request, and words the refusal. */
static void refuse_admitted(struct server_connection *connection, int status, const char *message) {
    const struct http_server_options *options = server_connection_options(connection);
    struct http_request *request = &connection->request->request;

    connection->unread = true;
    request->received_ns = clock_ns();
    set_state(connection, CONNECTION_HANDLING, INT64_MAX);
    options->refuse(options->context, request, status, message);
}

void server_connection_refuse(struct server_connection *connection, int status, const char *message) {
    bool admitted = connection->state == CONNECTION_BODY || connection->state == CONNECTION_HANDLING;
    if (admitted && server_connection_options(connection)->refuse) {
        refuse_admitted(connection, status, message);
        return;
    }
    if (!connection->request && !create_request(connection, NULL, 0, 0)) {
        server_connection_drop(connection);
        return;
    }

    struct buffer text = {0};
    buffer_append_string(&text, "{\"error\":");
    json_append_string(&text, message);
    buffer_append_string(&text, "}");
    struct server_request *request = connection->request;
    request->reply_body = http_body_create(text.bytes, text.size);
    buffer_release(&text);

    buffer_append_string(&request->reply_headers, "Content-Type: application/json\r\n");
    if (status == 503)
        buffer_append_string(&request->reply_headers, "Retry-After: 1\r\n");

    connection->unread = true;
    request->request.received_ns = clock_ns();
    request->status = status;
    server_connection_reply(connection);
}

/* ---- Heads ---- */

static void hand_over(struct server_connection *connection) {
    const struct http_server_options *options = server_connection_options(connection);
    struct server_request *request = connection->request;
    request->request.received_ns = clock_ns();
    if (!request->request.body)
        request->request.body = http_body_create(NULL, 0);
    if (!request->request.body) {
        server_connection_drop(connection);
        return;
    }

    set_state(connection, CONNECTION_HANDLING, INT64_MAX);
    options->handle(options->context, &request->request);
}

static void begin_body(struct server_connection *connection) {
    const struct http_server_options *options = server_connection_options(connection);
    connection->state = CONNECTION_BODY;
    connection->deadline_ns = deadline_after(options->body_stall_ms);
    connection->body_deadline_ns = deadline_after(options->body_timeout_ms);

    /* The kernel gives the pages of a large block as they are written to, so a client that announces much and
     * sends little costs little. */
    int64_t left = http_body_left(&connection->decoder);
    struct http_body *body = http_body_create(NULL, left > 0 ? (size_t)left : 0);
    connection->request->request.body = body;
    if (!body) {
        server_connection_refuse(connection, 503, "not enough memory for the body of this request");
        return;
    }

    body->size = 0;
    body->bytes[0] = 0;
}

static void refuse_length(struct server_connection *connection) {
    char message[100];
    snprintf(message, sizeof message, "the request's body has more than %zu bytes",
             server_connection_options(connection)->body_limit);
    server_connection_refuse(connection, 413, message);
}

/* Ask the handler what to do with the body. */
static enum http_admission admit_request(struct server_connection *connection) {
    const struct http_server_options *options = server_connection_options(connection);
    if (!options->admit)
        return HTTP_ADMIT_WHOLE;

    connection->unread = http_body_left(&connection->decoder) != 0; /* if the handler replies now */
    set_state(connection, CONNECTION_HANDLING, INT64_MAX);
    enum http_admission admission = options->admit(options->context, &connection->request->request);
    if (admission == HTTP_ADMIT_ANSWERED || connection->state != CONNECTION_HANDLING)
        return HTTP_ADMIT_ANSWERED;

    connection->unread = false;
    return admission;
}

/* The head is sound: let the handler have the request, now or with its body. */
static void dispatch(struct server_connection *connection) {
    const struct http_server_options *options = server_connection_options(connection);
    struct server_request *request = connection->request;
    struct error error;

    switch (admit_request(connection)) {
    case HTTP_ADMIT_ANSWERED:
        return;
    case HTTP_ADMIT_STREAM:
        request->body_phase = BODY_UNREAD;
        hand_over(connection);
        return;
    case HTTP_ADMIT_WHOLE:
        break;
    }

    int64_t left = http_body_left(&connection->decoder);
    if (left > 0 && (uint64_t)left > options->body_limit) {
        refuse_length(connection);
        return;
    }
    if (!left) {
        hand_over(connection);
        return;
    }
    if (left > 0 && !memory_budget_check(MEMORY_BODIES, (size_t)left, &error)) {
        server_connection_refuse(connection, error_http_status(error.code), error.message);
        return;
    }

    if (request->expect_continue)
        server_connection_send_interim(connection);
    begin_body(connection);
}

static enum http_method find_method(const char *name) {
    static const char *const names[] = {
        [HTTP_GET] = "GET",       [HTTP_HEAD] = "HEAD",       [HTTP_POST] = "POST",   [HTTP_PUT] = "PUT",
        [HTTP_DELETE] = "DELETE", [HTTP_OPTIONS] = "OPTIONS", [HTTP_PATCH] = "PATCH",
    };
    int i = 0;
    while (i < HTTP_OTHER && strcmp(name, names[i]) != 0)
        i++;

    return (enum http_method)i;
}

/* Split a target into path (decoded) and query. */
static bool split_target(struct server_request *request, char *target) {
    char *mark = strchr(target, '?');
    request->request.target = target;
    request->request.query = mark ? mark + 1 : "";
    request->request.path = request->path;

    size_t length = mark ? (size_t)(mark - target) : strlen(target);
    return url_decode(target, length, request->path, length + 1, false);
}

/* Fill a request from its head. Returns 0 or the status to refuse with. */
static int read_head(struct server_request *request, size_t size, int lines, struct http_head *ret_head,
                     const char **ret_reason) {
    int status = http_head_parse_request(request->text, size, request->headers, lines, ret_head, ret_reason);
    request->malformed = !ret_head->target;
    if (request->malformed)
        return status;

    request->expect_continue = ret_head->expect_continue;
    request->request.method = find_method(ret_head->method);
    request->request.method_name = ret_head->method;
    request->request.minor_version = ret_head->minor_version;
    request->request.headers = ret_head->headers;
    request->request.header_count = ret_head->header_count;
    request->request.content_length =
        ret_head->framing == HTTP_BODY_CHUNKED ? -1 : (int64_t)ret_head->content_length;

    if (!split_target(request, ret_head->target) && !status) {
        *ret_reason = "the path is badly escaped";
        return 400;
    }
    return status;
}

/* A head is complete: `size` bytes. */
static void begin_request(struct server_connection *connection, const char *bytes, size_t size) {
    int lines = connection->scanner.lines;
    connection->scanner = (struct http_head_scanner){0};
    connection->unread = false;
    if (!create_request(connection, bytes, size, lines)) {
        server_connection_drop(connection);
        return;
    }

    struct http_head head;
    const char *reason = "";
    int most = server_connection_options(connection)->header_lines;
    int status = read_head(connection->request, size, lines < most ? lines : most, &head, &reason);
    connection->keep_alive = head.keep_alive && !connection->scarce;
    connection->request->request.scarce = connection->scarce;
    http_body_decoder_init(&connection->decoder, &head);
    if (status)
        server_connection_refuse(connection, status, reason);
    else
        dispatch(connection);
}

static size_t take_head(struct server_connection *connection, const char *bytes, size_t size) {
    const struct http_server_options *options = server_connection_options(connection);
    size_t at = 0;

    if (connection->state == CONNECTION_IDLE) {
        /* Empty lines before a request are ignored (RFC 9112, 2.2). */
        while (size - at >= 2 && bytes[at] == '\r' && bytes[at + 1] == '\n')
            at += 2;
        if (at == size || (size - at == 1 && bytes[at] == '\r'))
            return at;

        connection->started_ns = clock_ns();
        connection->scanner = (struct http_head_scanner){0};
        set_state(connection, CONNECTION_HEAD,
                  deadline_after(connection->scarce ? SERVER_SCARCE_MS : options->header_timeout_ms));
    }

    ptrdiff_t length = http_head_scan(&connection->scanner, bytes + at, size - at);
    size_t limit = options->header_limit;

    if (length < 0) {
        server_connection_refuse(connection, 400, "the request is malformed");
    } else if ((size_t)length > limit || (!length && size - at >= limit)) {
        server_connection_refuse(connection, 431,
                                 "the request's headers are larger than this server accepts");
    } else if (length) {
        begin_request(connection, bytes + at, (size_t)length);
        return at + (size_t)length;
    }

    return at;
}

/* ---- Whole bodies ---- */

/* Memory for `size` bytes more, which are touched next. False: has refused. */
static bool charge_body(struct server_connection *connection, size_t size) {
    struct http_body *body = connection->request->request.body;
    struct error error;
    if (body->size + size <= body->charge.bytes ||
        memory_charge_grow(&body->charge, body->size + size - body->charge.bytes, &error))
        return true;

    server_connection_refuse(connection, error_http_status(error.code), error.message);
    return false;
}

static void append_body(struct server_connection *connection, const char *bytes, size_t size) {
    struct http_body *body = connection->request->request.body;
    connection->deadline_ns = deadline_after(server_connection_options(connection)->body_stall_ms);
    if (size > server_connection_options(connection)->body_limit - body->size)
        refuse_length(connection);
    else if (charge_body(connection, size) && !http_body_append(body, bytes, size))
        server_connection_refuse(connection, 503, "not enough memory for the body of this request");
}

/* A chunk that announces more than may come is refused before it does. */
static void check_announced(struct server_connection *connection) {
    const struct http_body *body = connection->request->request.body;
    if (http_body_chunk_left(&connection->decoder) >
        server_connection_options(connection)->body_limit - body->size)
        refuse_length(connection);
}

static size_t take_body(struct server_connection *connection, const char *bytes, size_t size) {
    size_t at = 0;
    while (connection->state == CONNECTION_BODY) {
        size_t used = 0, run_size = 0;
        const char *run = NULL;
        enum http_decode_result result =
            http_body_decode(&connection->decoder, bytes + at, size - at, &used, &run, &run_size);
        at += used;
        if (result == HTTP_DECODE_MORE) {
            check_announced(connection);
            break;
        }

        if (result == HTTP_DECODE_DATA)
            append_body(connection, run, run_size);
        else if (result == HTTP_DECODE_END)
            hand_over(connection);
        else
            server_connection_refuse(connection, 400, "a chunk of the body is malformed");
    }

    return at;
}

/* ---- Bodies in pieces ---- */

void server_connection_abandon_body(struct server_connection *connection, bool tell) {
    struct server_request *request = connection->request;
    bool reading = request->body_phase == BODY_READING;
    if (request->body_phase == BODY_COMPLETE)
        return;

    bool all_taken = !http_body_left(&connection->decoder);
    connection->unread |= !all_taken;
    request->body_phase = all_taken ? BODY_COMPLETE : BODY_ABANDONED;
    if (reading && tell)
        request->reader.end(request->reader.context, false);
}

/* The next run of bytes, or the end. Sets *ret_used, and returns false when the input is used up. */
static bool take_run(struct server_connection *connection, const char *bytes, size_t size, size_t *ret_used) {
    struct server_request *request = connection->request;
    size_t run_size = 0;
    const char *run = NULL;

    switch (http_body_decode(&connection->decoder, bytes, size, ret_used, &run, &run_size)) {
    case HTTP_DECODE_MORE:
        return false;
    case HTTP_DECODE_DATA:
        request->reader.piece(request->reader.context, run, run_size);
        return true;
    case HTTP_DECODE_END:
        connection->deadline_ns = INT64_MAX;
        request->request.received_ns = clock_ns();
        request->body_phase = BODY_COMPLETE;
        request->reader.end(request->reader.context, true);
        return true;
    default:
        connection->deadline_ns = INT64_MAX;
        server_connection_abandon_body(connection, true);
        return true;
    }
}

/* Give the body's next bytes to the reader; returns the bytes consumed. */
static size_t take_pieces(struct server_connection *connection, const char *bytes, size_t size) {
    struct server_request *request = connection->request;
    size_t at = 0;
    if (size)
        connection->deadline_ns = deadline_after(server_connection_options(connection)->body_stall_ms);

    /* The reader may reply, which ends the request, or pause. */
    bool more = true;
    while (more && connection->request == request && request->body_phase == BODY_READING &&
           !request->body_paused) {
        size_t used = 0;
        more = take_run(connection, bytes + at, size - at, &used);
        at += used;
    }

    return at;
}

static void run_body_end(struct http_task *task) {
    struct server_request *request = HTTP_TASK_OWNER(task, struct server_request, body_task);
    if (request->end_owed && !request->finished) {
        request->end_owed = false;
        request->reader.end(request->reader.context, false);
    }
    server_request_release(request);
}

void http_request_read_body(struct http_request *request, const struct http_body_reader *reader) {
    struct server_request *self = (struct server_request *)request;
    struct server_connection *connection = self->connection;
    self->reader = *reader;
    if (!connection) { /* the client has gone meanwhile */
        self->end_owed = true;
        server_request_hold(self);
        http_loop_submit(request->loop, &self->body_task, run_body_end);
        return;
    }

    self->body_phase = BODY_READING;
    if (self->expect_continue && http_body_left(&connection->decoder))
        server_connection_send_interim(connection);
    http_request_pause_body(request, self->body_paused);
}

void http_request_pause_body(struct http_request *request, bool paused) {
    struct server_request *self = (struct server_request *)request;
    struct server_connection *connection = self->connection;
    self->body_paused = paused;
    if (!connection || self->body_phase != BODY_READING)
        return;

    int stall_ms = server_connection_options(connection)->body_stall_ms;
    connection->deadline_ns = paused ? INT64_MAX : deadline_after(stall_ms);
    if (!paused && !connection->processing)
        stream_read_soon(&connection->stream);
    server_connection_update_reading(connection);
}

/* ---- Input ---- */

/* While a request is handled: pass its body on in pieces; later input waits. */
static size_t take_while_working(struct server_connection *connection, const char *bytes, size_t size) {
    switch (connection->request->body_phase) {
    case BODY_READING:
        return take_pieces(connection, bytes, size);
    case BODY_ABANDONED:
        return size;
    default:
        return 0;
    }
}

/* Consume input; returns the bytes consumed. */
static size_t process(struct server_connection *connection, const char *bytes, size_t size) {
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
        case CONNECTION_STREAMING:
        case CONNECTION_REPLYING:
            used = take_while_working(connection, bytes + at, size - at);
            break;
        default:
            return size;
        }

        at += used;
        if (!used && connection->state == before)
            return at;
    }
}

static size_t process_marked(struct server_connection *connection, const char *bytes, size_t size) {
    bool outer = connection->processing;
    connection->processing = true;
    size_t used = process(connection, bytes, size);
    connection->processing = outer;
    return used;
}

/* Process what was kept, and keep what is not consumed yet. */
void server_connection_process_input(struct server_connection *connection) {
    size_t size = connection->input.size;
    const char *bytes = size ? connection->input.bytes : "";

    /* A last reply on the connection releases the input: only `size` still says what it was. */
    size_t used = process_marked(connection, bytes, size);
    if (connection->state == CONNECTION_CLOSED || used == size) {
        buffer_release(&connection->input);
    } else if (used) {
        connection->input.size -= used;
        memmove(connection->input.bytes, connection->input.bytes + used, connection->input.size + 1);
    }
}

/* Bytes from the loop's scratch: consume what can be consumed, keep the rest. */
static void take_input(struct server_connection *connection, const char *bytes, size_t size) {
    bool kept_before = connection->input.size > 0;
    size_t used = kept_before ? 0 : process_marked(connection, bytes, size);
    if (connection->state == CONNECTION_CLOSED || used == size)
        return;

    if (!buffer_append(&connection->input, bytes + used, size - used))
        server_connection_drop(connection);
    else if (kept_before)
        server_connection_process_input(connection);
}

/* ---- Reading ---- */

bool server_connection_is_reading_body(const struct server_connection *connection) {
    return is_working(connection) && connection->request->body_phase == BODY_READING &&
           !connection->request->body_paused;
}

size_t server_connection_read_room(const struct server_connection *connection) {
    if (!is_working(connection) || server_connection_is_reading_body(connection) ||
        connection->request->body_phase == BODY_ABANDONED)
        return HTTP_SCRATCH_BYTES;
    if (connection->request->body_phase == BODY_READING) /* paused */
        return 0;

    /* Of later requests, as much is read ahead as a head may be long. */
    size_t limit = server_connection_options(connection)->header_limit;
    size_t room = connection->input.size < limit ? limit - connection->input.size : 0;
    return room < HTTP_SCRATCH_BYTES ? room : HTTP_SCRATCH_BYTES;
}

/* A body of known length is read directly into its final buffer. */
static ssize_t read_direct(struct server_connection *connection, bool *ret_more) {
    struct http_body *body = connection->request->request.body;
    size_t left = (size_t)http_body_left(&connection->decoder), room = left < BODY_STEP ? left : BODY_STEP;
    if (!charge_body(connection, room))
        return STREAM_AGAIN;

    ssize_t count = stream_read(&connection->stream, body->bytes + body->size, room);
    if (count <= 0)
        return count;

    body->size += (size_t)count;
    body->bytes[body->size] = 0;
    http_body_skip(&connection->decoder, (size_t)count);
    connection->deadline_ns = deadline_after(server_connection_options(connection)->body_stall_ms);
    *ret_more = (size_t)count == room;
    if ((size_t)count == left)
        hand_over(connection);
    return count;
}

ssize_t server_connection_read(struct server_connection *connection, bool *ret_more) {
    bool direct = connection->state == CONNECTION_BODY && !connection->input.size &&
                  http_body_left(&connection->decoder) > 0;
    size_t room = server_connection_read_room(connection);
    *ret_more = false;
    if (direct)
        return read_direct(connection, ret_more);
    if (!room)
        return STREAM_AGAIN;

    char *scratch = http_loop_scratch(server_connection_loop(connection));
    ssize_t count = stream_read(&connection->stream, scratch, room);
    if (count > 0) {
        *ret_more = (size_t)count == room;
        take_input(connection, scratch, (size_t)count);
    }

    return count;
}
