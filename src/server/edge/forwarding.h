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
/* Between a gateway and its backends, and no further. The gateway asks what to write into its log and how
 * much the backend has to do, and says whose request it is: a key's name, or an address. */
#define HEADER_ASK_RUN "X-Guichet-Ask-Run"
#define HEADER_CLIENT "X-Guichet-Client"
/* The backend's answers; the last two are also those to a check of /readyz. */
#define HEADER_BATCH "X-Guichet-Batch"
#define HEADER_QUEUE_MS "X-Guichet-Queue-Ms"
#define HEADER_TOKENS "X-Guichet-Tokens"               /* "IN OUT": of a language model's prompt and answer */
#define HEADER_KIND "X-Guichet-Kind"                   /* of the model */
#define HEADER_QUEUED_TOKENS "X-Guichet-Queued-Tokens" /* of prompts that are not computed yet */
/* In a stream of events that was asked for so, before its last: a comment with the same as HEADER_TOKENS. */
#define COMMENT_TOKENS ": tokens "

/* The headers of a response that a proxy passes back; without those that the server adds itself. */
bool forward_response_headers(const struct http_response *response, struct forwarded_headers *ret);
