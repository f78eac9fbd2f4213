/* Fetching a photo from an address that a stranger gave, without opening a door into the house.
 *
 * http and https only, no user names, no proxies from the environment. The socket address itself is checked
 * before every connection, after DNS and after every redirect: only address_is_public ones, unless
 * allow_private.
 *
 * Errors: ERROR_INVALID for an address that is malformed, of another scheme, or not public; ERROR_TOO_LARGE;
 * ERROR_UPSTREAM when the other side fails, is unknown or answers with an error; ERROR_TIMEOUT when it is
 * slow; ERROR_UNAVAILABLE with too many fetches at once. */
#pragma once
#include <stdbool.h>

#include "http/http.h"

/* Zero means the default in brackets. */
struct fetch_options {
    bool allow_private;
    size_t limit;    /* [LIMIT_IMAGE_BYTES] */
    int timeout_ms;  /* [LIMIT_FETCH_SECONDS] the whole of it */
    int concurrency; /* [64] fetches at once in a fetcher; as many again wait */
};

/* Blocking. One reference for the caller; NULL on failure. Any thread. */
struct http_body *fetch_url(const char *url, const struct fetch_options *options, struct error *error);

/* One thread that fetches many at once. */
struct fetcher;
struct fetcher *fetcher_create(const struct fetch_options *options, struct error *error);
/* Any thread. `done` is called once, on the fetcher's thread, with the body (valid during the call; reference
 * it to keep it) or NULL and the error. It must be quick. `is_wanted` (may be NULL) is asked now and then:
 * false gives up, and `done` gets ERROR_TIMEOUT. */
void fetcher_start(struct fetcher *fetcher, const char *url, bool (*is_wanted)(void *context),
                   void (*done)(void *context, struct http_body *body, const struct error *error),
                   void *context);
/* Gives up what is under way (`done` is called with ERROR_UNAVAILABLE). NULL is welcome. */
void fetcher_free(struct fetcher *fetcher);
