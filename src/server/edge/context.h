/* What is known of one request, from its head to its log line: http_request.user. It belongs to the request;
 * its loop's thread alone touches it, unless a handler hands the request to another thread. */
#pragma once
#include "model/name.h"
#include "server/edge/api_keys.h"
#include "server/edge/endpoint.h"
#include "server/edge/trace.h"

struct server;

struct context {
    struct server *server;
    struct trace trace;
    const struct endpoint *endpoint; /* NULL: no row of the table */
    const struct endpoint *path_row; /* a row of the same path, whatever the method; NULL: no such path */
    const char *label;               /* for metrics and logs: the row's, "page", "other" */
    bool admitted;                   /* it has passed the chain */
    enum error_form errors;          /* how errors are written */

    char client[64];           /* the API key's name, or the caller's address */
    struct api_keys *keys;     /* a reference; NULL: no key was shown, or none is needed */
    const struct api_key *key; /* among `keys` */
    bool tells_https;          /* browsers are told to come by https alone (HSTS) */
    const char *cors_origin;   /* a page's origin that may read the reply; NULL: none */
    char *cookie;              /* Set-Cookie of the reply, malloc'ed; NULL: none */

    char model[MODEL_NAME_BYTES]; /* "" where none is named */
    uint64_t affinity; /* of a conversation: the same as long as its beginning is; 0: there is none */
    int64_t weight;    /* tokens that it asks to be computed, about; 0: it asks no language model */
    bool model_known;  /* there is such a model: it may be a metric's label */
    char upstream[80]; /* where the response came from; "" if there was no upstream */
    double upstream_ms;
    int tries;       /* upstreams asked */
    int batch;       /* requests that ran with it, itself included; 0: it did not run, or that is not known */
    double queue_ms; /* that it waited for the model */
    int64_t tokens_in, tokens_out; /* of prompts and of answers; 0: there are none, or that is not known */
};

static inline struct context *context_of(const struct http_request *request) {
    return request->user;
}
