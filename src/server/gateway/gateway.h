/* The single entry's inside: routes requests by model's name to backends, over several replicas, and keeps
 * them from hurting each other. It listens on nothing itself: an edge/server.h before it does. `guichet
 * gateway` runs it over backends that somebody else keeps; under `guichet serve` a supervisor (supervisor.h)
 * tells it where each model's process is, and is told which are wanted; `guichet frontend` runs it with one
 * upstream, the remote gateway, as its only route (`relay`).
 *
 * All functions may be called from any thread but those of the event loops, unless said otherwise. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "http/http.h"
#include "server/edge/metrics.h"
#include "server/edge/service.h"

struct gateway;

/* A load or an unload that a caller asked for. */
struct gateway_change {
    char model[MODEL_NAME_BYTES]; /* to be loaded: it may be one that is not known yet */
    bool load;                    /* else: unload */
    int64_t asked_ns, deadline_ns;
    /* For changes.c alone: */
    struct gateway *gateway;
    struct http_request *request;
    struct error outcome;
};

/* Who keeps the models' processes, where somebody does. The functions are called on loops' threads, without
 * any lock of the gateway's, and must not block. */
struct gateway_supervisor {
    void *context;
    /* A request waits for this model, as gateway_model_usage tells: start it if it is not running. Ends in
     * gateway_model_start or _fail. */
    void (*wake)(void *context, const char *model);
    /* Load or unload a model; ends in gateway_change_finish, from any thread. */
    void (*change)(void *context, struct gateway_change *change);
    /* Fill in what is known of the model whose name is in *ret. */
    void (*describe)(void *context, struct model_status *ret);
    /* Append lines of Prometheus text of its own. */
    void (*write_metrics)(void *context, struct buffer *text);
};

/* Strings are borrowed for the gateway's life. Zero means the default in brackets. */
struct gateway_options {
    const char *backends;      /* text for backend_list_parse; NULL: none */
    const char *backends_file; /* the same in a file, read again by gateway_reload; NULL: none */
    const char *relay;         /* a URL: everything goes to this one upstream, another gateway; NULL: none */
    const char *default_model; /* for POST /predict without a name; NULL: the first */
    int bound;                 /* [256] requests at once on each replica */
    int timeout_ms;            /* [60000] to a response's first byte, retries and starts included, and between
                                  two bytes of it */
    int check_ms;              /* [2000] between active health checks; -1: none */
    int resolve_ms;            /* [10000] between looking up names again */
    const char *api_key;       /* sent upstream for callers that bring none, except to manage; NULL: none */
    bool keep_keys;            /* callers' keys go upstream, too: it is who checks them */
    bool google_identity;      /* add Google ID tokens to what goes upstream */
    const char *ca_file;       /* trust these for https upstreams instead of the system's */
    const struct gateway_supervisor *supervisor; /* NULL: backends come from the options alone */
};

/* With its backends looked up once, when it returns. Free before the loops and after every server before it
 * has stopped. */
struct gateway *gateway_create(struct http_loops *loops, const struct gateway_options *options,
                               struct error *error);
/* Read the file of backends again. On failure everything stays as it was. Requests in flight are not touched.
 */
bool gateway_reload(struct gateway *gateway, struct error *error);
void gateway_free(struct gateway *gateway); /* NULL is welcome */

/* What it tells of itself; for a server before it. */
const struct service *gateway_service(const struct gateway *gateway);
struct metrics *gateway_metrics(const struct gateway *gateway);

/* ---- For handlers, on loops' threads
 * ----------------------------------------------------------------------------- */

/* Whether there is such a model; else ERROR_NOT_FOUND, with the names of those that are. */
bool gateway_check_model(void *gateway, const char *name, struct error *error);
/* The model that answers the caller of `request` where none is named. False where there is none. */
bool gateway_default_model(struct gateway *gateway, const struct http_request *request,
                           char ret[MODEL_NAME_BYTES]);
const struct gateway_supervisor *gateway_supervisor(const struct gateway *gateway); /* NULL: none */

/* ---- For the supervisor
 * ------------------------------------------------------------------------------------------ */

/* A model there is, without a process yet. False when memory is out. */
bool gateway_model_add(struct gateway *gateway, const char *model);
/* … and is removed: requests waiting for it get 404. */
void gateway_model_remove(struct gateway *gateway, const char *model);
/* The model answers on 127.0.0.1:port from now on. Requests that waited for it go there; those in flight
 * elsewhere are finished there. */
bool gateway_model_start(struct gateway *gateway, const char *model, int port, struct error *error);
/* The model has no process any more. */
void gateway_model_stop(struct gateway *gateway, const char *model);
/* It cannot be loaded: requests that wait for it are told so. */
void gateway_model_fail(struct gateway *gateway, const char *model, const struct error *reason);

/* The change was made (`error` NULL), or could not be: its caller is told, and it is freed. ERROR_LOAD: the
 * model cannot be loaded. */
void gateway_change_finish(struct gateway_change *change, const struct error *error);

struct gateway_usage {
    int outstanding;       /* requests on it or waiting for it */
    int64_t waiting_since; /* when the request began that waits longest for it to start; 0: none waits */
    int64_t last_used;     /* clock_ns(); 0: never */
    bool healthy;          /* as the active checks find it */
};
/* False where there is no such model. Listings and health checks do not count as use. */
bool gateway_model_usage(struct gateway *gateway, const char *model, struct gateway_usage *ret);
