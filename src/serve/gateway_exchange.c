/* One request to a model: a replica is chosen, asked, and on a failure that is safe to repeat another one is.
 * Every route that reaches a model only computes, so all of them are safe to repeat.
 *
 * An exchange lives on its request's loop; only its place in the list of waiting ones is shared (under the
 * lock). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/gateway_private.h"

#define TRIED_MOST 16
#define ROUNDS_MOST 4 /* times that all replicas are gone through */
#define STALE_MOST 2  /* kept connections that turned out to be closed: not the replica's fault */
#define BROKEN_MOST                                                                        \
    3 /* replicas that died under this request: beyond, the request may be what kills them \
       */
#define BROKEN_MOST_SUPERVISED 2

struct exchange {
    struct gateway *gateway;
    struct http_request *request;
    struct visit *visit;
    struct route *route;
    struct replica *replica;           /* being asked now; NULL else */
    struct replica *tried[TRIED_MOST]; /* compared only, never followed */
    int tried_count, rounds, stale, broken;
    struct http_call *call;
    struct http_timer *timer;
    int64_t deadline_ns, asked_ns;
    enum exchange_aim aim;
    char *target;
    /* Under the lock: */
    bool waiting, resumed;
    bool failed; /* with `failure` */
    struct error failure;
    struct exchange *next;
};

static void exchange_try(struct exchange *exchange);

/* Off every list and timer. The reply was made or is made next. */
static void exchange_free(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    http_timer_cancel(exchange->timer);
    pthread_mutex_lock(&gateway->lock);
    if (exchange->replica)
        replica_abandoned(exchange->replica);
    if (exchange->aim != EXCHANGE_LOOK)
        exchange->route->last_used = clock_ns();
    route_release(exchange->route);
    gateway->exchanges--;
    pthread_mutex_unlock(&gateway->lock);
    free(exchange->target);
    free(exchange);
}

static void exchange_fail(struct exchange *exchange, const struct error *error) {
    gateway_reply_error(exchange->gateway, exchange->request, error);
    exchange_free(exchange);
}

/* Out of the list of those that wait; false where a resumption is already on its way. */
static bool waiting_remove(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    pthread_mutex_lock(&gateway->lock);
    bool waited = exchange->waiting;
    if (waited) {
        struct exchange **at = &gateway->waiting;
        while (*at != exchange)
            at = &(*at)->next;
        *at = exchange->next;
        exchange->waiting = false;
        exchange->route->waiting--;
    }
    bool resumed = exchange->resumed;
    pthread_mutex_unlock(&gateway->lock);
    return !resumed;
}

/* The caller has gone: stop working for it. */
static void exchange_gone(void *context) {
    struct exchange *exchange = context;
    if (!waiting_remove(exchange))
        return; /* exchange_resumed comes, and sees it */
    http_call_cancel(exchange->call);
    struct error error;
    error_set(&error, ERROR_UNAVAILABLE, "the caller left");
    exchange_fail(exchange, &error);
}

static void exchange_resumed(void *context) {
    struct exchange *exchange = context;
    pthread_mutex_lock(&exchange->gateway->lock); /* whoever posted this still holds it, and looks at us */
    exchange->resumed = false;
    pthread_mutex_unlock(&exchange->gateway->lock);
    http_timer_cancel(exchange->timer);
    exchange->timer = NULL;
    if (exchange->failed || http_request_is_gone(exchange->request)) {
        if (!exchange->failed)
            error_set(&exchange->failure, ERROR_UNAVAILABLE, "the caller left");
        exchange_fail(exchange, &exchange->failure);
        return;
    }
    exchange->tried_count = 0;
    exchange_try(exchange);
}

void gateway_exchanges_resume(struct gateway *gateway, const char *model, const struct error *reason) {
    pthread_mutex_lock(&gateway->lock);
    for (struct exchange **at = &gateway->waiting; *at;) {
        struct exchange *exchange = *at;
        if (strcmp(exchange->route->model, model) != 0) {
            at = &exchange->next;
            continue;
        }
        exchange->failed = reason != NULL;
        if (reason)
            exchange->failure = *reason;
        exchange->resumed = http_loop_post(exchange->request->loop, exchange_resumed, exchange);
        if (!exchange->resumed) { /* no memory now: its timer ends it */
            at = &exchange->next;
            continue;
        }
        *at = exchange->next;
        exchange->waiting = false;
        exchange->route->waiting--;
    }
    pthread_mutex_unlock(&gateway->lock);
}

void gateway_exchanges_end(struct gateway *gateway) {
    for (int left = 1; left > 0;) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pthread_mutex_lock(&gateway->lock);
        left = gateway->exchanges;
        pthread_mutex_unlock(&gateway->lock);
    }
}

