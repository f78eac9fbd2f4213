#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/url.h"
#include "http/server_internal.h"

/* ---- Life ---- */

/* One allocation: the struct, the header table, the head, the decoded path. */
struct server_request *server_request_create(struct http_server *server, const char *head, size_t size,
                                             int lines) {
    size_t table = (size_t)lines * sizeof(struct http_header);
    struct server_request *request = malloc(sizeof *request + table + 2 * (size + 1));
    if (!request)
        return NULL;

    memset(request, 0, sizeof *request);
    request->server = server;
    request->malformed = !head;
    request->reply_charge.purpose = MEMORY_REPLIES;
    request->headers = (struct http_header *)(request + 1);
    request->text = (char *)(request + 1) + table;
    request->path = request->text + size + 1;
    if (head)
        memcpy(request->text, head, size);
    request->text[size] = 0;
    request->path[0] = 0;

    return request;
}

static void free_request(struct server_request *request) {
    http_body_release(request->request.body);
    http_body_release(request->reply_body);
    memory_charge_release(&request->reply_charge);
    buffer_release(&request->reply_headers);
    free(request);
}

void server_request_hold(struct server_request *request) {
    request->holds++;
}

void server_request_release(struct server_request *request) {
    if (!--request->holds && request->finished)
        free_request(request);
}

void server_request_finish(struct server_request *request, bool cut) {
    const struct http_server_options *options = &request->server->options;
    if (options->done)
        options->done(options->context, request->malformed ? NULL : &request->request, request->status,
                      request->sent, cut);

    request->finished = true;
    if (!request->holds)
        free_request(request);
}

/* Tell the handler that the client has gone. Either callback may reply, which finishes the request. */
static void tell_gone(struct server_request *request, bool reading) {
    server_request_hold(request);
    if (reading)
        request->reader.end(request->reader.context, false);

    void (*function)(void *) = request->on_gone;
    request->on_gone = NULL;
    if (function)
        function(request->on_gone_context);
    server_request_release(request);
}

void server_request_drop(struct server_request *request, bool handling, size_t sent) {
    bool reading = request->body_phase == BODY_READING;
    request->connection = NULL;
    request->body_phase = BODY_ABANDONED;
    request->sent = sent;
    atomic_store(&request->gone, !request->reply.aborted);

    if (handling)
        tell_gone(request, reading);
    else
        server_request_finish(request, true);
}

/* ---- What handlers ask ---- */

const char *http_request_header(const struct http_request *request, const char *name) {
    for (int i = 0; i < request->header_count; i++)
        if (http_names_equal(request->headers[i].name, name))
            return request->headers[i].value;
    return NULL;
}

bool http_request_query(const struct http_request *request, const char *name, char *value, size_t size) {
    return url_query_get(request->query, name, value, size);
}

bool http_request_is_gone(const struct http_request *request) {
    return atomic_load(&((const struct server_request *)request)->gone);
}

void http_request_on_gone(struct http_request *request, void (*function)(void *context), void *context) {
    struct server_request *self = (struct server_request *)request;
    self->on_gone = function;
    self->on_gone_context = context;
}
