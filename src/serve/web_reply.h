/* The page's files as replies. Every tier that a person may open in a browser describes itself:
 * /openapi.json, and /docs, which lays it out; a tier without the page sends / there. */
#pragma once
#include <stdbool.h>

#include "http/http.h"

enum web_tier { WEB_FRONTEND, WEB_GATEWAY, WEB_BACKEND };

#define WEB_HEADERS 6

struct web_reply {
    int status;
    struct http_header headers[WEB_HEADERS];
    int header_count;
    struct http_body *body; /* NULL: empty; a reference for http_reply to take over */
};

/* Whether this tier has a file at `path` (decoded, without a query). */
bool web_reply_is_file(enum web_tier tier, const char *path);
/* The reply to a GET or HEAD of such a file: 200, 304 where the caller has it already, 302 for / to /docs,
 * 405 for other methods. False where there is no file. */
bool web_reply_make(enum web_tier tier, const struct http_request *request, struct web_reply *ret);
