/* A proxy request lives on its request's loop; only its place in the list of waiting ones is shared, under
 * the gateway's lock. */
#include "server/gateway/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/edge/context.h"
#include "server/edge/event_stream.h"
#include "server/edge/forwarding.h"
#include "server/edge/respond.h"
#include "server/gateway/private.h"

#define TRIED_MOST 16
#define ROUNDS_MOST 4 /* times that all replicas are gone through */
#define STALE_MOST 2  /* kept connections that turned out to be closed: not the replica's fault */
/* Replicas that died under this request: beyond, the request may be what kills them. */
#define BROKEN_MOST 3
#define BROKEN_MOST_SUPERVISED 2

/* What becomes of the response that is arriving. */
enum reply_state {
    REPLY_NONE,       /* no head yet */
    REPLY_COLLECTING, /* short, or a question of our own: kept until it is whole */
    REPLY_STREAMING,  /* its head went to the client, its pieces follow */
    REPLY_DISCARDED,  /* not for the client: another replica, or the fallback, is asked next */
};

struct proxy_request {
    struct gateway *gateway;
    struct http_request *request;
    struct context *context;
    struct proxy_options options; /* its strings are ours */
    char *target, *fallback;
    struct route *route;
    struct replica *replica;           /* being asked now; NULL else */
    struct replica *tried[TRIED_MOST]; /* compared only, never followed */
    int tried_count, rounds, stale, broken;
    bool body_sent; /* the request's body was passed on in pieces, and is gone */

    struct http_call *call;
    struct http_timer *timer;
    int64_t deadline_ns, asked_ns;

    /* The response. */
    enum reply_state reply;
    int status;
    struct buffer head;      /* "name\0value\0" of each header to pass back, while collecting */
    int header_count;        /* … of them */
    struct buffer collected; /* the body */
    bool is_event_stream;    /* while streaming */
    struct event_stream events;

    /* Under the gateway's lock: */
    bool waiting, resumed;
    bool failed; /* with `failure` */
    struct error failure;
    struct proxy_request *next;
};

static void try_replica(struct proxy_request *proxy);

/* ---- Ends ---- */

/* Off every list and timer. The reply was made or is made next. */
static void proxy_free(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;

    http_timer_cancel(proxy->timer);
    pthread_mutex_lock(&gateway->lock);
    if (proxy->replica)
        replica_abandoned(proxy->replica);
    if (proxy->options.aim != PROXY_LOOK)
        proxy->route->last_used = clock_ns();
    route_release(proxy->route);
    gateway->proxied--;
    pthread_mutex_unlock(&gateway->lock);

    buffer_release(&proxy->head);
    buffer_release(&proxy->collected);
    free(proxy->target);
    free(proxy->fallback);
    free(proxy);
}

/* `model "cats"`, or the remote gateway: what messages speak of. */
static const char *describe_upstream(const struct proxy_request *proxy, char ret[MODEL_NAME_BYTES + 16]) {
    if (proxy->gateway->options.relay)
        snprintf(ret, MODEL_NAME_BYTES + 16, "the gateway");
    else
        snprintf(ret, MODEL_NAME_BYTES + 16, "model \"%s\"", proxy->route->model);
    return ret;
}

static enum http_failure failure_of(const struct error *error) {
    return error->code == ERROR_TIMEOUT  ? HTTP_FAILED_TIMEOUT
           : error->code == ERROR_MEMORY ? HTTP_FAILED_MEMORY
                                         : HTTP_FAILED_CONNECT;
}

/* No byte went to the client yet. */
static void fail(struct proxy_request *proxy, const struct error *error) {
    struct http_request *request = proxy->request;

    if (proxy->options.answered) {
        const struct http_response response = {.failure = failure_of(error), .reason = error->message};
        http_request_on_gone(request, NULL, NULL);
        proxy->options.answered(proxy->options.context, request, &response);
    } else {
        respond_error(request, error);
    }
    proxy_free(proxy);
}

static void fail_memory(struct proxy_request *proxy) {
    fail(proxy, &(struct error){ERROR_MEMORY, "out of memory"});
}

/* The reply has begun and cannot be completed. An event stream is told so in its own form; then the
 * connection ends without the mark of a whole reply. */
