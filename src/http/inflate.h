/* Compressed bodies, Content-Encoding gzip and deflate: inflated within a limit, and made. Any thread. */
#pragma once
#include "http/http.h"

#define HTTP_ENCODINGS "gzip, deflate" /* what is read, as Accept-Encoding has it */

/* Is there an encoding to undo? NULL, "" and "identity" are none. */
bool http_encoding_is_set(const char *encoding);

/* Whether the request's body is as it is, for paths that undo no encoding; ERROR_MEDIA where it is not. */
bool http_request_check_plain(const struct http_request *request, struct error *error);

/* The body as it was before it was encoded; one reference for the caller, the body itself where `encoding` is
 * none. ERROR_MEDIA: another encoding than those; ERROR_INVALID: damaged or truncated; ERROR_TOO_LARGE: more
 * than `limit` bytes come out; ERROR_MEMORY. */
struct http_body *http_body_decode_content(struct http_body *body, const char *encoding, size_t limit,
                                           struct error *error);

/* "gzip" or "deflate", the first of them that an Accept-Encoding accepts; NULL: neither. */
const char *http_encoding_wanted(const char *accepted);
/* The body in that encoding, charged to the same budget; one reference for the caller. NULL where it would be
 * no smaller, or memory is short. */
struct http_body *http_body_encode_content(const struct http_body *body, const char *encoding);
