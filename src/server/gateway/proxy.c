/* A proxy request's life: it begins, waits for a replica, chooses one, is repeated, and ends. */
#include "server/gateway/proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "server/edge/respond.h"
#include "server/gateway/proxy_private.h"

#define ROUNDS_MOST 4 /* times that all replicas are gone through */
#define SUSPECT_PAUSE_MS 100

/* ---- Ends ---- */

/* Lock held. */
static void join_asked(struct proxy_request *proxy, struct replica *replica) {
    proxy->asked_next = replica->asked;
    proxy->asked_link = &replica->asked;
    if (replica->asked)
        replica->asked->asked_link = &proxy->asked_next;
    replica->asked = proxy;
    replica->asked_tokens += proxy->weight;
    proxy->asked_of = replica;
}

void proxy_leave_asked(struct proxy_request *proxy) {
    if (!proxy->asked_link)
        return;
    *proxy->asked_link = proxy->asked_next;
    if (proxy->asked_next)
        proxy->asked_next->asked_link = proxy->asked_link;
    proxy->asked_link = NULL;
    proxy->asked_of->asked_tokens -= proxy->weight;
}

/* Lock held. What was told of a replica has chosen, or has ended. */
static void end_resuming(struct proxy_request *proxy) {
    proxy->route->resuming -= proxy->resuming;
    proxy->resuming = false;
}

void proxy_free(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;

    http_timer_cancel(proxy->timer);
    pthread_mutex_lock(&gateway->lock);
    proxy_leave_asked(proxy);
    end_resuming(proxy);
    if (proxy->replica)
        replica_abandoned(proxy->replica);
    if (proxy->options.aim != PROXY_LOOK)
        proxy->route->last_used = clock_ns();
    route_release(proxy->route);
    bool called = proxy->ended = proxy->called;
    gateway->proxied -= !called;
    pthread_mutex_unlock(&gateway->lock);

    buffer_release(&proxy->head);
    buffer_release(&proxy->collected);
    free(proxy->target);
    free(proxy->fallback);
    if (!called)
        free(proxy);
}

const char *proxy_describe_upstream(const struct proxy_request *proxy, char ret[MODEL_NAME_BYTES + 16]) {
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

void proxy_fail(struct proxy_request *proxy, const struct error *error) {
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

void proxy_fail_memory(struct proxy_request *proxy) {
    proxy_fail(proxy, &(struct error){ERROR_MEMORY, "out of memory"});
}

/* The reply has begun and cannot be completed. An event stream is told so in its own form; then the
 * connection ends without the mark of a whole reply. */
void proxy_break_reply(struct proxy_request *proxy, const struct error *error) {
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
    proxy_fail(proxy, &(struct error){ERROR_UNAVAILABLE, "the client left"});
}

static void resume(void *context) {
    struct proxy_request *proxy = context;

    pthread_mutex_lock(&proxy->gateway->lock); /* proxy_resume_waiting may still hold it, and look at us */
    proxy->resumed = false;
    pthread_mutex_unlock(&proxy->gateway->lock);
    http_timer_cancel(proxy->timer);
    proxy->timer = NULL;

    if (proxy->failed) {
        proxy_fail(proxy, &proxy->failure);
    } else if (http_request_is_gone(proxy->request)) {
        proxy_fail(proxy, &(struct error){ERROR_UNAVAILABLE, "the client left"});
    } else {
        proxy->tried_count = 0;
        proxy_try(proxy);
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
        proxy->resuming = true;
        proxy->route->resuming++;
    }
    pthread_mutex_unlock(&gateway->lock);
}

int64_t proxy_waiting_since(const struct gateway *gateway, const struct route *route) {
    int64_t oldest = 0;

    for (const struct proxy_request *at = route->waiting ? gateway->waiting : NULL; at; at = at->next)
        if (at->route == route && (!oldest || at->begun_ns < oldest))
            oldest = at->begun_ns;
    return oldest;
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
    proxy_fail(proxy, &error);
}

int proxy_milliseconds_left(const struct proxy_request *proxy) {
    int64_t left = (proxy->deadline_ns - clock_ns()) / 1000000;
    return left < 1 ? 1 : (int)left;
}

/* Put on the list of those that wait. False, with the reason: the model was removed meanwhile, or as many
 * wait already as a replica takes at once. */
static bool add_waiting(struct proxy_request *proxy, struct error *error) {
    struct gateway *gateway = proxy->gateway;
    struct route *route = proxy->route;

    pthread_mutex_lock(&gateway->lock);
    bool retired = route->retired, full = route->waiting >= route->bound;
    if (retired)
        error_set(error, ERROR_NOT_FOUND, "model \"%s\" has been removed", route->model);
    else if (full)
        error_set(error, ERROR_UNAVAILABLE,
                  "too many requests wait for model \"%s\" to start; try again shortly", route->model);
    if (!retired && !full) {
        proxy->waiting = true;
        route->waiting++;
        proxy->next = gateway->waiting;
        gateway->waiting = proxy;
    }
    pthread_mutex_unlock(&gateway->lock);
    return !retired && !full;
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
                  proxy_describe_upstream(proxy, name));
        proxy_fail(proxy, &error);
        return;
    }
    proxy->timer =
        http_timer_start(proxy->request->loop, proxy_milliseconds_left(proxy), waiting_timed_out, proxy);
    if (!proxy->timer) {
        proxy_fail_memory(proxy);
        return;
    }
    strcpy(model, proxy->route->model); /* once on the list, another thread may end the request */
    if (!add_waiting(proxy, &error)) {
        proxy_fail(proxy, &error);
        return;
    }
    supervisor->wake(supervisor->context, model);
}

