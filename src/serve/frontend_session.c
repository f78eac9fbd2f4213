/* v2's calls, with its fault mended: the choice of a model is the session's, not the server's. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/limits.h"
#include "http/cookies.h"
#include "serve/frontend_private.h"

#define COOKIE_BYTES (SESSION_COOKIE_BYTES + 128)
#define RENEW_SECONDS (24 * 3600)

/* The request's session. False: it had none that is good, and *ret is a new one. */
static bool session_take(struct frontend *frontend, const struct http_request *request, struct session *ret) {
    size_t length;
    const char *value;
    bool sent = http_request_cookie(request, SESSION_COOKIE, &value, &length);
    pthread_mutex_lock(&frontend->lock);
    bool good = sent && session_open(value, length, &frontend->keys, time(NULL), ret);
    pthread_mutex_unlock(&frontend->lock);
    if (!good)
        session_start(ret, time(NULL));
    return good;
}

/* The Set-Cookie value of a session. Secure where the browser came over TLS, to us or to a proxy before us.
 */
static void cookie_make(struct frontend *frontend, const struct http_request *request,
                        struct session *session, char ret[COOKIE_BYTES]) {
    char value[SESSION_COOKIE_BYTES];
    const char *proto = http_request_header(request, "X-Forwarded-Proto");
    bool secure = request->secure || (proto && strcasecmp(proto, "https") == 0);
    session->issued = time(NULL);
    pthread_mutex_lock(&frontend->lock);
    session_sign(session, &frontend->keys, value);
    pthread_mutex_unlock(&frontend->lock);
    snprintf(ret, COOKIE_BYTES, SESSION_COOKIE "=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax%s", value,
             SESSION_SECONDS, secure ? "; Secure" : "");
}

/* The list of names in an answer to GET /models; NULL where it is none. The caller owns the reference. */
static json_t *names_read(const struct http_answer *answer) {
    if (answer->failure != HTTP_ANSWERED || answer->status != 200)
        return NULL;
    json_t *names = json_loadb(answer->body->bytes, answer->body->size, 0, NULL);
    if (json_is_array(names))
        return names;
    json_decref(names);
    return NULL;
}

static bool names_have(json_t *names, const char *model) {
    size_t index;
    json_t *name;
    json_array_foreach(names, index, name) {
        if (json_is_string(name) && strcmp(json_string_value(name), model) == 0)
            return true;
    }
    return false;
}

/* GET /session, now that the models are known. A choice that is no more counts as none. */
static void session_answered(struct frontend *frontend, struct http_request *request,
                             const struct http_answer *answer, const struct session *known) {
    struct session session = *known;
    json_t *names = names_read(answer);
    if (names && session.model[0] && !names_have(names, session.model))
        session.model[0] = 0;
    const char *first = json_string_value(json_array_get(names, 0));
    const char *model = session.model[0] ? session.model : first;
    char cookie[COOKIE_BYTES];
    bool old = time(NULL) - known->issued > RENEW_SECONDS || strcmp(session.model, known->model) != 0;
    json_t *reply =
        json_pack("{s:s, s:s?, s:b}", "session", session.id, "model", model, "chosen", session.model[0] != 0);
    if (old)
        cookie_make(frontend, request, &session, cookie);
    frontend_reply_json(request, 200, reply, old ? cookie : NULL);
    json_decref(names);
}

void frontend_session(struct frontend *frontend, struct http_request *request) {
    struct session session;
    if (!session_take(frontend, request, &session))
        session.issued = 0; /* new: its cookie must be set */
    frontend_ask(frontend, request, "GET", "/models", false, &session, session_answered);
}

/* The names of a list as "a, b, c", for a message. */
static void names_join(json_t *names, char *ret, size_t size) {
    size_t index, at = 0;
    json_t *name;
    ret[0] = 0;
    json_array_foreach(names, index, name) {
        int length = snprintf(ret + at, size - at, "%s%s", index ? ", " : "", json_string_value(name));
        if (length < 0 || (size_t)length >= size - at)
            return;
        at += (size_t)length;
    }
}

/* PUT /model/<id>, now that the models are known. */
static void choice_answered(struct frontend *frontend, struct http_request *request,
                            const struct http_answer *answer, const struct session *known) {
    struct session session = *known;
    struct error error;
    json_t *names = names_read(answer);
    if (!names && answer->failure == HTTP_ANSWERED && answer->status != 200) {
        frontend_pass_back(frontend, request, answer, NULL);
        return;
    }
    if (!names) {
        frontend_pass_back(
            frontend, request,
            answer->failure == HTTP_ANSWERED
                ? &(struct http_answer){.failure = HTTP_FAILED_PROTOCOL, .reason = "no list of models"}
                : answer,
            NULL);
        return;
    }
    if (names_have(names, session.model)) {
        char cookie[COOKIE_BYTES];
        cookie_make(frontend, request, &session, cookie);
        frontend_reply_json(request, 200, json_pack("{s:s}", "model", session.model), cookie);
    } else {
        char list[360];
        names_join(names, list, sizeof list);
        error_set(&error, ERROR_NOT_FOUND, "there is no model \"%.60s\"; there are: %s",
                  request->path + strlen("/model/"), list);
        frontend_reply_error(request, &error);
    }
    json_decref(names);
}

void frontend_choose(struct frontend *frontend, struct http_request *request, const char *model) {
    struct session session;
    session_take(frontend, request, &session);
    /* A name that no model can have is not kept, but told about with the valid ones all the same. */
    size_t length = strlen(model);
    bool valid = session_model_valid(model, length);
    snprintf(session.model, sizeof session.model, "%s", valid ? model : "?");
    struct page_visit *visit = request->user;
    snprintf(visit->model, sizeof visit->model, "%s", session.model);
    frontend_ask(frontend, request, "GET", "/models", false, &session, choice_answered);
}

static void predict_passed(struct frontend *frontend, struct http_request *request,
                           const struct http_answer *answer, const struct session *session) {
    (void)session;
    frontend_pass_back(frontend, request, answer, NULL);
}

/* Asked with the session's choice. Where that model is gone, the choice is stale, and the default one
 * answers. */
static void predict_answered(struct frontend *frontend, struct http_request *request,
                             const struct http_answer *answer, const struct session *session) {
    if (answer->failure == HTTP_ANSWERED && answer->status == 404 && session->model[0]) {
        frontend_ask(frontend, request, "POST", request->target, true, NULL, predict_passed);
        return;
    }
    frontend_pass_back(frontend, request, answer, NULL);
}

void frontend_predict(struct frontend *frontend, struct http_request *request) {
    struct session session;
    struct page_visit *visit = request->user;
    char named[SESSION_MODEL_BYTES], target[LIMIT_HEADER_BYTES + SESSION_MODEL_BYTES];
    bool choice = !http_request_query(request, "model", named, sizeof named) &&
                  session_take(frontend, request, &session) && session.model[0];
    if (!choice) {
        frontend_ask(frontend, request, "POST", request->target, true, NULL, predict_passed);
        return;
    }
    snprintf(visit->model, sizeof visit->model, "%s", session.model);
    snprintf(target, sizeof target, "/model/%s/predict%s%s", session.model, *request->query ? "?" : "",
             request->query);
    frontend_ask(frontend, request, "POST", target, true, &session, predict_answered);
}
