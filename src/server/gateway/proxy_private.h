/* A proxy request, for the files that make one up: proxy.c (its life, waiting, the choice of a replica),
 * proxy_request.c (what goes upstream), proxy_response.c (what comes back) and proxy_outcome.c (what that
 * means).
 *
 * It lives on its request's loop; only its place in the list of waiting ones is shared, under the gateway's
 * lock. All functions are called on that loop, without the lock. */
#pragma once
#include "server/edge/context.h"
#include "server/edge/event_stream.h"
#include "server/gateway/private.h"
#include "server/gateway/proxy.h"

#define TRIED_MOST 16

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
    uint64_t affinity; /* struct context has these two, but ends with the reply */
    int64_t weight;
    struct replica *replica;           /* being asked now; NULL else */
    struct replica *tried[TRIED_MOST]; /* compared only, never followed */
    int tried_count, rounds, stale, broken;
    int64_t suspect_until_ns; /* it may be what broke a replica, and waits for two to be well; 0: it is not */
    bool loading;             /* the response was discarded because the replica is still loading */
    bool body_sent;           /* the request's body was passed on in pieces, and is gone */

    struct http_call *call;
    struct http_timer *timer;
    int64_t begun_ns, deadline_ns, asked_ns;

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
    bool resuming;                                  /* counted as that in its route */
    bool called;                                    /* leave_replica is on its way */
    bool ended;                                     /* … and frees what is left */
    struct proxy_request **asked_link, *asked_next; /* in the list of its replica; NULL: in none */
    struct replica *asked_of;                       /* … whose list it is */
    bool failed;                                    /* with `failure` */
    struct error failure;
    struct proxy_request *next;
};

/* proxy.c */
/* Choose a replica and ask it; wait, pause or fail where there is none. */
void proxy_try(struct proxy_request *proxy);
/* Off every list and timer. The reply was made or is made next. */
void proxy_free(struct proxy_request *proxy);
/* Respond with the error and free. No byte went to the client yet. */
void proxy_fail(struct proxy_request *proxy, const struct error *error);
void proxy_fail_memory(struct proxy_request *proxy);
/* The reply has begun and cannot be completed: end it visibly broken, and free. */
void proxy_break_reply(struct proxy_request *proxy, const struct error *error);
int proxy_milliseconds_left(const struct proxy_request *proxy); /* to the first byte; at least 1 */
/* Ask again in a moment. */
void proxy_pause(struct proxy_request *proxy, int ms);
/* Out of its replica's list of requests at it. Lock held. */
void proxy_leave_asked(struct proxy_request *proxy);
/* `model "cats"`, or the remote gateway: what messages speak of. */
const char *proxy_describe_upstream(const struct proxy_request *proxy, char ret[MODEL_NAME_BYTES + 16]);

/* proxy_outcome.c */
/* Whether another replica could take the request that this one has refused with 503. */
bool proxy_has_other_replica(struct proxy_request *proxy);
/* The replica's response has ended one way or another: keep its account. */
void proxy_count_outcome(struct proxy_request *proxy, const struct http_response *response);
/* Whether a failure may be repeated, within the budget; notes what was learnt. */
bool proxy_may_repeat(struct proxy_request *proxy, const struct http_response *response,
                      struct replica *replica);
void proxy_explain_failure(const struct proxy_request *proxy, const struct http_response *response,
                           struct error *ret);
/* Whether this 503 says that the only replica is still loading, and there is time to wait for it. */
bool proxy_waits_for_loading(struct proxy_request *proxy);

/* proxy_request.c */
/* Ask proxy->replica. */
void proxy_send_request(struct proxy_request *proxy);

/* proxy_response.c: what http_call_options wants. */
void proxy_receive_head(void *context, const struct http_response *response);
void proxy_receive_piece(void *context, const void *bytes, size_t size);
void proxy_finish_response(void *context, const struct http_response *response);
