/* Addresses: percent-encoding, query strings, and the parts of an http(s) URL. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* Decode %XX (and '+' to a space, where `plus`) of `length` bytes into `decoded` (`size` bytes with the NUL).
 * False where an escape is malformed or stands for a NUL, or where the result does not fit. */
bool url_decode(const char *text, size_t length, char *decoded, size_t size, bool plus);
/* The decoded value of the first parameter of that name in "a=1&b=2". False where there is none or it does
 * not fit. */
bool url_query_get(const char *query, const char *name, char *value, size_t size);

struct url {
    bool secure;    /* https */
    char host[256]; /* without the brackets of an IPv6 address */
    int port;
    char path[1024]; /* with the query, without a fragment; "" where there is none */
};

/* "http://host[:port][/path]"; anything else is ERROR_INVALID, user names and passwords too. */
bool url_parse(const char *text, struct url *ret, struct error *error);
