/* A question to the gateway on behalf of a request. Every call of the gateway may be repeated, so a
 * connection that fails before an answer is tried again, briefly: a gateway that restarts is not an error
 * that a person should see. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "serve/frontend_private.h"

#define TRIES_MOST 5

struct passage {
    struct frontend *frontend;
    struct http_request *request;
    struct http_call *call;
    struct http_timer *timer;
    passage_done *done;
    struct session session;
    int64_t deadline_ns, asked_ns;
    int tries;
    bool whole;
    char method[16];
    char target[];
};

static void passage_try(void *context);

static void passage_free(struct passage *passage) {
    struct frontend *frontend = passage->frontend;
    http_timer_cancel(passage->timer);
    free(passage);
    pthread_mutex_lock(&frontend->lock);
    frontend->passages--;
    pthread_mutex_unlock(&frontend->lock);
}

void frontend_passages_end(struct frontend *frontend) {
    for (int left = 1; left > 0;) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        pthread_mutex_lock(&frontend->lock);
        left = frontend->passages;
        pthread_mutex_unlock(&frontend->lock);
    }
}

/* The end: whoever asked makes the reply. */
static void passage_end(struct passage *passage, const struct http_answer *answer) {
    http_request_on_gone(passage->request, NULL, NULL);
    passage->done(passage->frontend, passage->request, answer, &passage->session);
    passage_free(passage);
}

static void passage_fail(struct passage *passage, enum http_failure failure, const char *reason) {
    passage_end(passage, &(struct http_answer){.failure = failure, .reason = reason});
}

static void passage_gone(void *context) {
    struct passage *passage = context;
    http_call_cancel(passage->call);
    struct error error;
    error_set(&error, ERROR_UNAVAILABLE, "the caller left");
    frontend_reply_error(passage->request, &error);
    passage_free(passage);
}

static void passage_answered(void *context, const struct http_answer *answer) {
    static const int pauses_ms[TRIES_MOST] = {1, 50, 150, 400, 800};
    struct passage *passage = context;
    struct page_visit *visit = passage->request->user;
    passage->call = NULL;
    visit->upstream_ms = (double)(clock_ns() - passage->asked_ns) / 1e6;
    bool again = (answer->failure == HTTP_FAILED_CONNECT || answer->failure == HTTP_FAILED_CLOSED) &&
                 passage->tries < TRIES_MOST;
    if (again)
        passage->timer =
            http_timer_start(passage->request->loop, pauses_ms[passage->tries - 1], passage_try, passage);
    if (!again || !passage->timer)
        passage_end(passage, answer);
}

/* False where there are too many headers, or no identity is to be had: with an answer that says so. */
static bool headers_make(struct passage *passage, struct proxy_headers *headers,
                         char token[IDENTITY_TOKEN_BYTES], struct error *error) {
    static const char *const dropped[] = {"Cookie", NULL}, *const dropped_of_question[] = {
                                                               "Cookie", "Content-Type", NULL};
    struct frontend *frontend = passage->frontend;
    const struct page_visit *visit = passage->request->user;
    const char *key = frontend->options.api_key;
    error_set(error, ERROR_TOO_LARGE, "too many headers");
    /* A question of ours goes under the caller's name, too: its key, its share of the rate. */
    if (!proxy_request_headers(passage->request, &visit->trace,
                               passage->whole ? dropped : dropped_of_question, headers))
        return false;
    bool brought = http_request_header(passage->request, "Authorization") != NULL;
    if (key && !brought && !http_request_header(passage->request, "X-Api-Key") &&
        !proxy_headers_add(headers, "X-Api-Key", key))
        return false;
    if (!frontend->identity)
        return true;
    const char *name = brought ? "X-Serverless-Authorization" : "Authorization";
    return identity_token(frontend->identity, &frontend->gateway, token, error) &&
           proxy_headers_add(headers, name, token);
}

static void passage_try(void *context) {
    struct passage *passage = context;
    struct page_visit *visit = passage->request->user;
    struct proxy_headers headers;
    char token[IDENTITY_TOKEN_BYTES];
    struct error error;
    passage->timer = NULL;
    if (!headers_make(passage, &headers, token, &error)) {
        passage_fail(passage, HTTP_FAILED_CONNECT, error.message);
        return;
    }
    int64_t left = (passage->deadline_ns - clock_ns()) / 1000000;
    passage->tries++;
    visit->tries = passage->tries;
    passage->asked_ns = clock_ns();
    passage->call = http_call_start(passage->frontend->upstream, passage->request->loop,
                                    &(struct http_call_options){
                                        .method = passage->method,
                                        .target = passage->target,
                                        .headers = headers.headers,
                                        .header_count = headers.count,
                                        .body = passage->whole ? passage->request->body : NULL,
                                        .timeout_ms = left > 1 ? (int)left : 1,
                                        .done = passage_answered,
                                        .context = passage,
                                    });
    if (!passage->call)
        passage_fail(passage, HTTP_FAILED_MEMORY, "out of memory");
}

void frontend_ask(struct frontend *frontend, struct http_request *request, const char *method,
                  const char *target, bool whole, const struct session *session, passage_done *done) {
    struct passage *passage = calloc(1, sizeof *passage + strlen(target) + 1);
    if (!passage) {
        done(frontend, request,
             &(struct http_answer){.failure = HTTP_FAILED_MEMORY, .reason = "out of memory"}, session);
        return;
    }
    pthread_mutex_lock(&frontend->lock);
    frontend->passages++;
    pthread_mutex_unlock(&frontend->lock);
    passage->frontend = frontend;
    passage->request = request;
    passage->done = done;
    passage->whole = whole;
    passage->deadline_ns = clock_ns() + frontend->options.timeout_ms * 1000000ll;
    if (session)
        passage->session = *session;
    snprintf(passage->method, sizeof passage->method, "%s", method);
    strcpy(passage->target, target);
    http_request_on_gone(request, passage_gone, passage);
    passage_try(passage);
}

void frontend_pass_back(struct frontend *frontend, struct http_request *request,
                        const struct http_answer *answer, const char *cookie) {
    struct error error;
    struct proxy_headers headers;
    if (answer->failure != HTTP_ANSWERED) {
        bool slow = answer->failure == HTTP_FAILED_TIMEOUT;
        error_set(&error, slow ? ERROR_TIMEOUT : ERROR_UPSTREAM, "the gateway %s%s",
                  slow ? "did not answer in time" : "cannot be reached: ", slow ? "" : answer->reason);
        frontend_reply_error(request, &error);
    } else if (!proxy_answer_headers(answer, NULL, &headers)) {
        error_set(&error, ERROR_UPSTREAM, "the gateway's answer has too many headers");
        frontend_reply_error(request, &error);
    } else {
        frontend_reply(request, answer->status, headers.headers, headers.count, cookie,
                       http_body_reference(answer->body));
    }
}
