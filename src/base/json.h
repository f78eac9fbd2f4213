/* JSON from outside, parsed by jansson within the limits of limits.h; strings written as JSON. Any thread. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "base/error.h"

/* Parse a whole text. NULL with ERROR_INVALID, naming line and column, for what is not JSON, has duplicate
 * keys or is nested deeper than LIMIT_JSON_DEPTH. The caller owns the reference. */
json_t *json_parse(const char *text, size_t size, struct error *error);
/* Append `text` as a JSON string, quotes and all; bytes that are not UTF-8 become U+FFFD. */
void json_append_string(struct buffer *buffer, const char *text);
