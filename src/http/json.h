/* JSON in requests and replies: jansson behind the limits of limits.h. Any thread. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "http/http.h"

/* Parse a whole text. Deeper than LIMIT_JSON_DEPTH, duplicate keys or not JSON at all: NULL and ERROR_INVALID
 * with line and column. The caller owns the reference. */
json_t *json_parse(const char *text, size_t size, struct error *error);
/* Answer with a JSON document; takes over the reference (NULL: 500). */
void json_reply(struct http_request *request, int status, json_t *json);
/* Append `text` as a JSON string, quotes and all; bytes that are no UTF-8 become U+FFFD. */
void json_append_string(struct buffer *buffer, const char *text);
