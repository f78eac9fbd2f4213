/* What the gateway's files share. Nobody else includes this.
 *
 * Locking: `lock` guards the table, the keys, the limiter and the list of waiting exchanges, and is held for
 * a few hundred nanoseconds at a time, never over a call of http/ that may block or call back. */
#pragma once
#include <pthread.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "http/http_client.h"
#include "serve/gateway.h"
#include "serve/gateway_identity.h"
#include "serve/gateway_keys.h"
#include "serve/gateway_names.h"
#include "serve/gateway_rate.h"
#include "serve/gateway_routes.h"
#include "serve/metrics.h"
#include "serve/proxy.h"

struct exchange;

struct gateway {
    struct gateway_options options;
    struct http_loops *loops;
    struct http_server *server;
    int64_t started_ns;

    pthread_mutex_t lock;
    struct route_table table;
    struct api_keys *keys; /* NULL: everybody may call */
    struct rate_limiter *limiter;
    struct exchange *waiting; /* a list, in no order */
    int exchanges;            /* that are not yet freed */

    struct identity *identity; /* NULL: no tokens */
    struct metrics *metrics;

    struct name_book *names; /* of the backends' hosts */

    /* The keeper: a thread that has names looked up, connects replicas and checks their health. */
    pthread_t keeper;
    bool keeper_runs;
    pthread_mutex_t keeper_lock; /* held while the backends that were read are followed */
    pthread_cond_t keeper_wake;
    bool stopping;
    int checks;                   /* health checks under way (under `lock`) */
    struct backend_list backends; /* as last read (under keeper_lock) */
};

/* One request's passage through the gateway, from its head to its log line: http_request.user. */
struct visit {
    struct trace trace;
    char client[64]; /* the API key's name, or the caller's address */
    char model[BACKEND_NAME_BYTES];
    const char *route; /* a fixed word for logs and metrics: "predict", "infer", "models" … */
    char upstream[80]; /* where the answer came from */
    double upstream_ms;
    int tries;
};

/* gateway_access.c: who may pass, and what is written down of it. */
bool gateway_admit(void *context, struct http_request *request);
void gateway_done(void *context, const struct http_request *request, int status, size_t body_bytes,
                  bool gone);
/* Reply with the request's id and CORS headers beside those given. Takes over `body`. */
void gateway_reply(struct gateway *gateway, struct http_request *request, int status,
                   const struct http_header *headers, int header_count, struct http_body *body);
void gateway_reply_error(struct gateway *gateway, struct http_request *request, const struct error *error);

/* gateway_answers.c: what the gateway answers itself. False: not one of its routes. */
bool gateway_answer(struct gateway *gateway, struct http_request *request);
/* "a, b, c" of the models there are, for messages. */
void gateway_model_names(struct gateway *gateway, struct buffer *names);

/* gateway_exchange.c: requests that go to a model. `target`: what the backend is asked. */
enum exchange_aim {
    EXCHANGE_ASK,  /* pass the request on; a model that sleeps is woken */
    EXCHANGE_LOAD, /* only start the model */
    EXCHANGE_LOOK, /* pass it on where the model runs; wakes nothing and keeps nothing awake */
};
void gateway_exchange(struct gateway *gateway, struct http_request *request, const char *model,
                      size_t model_length, const char *target, enum exchange_aim aim);
/* Let all that wait for `model` try again, or, with a reason, fail. Any thread, without the lock. */
void gateway_exchanges_resume(struct gateway *gateway, const char *model, const struct error *reason);
/* Wait until none is left; their callers have gone already. */
void gateway_exchanges_end(struct gateway *gateway);

/* gateway_keeper.c */
bool gateway_keeper_start(struct gateway *gateway, struct error *error);
void gateway_keeper_stop(struct gateway *gateway);
/* Reads backends and keys; on failure nothing changed. */
bool gateway_keeper_reload(struct gateway *gateway, struct error *error);
/* An upstream for a replica; does not wait for anything. */
struct http_upstream *gateway_connect(const struct gateway *gateway, const struct route_target *target,
                                      struct error *error);

/* gateway_metrics.c */
void gateway_metrics_count(struct gateway *gateway, const struct visit *visit, int status, double total_ms);
bool gateway_metrics_write(struct gateway *gateway, struct buffer *text);
