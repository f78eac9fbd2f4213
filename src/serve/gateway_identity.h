/* Google ID tokens for service-to-service calls on Cloud Run: asked of the metadata server, one for each
 * audience (a backend's address), kept until shortly before they expire.
 * https://cloud.google.com/run/docs/authenticating/service-to-service */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "http/http_client.h"
#include "serve/gateway_backends.h"

#define IDENTITY_TOKEN_BYTES 4096 /* "Bearer " and the token, with its NUL */

struct identity;

/* The metadata server is GCE_METADATA_HOST ("host[:port]") where that is set. */
struct identity *identity_create(struct http_loops *loops, struct error *error);
void identity_free(struct identity *identity); /* not from a loop's thread; NULL is welcome */

/* "Bearer …" for a backend. Any thread, at once. ERROR_UNAVAILABLE where no token could be had. */
bool identity_token(struct identity *identity, const struct backend_url *url, char ret[IDENTITY_TOKEN_BYTES],
                    struct error *error);
/* See that there is a fresh token for this backend: asks where the one that is kept expires within five
 * minutes, and waits for the answer at most `wait_ms` (0: not at all; it comes by itself). One question is
 * under way at a time. False where there is no token yet. Not from a loop's thread. */
bool identity_refresh(struct identity *identity, const struct backend_url *url, int wait_ms,
                      struct error *error);
/* When the token of a JSON Web Token expires, in seconds since 1970 (its "exp"); 0 where it says nothing. */
long identity_expiry(const char *token, size_t length);
