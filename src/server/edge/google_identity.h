/* Google ID tokens for service-to-service calls on Cloud Run: asked of the metadata server, one for each
 * audience (a backend's address), kept until shortly before they expire.
 * https://cloud.google.com/run/docs/authenticating/service-to-service */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "http/http_client.h"

#define IDENTITY_TOKEN_BYTES 4096 /* "Bearer " and the token, with its NUL */

struct identity;

/* The metadata server is GCE_METADATA_HOST ("host[:port]") where that is set. */
struct identity *identity_create(struct http_loops *loops, struct error *error);
void identity_free(struct identity *identity); /* not from a loop's thread; accepts NULL */

/* "Bearer …" for a backend. Any thread; never blocks. ERROR_UNAVAILABLE if there is no valid token. */
bool identity_token(struct identity *identity, const struct url *url, char ret[IDENTITY_TOKEN_BYTES],
                    struct error *error);
/* Request a new token for this backend if the current one expires within five minutes, and wait for the
 * response for at most `wait_ms` (0: not at all). One request is under way at a time. False if there is no
 * valid token. Not from a loop's thread. */
bool identity_refresh(struct identity *identity, const struct url *url, int wait_ms, struct error *error);
/* When the token of a JSON Web Token expires, in seconds since 1970 (its "exp"); 0 if it has none. */
long identity_expiry(const char *token, size_t length);
