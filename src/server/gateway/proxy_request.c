/* The request's side of a proxy request: its headers and its body, on their way upstream. */
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/edge/forwarding.h"
#include "server/gateway/proxy_private.h"

/* Whether our own API key is shown for a caller that brings none. It is not lent for changing the service. */
static bool lends_key(const struct proxy_request *proxy) {
    const struct endpoint *row = proxy->context->endpoint;
    return gateway_options(proxy->gateway)->api_key && !(row && row->right == RIGHT_MANAGE) &&
           !http_request_header(proxy->request, "Authorization") &&
           !http_request_header(proxy->request, "X-Api-Key");
}

enum { DROPPED_MOST = 9 };

/* The caller's headers that do not go upstream. A question of our own has no body, and wants the whole of a
 * plain response. */
static void list_dropped(bool keeps_keys, bool question, const char *ret[DROPPED_MOST]) {
    static const char *const keys[] = {"Authorization", "X-Api-Key", NULL};
    static const char *const of_body[] = {"Content-Type",      "Accept-Encoding", "If-None-Match",
                                          "If-Modified-Since", "Range",           NULL};
    int count = 0;

    ret[count++] = "Cookie";
    for (int i = 0; !keeps_keys && keys[i]; i++)
        ret[count++] = keys[i];
    for (int i = 0; question && of_body[i]; i++)
        ret[count++] = of_body[i];
    ret[count] = NULL;
}

/* The headers that go upstream. False, with the reason, where there are too many or no token can be had. */
static bool make_headers(struct proxy_request *proxy, struct forwarded_headers *ret,
                         char token[IDENTITY_TOKEN_BYTES], struct error *error) {
    const struct gateway_options *options = gateway_options(proxy->gateway);
    const struct http_request *request = proxy->request;
    const char *dropped[DROPPED_MOST];

    list_dropped(options->keep_keys, proxy->options.answered != NULL, dropped);
    if (gateway_identity(proxy->gateway) &&
        !identity_token(gateway_identity(proxy->gateway), &proxy->replica->url, token, error))
        return false;

    bool taken = options->keep_keys && http_request_header(request, "Authorization");
    if (forward_request_headers(request, &proxy->context->trace, dropped, ret) &&
        forwarded_headers_add(ret, "Host", proxy->replica->host) &&
        (options->relay || (forwarded_headers_add(ret, HEADER_ASK_RUN, "1") &&
                            forwarded_headers_add(ret, HEADER_CLIENT, proxy->context->client))) &&
        (!lends_key(proxy) || forwarded_headers_add(ret, "X-Api-Key", options->api_key)) &&
        (!gateway_identity(proxy->gateway) ||
         forwarded_headers_add(ret, taken ? "X-Serverless-Authorization" : "Authorization", token)))
        return true;
    return error_set(error, ERROR_TOO_LARGE, "too many headers");
}

/* A piece of a body that is passed on as it comes. */
static void pass_body_piece(void *context, const void *bytes, size_t size) {
    struct proxy_request *proxy = context;

    if (!proxy->call)
        return;
    http_call_write(proxy->call, bytes, size);
    if (http_call_pending(proxy->call) > LIMIT_OUTPUT_HIGH_BYTES)
        http_request_pause_body(proxy->request, true);
}

static void pass_body_end(void *context, bool complete) {
    struct proxy_request *proxy = context;
    struct error error;

    if (!proxy->call)
        return;
    if (complete) {
        http_call_finish(proxy->call);
        return;
    }
    http_call_cancel(proxy->call);
    proxy->call = NULL;
    error_set(&error, ERROR_SLOW_REQUEST, "the request's body did not arrive whole");
    if (proxy->reply == REPLY_STREAMING)
        proxy_break_reply(proxy, &error);
    else
        proxy_fail(proxy, &error);
}

static void upstream_writable(void *context) {
    struct proxy_request *proxy = context;
    http_request_pause_body(proxy->request, false);
}

void proxy_send_request(struct proxy_request *proxy) {
    struct http_request *request = proxy->request;
    struct replica *replica = proxy->replica;
    bool question = proxy->options.answered != NULL;
    bool pieces = !question && request->content_length > 0 && request->body->size == 0;
    struct forwarded_headers headers;
    char token[IDENTITY_TOKEN_BYTES];
    struct error error;

    if (!make_headers(proxy, &headers, token, &error)) {
        proxy_fail(proxy, &error);
        return;
    }
    proxy->asked_ns = clock_ns();
    proxy->context->tries++;
    text_copy(proxy->context->upstream, sizeof proxy->context->upstream, replica->name);
    const struct http_call_options options = {
        .method = request->method == HTTP_HEAD ? "GET" : request->method_name,
        .target = proxy->target,
        .headers = headers.headers,
        .header_count = headers.count,
        .body = question || pieces ? NULL : request->body,
        .body_in_pieces = pieces,
        .body_length = request->content_length,
        .first_byte_timeout_ms = proxy_milliseconds_left(proxy),
        .silence_timeout_ms = gateway_options(proxy->gateway)->timeout_ms,
        .head = proxy_receive_head,
        .piece = proxy_receive_piece,
        .writable = upstream_writable,
        .done = proxy_finish_response,
        .context = proxy,
    };
    proxy->call = http_call_start(replica->upstream, request->loop, &options);
    if (!proxy->call) {
        proxy_fail_memory(proxy);
        return;
    }
    if (pieces) {
        proxy->body_sent = true;
        http_request_read_body(
            request,
            &(struct http_body_reader){.piece = pass_body_piece, .end = pass_body_end, .context = proxy});
    }
}
