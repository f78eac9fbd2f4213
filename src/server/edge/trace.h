/* The marks by which one request is followed through the tiers: X-Request-Id, and W3C Trace Context's
 * traceparent (https://www.w3.org/TR/trace-context/). Pure functions; any thread. */
#pragma once
#include <stdbool.h>

#include "http/http.h"

struct trace {
    char request_id[132];
    char traceparent[56];
    bool traced; /* traceparent came with the request: its tracestate is worth passing on */
};

/* The identifiers of the request's headers if valid, else new ones. */
void trace_read(struct trace *trace, const struct http_request *request);
