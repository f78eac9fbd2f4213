/* Fetching a file from a URL that a stranger gave, without letting it reach private networks.
 *
 * http and https only, no user names, no proxies from the environment. The socket address itself is checked
 * before every connection, after DNS and after every redirect: only address_is_public ones, unless
 * allow_private.
 *
 * Errors: ERROR_INVALID for a URL that is malformed, of another scheme, or not public; ERROR_TOO_LARGE;
 * ERROR_UPSTREAM when the server fails, is unknown or replies with an error; ERROR_TIMEOUT when it is slow;
 * ERROR_UNAVAILABLE with too many fetches at once, or no room in the budget (base/memory_budget.h);
 * ERROR_MEMORY. */
#pragma once
#include <stdbool.h>

#include "http/http.h"

struct fetch_options {
    size_t limit; /* bytes of the file */
    bool allow_private;
    int timeout_ms;  /* of the whole fetch; 0: LIMIT_FETCH_SECONDS */
    int concurrency; /* fetches at once in a fetcher, and as many again wait; 0: 64 */
};

/* Blocking. One reference for the caller; NULL on failure. Any thread. */
struct http_body *fetch_url(const char *url, const struct fetch_options *options, struct error *error);

/* One thread that fetches many files at once. */
struct fetcher;
/* Any thread. */
struct fetcher *fetcher_create(const struct fetch_options *options, struct error *error);
/* Any thread. `done` is called once, on the fetcher's thread or, if the fetch cannot begin, within this call:
 * with the body (valid during the call; reference it to keep it), or with NULL and the error. It must be
 * quick. `is_wanted` (may be NULL) is asked several times a second: false gives up, and `done` gets
 * ERROR_TIMEOUT. */
void fetcher_start(struct fetcher *fetcher, const char *url, bool (*is_wanted)(void *context),
                   void (*done)(void *context, struct http_body *body, const struct error *error),
                   void *context);
/* Gives up what is under way (`done` is called with ERROR_UNAVAILABLE). Not from the fetcher's thread. NULL
 * is welcome. */
void fetcher_free(struct fetcher *fetcher);
