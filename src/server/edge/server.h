/* One listening HTTP server of a tier, and the chain of links that every request walks:
 *
 *     Host check → CORS → static files → origin check → authentication → rate limit → router → handler
 *
 * Each link answers the request or passes it on; links whose option is missing pass everything on. What a
 * server answers depends on the parts it is given: a frontend (sessions), a gateway (balancing), a backend (a
 * loaded model), or several of them in one process. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "http/http.h"
#include "server/edge/access_log.h"
#include "server/edge/metrics.h"
#include "server/edge/service.h"
#include "server/edge/static_files.h"

struct backend;
struct frontend;
struct gateway;
struct server;

enum tier { TIER_BACKEND, TIER_GATEWAY, TIER_FRONTEND, TIER_SERVE };

/* Zero means the default in brackets. Strings and parts are borrowed for the server's life. */
struct server_options {
    enum tier tier;          /* names it in metrics and the access log */
    struct metrics *metrics; /* where requests are counted */

    /* Listening. */
    const char *const *addresses; /* NULL-terminated; [every address] */
    int port;                     /* 0: any free one */
    bool inherit;                 /* take the sockets that systemd passed instead, where there are any */
    const char *tls_certificate, *tls_key;
    bool no_hsts;      /* over TLS, do not tell browsers to come by https alone */
    size_t body_limit; /* [LIMIT_BODY_BYTES] */
    enum access_log access_log;

    /* Links. */
    enum web_tier files;           /* static files */
    const char *const *host_names; /* NULL-terminated: names beside those of loopback, on loopback */
    const char *cors;              /* origins that may call from a page, comma-separated; "*": any; [none] */
    const char *api_keys_file;     /* [everybody may predict and read metrics] */
    bool control;                  /* a control listener: every call is answered, without a key */
    double rate, burst;            /* for each client; rate 0: no limit */
    bool trust_forwarded;          /* the client's address is the last one of X-Forwarded-For */

    /* Who answers: the columns of the table of endpoints. */
    struct frontend *frontend;
    struct gateway *gateway;
    struct backend *backend;
    const struct service *service; /* of the process */
    /* Answers what no column does: a frontend before a remote gateway passes it on. [404] */
    void (*pass)(struct frontend *frontend, struct http_request *request);
    /* Optional: whether there is such a model; else sets ERROR_NOT_FOUND. `context` is the service's. */
    bool (*check_model)(void *context, const char *name, struct error *error);
};

/* Listening when it returns. Free before the loops and before its parts. */
struct server *server_create(struct http_loops *loops, const struct server_options *options,
                             struct error *error);
/* A control listener in addition to another server: the same options, at `address` ("ADDRESS:PORT",
 * "[ADDRESS]:PORT"), without TLS, keys and rate; every call is answered. */
struct server *server_create_control(struct http_loops *loops, const struct server_options *options,
                                     const char *address, struct error *error);
int server_port(const struct server *server);
/* Make the series of a model's predictions, so that they are there, at 0, before the first event: what begins
 * at 1 has no rate. Any thread. */
void server_prepare_metrics(const struct server *server, const char *model);
/* Lines of Prometheus text: its connections. Any thread. */
void server_write_metrics(const struct server *server, struct buffer *text);
/* Read API keys and TLS files again. On failure everything stays as it was. Any thread but the loops'. */
bool server_reload(struct server *server, struct error *error);
/* Finish what has begun within `grace_ms`. True when nothing was dropped. Not from a loop's thread. */
bool server_stop(struct server *server, int grace_ms);
void server_free(struct server *server); /* stops first; NULL is welcome */