static void waiting_timed_out(void *context) {
    struct exchange *exchange = context;
    exchange->timer = NULL;
    if (!waiting_remove(exchange))
        return;
    struct error error;
    error_set(&error, ERROR_TIMEOUT, "model \"%s\" is still starting; try again in a while",
              exchange->route->model);
    exchange_fail(exchange, &error);
}

static int milliseconds_left(const struct exchange *exchange) {
    int64_t left = (exchange->deadline_ns - clock_ns()) / 1000000;
    return left < 1 ? 1 : (int)left;
}

/* No replica runs: wait for one where somebody can start it. */
static void exchange_wait(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    const struct gateway_supervisor *supervisor = gateway->options.supervisor;
    struct error error;
    if (!supervisor) {
        error_set(&error, ERROR_UNAVAILABLE, "no backend of model \"%s\" can be reached",
                  exchange->route->model);
        exchange_fail(exchange, &error);
        return;
    }
    exchange->timer =
        http_timer_start(exchange->request->loop, milliseconds_left(exchange), waiting_timed_out, exchange);
    if (!exchange->timer) {
        error_set(&error, ERROR_MEMORY, "out of memory");
        exchange_fail(exchange, &error);
        return;
    }
    char model[BACKEND_NAME_BYTES];
    strcpy(model, exchange->route->model);
    pthread_mutex_lock(&gateway->lock);
    bool retired = exchange->route->retired;
    if (!retired) {
        exchange->waiting = true;
        exchange->route->waiting++;
        exchange->next = gateway->waiting;
        gateway->waiting = exchange;
    }
    pthread_mutex_unlock(&gateway->lock);
    if (retired) {
        error_set(&error, ERROR_NOT_FOUND, "model \"%s\" is not here any more", model);
        exchange_fail(exchange, &error);
        return;
    }
    supervisor->wake(supervisor->context, model);
}

static void exchange_again(void *context) {
    struct exchange *exchange = context;
    exchange->timer = NULL;
    exchange_try(exchange);
}

/* Every replica failed just now. A restart or a failover takes a moment: go round again after a pause. */
static void exchange_pause(struct exchange *exchange) {
    static const int pauses_ms[ROUNDS_MOST] = {25, 75, 250, 750};
    exchange->tried_count = 0;
    int pause = exchange->rounds < ROUNDS_MOST ? pauses_ms[exchange->rounds] : 0;
    if (pause && milliseconds_left(exchange) > pause) {
        exchange->rounds++;
        exchange->timer = http_timer_start(exchange->request->loop, pause, exchange_again, exchange);
        if (exchange->timer)
            return;
    }
    struct error error;
    error_set(&error, ERROR_UPSTREAM, "no backend of model \"%s\" answers", exchange->route->model);
    exchange_fail(exchange, &error);
}

/* Pass a whole answer back to the caller. */
static void answer_pass(struct exchange *exchange, const struct http_answer *answer) {
    struct proxy_headers headers;
    if (!proxy_answer_headers(answer, NULL, &headers)) {
        struct error error;
        error_set(&error, ERROR_UPSTREAM, "the backend's answer has too many headers");
        exchange_fail(exchange, &error);
        return;
    }
    gateway_reply(exchange->gateway, exchange->request, answer->status, headers.headers, headers.count,
                  http_body_reference(answer->body));
    exchange_free(exchange);
}

/* The replica has been asked and has said `answer`: keep its account. */
static void outcome_count(struct exchange *exchange, const struct http_answer *answer) {
    struct gateway *gateway = exchange->gateway;
    struct replica *replica = exchange->replica;
    int64_t now = clock_ns();
    exchange->visit->upstream_ms = (double)(now - exchange->asked_ns) / 1e6;
    exchange->replica = NULL;
    exchange->call = NULL;
    pthread_mutex_lock(&gateway->lock);
    if (answer->failure == HTTP_ANSWERED) {
        if (answer->status == 502 || answer->status == 504)
            replica_abandoned(replica);
        else
            replica_succeeded(replica);
        if (answer->status == 200 && exchange->visit->route[0] == 'p') {
            double *typical = &exchange->route->typical_ms;
            *typical = *typical > 0 ? *typical * 0.95 + exchange->visit->upstream_ms * 0.05
                                    : exchange->visit->upstream_ms;
        }
    } else if ((answer->failure == HTTP_FAILED_CLOSED && answer->reused) ||
               answer->failure == HTTP_FAILED_MEMORY || answer->failure == HTTP_FAILED_TOO_LARGE) {
        replica_abandoned(replica);
    } else {
        replica_failed(replica, answer->failure == HTTP_FAILED_CONNECT, now);
    }
    pthread_mutex_unlock(&gateway->lock);
}