static void break_reply(struct proxy_request *proxy, const struct error *error) {
    struct buffer text = {0};

    if (proxy->is_event_stream)
        event_stream_write_error(&proxy->events, proxy->context->errors, error, &text);
    if (text.size)
        http_respond_write(proxy->request, text.bytes, text.size);
    buffer_release(&text);
    http_respond_abort(proxy->request);
    proxy_free(proxy);
}

/* ---- Waiting for a replica ---- */

/* Out of the list of those that wait; false where a resumption is already on its way. */
static bool remove_waiting(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;

    pthread_mutex_lock(&gateway->lock);
    if (proxy->waiting) {
        struct proxy_request **at = &gateway->waiting;
        while (*at != proxy)
            at = &(*at)->next;
        *at = proxy->next;
        proxy->waiting = false;
        proxy->route->waiting--;
    }
    bool resumed = proxy->resumed;
    pthread_mutex_unlock(&gateway->lock);
    return !resumed;
}

/* The client has gone: stop the work upstream. */
static void client_gone(void *context) {
    struct proxy_request *proxy = context;

    if (!remove_waiting(proxy))
        return; /* resume comes, and sees it */
    http_call_cancel(proxy->call);
    proxy->call = NULL;
    if (proxy->reply == REPLY_STREAMING) {
        http_respond_abort(proxy->request);
        proxy_free(proxy);
        return;
    }
    fail(proxy, &(struct error){ERROR_UNAVAILABLE, "the client left"});
}

static void resume(void *context) {
    struct proxy_request *proxy = context;

    pthread_mutex_lock(&proxy->gateway->lock); /* proxy_resume_waiting may still hold it, and look at us */
    proxy->resumed = false;
    pthread_mutex_unlock(&proxy->gateway->lock);
    http_timer_cancel(proxy->timer);
    proxy->timer = NULL;

    if (proxy->failed) {
        fail(proxy, &proxy->failure);
    } else if (http_request_is_gone(proxy->request)) {
        fail(proxy, &(struct error){ERROR_UNAVAILABLE, "the client left"});
    } else {
        proxy->tried_count = 0;
        try_replica(proxy);
    }
}

void proxy_resume_waiting(struct gateway *gateway, const char *model, const struct error *reason) {
    pthread_mutex_lock(&gateway->lock);
    for (struct proxy_request **at = &gateway->waiting; *at;) {
        struct proxy_request *proxy = *at;
        if (model && strcmp(proxy->route->model, model) != 0) {
            at = &proxy->next;
            continue;
        }

        proxy->failed = reason != NULL;
        if (reason)
            proxy->failure = *reason;
        proxy->resumed = http_loop_post(proxy->request->loop, resume, proxy);
        if (!proxy->resumed) { /* out of memory: the timer ends the request */
            at = &proxy->next;
            continue;
        }

        *at = proxy->next;
        proxy->waiting = false;
        proxy->route->waiting--;
    }
    pthread_mutex_unlock(&gateway->lock);
}

