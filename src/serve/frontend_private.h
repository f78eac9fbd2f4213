/* What the frontend's files share. Nobody else includes this. */
#pragma once
#include <jansson.h>
#include <pthread.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "http/http_client.h"
#include "serve/frontend.h"
#include "serve/gateway_identity.h"
#include "serve/metrics.h"
#include "serve/proxy.h"

struct frontend {
    struct frontend_options options;
    struct http_loops *loops;
    struct http_server *server;
    struct backend_url gateway; /* for the identity's audience */
    struct identity *identity;
    struct metrics *metrics;
    struct http_upstream *upstream; /* to the gateway */

    pthread_mutex_t lock; /* guards what follows */
    struct session_keys keys;
    int passages; /* not yet freed */

    pthread_t keeper; /* has the gateway's name looked up again */
    bool keeper_runs, stopping;
    pthread_cond_t keeper_wake;
};

enum frontend_route { ROUTE_PAGE, ROUTE_SESSION, ROUTE_CHOICE, ROUTE_PREDICT, ROUTE_HEALTH, ROUTE_PASSED };

/* One request, from its head to its log line: http_request.user. */
struct page_visit {
    struct trace trace;
    enum frontend_route route;
    char model[SESSION_MODEL_BYTES];
    double upstream_ms;
    int tries;
};

/* What comes after the gateway's answer. `answer` may be any failure. Must lead to a reply. */
typedef void passage_done(struct frontend *frontend, struct http_request *request,
                          const struct http_answer *answer, const struct session *session);

/* Ask the gateway `method target` for `request`; `done` with its last answer. The session is copied. With
 * `whole`, the request's body goes along; its headers always do. */
void frontend_ask(struct frontend *frontend, struct http_request *request, const char *method,
                  const char *target, bool whole, const struct session *session, passage_done *done);
void frontend_passages_end(struct frontend *frontend);
/* Pass an answer back as it is; a failure becomes 502 or 504. `cookie` (or NULL) is set. */
void frontend_pass_back(struct frontend *frontend, struct http_request *request,
                        const struct http_answer *answer, const char *cookie);
/* Reply, with the request's id. `cookie`: NULL or a whole Set-Cookie value. Takes over the body. */
void frontend_reply(struct http_request *request, int status, const struct http_header *headers,
                    int header_count, const char *cookie, struct http_body *body);
void frontend_reply_error(struct http_request *request, const struct error *error);
/* Takes over the reference. */
void frontend_reply_json(struct http_request *request, int status, json_t *json, const char *cookie);

/* frontend_session.c: v2's calls. */
void frontend_session(struct frontend *frontend, struct http_request *request);
void frontend_choose(struct frontend *frontend, struct http_request *request, const char *model);
void frontend_predict(struct frontend *frontend, struct http_request *request);
