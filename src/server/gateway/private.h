/* The gateway's inside, for gateway.c, proxy.c and discovery.c alone; others use the functions below.
 *
 * Locking: `lock` guards the table and the list of waiting requests, and is held for a few hundred
 * nanoseconds at a time, never over a call of http/ that may block or call back. `discovery_lock` guards what
 * was read of the backends; it is taken before `lock`, never after. */
#pragma once
#include <pthread.h>

#include "server/edge/google_identity.h"
#include "server/gateway/balancer.h"
#include "server/gateway/gateway.h"
#include "server/gateway/resolver.h"

#define RELAY_ROUTE "gateway" /* the one route of a relay */

struct proxy_request;

struct gateway {
    struct gateway_options options;
    struct http_loops *loops;
    struct service service;
    struct metrics *metrics;
    struct identity *identity; /* NULL: no tokens */

    pthread_mutex_t lock;
    struct route_table table;
    struct proxy_request *waiting; /* for a replica to start: a list, in no order */
    int proxied;                   /* requests that are kept: proxy requests not yet freed, and changes */
    int checks;                    /* health checks under way */

    /* The discovery thread has names looked up, connects replicas and checks their health. */
    pthread_t discovery;
    bool discovery_runs;
    pthread_mutex_t discovery_lock;
    pthread_cond_t discovery_wake;
    bool stopping;
    struct backend_list backends; /* as last read */
    struct resolver *resolver;    /* addresses of the backends' hosts */
};

/* gateway.c */
const struct gateway_options *gateway_options(const struct gateway *gateway);
/* One request more, or less, that is kept and answered later: gateway_free waits for them. */
void gateway_count_kept(struct gateway *gateway, int change);
struct identity *gateway_identity(const struct gateway *gateway); /* NULL: no tokens */

/* discovery.c */
bool discovery_start(struct gateway *gateway, struct error *error);
void discovery_stop(struct gateway *gateway);
/* Read the backends; on failure nothing changed. */
bool discovery_reload(struct gateway *gateway, struct error *error);
/* An upstream for a replica; does not wait for anything. */
struct http_upstream *discovery_connect(const struct gateway *gateway, const struct route_target *target,
                                        struct error *error);

/* proxy.c */
/* Let all that wait for `model` (NULL: for any) try again, or, with a reason, fail. Any thread, without the
 * lock. */
void proxy_resume_waiting(struct gateway *gateway, const char *model, const struct error *reason);
/* A replica does not answer its check: what waits for it, and may, is asked elsewhere. Lock held. */
void proxy_leave_replica(struct gateway *gateway, struct replica *replica);
/* When the request began that waits longest for a replica of the route; 0: none waits. Lock held. */
int64_t proxy_waiting_since(const struct gateway *gateway, const struct route *route);
/* Wait until no request is left; their callers have gone already. */
void proxy_wait_idle(struct gateway *gateway);