/* Whether this outcome may be tried again, within the budget; notes what was learnt. */
static bool may_repeat(struct exchange *exchange, const struct http_answer *answer, struct replica *replica) {
    struct gateway *gateway = exchange->gateway;
    bool stale = answer->failure == HTTP_FAILED_CLOSED && answer->reused;
    bool broken = answer->failure == HTTP_FAILED_BROKEN || (answer->failure == HTTP_FAILED_CLOSED && !stale);
    if (answer->failure == HTTP_ANSWERED && answer->status != 503)
        return false;
    if (answer->failure == HTTP_FAILED_TIMEOUT || answer->failure == HTTP_FAILED_TOO_LARGE ||
        answer->failure == HTTP_FAILED_PROTOCOL || answer->failure == HTTP_FAILED_MEMORY)
        return false;
    if (broken && ++exchange->broken >= (gateway->options.supervisor ? BROKEN_MOST_SUPERVISED : BROKEN_MOST))
        return false;
    if (!(stale && exchange->stale++ < STALE_MOST) && exchange->tried_count < TRIED_MOST)
        exchange->tried[exchange->tried_count++] = replica;
    pthread_mutex_lock(&gateway->lock);
    bool paid = route_budget_take(exchange->route, clock_ns());
    pthread_mutex_unlock(&gateway->lock);
    return paid;
}

static void failure_explain(const struct exchange *exchange, const struct http_answer *answer) {
    struct error error;
    if (answer->failure == HTTP_FAILED_TIMEOUT)
        error_set(&error, ERROR_TIMEOUT, "model \"%s\" did not answer in time", exchange->route->model);
    else if (exchange->broken > 1)
        error_set(&error, ERROR_UPSTREAM, "model \"%s\" broke off %d times on this request",
                  exchange->route->model, exchange->broken);
    else
        error_set(&error, ERROR_UPSTREAM, "model \"%s\": %s", exchange->route->model,
                  *answer->reason ? answer->reason : "the backend failed");
    exchange_fail((struct exchange *)exchange, &error);
}

static void exchange_answered(void *context, const struct http_answer *answer) {
    struct exchange *exchange = context;
    struct replica *replica = exchange->replica;
    outcome_count(exchange, answer);
    if (!may_repeat(exchange, answer, replica)) {
        if (answer->failure == HTTP_ANSWERED)
            answer_pass(exchange, answer);
        else
            failure_explain(exchange, answer);
        return;
    }
    if (answer->failure ==
        HTTP_ANSWERED) { /* 503: another replica may have room; if none has, this is the answer */
        struct replica *other;
        pthread_mutex_lock(&exchange->gateway->lock);
        bool another = exchange->route->count > 1 &&
                       route_choose(exchange->route, exchange->tried, exchange->tried_count, clock_ns(),
                                    &other) == ROUTE_FOUND;
        pthread_mutex_unlock(&exchange->gateway->lock);
        if (!another) {
            answer_pass(exchange, answer);
            return;
        }
    }
    exchange_try(exchange);
}

static void exchange_ask(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    struct replica *replica = exchange->replica;
    const char *secrets[] = {"Authorization", "X-Api-Key", NULL};
    struct proxy_headers headers;
    struct error error;
    error_set(&error, ERROR_TOO_LARGE, "too many headers");
    char token[IDENTITY_TOKEN_BYTES];
    bool guarded = gateway->options.api_keys_file != NULL; /* then the key is ours, and no backend's */
    bool good = proxy_request_headers(exchange->request, &exchange->visit->trace, guarded ? secrets : NULL,
                                      &headers) &&
                proxy_headers_add(&headers, "Host", replica->host);
    if (good && gateway->identity) {
        const char *name = http_request_header(exchange->request, "Authorization") && !guarded
                               ? "X-Serverless-Authorization"
                               : "Authorization";
        good = identity_token(gateway->identity, &replica->url, token, &error) &&
               proxy_headers_add(&headers, name, token);
    }
    if (!good) {
        exchange_fail(exchange, &error);
        return;
    }
    const struct http_request *request = exchange->request;
    exchange->asked_ns = clock_ns();
    exchange->visit->tries++;
    strcpy(exchange->visit->upstream, replica->place);
    exchange->call =
        http_call_start(replica->upstream, request->loop,
                        &(struct http_call_options){
                            .method = request->method == HTTP_HEAD ? "GET" : request->method_name,
                            .target = exchange->target,
                            .headers = headers.headers,
                            .header_count = headers.count,
                            .body = request->body,
                            .timeout_ms = milliseconds_left(exchange),
                            .done = exchange_answered,
                            .context = exchange,
                        });
    if (!exchange->call) {
        error_set(&error, ERROR_MEMORY, "out of memory");
        exchange_fail(exchange, &error);
    }
}

