/* Which headers travel from a request to an upstream, and from its response back. No state of its own; safe
 * from any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/limits.h"
#include "http/http_client.h"
#include "server/edge/trace.h"

/* Headers on their way out, with room for the strings that had to be made. */
struct forwarded_headers {
    struct http_header headers[LIMIT_FORWARDED_HEADERS];
    int count;
    char text[4096];
    size_t text_used;
};

/* False where there is no room. `forwarded_headers_add` borrows both strings; `_add_copy` copies `length`
 * bytes of value. */
bool forwarded_headers_add(struct forwarded_headers *headers, const char *name, const char *value);
bool forwarded_headers_add_copy(struct forwarded_headers *headers, const char *name, const char *value,
                                size_t length);

/* The headers of `request` that a proxy passes on, then X-Forwarded-For/-Proto/-Host, X-Request-Id,
 * traceparent. Left out: hop-by-hop headers and those that Connection names, Host, Content-Length, and each
 * of `dropped` (NULL-terminated, or NULL). False (431's case) where there are too many. */
bool forward_request_headers(const struct http_request *request, const struct trace *trace,
                             const char *const *dropped, struct forwarded_headers *ret);
/* A gateway asks a backend what to write into its log: the request header, and the two of the response, which
 * go no further. */
#define HEADER_ASK_RUN "X-Guichet-Ask-Run"
#define HEADER_BATCH "X-Guichet-Batch"
#define HEADER_QUEUE_MS "X-Guichet-Queue-Ms"

/* The headers of a response that a proxy passes back; without those that the server adds itself. */
bool forward_response_headers(const struct http_response *response, struct forwarded_headers *ret);
