#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "http/server_internal.h"
#include "http/url.h"

#define LINGER_NS 2000000000ll

/* ---- Exchanges ---- */

/* `head` is copied; with none, the exchange stands for a request that could not be read. One allocation: the
 * struct, the header table, the head, the decoded path. */
struct exchange *exchange_create(struct connection *connection, const char *head, size_t size, int lines) {
    size_t table = (size_t)lines * sizeof(struct http_header);
    struct exchange *exchange = malloc(sizeof *exchange + table + 2 * (size + 1));
    if (!exchange)
        return NULL;
    memset(exchange, 0, sizeof *exchange);
    exchange->headers = (struct http_header *)(exchange + 1);
    exchange->text = (char *)(exchange + 1) + table;
    exchange->path = exchange->text + size + 1;
    if (size)
        memcpy(exchange->text, head, size);
    exchange->text[size] = 0;
    exchange->path[0] = 0;
    exchange->malformed = !head;
    memcpy(exchange->peer, connection->peer, sizeof exchange->peer);
    exchange->server = connection->part->server;
    exchange->connection = connection;
    exchange->request = (struct http_request){
        .method = HTTP_OTHER,
        .method_name = "-",
        .target = "-",
        .path = "-",
        .query = "",
        .peer = exchange->peer,
        .secure = connection->stream.ssl != NULL,
        .minor_version = 1,
        .started_ns = connection->started_ns,
        .loop = connection->stream.loop,
    };
    return exchange;
}

void exchange_free(struct exchange *exchange) {
    atomic_fetch_sub(&exchange->server->body_bytes, exchange->body_reserved);
    http_body_release(exchange->request.body);
    http_body_release(exchange->reply_body);
    buffer_release(&exchange->reply_headers);
    free(exchange);
}

void exchange_abandon(struct exchange *exchange) {
    void (*function)(void *) = exchange->on_gone;
    exchange->on_gone = NULL;
    exchange->connection = NULL;
    atomic_store(&exchange->gone, true);
    if (function)
        function(exchange->on_gone_context); /* may reply, and free the exchange with it */
}

void exchange_finish(struct exchange *exchange, bool gone) {
    const struct http_server_options *options = &exchange->server->options;
    if (options->done)
        options->done(options->context, exchange->malformed ? NULL : &exchange->request, exchange->status,
                      exchange->reply_body ? exchange->reply_body->size : 0, gone);
    exchange_free(exchange);
}

/* ---- Sending ---- */

static bool has_no_body(int status) {
    return status < 200 || status == 204 || status == 304;
}

static bool write_head(const struct exchange *exchange, bool keep, struct buffer *head) {
    head->size = 0;
    head->failed = false;
    buffer_append_string(head, "HTTP/1.1 ");
    char digits[4] = {(char)('0' + exchange->status / 100 % 10), (char)('0' + exchange->status / 10 % 10),
                      (char)('0' + exchange->status % 10), ' '};
    buffer_append(head, digits, 4);
    buffer_append_string(head, http_status_text(exchange->status));
    buffer_append_string(head, "\r\nServer: ");
    buffer_append_string(head, exchange->server->options.server_name);
    buffer_append_string(head, "\r\nDate: ");
    buffer_append_string(head, http_loop_date(exchange->request.loop));
    buffer_append_string(head, "\r\n");
    buffer_append(head, exchange->reply_headers.bytes, exchange->reply_headers.size);
    if (!has_no_body(exchange->status))
        buffer_printf(head, "Content-Length: %zu\r\n", exchange->reply_body ? exchange->reply_body->size : 0);
    if (!keep)
        buffer_append_string(head, "Connection: close\r\n");
    else if (!exchange->request.minor_version)
        buffer_append_string(head, "Connection: keep-alive\r\n");
    buffer_append_string(head, "\r\n");
    return !head->failed;
}

void connection_replied(struct connection *connection, enum stream_result result) {
    if (result == STREAM_PENDING)
        return;
    if (result == STREAM_BROKEN) {
        connection_drop(connection);
        return;
    }
    exchange_finish(connection->exchange, false);
    connection->exchange = NULL;
    if (connection->keep_alive) {
        connection->state = CONNECTION_IDLE;
        connection->deadline_ns =
            clock_ns() + (int64_t)connection->part->server->options.idle_timeout_ms * 1000000;
    } else if (connection->read_closed_ns) {
        connection->state = CONNECTION_LINGER;
        connection_drop(connection);
    } else {
        stream_finish(&connection->stream);
        connection->state = CONNECTION_LINGER;
        connection->deadline_ns = clock_ns() + LINGER_NS;
        buffer_release(&connection->input);
    }
}

