/* What gateway and frontend do alike when they pass a request on: which headers travel, and the marks that
 * let one request be followed through the tiers. No state of its own; safe from any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "http/http_client.h"

#define PROXY_HEADERS_MOST 160

/* X-Request-Id, and W3C Trace Context's traceparent (https://www.w3.org/TR/trace-context/). */
struct trace {
    char request_id[132];
    char traceparent[56];
    bool traced; /* traceparent came with the request: its tracestate is worth passing on */
};

/* The request's own marks where it has usable ones, new ones else. */
void trace_read(struct trace *trace, const struct http_request *request);

/* Headers on their way out, with room for the strings that had to be made. */
struct proxy_headers {
    struct http_header headers[PROXY_HEADERS_MOST];
    int count;
    char text[4096];
    size_t text_used;
};

/* False where there is no room. `proxy_headers_add` borrows both strings; `_add_copy` copies `length` bytes
 * of value. */
bool proxy_headers_add(struct proxy_headers *headers, const char *name, const char *value);
bool proxy_headers_add_copy(struct proxy_headers *headers, const char *name, const char *value,
                            size_t length);

/* The headers of `request` that a proxy passes on, then X-Forwarded-For/-Proto/-Host, X-Request-Id,
 * traceparent. Left out: hop-by-hop headers and those that Connection names, Host, Content-Length, and each
 * of `dropped` (NULL-terminated, or NULL). False (431's case) where there are too many. */
bool proxy_request_headers(const struct http_request *request, const struct trace *trace,
                           const char *const *dropped, struct proxy_headers *ret);
/* The headers of an answer that a proxy passes back; without those that the server adds itself. */
bool proxy_answer_headers(const struct http_answer *answer, const char *const *dropped,
                          struct proxy_headers *ret);

/* Whether the path climbs ("/../", "/./") or hides a separator: no route of ours does, and servers behind may
 * read it otherwise than we do. */
bool path_is_devious(const char *path);
