/* What the two files of http_probe share. */
#pragma once
#include "http/http_client.h"

/* Number of a query parameter, or `otherwise`. */
long probe_parameter(const struct http_request *request, const char *name, long otherwise);
/* The request is for a route that streams: it reads its body itself. */
bool probe_is_stream(const struct http_request *request);
/* Handle such a request. */
void probe_streams(struct http_request *request, struct http_upstream *upstream);