static void retry(void *context) {
    struct proxy_request *proxy = context;
    proxy->timer = NULL;
    proxy_try(proxy);
}

void proxy_pause(struct proxy_request *proxy, int ms) {
    proxy->timer = http_timer_start(proxy->request->loop, ms, retry, proxy);
    if (!proxy->timer)
        proxy_fail_memory(proxy);
}

/* Every replica failed just now. A restart or a failover takes a moment: go round again after a pause. */
static void pause_round(struct proxy_request *proxy) {
    static const int pauses_ms[ROUNDS_MOST] = {25, 75, 250, 750};
    int pause = proxy->rounds < ROUNDS_MOST ? pauses_ms[proxy->rounds] : 0;
    char name[MODEL_NAME_BYTES + 16];
    struct error error;

    proxy->tried_count = 0;
    if (pause && proxy_milliseconds_left(proxy) > pause) {
        proxy->rounds++;
        proxy->timer = http_timer_start(proxy->request->loop, pause, retry, proxy);
        if (proxy->timer)
            return;
    }
    if (proxy->gateway->options.relay)
        error_set(&error, ERROR_UPSTREAM, "the gateway cannot be reached");
    else
        error_set(&error, ERROR_UPSTREAM, "no backend of %s answers", proxy_describe_upstream(proxy, name));
    proxy_fail(proxy, &error);
}

/* ---- A replica that hangs ---- */

/* On the request's loop. It waits for a replica that does not answer its checks, and another is well. */
static void leave_replica(void *context) {
    struct proxy_request *proxy = context;
    struct gateway *gateway = proxy->gateway;
    int64_t now = clock_ns();

    pthread_mutex_lock(&gateway->lock);
    proxy->called = false;
    bool ended = proxy->ended;
    gateway->proxied -= ended;
    struct replica *replica = proxy->replica;
    bool leaves = !ended && proxy->call && replica && !replica->healthy && !proxy->body_sent &&
                  (proxy->reply == REPLY_NONE || proxy->reply == REPLY_COLLECTING) &&
                  proxy->tried_count < TRIED_MOST && route_well_count(proxy->route, now) > 0 &&
                  route_budget_take(proxy->route, now);
    if (leaves) {
        proxy_leave_asked(proxy);
        proxy->tried[proxy->tried_count++] = replica;
        proxy->replica = NULL;
        replica_abandoned(replica);
    }
    pthread_mutex_unlock(&gateway->lock);

    if (ended)
        free(proxy);
    if (!leaves)
        return;
    http_call_cancel(proxy->call);
    proxy->call = NULL;
    proxy->reply = REPLY_NONE;
    proxy_try(proxy);
}

void proxy_leave_replica(struct gateway *gateway, struct replica *replica) {
    (void)gateway;
    for (struct proxy_request *proxy = replica->asked; proxy; proxy = proxy->asked_next)
        if (!proxy->called)
            proxy->called = http_loop_post(proxy->request->loop, leave_replica, proxy);
}

/* ---- The choice ---- */

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

/* Lock held. It may be this request that breaks replicas, and only one is well. */
static bool is_kept_from(const struct proxy_request *proxy, const struct replica *replica, int64_t now) {
    return proxy->suspect_until_ns && proxy->route->count > 1 && replica->healthy &&
           replica->ejected_until <= now && route_well_count(proxy->route, now) == 1;
}

/* It waits for another replica to be well. */
static void keep_from_last(struct proxy_request *proxy) {
    char name[MODEL_NAME_BYTES + 16];
    struct error error;

    if (clock_ns() < proxy->suspect_until_ns && proxy_milliseconds_left(proxy) > SUSPECT_PAUSE_MS) {
        proxy_pause(proxy, SUSPECT_PAUSE_MS);
        return;
    }
    error_set(
        &error, ERROR_UPSTREAM,
        "%s: its process closed the connection on this request, and the only replica that is left is not "
        "asked the same",
        proxy_describe_upstream(proxy, name));
    proxy_fail(proxy, &error);
}

static void fail_full(struct proxy_request *proxy) {
    char name[MODEL_NAME_BYTES + 16];
    struct error error;

    error_set(&error, ERROR_UNAVAILABLE, "%s is at its concurrency limit; try again shortly",
              proxy_describe_upstream(proxy, name));
    proxy_fail(proxy, &error);
}

void proxy_try(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;
    enum proxy_aim aim = proxy->options.aim;
    struct replica *replica = NULL;
    int64_t now = clock_ns();

    pthread_mutex_lock(&gateway->lock);
    end_resuming(proxy);
    enum route_choice choice =
        route_choose(proxy->route, proxy->affinity, proxy->tried, proxy->tried_count, now, &replica);
    bool kept = choice == ROUTE_FOUND && is_kept_from(proxy, replica, now);
    if (choice == ROUTE_FOUND && !kept) {
        replica_begin(replica);
        join_asked(proxy, replica);
        proxy->replica = replica;
    }
    if (aim != PROXY_LOOK)
        proxy->route->last_used = now;
    pthread_mutex_unlock(&gateway->lock);

    switch (choice) {
    case ROUTE_FOUND:
        if (kept)
            keep_from_last(proxy);
        else
            proxy_send_request(proxy);
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

/* ---- The beginning ---- */

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
    proxy->affinity = proxy->context->affinity;
    proxy->weight = proxy->context->weight;
    proxy->options = *options;
    proxy->route = route;
    proxy->collected.limit = options->answered ? LIMIT_ANSWERED_BYTES : LIMIT_COLLECTED_BYTES + 1;
    proxy->begun_ns = clock_ns();
    proxy->deadline_ns = proxy->begun_ns + gateway->options.timeout_ms * 1000000ll;
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
    proxy_try(proxy);
}
