/* One line a request on standard output, as JSON or as text. Written with one call, so that lines of several
 * threads do not mix. Any thread. */
#pragma once
#include "http/http.h"
#include "serve/proxy.h"

enum access_log { ACCESS_LOG_OFF, ACCESS_LOG_TEXT, ACCESS_LOG_JSON };

/* What is known beside the request itself. Strings are "" where there is nothing to say. */
struct access_entry {
    const struct trace *trace; /* NULL: refused before it had one */
    const char *tier, *client, *model, *upstream;
    double total_ms, upstream_ms;
    int tries, status;
    size_t bytes; /* of the reply's body */
    bool gone;    /* the caller did not wait for it */
};

void access_log_write(enum access_log form, const struct http_request *request,
                      const struct access_entry *entry);
/* "json", "text" or "off". */
bool access_log_parse(const char *text, enum access_log *ret);
