#include "server/edge/forwarding.h"

#include <stdio.h>
#include <string.h>

bool forwarded_headers_add(struct forwarded_headers *headers, const char *name, const char *value) {
    if (headers->count == LIMIT_FORWARDED_HEADERS)
        return false;
    headers->headers[headers->count++] = (struct http_header){name, value};
    return true;
}

bool forwarded_headers_add_copy(struct forwarded_headers *headers, const char *name, const char *value,
                                size_t length) {
    if (length >= sizeof headers->text - headers->text_used)
        return false;

    char *copy = headers->text + headers->text_used;
    memcpy(copy, value, length);
    copy[length] = 0;
    headers->text_used += length + 1;

    return forwarded_headers_add(headers, name, copy);
}

static bool is_among(const char *name, const char *const *list) {
    for (; list && *list; list++)
        if (http_names_equal(name, *list))
            return true;
    return false;
}

static bool is_named_by_connection(const struct http_header *headers, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (http_names_equal(headers[i].name, "Connection") && http_list_contains(headers[i].value, name))
            return true;
    return false;
}

/* Copies the headers that travel end to end. */
static bool filter_headers(const struct http_header *headers, int count, const char *const *always,
                           const char *const *dropped, struct forwarded_headers *ret) {
    bool connection = false;
    for (int i = 0; i < count; i++)
        connection |= http_names_equal(headers[i].name, "Connection");

    for (int i = 0; i < count; i++) {
        const char *name = headers[i].name;
        if (http_header_is_hop_by_hop(name) || is_among(name, always) || is_among(name, dropped) ||
            (connection && is_named_by_connection(headers, count, name)))
            continue;

        if (!forwarded_headers_add(ret, name, headers[i].value))
            return false;
    }
    return true;
}

/* "what earlier proxies said, peer": of all lines, in order, unless that is long. */
static bool add_forwarded_for(const struct http_request *request, struct forwarded_headers *ret) {
    char value[1024];
    size_t length = 0;
    for (int i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        if (!http_names_equal(header->name, "X-Forwarded-For"))
            continue;
        if (length + strlen(header->value) >= 900)
            return forwarded_headers_add(ret, "X-Forwarded-For", request->peer);
        length += (size_t)snprintf(value + length, sizeof value - length, "%s, ", header->value);
    }

    if (!length)
        return forwarded_headers_add(ret, "X-Forwarded-For", request->peer);
    snprintf(value + length, sizeof value - length, "%s", request->peer);
    return forwarded_headers_add_copy(ret, "X-Forwarded-For", value, strlen(value));
}

bool forward_request_headers(const struct http_request *request, const struct trace *trace,
                             const char *const *dropped, struct forwarded_headers *ret) {
    static const char *const always[] = {
        "Host",        "Content-Length",   "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-Id",
        "traceparent", "X-Forwarded-Host", HEADER_ASK_RUN,    HEADER_CLIENT,       NULL};

    ret->count = 0;
    ret->text_used = 0;

    const char *proto = http_request_header(request, "X-Forwarded-Proto");
    const char *host = http_request_header(request, "X-Forwarded-Host");
    if (!host)
        host = http_request_header(request, "Host");

    return filter_headers(request->headers, request->header_count, always, dropped, ret) &&
           add_forwarded_for(request, ret) &&
           forwarded_headers_add(ret, "X-Forwarded-Proto",
                                 proto             ? proto
                                 : request->secure ? "https"
                                                   : "http") &&
           (!host || forwarded_headers_add(ret, "X-Forwarded-Host", host)) &&
           forwarded_headers_add(ret, "X-Request-Id", trace->request_id) &&
           forwarded_headers_add(ret, "traceparent", trace->traceparent);
}

bool forward_response_headers(const struct http_response *response, struct forwarded_headers *ret) {
    static const char *const always[] = {
        "Content-Length", "Date",        "Server",    "X-Request-Id",       HEADER_BATCH,
        HEADER_QUEUE_MS,  HEADER_TOKENS, HEADER_KIND, HEADER_QUEUED_TOKENS, NULL};

    ret->count = 0;
    ret->text_used = 0;
    return filter_headers(response->headers, response->header_count, always, NULL, ret);
}
