/* One line a request on standard output, as JSON or as text. Written with one call, so that lines of several
 * threads do not mix. Any thread. */
#pragma once
#include "http/http.h"
#include "server/edge/trace.h"

enum access_log { ACCESS_LOG_OFF, ACCESS_LOG_TEXT, ACCESS_LOG_JSON };

/* The fields of a log line that the request itself does not have. Unknown strings are "". */
struct access_entry {
    const struct trace *trace; /* NULL: refused before it had one */
    const char *tier, *client, *model, *upstream;
    double total_ms, upstream_ms;
    double queue_ms;               /* that it waited for the model … */
    int batch;                     /* … and how many requests ran with it, itself included; 0: none ran */
    int64_t tokens_in, tokens_out; /* of a language model's prompt and answer; 0: not known */
    int tries, status;
    size_t bytes; /* of the reply's body */
    bool gone;    /* the caller did not wait for it */
    bool cut;     /* not the whole response was sent */
};

void access_log_write(enum access_log form, const struct http_request *request,
                      const struct access_entry *entry);
/* "json", "text" or "off". */
bool access_log_parse(const char *text, enum access_log *ret);
