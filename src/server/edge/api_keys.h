/* API keys: who may call, and what for. A file holds one key a line:
 *
 *     NAME SHA256 [roles=predict,metrics,manage] [models=a,b]
 *
 * SHA256 is the key's hash in hexadecimal, as sha256sum prints it, so that the file gives no key away. A line
 * without roles has predict and metrics; one without models may use every model. '#' begins a comment. A key
 * stands in one line of the file.
 * Immutable once read and shared by count; any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "server/edge/endpoint.h"

struct api_keys;
struct api_key;

/* One reference. NULL, with a line that names the file and the place, where it cannot be read or a line is
 * not of that form. */
struct api_keys *api_keys_read(const char *path, struct error *error);
struct api_keys *api_keys_reference(struct api_keys *keys);
void api_keys_release(struct api_keys *keys); /* NULL is welcome */

/* The line of a key, or NULL. It lives as long as `keys`. Compares in constant time. */
const struct api_key *api_keys_find(const struct api_keys *keys, const char *key, size_t length);
const char *api_key_name(const struct api_key *key);
bool api_key_has_right(const struct api_key *key, enum right right);
/* Whether the key may use this model. NULL, no key: every model. */
bool api_key_allows_model(const struct api_key *key, const char *model);

/* A new random key in ret_key and its line for the file in ret_line. `roles`: "predict,manage"; NULL: those
 * of a line without roles. */
#define API_KEY_BYTES 48
#define API_KEY_LINE_BYTES 240
bool api_keys_make(const char *name, const char *roles, char ret_key[API_KEY_BYTES],
                   char ret_line[API_KEY_LINE_BYTES], struct error *error);
