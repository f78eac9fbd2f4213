/* A person's session: a signed cookie, and nothing kept on the server, so any replica of the page serves
 * anyone.
 *
 * The cookie is base64url(payload || tag): payload is "1|issued|id|model" in ASCII, tag is libsodium's
 * crypto_auth (HMAC-SHA-512-256) over it. The first key signs; every key is good for checking, so keys are
 * rotated by putting a new one in front and taking the old one away after SESSION_SECONDS.
 * Any thread, while the keys stay as they are. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/name.h"

#define SESSION_COOKIE "guichet_session"
#define SESSION_SECONDS (30 * 24 * 3600) /* a cookie older than this is stale */
#define SESSION_COOKIE_BYTES 512         /* more than the longest cookie value, with its NUL */
#define SESSION_KEYS 8                   /* keys held at once */

struct session_keys {
    uint8_t keys[SESSION_KEYS][32];
    int count;
};

struct session {
    char id[33];                  /* 16 random bytes in hexadecimal */
    char model[MODEL_NAME_BYTES]; /* "": no choice made yet */
    int64_t issued;               /* seconds since 1970 */
};

/* Keys as text: one a line or comma-separated, each of at least 32 characters (any text; hashed into a key).
 * `origin` names the source in errors. */
bool session_keys_parse(const char *text, const char *origin, struct session_keys *ret, struct error *error);
/* Reads such a file. Refused with one clear line where it cannot be read, or where somebody else could read
 * it too: any right for others, or any for the group of a file that is ours (a file that root lends to our
 * group, as Kubernetes does with secrets, is fine). */
bool session_keys_read(const char *path, struct session_keys *ret, struct error *error);
/* One random key, for a process that was given none: its sessions end with it. */
void session_keys_random(struct session_keys *ret);

/* A new session without a choice, issued at `now` (seconds since 1970). */
void session_start(struct session *session, int64_t now);
/* The cookie's value for a session. */
void session_sign(const struct session *session, const struct session_keys *keys,
                  char ret[SESSION_COOKIE_BYTES]);
/* A cookie's value, `length` bytes of anything at all, to its session. False for what is forged, foreign or
 * stale: the caller then starts a new session. Takes the same time whichever byte of the tag is wrong. */
bool session_open(const char *value, size_t length, const struct session_keys *keys, int64_t now,
                  struct session *ret);
