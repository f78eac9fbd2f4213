/* URLs: percent-encoding, query strings, and the parts of an http(s) URL. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/limits.h"

/* Decode %XX (and '+' to a space, where `plus`) of `length` bytes into `decoded` (`size` bytes with the NUL).
 * False where an escape is malformed or stands for a NUL, or where the result does not fit. */
bool url_decode(const char *text, size_t length, char *decoded, size_t size, bool plus);
/* The decoded value of the first parameter of that name in "a=1&b=2". False where there is none or it does
 * not fit. */
bool url_query_get(const char *query, const char *name, char *value, size_t size);
/* Whether there is a parameter of that name, whatever its value. */
bool url_query_has(const char *query, const char *name);

#define URL_BASE_PATH_BYTES 128 /* the longest path of a base URL, with its NUL */
#define URL_HOST_BYTES 264      /* "[host]:port" with its NUL */
#define URL_ORIGIN_BYTES 272    /* "https://[host]:port" with its NUL */

struct url {
    bool secure;                /* https */
    char host[256];             /* a name, an IPv4 address, or an IPv6 address without its brackets */
    int port;                   /* 1 to 65535; 80 or 443 where the text has none */
    char path[LIMIT_URL_BYTES]; /* with the query, without the fragment; "" where there is none */
};

/* Parse "http[s]://host[:port][/path][?query][#fragment]". ERROR_INVALID for anything else: another scheme,
 * user names and passwords, a host that is neither a name in ASCII nor an IP address, an empty port or port
 * 0, and whatever must be percent-encoded (spaces, backslashes, non-ASCII characters …). */
bool url_parse(const char *text, struct url *ret, struct error *error);
/* Parse the base URL of a service, which routes are appended to. Stricter: no query, no fragment, a short
 * path; slashes at its end are dropped. */
bool url_parse_base(const char *text, struct url *ret, struct error *error);
/* Same scheme, host and port; letters of the host compare without case. */
bool url_same_origin(const struct url *a, const struct url *b);
/* Same origin and path. */
bool url_equal(const struct url *a, const struct url *b);
/* Write "host[:port]" as a Host header has it: an IPv6 address in brackets, the scheme's own port left out.
 */
void url_write_host(const struct url *url, char ret[URL_HOST_BYTES]);
/* Write "http[s]://host[:port]", the same way. */
void url_write_origin(const struct url *url, char ret[URL_ORIGIN_BYTES]);
