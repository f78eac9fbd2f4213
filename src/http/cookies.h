/* Cookies that a browser sends back (RFC 6265). Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "http/http.h"

/* The value of the first cookie of that name in all Cookie headers: a run of bytes within the request,
 * without its quotes. False if there is none. */
bool http_request_cookie(const struct http_request *request, const char *name, const char **ret_value,
                         size_t *ret_length);