static void load_done(struct exchange *exchange) {
    static const struct http_header json[] = {{"Content-Type", "application/json"}};
    gateway_reply(exchange->gateway, exchange->request, 200, json, 1, http_body_create("{}", 2));
    exchange_free(exchange);
}

/* Somebody looks at a model that sleeps: what can be said of it without waking it. */
static void look_done(struct exchange *exchange) {
    static const struct http_header text[] = {{"Content-Type", METRICS_CONTENT_TYPE}};
    static const struct http_header json[] = {{"Content-Type", "application/json"}};
    const char *route = exchange->visit->route, *answer = "# the model does not run now\n";
    bool health = strcmp(route, "health") == 0, status = strcmp(route, "v1") == 0;
    if (health)
        answer = "{\"ready\": false}\n";
    else if (status) /* TensorFlow Serving's word for a version that is known and not loaded yet */
        answer = "{\"model_version_status\": [{\"version\": \"1\", \"state\": \"START\", \"status\": "
                 "{\"error_code\": \"OK\", \"error_message\": \"\"}}]}\n";
    gateway_reply(exchange->gateway, exchange->request, health ? 503 : 200, health || status ? json : text, 1,
                  http_body_create(answer, strlen(answer)));
    exchange_free(exchange);
}

static void exchange_try(struct exchange *exchange) {
    struct gateway *gateway = exchange->gateway;
    struct error error;
    struct replica *replica = NULL;
    int64_t now = clock_ns();
    pthread_mutex_lock(&gateway->lock);
    enum route_choice choice =
        route_choose(exchange->route, exchange->tried, exchange->tried_count, now, &replica);
    if (choice == ROUTE_FOUND && exchange->aim != EXCHANGE_LOAD) {
        replica_begin(replica);
        exchange->replica = replica;
    }
    if (exchange->aim != EXCHANGE_LOOK)
        exchange->route->last_used = now;
    pthread_mutex_unlock(&gateway->lock);
    switch (choice) {
    case ROUTE_FOUND:
        if (exchange->aim == EXCHANGE_LOAD)
            load_done(exchange);
        else
            exchange_ask(exchange);
        return;
    case ROUTE_EMPTY:
        if (exchange->aim == EXCHANGE_LOOK && gateway->options.supervisor)
            look_done(exchange);
        else
            exchange_wait(exchange);
        return;
    case ROUTE_TRIED:
        exchange_pause(exchange);
        return;
    case ROUTE_FULL:
        error_set(&error, ERROR_UNAVAILABLE,
                  "model \"%s\" has all the requests that it can take; try again shortly",
                  exchange->route->model);
        exchange_fail(exchange, &error);
        return;
    }
}

/* The route of a model, with a count for the caller; NULL where there is none. */
static struct route *route_take(struct gateway *gateway, const char *model, size_t length) {
    pthread_mutex_lock(&gateway->lock);
    struct route *route = route_table_find(&gateway->table, model, length);
    if (route) {
        route_acquire(route);
        route_budget_deposit(route, clock_ns());
        gateway->exchanges++;
    }
    pthread_mutex_unlock(&gateway->lock);
    return route;
}

void gateway_exchange(struct gateway *gateway, struct http_request *request, const char *model,
                      size_t model_length, const char *target, enum exchange_aim aim) {
    struct error error;
    struct route *route = route_take(gateway, model, model_length);
    if (!route) {
        struct buffer names = {.limit = 360};
        gateway_model_names(gateway, &names);
        error_set(&error, ERROR_NOT_FOUND, "there is no model \"%.*s\"; there are: %s",
                  (int)(model_length < 60 ? model_length : 60), model, names.bytes ? names.bytes : "none");
        buffer_release(&names);
        gateway_reply_error(gateway, request, &error);
        return;
    }
    struct visit *visit = request->user;
    strcpy(visit->model, route->model);
    struct exchange *exchange = calloc(1, sizeof *exchange);
    char *copy = strdup(target);
    if (!exchange || !copy) {
        free(exchange);
        free(copy);
        pthread_mutex_lock(&gateway->lock);
        route_release(route);
        gateway->exchanges--;
        pthread_mutex_unlock(&gateway->lock);
        error_set(&error, ERROR_MEMORY, "out of memory");
        gateway_reply_error(gateway, request, &error);
        return;
    }
    exchange->gateway = gateway;
    exchange->request = request;
    exchange->visit = visit;
    exchange->route = route;
    exchange->target = copy;
    exchange->aim = aim;
    exchange->deadline_ns = clock_ns() + gateway->options.timeout_ms * 1000000ll;
    http_request_on_gone(request, exchange_gone, exchange);
    exchange_try(exchange);
}
