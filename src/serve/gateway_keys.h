/* API keys: who may call. A file holds one "NAME SHA256" a line (the key's SHA-256 in hexadecimal, as
 * sha256sum prints it), so that the file gives no key away; '#' begins a comment. Immutable once read; safe
 * from any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct api_keys;

/* NULL, with a line that names the file and the place, where it cannot be read or a line is not of that form.
 */
struct api_keys *api_keys_read(const char *path, struct error *error);
void api_keys_free(struct api_keys *keys);
/* The name that belongs to a key, or NULL. The name belongs to `keys`. Compares in constant time. */
const char *api_keys_find(const struct api_keys *keys, const char *key, size_t length);
/* A new random key in *ret_key and its line for the file in *ret_line. */
#define API_KEY_BYTES 48
#define API_KEY_LINE_BYTES 160
bool api_keys_make(const char *name, char ret_key[API_KEY_BYTES], char ret_line[API_KEY_LINE_BYTES],
                   struct error *error);
