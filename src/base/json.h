/* JSON from outside, parsed by jansson within the limits of limits.h; strings written as JSON. Any thread. */
#pragma once
#include <jansson.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory_budget.h"

/* Parse a whole text, after a byte order mark where there is one. NULL with ERROR_INVALID, naming line and
 * column, for what is not JSON, has duplicate keys or is nested deeper than LIMIT_JSON_DEPTH; or because
 * there is no room for the tree. The caller owns the reference, and `charge`, empty before, which is for
 * memory of the tree: also after a failure. `wait`: NULL for not at all. */
json_t *json_parse(const char *text, size_t size, const struct memory_wait *wait,
                   struct memory_charge *charge, struct error *error);
/* Parse a file as Python's json module does: a byte order mark before it, NaN and Infinity (null here), whole
 * numbers of any length, and repeated keys, of which the last counts. NULL with ERROR_INVALID: "line 3: …".
 */
json_t *json_parse_python(const char *text, size_t size, struct error *error);
/* After json_decref of the tree, NULL included. */
static inline void json_release(json_t *json, struct memory_charge *charge) {
    json_decref(json);
    memory_charge_release(charge);
}
/* At least the bytes that the tree of a text takes: up to 80 times its size for `{},{},…`. */
size_t json_tree_cost(const char *text, size_t size);
/* Append `text` as a JSON string, quotes and all; bytes that are not UTF-8 become U+FFFD. */
void json_append_string(struct buffer *buffer, const char *text);
/* The same of `size` bytes, which may hold any. */
void json_append_bytes(struct buffer *buffer, const char *bytes, size_t size);
