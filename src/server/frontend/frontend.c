#include "server/frontend/frontend.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/limits.h"
#include "base/text.h"
#include "base/url.h"
#include "http/cookies.h"
#include "server/edge/context.h"
#include "server/edge/links.h"
#include "server/edge/respond.h"
#include "server/gateway/handlers.h"
#include "server/gateway/proxy.h"

#define COOKIE_BYTES (SESSION_COOKIE_BYTES + 128)
#define RENEW_SECONDS (24 * 3600)

struct frontend {
    struct gateway *gateway;
    bool remote;
    struct service service; /* of this process, where the gateway is remote */
    pthread_mutex_t lock;   /* guards keys */
    struct session_keys keys;
};

/* ---- Sessions ---- */

/* The request's session. False: it had none that is good, and *ret is a new one. */
static bool take_session(struct frontend *frontend, const struct http_request *request, struct session *ret) {
    const char *value;
    size_t length;
    bool sent = http_request_cookie(request, SESSION_COOKIE, &value, &length);

    pthread_mutex_lock(&frontend->lock);
    bool good = sent && session_open(value, length, &frontend->keys, time(NULL), ret);
    pthread_mutex_unlock(&frontend->lock);
    if (!good)
        session_start(ret, time(NULL));
    return good;
}

/* Have the reply set the session's cookie. Secure where the browser came over TLS, to us or to a proxy before
 * us. */
static void set_cookie(struct frontend *frontend, struct http_request *request, struct session *session) {
    struct context *context = context_of(request);
    const char *proto = http_request_header(request, "X-Forwarded-Proto");
    bool secure = request->secure || (proto && strcasecmp(proto, "https") == 0);
    char value[SESSION_COOKIE_BYTES];

    session->issued = time(NULL);
    pthread_mutex_lock(&frontend->lock);
    session_sign(session, &frontend->keys, value);
    pthread_mutex_unlock(&frontend->lock);

    free(context->cookie);
    if (asprintf(&context->cookie, SESSION_COOKIE "=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s", value,
                 SESSION_SECONDS, secure ? "; Secure" : "") < 0)
        context->cookie = NULL; /* the session is not kept, and everything else goes on */
}

/* Replies with JSON that is one person's. */
static void respond_private(struct http_request *request, json_t *json) {
    static const struct http_header headers[] = {{"Content-Type", "application/json"},
                                                 {"Cache-Control", "no-store"}};
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    struct http_body *body = text ? http_body_take(text, strlen(text)) : NULL;

    if (body)
        respond(request, 200, headers, 2, body);
    else
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
}

/* ---- Which models there are ---- */

typedef void models_known(struct frontend *frontend, struct http_request *request, json_t *names);

/* A question to the remote gateway, and who waits for its answer. */
struct models_question {
    struct frontend *frontend;
    models_known *known;
};

/* Pass on what the gateway says in place of what was asked. */
static void respond_failure(struct http_request *request, const struct http_response *response) {
    struct error error;

    if (response->failure == HTTP_COMPLETE && response->status != 200) {
        respond(request, response->status, response->headers, response->header_count,
                http_body_reference(response->body));
        return;
    }

    if (response->failure == HTTP_COMPLETE)
        error_set(&error, ERROR_UPSTREAM, "the gateway's response is not valid JSON");
    else
        error_set(&error, response->failure == HTTP_FAILED_TIMEOUT ? ERROR_TIMEOUT : ERROR_UPSTREAM, "%s",
                  response->reason);
    respond_error(request, &error);
}

static void models_answered(void *context, struct http_request *request,
                            const struct http_response *response) {
    struct models_question question = *(struct models_question *)context;
    json_t *names = NULL;

    free(context);
    if (response->failure == HTTP_COMPLETE && response->status == 200 && response->body)
        names = json_loadb(response->body->bytes, response->body->size, 0, NULL);
    if (json_is_array(names))
        question.known(question.frontend, request, names);
    else
        respond_failure(request, response);
    json_decref(names);
}

/* `known` is called with the array of the names that the caller may use, the default one first; or the
 * failure is answered. */
static void find_models(struct frontend *frontend, struct http_request *request, models_known *known) {
    if (!frontend->remote) {
        const struct service *service = gateway_service(frontend->gateway);
        size_t count;
        struct model_status *models = service->list_models(service->context, request, false, &count);
        json_t *names = models ? json_array() : NULL;
        for (size_t i = 0; names && i < count; i++)
            json_array_append_new(names, json_string(models[i].name));
        free(models);
        known(frontend, request, names);
        json_decref(names);
        return;
    }

    struct models_question *question = malloc(sizeof *question);
    if (!question) {
        respond_error(request, &(struct error){ERROR_MEMORY, "out of memory"});
        return;
    }

    *question = (struct models_question){frontend, known};
    proxy_start(frontend->gateway, request,
                &(struct proxy_options){
                    .target = "/models",
                    .answered = models_answered,
                    .context = question,
                });
}