void proxy_wait_idle(struct gateway *gateway) {
    for (int left = 1; left > 0;) {
        pthread_mutex_lock(&gateway->lock);
        left = gateway->proxied;
        pthread_mutex_unlock(&gateway->lock);
        if (left > 0)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void waiting_timed_out(void *context) {
    struct proxy_request *proxy = context;
    struct error error;

    proxy->timer = NULL;
    if (!remove_waiting(proxy))
        return;
    error_set(&error, ERROR_TIMEOUT, "model \"%s\" is still starting; try again later", proxy->route->model);
    fail(proxy, &error);
}

static int milliseconds_left(const struct proxy_request *proxy) {
    int64_t left = (proxy->deadline_ns - clock_ns()) / 1000000;
    return left < 1 ? 1 : (int)left;
}

/* Put on the list of those that wait; false where the model was removed meanwhile. */
static bool add_waiting(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;

    pthread_mutex_lock(&gateway->lock);
    bool retired = proxy->route->retired;
    if (!retired) {
        proxy->waiting = true;
        proxy->route->waiting++;
        proxy->next = gateway->waiting;
        gateway->waiting = proxy;
    }
    pthread_mutex_unlock(&gateway->lock);
    return !retired;
}

/* No replica runs: wait for one where the supervisor can start it. */
static void wait_for_replica(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    char name[MODEL_NAME_BYTES + 16], model[MODEL_NAME_BYTES];
    struct error error;

    if (!supervisor) {
        error_set(&error, gateway->options.relay ? ERROR_UPSTREAM : ERROR_UNAVAILABLE,
                  gateway->options.relay ? "%s cannot be reached: its name is not known"
                                         : "no backend of %s can be reached",
                  describe_upstream(proxy, name));
        fail(proxy, &error);
        return;
    }
    proxy->timer = http_timer_start(proxy->request->loop, milliseconds_left(proxy), waiting_timed_out, proxy);
    if (!proxy->timer) {
        fail_memory(proxy);
        return;
    }
    strcpy(model, proxy->route->model); /* once on the list, another thread may end the request */
    if (!add_waiting(proxy)) {
        error_set(&error, ERROR_NOT_FOUND, "model \"%s\" has been removed", model);
        fail(proxy, &error);
        return;
    }
    supervisor->wake(supervisor->context, model);
}

static void retry(void *context) {
    struct proxy_request *proxy = context;
    proxy->timer = NULL;
    try_replica(proxy);
}

/* Every replica failed just now. A restart or a failover takes a moment: go round again after a pause. */
static void pause_round(struct proxy_request *proxy) {
    static const int pauses_ms[ROUNDS_MOST] = {25, 75, 250, 750};
    int pause = proxy->rounds < ROUNDS_MOST ? pauses_ms[proxy->rounds] : 0;
    char name[MODEL_NAME_BYTES + 16];
    struct error error;

    proxy->tried_count = 0;
    if (pause && milliseconds_left(proxy) > pause) {
        proxy->rounds++;
        proxy->timer = http_timer_start(proxy->request->loop, pause, retry, proxy);
        if (proxy->timer)
            return;
    }
    if (proxy->gateway->options.relay)
        error_set(&error, ERROR_UPSTREAM, "the gateway cannot be reached");
    else
        error_set(&error, ERROR_UPSTREAM, "no backend of %s answers", describe_upstream(proxy, name));
    fail(proxy, &error);
}

/* ---- The response ---- */

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

/* Whether another replica could take the request that this one has refused with 503. */
static bool has_other_replica(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;
    struct replica *tried[TRIED_MOST + 1], *other;

    memcpy(tried, proxy->tried, sizeof proxy->tried);
    tried[proxy->tried_count] = proxy->replica;
    pthread_mutex_lock(&gateway->lock);
    bool found =
        proxy->route->count > 1 &&
        route_choose(proxy->route, tried, proxy->tried_count + 1, clock_ns(), &other) == ROUTE_FOUND &&
        route_budget_take(proxy->route, clock_ns());
    pthread_mutex_unlock(&gateway->lock);
    return found;
}

/* The head is here: decide what becomes of the response. */
static void receive_head(void *context, const struct http_response *response) {
    struct proxy_request *proxy = context;
    int64_t length = response->content_length;

    proxy->status = response->status;
    proxy->collected.size = 0;
    if ((response->status == 503 && !proxy->body_sent && has_other_replica(proxy)) ||
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
    fail(proxy, &error);
}

static void receive_piece(void *context, const void *bytes, size_t size) {
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
        fail_memory(proxy);
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

/* Whether a time counts as a prediction's: the path's label says what was asked. */
static bool is_prediction(const struct context *context) {
    return context->endpoint && context->endpoint->scope == SCOPE_MODEL &&
           context->endpoint->right == RIGHT_PREDICT && strcmp(context->endpoint->method, "POST") == 0;
}

/* The replica's response has ended one way or another: keep its account. */
static void count_outcome(struct proxy_request *proxy, const struct http_response *response) {
    struct gateway *gateway = proxy->gateway;
    struct replica *replica = proxy->replica;
    int64_t now = clock_ns();

    proxy->context->upstream_ms = (double)(now - proxy->asked_ns) / 1e6;
    proxy->replica = NULL;
    proxy->call = NULL;

    pthread_mutex_lock(&gateway->lock);
    if (response->failure == HTTP_COMPLETE) {
        if (proxy->status == 502 || proxy->status == 504)
            replica_abandoned(replica);
        else
            replica_succeeded(replica);
        double *typical = &proxy->route->typical_ms;
        if (proxy->status == 200 && is_prediction(proxy->context))
            *typical = *typical > 0 ? *typical * 0.95 + proxy->context->upstream_ms * 0.05
                                    : proxy->context->upstream_ms;
    } else if ((response->failure == HTTP_FAILED_CLOSED && response->reused) ||
               response->failure == HTTP_FAILED_MEMORY || response->failure == HTTP_FAILED_TOO_LARGE) {
        replica_abandoned(replica);
    } else {
        replica_failed(replica, response->failure == HTTP_FAILED_CONNECT, now);
    }
    pthread_mutex_unlock(&gateway->lock);
}

/* Whether a failure may be repeated, within the budget; notes what was learnt. */
static bool may_repeat(struct proxy_request *proxy, const struct http_response *response,
                       struct replica *replica) {
    struct gateway *gateway = proxy->gateway;
    bool stale = response->failure == HTTP_FAILED_CLOSED && response->reused;
    bool broken =
        response->failure == HTTP_FAILED_BROKEN || (response->failure == HTTP_FAILED_CLOSED && !stale);

    if (proxy->body_sent || response->failure == HTTP_FAILED_TIMEOUT ||
        response->failure == HTTP_FAILED_TOO_LARGE || response->failure == HTTP_FAILED_PROTOCOL ||
        response->failure == HTTP_FAILED_MEMORY)
        return false;
    int broken_most = gateway->options.supervisor ? BROKEN_MOST_SUPERVISED : BROKEN_MOST;
    if (broken && ++proxy->broken >= broken_most)
        return false;

    if (!(stale && proxy->stale++ < STALE_MOST) && proxy->tried_count < TRIED_MOST)
        proxy->tried[proxy->tried_count++] = replica;
    /* A refused connection gave the replica nothing to do: it costs nothing, and rounds bound it. */
    if (response->failure == HTTP_FAILED_CONNECT)
        return true;
    pthread_mutex_lock(&gateway->lock);
    bool paid = route_budget_take(proxy->route, clock_ns());
    pthread_mutex_unlock(&gateway->lock);
    return paid;
}

static void explain_failure(const struct proxy_request *proxy, const struct http_response *response,
                            struct error *ret) {
    char name[MODEL_NAME_BYTES + 16];

    describe_upstream(proxy, name);
    if (response->failure == HTTP_FAILED_TIMEOUT)
        error_set(ret, ERROR_TIMEOUT, "%s did not answer in time", name);
    else if (proxy->broken > 1)
        error_set(ret, ERROR_UPSTREAM, "%s: its process closed the connection %d times on this request", name,
                  proxy->broken);
    else if (proxy->gateway->options.relay)
        error_set(ret, ERROR_UPSTREAM, "%s cannot be reached: %s", name, response->reason);
    else
        error_set(ret, ERROR_UPSTREAM, "%s: %s", name,
                  *response->reason ? response->reason : "the backend failed");
}

/* The response was not for the client: ask another replica, or for the fallback. */
static void ask_again(struct proxy_request *proxy, struct replica *replica) {
    if (proxy->status == 404) {
        free(proxy->target);
        proxy->target = proxy->fallback;
        proxy->fallback = NULL;
    } else if (proxy->tried_count < TRIED_MOST) {
        proxy->tried[proxy->tried_count++] = replica;
    }
    try_replica(proxy);
}

static void finish_response(void *context, const struct http_response *response) {
    struct proxy_request *proxy = context;
    struct replica *replica = proxy->replica;
    enum reply_state reply = proxy->reply;
    struct error error;

    count_outcome(proxy, response);
    proxy->reply = REPLY_NONE;
    if (reply == REPLY_DISCARDED) {
        ask_again(proxy, replica);
    } else if (reply == REPLY_STREAMING) {
        if (response->failure == HTTP_COMPLETE) {
            http_respond_end(proxy->request);
            proxy_free(proxy);
            return;
        }
        explain_failure(proxy, response, &error);
        break_reply(proxy, &error);
    } else if (response->failure == HTTP_COMPLETE) {
        send_collected(proxy);
    } else if (may_repeat(proxy, response, replica)) {
        try_replica(proxy);
    } else {
        explain_failure(proxy, response, &error);
        fail(proxy, &error);
    }
}

/* ---- The request ---- */

/* Whether our own API key is shown for a caller that brings none. It is not lent for changing the service. */
static bool lends_key(const struct proxy_request *proxy) {
    const struct endpoint *row = proxy->context->endpoint;
    return proxy->gateway->options.api_key && !(row && row->right == RIGHT_MANAGE) &&
           !http_request_header(proxy->request, "Authorization") &&
           !http_request_header(proxy->request, "X-Api-Key");
}

/* The headers that go upstream. False, with the reason, where there are too many or no token can be had. */
static bool make_headers(struct proxy_request *proxy, struct forwarded_headers *ret,
                         char token[IDENTITY_TOKEN_BYTES], struct error *error) {
    static const char *const all[] = {"Cookie", "Authorization", "X-Api-Key", "Content-Type", NULL};
    static const char *const but_keys[] = {"Cookie", "Content-Type", NULL};
    static const char *const with_body[] = {"Cookie", "Authorization", "X-Api-Key", NULL};
    static const char *const cookies[] = {"Cookie", NULL};
    const struct gateway_options *options = &proxy->gateway->options;
    const struct http_request *request = proxy->request;
    bool question = proxy->options.answered != NULL; /* it has no body, and so no type */
    const char *const *dropped =
        options->keep_keys ? (question ? but_keys : cookies) : (question ? all : with_body);

    if (proxy->gateway->identity &&
        !identity_token(proxy->gateway->identity, &proxy->replica->url, token, error))
        return false;

    bool taken = options->keep_keys && http_request_header(request, "Authorization");
    if (forward_request_headers(request, &proxy->context->trace, dropped, ret) &&
        forwarded_headers_add(ret, "Host", proxy->replica->host) &&
        (!lends_key(proxy) || forwarded_headers_add(ret, "X-Api-Key", options->api_key)) &&
        (!proxy->gateway->identity ||
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
        break_reply(proxy, &error);
    else
        fail(proxy, &error);
}

static void upstream_writable(void *context) {
    struct proxy_request *proxy = context;
    http_request_pause_body(proxy->request, false);
}

/* Ask the replica that was chosen. */
static void send_request(struct proxy_request *proxy) {
    struct http_request *request = proxy->request;
    struct replica *replica = proxy->replica;
    bool question = proxy->options.answered != NULL;
    bool pieces = !question && request->content_length > 0 && request->body->size == 0;
    struct forwarded_headers headers;
    char token[IDENTITY_TOKEN_BYTES];
    struct error error;

    if (!make_headers(proxy, &headers, token, &error)) {
        fail(proxy, &error);
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
        .first_byte_timeout_ms = milliseconds_left(proxy),
        .silence_timeout_ms = proxy->gateway->options.timeout_ms,
        .head = receive_head,
        .piece = receive_piece,
        .writable = upstream_writable,
        .done = finish_response,
        .context = proxy,
    };
    proxy->call = http_call_start(replica->upstream, request->loop, &options);
    if (!proxy->call) {
        fail_memory(proxy);
        return;
    }
    if (pieces) {
        proxy->body_sent = true;
        http_request_read_body(
            request,
            &(struct http_body_reader){.piece = pass_body_piece, .end = pass_body_end, .context = proxy});
    }
}

static void finish_load(struct proxy_request *proxy) {
    respond_text(proxy->request, 200, "{}");
    proxy_free(proxy);
}

/* A model that sleeps is looked at: what can be said of it without waking it. */
static void finish_look(struct proxy_request *proxy) {
    static const struct http_header metrics = {"Content-Type", METRICS_CONTENT_TYPE};
    static const char asleep[] = "# the model does not run now\n";
    enum right right = proxy->context->endpoint->right;

    if (right == RIGHT_METRICS)
        respond(proxy->request, 200, &metrics, 1, http_body_create(asleep, sizeof asleep - 1));
    else if (right == RIGHT_NONE || strcmp(proxy->context->label, "health") == 0)
        respond_text(proxy->request, 503, "{\"ready\":false}");
    else /* TensorFlow Serving's word for a version that is known and not loaded yet */
        respond_text(proxy->request, 200,
                     "{\"model_version_status\":[{\"version\":\"1\",\"state\":\"START\",\"status\":"
                     "{\"error_code\":\"OK\",\"error_message\":\"\"}}]}");
    proxy_free(proxy);
}

static void fail_full(struct proxy_request *proxy) {
    char name[MODEL_NAME_BYTES + 16];
    struct error error;

    error_set(&error, ERROR_UNAVAILABLE, "%s is at its concurrency limit; try again shortly",
              describe_upstream(proxy, name));
    fail(proxy, &error);
}

static void try_replica(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;
    enum proxy_aim aim = proxy->options.aim;
    struct replica *replica = NULL;
    int64_t now = clock_ns();

    pthread_mutex_lock(&gateway->lock);
    enum route_choice choice = route_choose(proxy->route, proxy->tried, proxy->tried_count, now, &replica);
    if (choice == ROUTE_FOUND && aim != PROXY_LOAD) {
        replica_begin(replica);
        proxy->replica = replica;
    }
    if (aim != PROXY_LOOK)
        proxy->route->last_used = now;
    pthread_mutex_unlock(&gateway->lock);

    switch (choice) {
    case ROUTE_FOUND:
        if (aim == PROXY_LOAD)
            finish_load(proxy);
        else
            send_request(proxy);
        return;
    case ROUTE_EMPTY:
        if (aim == PROXY_LOOK && gateway->options.supervisor)
            finish_look(proxy);
        else
            wait_for_replica(proxy);
        return;
    case ROUTE_TRIED:
        pause_round(proxy);
        return;
    case ROUTE_FULL:
        fail_full(proxy);
        return;
    }
}

/* The route of a model, with a reference for the caller; NULL if there is none. */
static struct route *take_route(struct gateway *gateway, const char *model) {
    pthread_mutex_lock(&gateway->lock);
    struct route *route = route_table_find(&gateway->table, model, strlen(model));
    if (route) {
        route_acquire(route);
        route_budget_deposit(route, clock_ns());
        gateway->proxied++;
    }
    pthread_mutex_unlock(&gateway->lock);
    return route;
}

/* NULL when memory is out; the route stays the caller's then. */
static struct proxy_request *proxy_create(struct gateway *gateway, struct http_request *request,
                                          struct route *route, const struct proxy_options *options) {
    struct proxy_request *proxy = calloc(1, sizeof *proxy);
    if (!proxy)
        return NULL;

    proxy->target = strdup(options->target);
    proxy->fallback = options->fallback ? strdup(options->fallback) : NULL;
    if (!proxy->target || (options->fallback && !proxy->fallback)) {
        free(proxy->target);
        free(proxy->fallback);
        free(proxy);
        return NULL;
    }
    proxy->gateway = gateway;
    proxy->request = request;
    proxy->context = context_of(request);
    proxy->options = *options;
    proxy->route = route;
    proxy->collected.limit = options->answered ? LIMIT_ANSWERED_BYTES : LIMIT_COLLECTED_BYTES + 1;
    proxy->deadline_ns = clock_ns() + gateway->options.timeout_ms * 1000000ll;
    return proxy;
}

void proxy_start(struct gateway *gateway, struct http_request *request, const struct proxy_options *options) {
    struct context *context = context_of(request);
    const char *model = gateway->options.relay ? RELAY_ROUTE : options->model;
    struct error error;

    struct route *route = take_route(gateway, model);
    if (!route) {
        if (gateway_check_model(gateway, model, &error)) /* it came just now */
            error_set(&error, ERROR_UNAVAILABLE, "model \"%s\" is starting; try again shortly", model);
        respond_error(request, &error);
        return;
    }
    if (!gateway->options.relay) {
        strcpy(context->model, route->model);
        context->model_known = true;
    }

    struct proxy_request *proxy = proxy_create(gateway, request, route, options);
    if (!proxy) {
        pthread_mutex_lock(&gateway->lock);
        route_release(route);
        gateway->proxied--;
        pthread_mutex_unlock(&gateway->lock);
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }
    http_request_on_gone(request, client_gone, proxy);
    try_replica(proxy);
}
