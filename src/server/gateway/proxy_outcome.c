/* What a replica's response, or its failure, means for the replica and for the request. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "server/gateway/proxy_private.h"

#define STALE_MOST 2 /* kept connections that turned out to be closed: not the replica's fault */
/* Replicas that died under this request: beyond, the request may be what kills them. */
#define BROKEN_MOST 3
#define BROKEN_MOST_SUPERVISED 2
/* So long a request that broke a replica waits for two to be well: it is not carried to the last one. */
#define SUSPECT_MS 10000
#define LOADING_LEAST_MS 500 /* of a request's time must be left to wait for a replica that is loading */

bool proxy_has_other_replica(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;
    struct replica *tried[TRIED_MOST + 1], *other;

    memcpy(tried, proxy->tried, sizeof proxy->tried);
    tried[proxy->tried_count] = proxy->replica;
    pthread_mutex_lock(&gateway->lock);
    bool found =
        proxy->route->count > 1 &&
        route_choose(proxy->route, 0, tried, proxy->tried_count + 1, clock_ns(), &other) == ROUTE_FOUND &&
        route_budget_take(proxy->route, clock_ns());
    pthread_mutex_unlock(&gateway->lock);
    return found;
}

/* Whether a time counts as a prediction's: the path's label says what was asked. */
static bool is_prediction(const struct context *context) {
    return context->endpoint && context->endpoint->scope == SCOPE_MODEL &&
           context->endpoint->right == RIGHT_PREDICT && strcmp(context->endpoint->method, "POST") == 0;
}

/* The replica closed the connection in the middle of this request: it may have died of it. */
static bool is_broken(const struct http_response *response) {
    return response->failure == HTTP_FAILED_BROKEN ||
           (response->failure == HTTP_FAILED_CLOSED && !response->reused);
}

void proxy_count_outcome(struct proxy_request *proxy, const struct http_response *response) {
    struct gateway *gateway = proxy->gateway;
    struct replica *replica = proxy->replica;
    int64_t now = clock_ns();

    proxy->context->upstream_ms = (double)(now - proxy->asked_ns) / 1e6;
    proxy->replica = NULL;
    proxy->call = NULL;

    pthread_mutex_lock(&gateway->lock);
    proxy_leave_asked(proxy);
    if (response->failure == HTTP_COMPLETE) {
        if (proxy->status == 502 || proxy->status == 504)
            replica_abandoned(replica);
        else
            replica_succeeded(replica);
        if (proxy->status == 200 && is_prediction(proxy->context))
            route_note_time(proxy->route, proxy->context->upstream_ms);
    } else if ((response->failure == HTTP_FAILED_CLOSED && response->reused) ||
               response->failure == HTTP_FAILED_MEMORY || response->failure == HTTP_FAILED_TOO_LARGE) {
        replica_abandoned(replica);
    } else if (is_broken(response)) {
        replica_broke(replica, now);
    } else {
        replica_failed(replica, response->failure == HTTP_FAILED_CONNECT, now);
    }
    pthread_mutex_unlock(&gateway->lock);
}

bool proxy_may_repeat(struct proxy_request *proxy, const struct http_response *response,
                      struct replica *replica) {
    struct gateway *gateway = proxy->gateway;
    bool stale = response->failure == HTTP_FAILED_CLOSED && response->reused;
    bool broken = is_broken(response);

    if (proxy->body_sent || response->failure == HTTP_FAILED_TIMEOUT ||
        response->failure == HTTP_FAILED_TOO_LARGE || response->failure == HTTP_FAILED_PROTOCOL ||
        response->failure == HTTP_FAILED_MEMORY)
        return false;
    int broken_most = gateway->options.supervisor ? BROKEN_MOST_SUPERVISED : BROKEN_MOST;
    if (broken && ++proxy->broken >= broken_most)
        return false;
    if (broken && !gateway->options.supervisor)
        proxy->suspect_until_ns = clock_ns() + SUSPECT_MS * 1000000ll;

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

void proxy_explain_failure(const struct proxy_request *proxy, const struct http_response *response,
                           struct error *ret) {
    char name[MODEL_NAME_BYTES + 16];

    proxy_describe_upstream(proxy, name);
    if (response->failure == HTTP_FAILED_TIMEOUT && response->status)
        error_set(ret, ERROR_TIMEOUT, "%s: %s", name, response->reason);
    else if (response->failure == HTTP_FAILED_TIMEOUT)
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

bool proxy_waits_for_loading(struct proxy_request *proxy) {
    struct gateway *gateway = proxy->gateway;

    pthread_mutex_lock(&gateway->lock);
    bool unready = !proxy->replica->checked || !proxy->replica->healthy;
    bool alone = proxy->route->count == 1;
    pthread_mutex_unlock(&gateway->lock);
    return alone && unready && gateway->options.check_ms > 0 && !gateway->options.relay &&
           proxy->options.aim == PROXY_ASK && proxy_milliseconds_left(proxy) > LOADING_LEAST_MS;
}
