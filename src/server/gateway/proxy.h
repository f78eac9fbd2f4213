/* Proxies one request to a replica of a model and streams the response back.
 *
 * Failed requests are retried on another replica, within a budget, until the first byte of a response has
 * gone to the client. Every endpoint that reaches a model only computes, so all of them may be retried. Short
 * responses (LIMIT_COLLECTED_BYTES) are collected before they are sent; longer ones and those of unknown
 * length are streamed with back-pressure: a client that stops reading stops the upstream. If the upstream
 * fails after the first byte, the response is visibly truncated. A client that disconnects cancels the
 * upstream request. */
#pragma once
#include "http/http_client.h"
#include "server/gateway/gateway.h"

enum proxy_aim {
    PROXY_ASK,  /* proxy the request; start the model if it is stopped */
    PROXY_LOOK, /* proxy if the model runs; neither starts it nor counts as use */
};

struct proxy_options {
    const char *model;    /* copied */
    const char *target;   /* the upstream request's target; copied */
    const char *fallback; /* second target to try if the response is 404; copied; NULL: none */
    enum proxy_aim aim;
    /* If set, the upstream request is our own, without the client's body: the complete response, or the
     * failure, is passed to `answered`, which must respond to the client. NULL: the response goes to the
     * client. */
    void (*answered)(void *context, struct http_request *request, const struct http_response *response);
    void *context;
};

/* Takes ownership of the request and always responds to it. On its loop's thread. */
void proxy_start(struct gateway *gateway, struct http_request *request, const struct proxy_options *options);
