/* The response's side of a proxy request: collected or streamed, passed back or thrown away. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "server/edge/forwarding.h"
#include "server/edge/respond.h"
#include "server/gateway/proxy_private.h"

#define LOADING_PAUSE_MS 100 /* between questions to a replica that is loading */

/* Keep the headers that are passed back until the body is whole. */
static bool keep_head(struct proxy_request *proxy, const struct http_response *response) {
    struct forwarded_headers headers;

    if (!forward_response_headers(response, &headers))
        return false;
    proxy->status = response->status;
    proxy->head.size = 0;
    proxy->header_count = headers.count;
    for (int i = 0; i < headers.count; i++) {
        buffer_append(&proxy->head, headers.headers[i].name, strlen(headers.headers[i].name) + 1);
        buffer_append(&proxy->head, headers.headers[i].value, strlen(headers.headers[i].value) + 1);
    }
    return !proxy->head.failed;
}

/* The client reads again. */
static void client_writable(void *context) {
    struct proxy_request *proxy = context;
    if (proxy->call)
        http_call_pause(proxy->call, false);
}

static bool begin_streaming(struct proxy_request *proxy, const struct http_response *response,
                            int64_t length) {
    struct forwarded_headers headers;

    if (!forward_response_headers(response, &headers))
        return false;
    proxy->is_event_stream = event_stream_is_announced(response->headers, response->header_count);
    http_respond_on_writable(proxy->request, client_writable, proxy);
    respond_begin(proxy->request, response->status, headers.headers, headers.count, length);
    return true;
}

/* "IN OUT" */
static void note_tokens(struct context *context, const char *text) {
    char *end;
    context->tokens_in = strtoll(text, &end, 10);
    context->tokens_out = strtoll(end, NULL, 10);
}

/* What a backend says for the log, and of what it has to do. */
static void note_run(struct proxy_request *proxy, const struct http_response *response) {
    struct context *context = proxy->context;
    const char *queued = NULL;

    context->batch = 0;
    context->queue_ms = 0;
    for (int i = 0; i < response->header_count; i++) {
        const struct http_header *header = &response->headers[i];
        if (http_names_equal(header->name, HEADER_BATCH))
            context->batch = (int)strtol(header->value, NULL, 10);
        else if (http_names_equal(header->name, HEADER_QUEUE_MS))
            context->queue_ms = strtod(header->value, NULL);
        else if (http_names_equal(header->name, HEADER_TOKENS))
            note_tokens(context, header->value);
        else if (http_names_equal(header->name, HEADER_QUEUED_TOKENS))
            queued = header->value;
    }
    if (!queued)
        return;
    pthread_mutex_lock(&proxy->gateway->lock);
    proxy->replica->queued_tokens = strtoll(queued, NULL, 10);
    pthread_mutex_unlock(&proxy->gateway->lock);
}

void proxy_receive_head(void *context, const struct http_response *response) {
    struct proxy_request *proxy = context;
    int64_t length = response->content_length;

    if (!gateway_options(proxy->gateway)->relay)
        note_run(proxy, response);
    proxy->status = response->status;
    proxy->collected.size = 0;
    proxy->loading = response->status == 503 && !proxy->body_sent && proxy_waits_for_loading(proxy);
    if (proxy->loading || (response->status == 503 && !proxy->body_sent && proxy_has_other_replica(proxy)) ||
        (response->status == 404 && proxy->fallback && !proxy->body_sent)) {
        proxy->reply = REPLY_DISCARDED;
        return;
    }

    bool collect = proxy->options.answered || (length >= 0 && length <= LIMIT_COLLECTED_BYTES);
    proxy->reply = collect ? REPLY_COLLECTING : REPLY_STREAMING;
    if (collect ? keep_head(proxy, response) : begin_streaming(proxy, response, length))
        return;

    struct error error;
    http_call_cancel(proxy->call);
    proxy->call = NULL;
    error_set(&error, ERROR_UPSTREAM, "the upstream's response has too many headers");
    proxy_fail(proxy, &error);
}

void proxy_receive_piece(void *context, const void *bytes, size_t size) {
    struct proxy_request *proxy = context;

    if (proxy->reply == REPLY_STREAMING) {
        if (proxy->is_event_stream)
            event_stream_feed(&proxy->events, bytes, size);
        http_respond_write(proxy->request, bytes, size);
        if (http_respond_pending(proxy->request) > LIMIT_OUTPUT_HIGH_BYTES)
            http_call_pause(proxy->call, true);
    } else if (proxy->reply == REPLY_COLLECTING) {
        buffer_append(&proxy->collected, bytes, size);
    }
}

/* Pass back, whole, what was collected. */
static void send_collected(struct proxy_request *proxy) {
    struct http_header headers[LIMIT_FORWARDED_HEADERS];
    const char *at = proxy->head.bytes;
    struct buffer *collected = &proxy->collected;

    if (collected->failed) {
        proxy_fail_memory(proxy);
        return;
    }
    for (int i = 0; i < proxy->header_count; i++) {
        headers[i].name = at;
        at += strlen(at) + 1;
        headers[i].value = at;
        at += strlen(at) + 1;
    }
    struct http_body *body = collected->size ? http_body_create(collected->bytes, collected->size) : NULL;
    if (proxy->options.answered) {
        const struct http_response response = {
            .failure = HTTP_COMPLETE,
            .status = proxy->status,
            .headers = headers,
            .header_count = proxy->header_count,
            .body = body,
            .reason = "",
        };
        http_request_on_gone(proxy->request, NULL, NULL);
        proxy->options.answered(proxy->options.context, proxy->request, &response);
        http_body_release(body);
    } else {
        respond(proxy->request, proxy->status, headers, proxy->header_count, body);
    }
    proxy_free(proxy);
}

/* The response was not for the client: ask another replica, or for the fallback. */
static void ask_again(struct proxy_request *proxy, struct replica *replica) {
    if (proxy->loading) {
        proxy_pause(proxy, LOADING_PAUSE_MS);
        return;
    }
    if (proxy->status == 404) {
        free(proxy->target);
        proxy->target = proxy->fallback;
        proxy->fallback = NULL;
    } else if (proxy->tried_count < TRIED_MOST) {
        proxy->tried[proxy->tried_count++] = replica;
    }
    proxy_try(proxy);
}

void proxy_finish_response(void *context, const struct http_response *response) {
    struct proxy_request *proxy = context;
    struct replica *replica = proxy->replica;
    enum reply_state reply = proxy->reply;
    struct error error;

    proxy_count_outcome(proxy, response);
    proxy->reply = REPLY_NONE;
    if (reply == REPLY_DISCARDED) {
        ask_again(proxy, replica);
    } else if (reply == REPLY_STREAMING) {
        if (response->failure == HTTP_COMPLETE) {
            const char *comment = proxy->events.comment;
            if (strncmp(comment, COMMENT_TOKENS, strlen(COMMENT_TOKENS)) == 0)
                note_tokens(proxy->context, comment + strlen(COMMENT_TOKENS));
            http_respond_end(proxy->request);
            proxy_free(proxy);
            return;
        }
        proxy_explain_failure(proxy, response, &error);
        proxy_break_reply(proxy, &error);
    } else if (response->failure == HTTP_COMPLETE) {
        send_collected(proxy);
    } else if (proxy_may_repeat(proxy, response, replica)) {
        proxy_try(proxy);
    } else {
        proxy_explain_failure(proxy, response, &error);
        proxy_fail(proxy, &error);
    }
}