static bool have_name(json_t *names, const char *model) {
    size_t index;
    json_t *name;
    json_array_foreach(names, index, name) {
        if (json_is_string(name) && strcmp(json_string_value(name), model) == 0)
            return true;
    }

    return false;
}

/* ---- Handlers ---- */

/* A choice whose model is gone counts as none. */
static void session_known(struct frontend *frontend, struct http_request *request, json_t *names) {
    struct session session;
    bool fresh = !take_session(frontend, request, &session);
    bool stale = session.model[0] && !have_name(names, session.model);

    if (stale)
        session.model[0] = 0;
    const char *first = json_string_value(json_array_get(names, 0));
    json_t *reply = json_pack("{s:s, s:s?, s:b}", "session", session.id, "model",
                              session.model[0] ? session.model : first, "chosen", session.model[0] != 0);

    if (fresh || stale || time(NULL) - session.issued > RENEW_SECONDS)
        set_cookie(frontend, request, &session);
    respond_private(request, reply);
}

void frontend_session(struct frontend *frontend, struct http_request *request) {
    find_models(frontend, request, session_known);
}

static void keep_choice(struct frontend *frontend, struct http_request *request) {
    struct context *context = context_of(request);
    struct session session;

    context->model_known = true;
    take_session(frontend, request, &session);
    text_copy(session.model, sizeof session.model, context->model);
    set_cookie(frontend, request, &session);
    respond_private(request, json_pack("{s:s}", "model", session.model));
}

static void choice_confirmed(void *context, struct http_request *request,
                             const struct http_response *response) {
    if (response->failure == HTTP_COMPLETE && response->status == 200)
        keep_choice(context, request);
    else
        respond_failure(request, response);
}

/* The gateway knows which models there are, and which of them the caller may use. A local one has been asked
 * by the chain. */
void frontend_choose(struct frontend *frontend, struct http_request *request) {
    if (!frontend->remote) {
        keep_choice(frontend, request);
        return;
    }
    proxy_start(frontend->gateway, request,
                &(struct proxy_options){
                    .target = request->target,
                    .answered = choice_confirmed,
                    .context = frontend,
                });
}

/* To the remote gateway: with the session's choice in the path, and without it where that model is gone. */
static void pass_choice(struct frontend *frontend, struct http_request *request,
                        const struct session *session) {
    char target[LIMIT_HEADER_BYTES + MODEL_NAME_BYTES + 32];

    snprintf(context_of(request)->model, MODEL_NAME_BYTES, "%s", session->model);
    snprintf(target, sizeof target, "/model/%s/predict%s%s", session->model, *request->query ? "?" : "",
             request->query);
    proxy_start(frontend->gateway, request,
                &(struct proxy_options){.target = target, .fallback = request->target});
}

void frontend_predict(struct frontend *frontend, struct http_request *request) {
    struct session session = {0};
    bool chosen = !url_query_has(request->query, "model") && take_session(frontend, request, &session) &&
                  session.model[0];

    if (!frontend->remote)
        gateway_predict_with(frontend->gateway, request, chosen ? session.model : NULL);
    else if (chosen)
        pass_choice(frontend, request, &session);
    else
        frontend_pass(frontend, request);
}

void frontend_pass(struct frontend *frontend, struct http_request *request) {
    proxy_start(frontend->gateway, request, &(struct proxy_options){.target = request->target});
}

/* ---- Life ---- */

static bool is_ready(void *state) {
    return true; /* the page is here, whatever the gateway does */
}

static bool write_metrics(void *state, struct buffer *text) {
    const struct frontend *frontend = state;

    metrics_write_process(text);
    return metrics_write(gateway_metrics(frontend->gateway), text);
}

struct frontend *frontend_create(struct gateway *gateway, bool remote, const struct session_keys *keys,
                                 struct error *error) {
    struct frontend *frontend = calloc(1, sizeof *frontend);
    if (!frontend) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    frontend->gateway = gateway;
    frontend->remote = remote;
    frontend->keys = *keys;
    frontend->service = (struct service){
        .context = frontend,
        .is_ready = is_ready,
        .write_metrics = write_metrics,
    };
    pthread_mutex_init(&frontend->lock, NULL);

    return frontend;
}

void frontend_set_keys(struct frontend *frontend, const struct session_keys *keys) {
    pthread_mutex_lock(&frontend->lock);
    frontend->keys = *keys;
    pthread_mutex_unlock(&frontend->lock);
}

void frontend_free(struct frontend *frontend) {
    if (!frontend)
        return;
    pthread_mutex_destroy(&frontend->lock);
    free(frontend);
}

const struct service *frontend_service(const struct frontend *frontend) {
    return &frontend->service;
}