void connection_reply(struct connection *connection) {
    struct exchange *exchange = connection->exchange;
    struct server_part *part = connection->part;
    if (connection->unread || part->draining || exchange->close ||
        (connection->read_closed_ns && !connection->input.size))
        connection->keep_alive = false;
    connection->probed = false;
    connection->state = CONNECTION_REPLYING;
    connection->deadline_ns = clock_ns() + (int64_t)part->server->options.write_timeout_ms * 1000000;
    struct buffer *head = &connection->stream.loop->head;
    if (!write_head(exchange, connection->keep_alive, head)) {
        connection_drop(connection);
        return;
    }
    bool bare = exchange->request.method == HTTP_HEAD || has_no_body(exchange->status);
    connection_replied(connection, stream_send(&connection->stream, head->bytes, head->size,
                                               bare ? NULL : exchange->reply_body));
}

static void reply_on_loop(struct exchange *exchange) {
    struct connection *connection = exchange->connection;
    exchange->on_gone = NULL;
    if (!connection) {
        exchange_finish(exchange, true);
        return;
    }
    connection_enter(connection);
    connection_reply(connection);
    /* Within the connection's own reading, that goes on by itself. */
    if (connection->busy == 1)
        connection_resume(connection);
    connection_leave(connection);
}

static void run_reply(struct http_task *task) {
    reply_on_loop((struct exchange *)(void *)((char *)task - offsetof(struct exchange, reply_task)));
}

static bool is_added_here(const char *name) {
    return !strcasecmp(name, "content-length") || !strcasecmp(name, "date") || !strcasecmp(name, "server") ||
           !strcasecmp(name, "transfer-encoding");
}

void http_reply(struct http_request *request, int status, const struct http_header *headers, int header_count,
                struct http_body *body) {
    struct exchange *exchange = (struct exchange *)request;
    exchange->status = status;
    exchange->reply_body = body;
    struct buffer *lines = &exchange->reply_headers;
    for (int i = 0; i < header_count; i++) {
        if (!strcasecmp(headers[i].name, "connection")) {
            exchange->close |= http_list_contains(headers[i].value, "close");
            continue;
        }
        if (is_added_here(headers[i].name) || !http_header_is_valid(&headers[i]))
            continue;
        buffer_append_string(lines, headers[i].name);
        buffer_append(lines, ": ", 2);
        buffer_append_string(lines, headers[i].value);
        buffer_append(lines, "\r\n", 2);
    }
    if (http_loop_current() == request->loop) {
        reply_on_loop(exchange);
    } else {
        exchange->reply_task.run = run_reply;
        http_loop_submit(request->loop, &exchange->reply_task);
    }
}

void http_reply_bytes(struct http_request *request, int status, const char *content_type, const void *bytes,
                      size_t size) {
    struct http_header header = {"Content-Type", content_type};
    http_reply(request, status, &header, content_type ? 1 : 0, http_body_create(bytes, size));
}

void http_reply_error(struct http_request *request, const struct error *error) {
    int status = error_http_status(error->code);
    struct http_header headers[2] = {{"Content-Type", "application/json"}, {"Retry-After", "1"}};
    struct buffer text = {0};
    buffer_append_string(&text, "{\"error\": ");
    http_append_json_string(&text, error->message);
    buffer_append_string(&text, "}\n");
    http_reply(request, status, headers, status == 503 || status == 429 ? 2 : 1,
               http_body_create(text.bytes, text.size));
    buffer_release(&text);
}

void http_reply_method_not_allowed(struct http_request *request, const char *allow) {
    struct http_header headers[2] = {{"Content-Type", "application/json"}, {"Allow", allow}};
    struct buffer text = {0};
    buffer_printf(&text, "{\"error\": \"this address takes %s only\"}\n", allow);
    http_reply(request, 405, headers, 2, http_body_create(text.bytes, text.size));
    buffer_release(&text);
}

/* ---- Requests, as handlers read them ---- */

const char *http_request_header(const struct http_request *request, const char *name) {
    for (int i = 0; i < request->header_count; i++)
        if (!strcasecmp(request->headers[i].name, name))
            return request->headers[i].value;
    return NULL;
}

bool http_request_query(const struct http_request *request, const char *name, char *value, size_t size) {
    return url_query_get(request->query, name, value, size);
}

bool http_request_is_gone(const struct http_request *request) {
    return atomic_load(&((const struct exchange *)request)->gone);
}

void http_request_on_gone(struct http_request *request, void (*function)(void *context), void *context) {
    struct exchange *exchange = (struct exchange *)request;
    exchange->on_gone = function;
    exchange->on_gone_context = context;
}

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
