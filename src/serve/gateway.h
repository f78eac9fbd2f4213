/* The single entry: routes requests by model's name to backends, over several replicas, and keeps them from
 * hurting each other. `guichet gateway` runs it over backends that somebody else keeps; under `guichet serve`
 * a supervisor (supervisor.h) tells it where each model's process is, and is told which are wanted.
 *
 * All functions may be called from any thread but those of the event loops, unless said otherwise. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "http/http.h"
#include "serve/access_log.h"

struct gateway;

/* What a listing says of a model. */
struct gateway_model_details {
    int64_t bytes;      /* of its file; 0: unknown */
    char precision[16]; /* "" unknown */
    char state[12];     /* "ready", "starting", "stopped", "failed" */
    char reason[480];   /* why it failed; "" else */
};

/* Who keeps the models' processes, where somebody does. The functions are called on loops' threads, without
 * any lock of the gateway's, and must not block. */
struct gateway_supervisor {
    void *context;
    /* A request waits for this model: start it if it is not running. Ends in gateway_model_place or _fail. */
    void (*wake)(void *context, const char *model);
    void (*unload)(void *context, const char *model);
    void (*describe)(void *context, const char *model, struct gateway_model_details *ret);
    /* Lines of Prometheus text of its own, malloc'ed; NULL for none. */
    char *(*metrics)(void *context);
};

/* Strings are borrowed for the gateway's life. Zero means the default in brackets. */
struct gateway_options {
    const char *const *addresses; /* NULL-terminated; [every address] */
    int port;                     /* 0: any free one */
    const char *backends;         /* text for backend_list_parse; NULL: none */
    const char *backends_file;    /* the same in a file, read again by gateway_reload; NULL: none */
    const char *default_model;    /* for POST /predict without a name; NULL: the first */
    int bound;                    /* [256] requests at once on each replica */
    int timeout_ms;               /* [60000] for a whole answer, retries and starts included */
    int check_ms;                 /* [2000] between active health checks */
    int resolve_ms;               /* [10000] between looking up names again */
    const char *api_keys_file;    /* NULL: everybody may call */
    double rate, burst;           /* per client; rate 0: no limit */
    const char *cors;     /* origins that may call from a page, comma-separated; "*": any; NULL: none */
    bool trust_forwarded; /* the caller's address is the last one of X-Forwarded-For */
    bool google_identity; /* add Google ID tokens to what goes to backends */
    const char *tls_certificate, *tls_key;
    const char *ca_file; /* trust these for https backends instead of the system's */
    enum access_log access_log;
    size_t body_limit;                           /* [LIMIT_BODY_BYTES] */
    const struct gateway_supervisor *supervisor; /* NULL: backends come from the options alone */
};

/* Listening, with its backends looked up once, when it returns. Free before the loops. */
struct gateway *gateway_create(struct http_loops *loops, const struct gateway_options *options,
                               struct error *error);
int gateway_port(const struct gateway *gateway);
/* Read the files again: backends, API keys, TLS. On failure everything stays as it was. Requests in flight
 * are not touched. */
bool gateway_reload(struct gateway *gateway, struct error *error);
/* Finish what has begun within `grace_ms`. True when nothing was dropped. */
bool gateway_stop(struct gateway *gateway, int grace_ms);
void gateway_free(struct gateway *gateway); /* NULL is welcome */

/* ---- For the supervisor
 * ------------------------------------------------------------------------------------- */

/* A model there is, without a process yet. False when memory is out. */
bool gateway_model_add(struct gateway *gateway, const char *model);
/* … and is no more: requests that wait for it get 404. */
void gateway_model_remove(struct gateway *gateway, const char *model);
/* The model answers on 127.0.0.1:port from now on (0: it does not run). Requests that waited for it go there;
 * those in flight elsewhere are finished there. */
bool gateway_model_place(struct gateway *gateway, const char *model, int port, struct error *error);
/* It cannot be had: whoever waits for it is told so. */
void gateway_model_fail(struct gateway *gateway, const char *model, const struct error *reason);

struct gateway_usage {
    int outstanding;   /* requests on it or waiting for it */
    int64_t last_used; /* clock_ns(); 0: never */
    bool healthy;      /* as the active checks find it */
};
/* False where there is no such model. Listings and health checks do not count as use. */
bool gateway_model_usage(struct gateway *gateway, const char *model, struct gateway_usage *ret);
