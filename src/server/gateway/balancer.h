/* Which replica answers for a model: the table of models, their replicas, and the choice among them.
 *
 * Pure bookkeeping, without sockets or clocks of its own: callers pass clock_ns(). Not safe from two threads:
 * the gateway holds its lock around every call. Routes and replicas are shared between the table and the
 * requests that use them, by count: one that a new configuration dropped lives until its last request ends.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "http/http_client.h"
#include "server/gateway/backend_list.h"

#define NAME_ADDRESS_BYTES 64 /* an address in numbers, with its NUL */

#define ROUTE_RECENT 64 /* predictions that a model's typical time is of */

struct proxy_request;

struct replica {
    struct url url; /* what was written: the Host header, TLS's name, and the path before routes */
    char address[NAME_ADDRESS_BYTES];  /* where to connect: one of the addresses that url.host stands for */
    char name[NAME_ADDRESS_BYTES + 8]; /* "address:port", for logs and metrics */
    char host[URL_HOST_BYTES];         /* the Host header */
    struct http_upstream *upstream;    /* freed with the replica */
    int references;
    int outstanding;             /* requests on it now … */
    int64_t asked_tokens;        /* … and the tokens that they ask for, about */
    int64_t queued_tokens;       /* that it has to compute, as it said last */
    char kind[12];               /* of its model, as it said; "": not known */
    bool healthy;                /* the last active check's answer; true before the first */
    int64_t check_at;            /* ns; when the next active check is due */
    bool checking;               /* an active check is under way */
    bool checked;                /* one has ended */
    struct proxy_request *asked; /* the requests that wait for it: proxy.c's list */
    bool retired;                /* no longer in the table */
    int failures;                /* in a row, of real requests */
    int ejections;               /* in a row: the next one lasts longer */
    int64_t ejected_until;       /* ns; 0: not ejected */
};

struct replica *replica_acquire(struct replica *replica);
/* Frees with the last count. NULL is welcome. */
void replica_release(struct replica *replica);
/* Count a request on and off a replica. The outcome of a failure: `refused` is a connection that never came
 * about, and ejects at once; other failures eject after three in a row. An ejection lasts 1 s, then 2, 4,
 * … 30. */
void replica_begin(struct replica *replica);
void replica_succeeded(struct replica *replica);
void replica_failed(struct replica *replica, bool refused, int64_t now_ns);
/* It closed the connection in the middle: ejected as one that refuses, and checked as soon as may be. */
void replica_broke(struct replica *replica, int64_t now_ns);
/* Ends without saying anything of the replica (the caller left). */
void replica_abandoned(struct replica *replica);
/* What an active check found. A good answer ends an ejection. */
void replica_checked(struct replica *replica, bool healthy);

/* Retries are paid from a budget, so that a failing backend is not asked twice as much just when it can bear
 * least: each request pays in a fifth of a retry, ten a second come by themselves, and at most 200 are saved
 * up. After a refused connection, which asked the backend nothing, a retry is free. */
struct retry_budget {
    double tokens;
    int64_t touched; /* ns */
};

struct route {
    int references;
    bool retired; /* no longer in the table */
    char model[MODEL_NAME_BYTES];
    struct replica *replicas[LIMIT_REPLICAS];
    int count;
    int bound;         /* requests on each replica at once, at most */
    unsigned rotation; /* breaks ties between equals */
    struct retry_budget budget;
    int64_t last_used;             /* ns; of the last request's start or end */
    int waiting;                   /* requests that wait for a replica to start … */
    int resuming;                  /* … and those that were told of one, and have not chosen it yet */
    float recent_ms[ROUTE_RECENT]; /* the time of the last good predictions, in a ring … */
    unsigned recent_count;         /* … and how many there have ever been */
    bool marked;                   /* used by route_table_update alone */
};

struct route_table {
    struct route **routes; /* in the order of first mention */
    size_t count;
    int bound;
};

/* A replica of a model: an address that a backend's URL stands for. */
struct route_target {
    const char *model;
    const struct url *url;
    char address[NAME_ADDRESS_BYTES]; /* "": the model is known, and has no replica of this URL now */
    struct http_upstream *upstream;   /* for a replica that is new, which takes it over and leaves NULL */
};

struct route *route_acquire(struct route *route);
void route_release(struct route *route); /* NULL is welcome */

void route_table_init(struct route_table *table, int bound);
void route_table_release(struct route_table *table);
struct route *route_table_find(const struct route_table *table, const char *model, size_t length);
/* The route of `model`, made where there is none. NULL when memory is out. */
struct route *route_table_add(struct route_table *table, const char *model);
void route_table_remove(struct route_table *table, const char *model);
/* Makes the table hold exactly these targets: replicas that stay keep their counts, those that go are
 * retired. Returns false, with the table still usable, when memory is out. */
bool route_table_update(struct route_table *table, struct route_target *targets, size_t count);
/* Makes a single route hold exactly these targets (their model is not looked at). */
bool route_update(struct route *route, struct route_target *targets, size_t count);
/* The replica of this target, where it is there already; else NULL. Borrowed. */
struct replica *route_replica(const struct route *route, const struct route_target *target);

enum route_choice { ROUTE_FOUND, ROUTE_EMPTY, ROUTE_FULL, ROUTE_TRIED };
/* The replica with the fewest tokens to compute, else with the fewest requests on it, that is healthy, not
 * ejected and not among the `tried`; where every one is unwell, the best of those that are not ejected, else
 * of those that are (better a doubtful try than none). ROUTE_FULL: those left are at their bound.
 * ROUTE_TRIED: all were tried. The replica is borrowed: call replica_begin to keep it.
 *
 * `affinity`, where it is not 0, belongs to a conversation: among healthy replicas it always finds the same,
 * which has computed its beginning, unless that one has much more to do than another. */
enum route_choice route_choose(struct route *route, uint64_t affinity, struct replica *const *tried,
                               int tried_count, int64_t now_ns, struct replica **ret);
/* A request pays in; a retry takes out, and is refused when the budget is empty. */
void route_budget_deposit(struct route *route, int64_t now_ns);
bool route_budget_take(struct route *route, int64_t now_ns);
/* A good prediction took so long. */
void route_note_time(struct route *route, double ms);
/* The median of the last ones; 0 before the first. */
double route_typical_ms(const struct route *route);
/* Requests on all replicas, and those that wait for one or are on their way to it. */
int route_outstanding(const struct route *route);
/* Replicas that are healthy and not ejected. */
int route_well_count(const struct route *route, int64_t now_ns);
/* At least one is. */
bool route_ready(const struct route *route, int64_t now_ns);
