#include "serve/gateway_identity.h"

#include <jansson.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define TOKENS_MOST 256
#define AGAIN_NS 1000000000ll /* between questions for one token that is not to be had */
#define REFRESH_SECONDS 300
#define LIFE_SECONDS 3000 /* of a token that does not say */

struct token {
    char audience[BACKEND_HOST_BYTES + 16];
    char value[IDENTITY_TOKEN_BYTES]; /* "" until the first answer */
    time_t expires;
    int64_t again_ns; /* not asked for again before */
    char reason[160]; /* why there is none */
};

struct identity {
    struct http_loops *loops;
    struct http_upstream *upstream;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct token *tokens[TOKENS_MOST];
    int count;
    bool pending;           /* a question is under way: one at a time */
    struct token *asked;    /* … for this one */
    struct http_call *call; /* on loop 0 alone */
};

struct identity *identity_create(struct http_loops *loops, struct error *error) {
    const char *host = getenv("GCE_METADATA_HOST");
    char url[300];
    snprintf(url, sizeof url, "http://%.255s", host && *host ? host : "metadata.google.internal");
    struct http_upstream *upstream = http_upstream_create(
        loops, &(struct http_upstream_options){.url = url, .answer_limit = 64 << 10}, error);
    if (!upstream) {
        error_prefix(error, "Google identity: the metadata server (GCE_METADATA_HOST names another)");
        return NULL;
    }
    struct identity *identity = calloc(1, sizeof *identity);
    if (!identity) {
        http_upstream_free(upstream);
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }
    identity->loops = loops;
    identity->upstream = upstream;
    pthread_mutex_init(&identity->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&identity->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    return identity;
}

/* On loop 0, behind whatever was posted there before. */
static void token_forget(void *context) {
    struct identity *identity = context;
    pthread_mutex_lock(&identity->lock);
    http_call_cancel(identity->call);
    identity->call = NULL;
    identity->pending = false;
    pthread_cond_broadcast(&identity->answered);
    pthread_mutex_unlock(&identity->lock);
}

void identity_free(struct identity *identity) {
    if (!identity)
        return;
    pthread_mutex_lock(&identity->lock);
    if (identity->pending) /* without memory for that it ends by itself, a little later */
        http_loop_post(http_loops_get(identity->loops, 0), token_forget, identity);
    while (identity->pending)
        pthread_cond_wait(&identity->answered, &identity->lock);
    pthread_mutex_unlock(&identity->lock);
    http_upstream_free(identity->upstream);
    for (int i = 0; i < identity->count; i++)
        free(identity->tokens[i]);
    pthread_cond_destroy(&identity->answered);
    pthread_mutex_destroy(&identity->lock);
    free(identity);
}

/* Cloud Run's audience is the receiving service's address. */
static void audience_write(const struct backend_url *url, char ret[BACKEND_HOST_BYTES + 16]) {
    bool usual = url->port == (url->tls ? 443 : 80);
    const char *scheme = url->tls ? "https" : "http";
    if (usual)
        snprintf(ret, BACKEND_HOST_BYTES + 16, "%s://%s", scheme, url->host);
    else
        snprintf(ret, BACKEND_HOST_BYTES + 16, "%s://%s:%d", scheme, url->host, url->port);
}

/* Under the lock. NULL where there is none, and no room or memory to make one. */
static struct token *token_find(struct identity *identity, const char *audience, bool make) {
    for (int i = 0; i < identity->count; i++)
        if (strcmp(identity->tokens[i]->audience, audience) == 0)
            return identity->tokens[i];
    if (!make || identity->count == TOKENS_MOST)
        return NULL;
    struct token *token = calloc(1, sizeof *token);
    if (!token)
        return NULL;
    strcpy(token->audience, audience);
    strcpy(token->reason, "not asked for yet");
    return identity->tokens[identity->count++] = token;
}

bool identity_token(struct identity *identity, const struct backend_url *url, char ret[IDENTITY_TOKEN_BYTES],
                    struct error *error) {
    char audience[BACKEND_HOST_BYTES + 16];
    audience_write(url, audience);
    pthread_mutex_lock(&identity->lock);
    struct token *token = token_find(identity, audience, false);
    bool good = token && token->value[0] && token->expires > time(NULL);
    if (good)
        strcpy(ret, token->value);
    else
        error_set(error, ERROR_UNAVAILABLE, "no Google ID token for %s: %s", audience,
                  token ? token->reason : "not asked for yet");
    pthread_mutex_unlock(&identity->lock);
    return good;
}

long identity_expiry(const char *token, size_t length) {
    const char *payload = memchr(token, '.', length);
    if (!payload)
        return 0;
    payload++;
    const char *end = memchr(payload, '.', length - (size_t)(payload - token));
    char text[3072];
    size_t size;
    if (!end || sodium_base642bin((unsigned char *)text, sizeof text, payload, (size_t)(end - payload), NULL,
                                  &size, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
        return 0;
    json_t *claims = json_loadb(text, size, 0, NULL);
    long expires = (long)json_integer_value(json_object_get(claims, "exp"));
    json_decref(claims);
    return expires > 0 ? expires : 0;
}

/* Printable, and without blanks: fit for a header. */
static bool token_usable(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 127)
            return false;
    return length > 0 && length < IDENTITY_TOKEN_BYTES - 8;
}

static void token_answered(void *context, const struct http_answer *answer) {
    struct identity *identity = context;
    pthread_mutex_lock(&identity->lock);
    identity->call = NULL;
    struct token *token = identity->asked;
    size_t length = answer->body ? answer->body->size : 0;
    while (length > 0 && (answer->body->bytes[length - 1] == '\n' || answer->body->bytes[length - 1] == '\r'))
        length--;
    if (answer->failure == HTTP_ANSWERED && answer->status == 200 &&
        token_usable(answer->body->bytes, length)) {
        memcpy(token->value, "Bearer ", 7);
        memcpy(token->value + 7, answer->body->bytes, length);
        token->value[7 + length] = 0;
        long expires = identity_expiry(answer->body->bytes, length);
        token->expires = expires ? expires : time(NULL) + LIFE_SECONDS;
    } else if (answer->failure == HTTP_ANSWERED) {
        snprintf(token->reason, sizeof token->reason, "the metadata server said %d", answer->status);
    } else {
        snprintf(token->reason, sizeof token->reason, "the metadata server: %.100s", answer->reason);
    }
    identity->pending = false;
    pthread_cond_broadcast(&identity->answered);
    pthread_mutex_unlock(&identity->lock);
}

/* On loop 0: ask for `asked`'s token. */
static void token_ask(void *context) {
    static const struct http_header flavour[] = {{"Metadata-Flavor", "Google"}};
    struct identity *identity = context;
    char target[600];
    snprintf(target, sizeof target,
             "/computeMetadata/v1/instance/service-accounts/default/identity?audience=%s",
             identity->asked->audience);
    struct http_call *call = http_call_start(identity->upstream, http_loops_get(identity->loops, 0),
                                             &(struct http_call_options){.method = "GET",
                                                                         .target = target,
                                                                         .headers = flavour,
                                                                         .header_count = 1,
                                                                         .timeout_ms = 5000,
                                                                         .done = token_answered,
                                                                         .context = identity});
    identity->call = call;
    if (!call)
        token_answered(identity,
                       &(struct http_answer){.failure = HTTP_FAILED_MEMORY, .reason = "out of memory"});
}

/* Under the lock: until no question is under way, at most until then. */
static void answer_await(struct identity *identity, int64_t until_ns) {
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    while (identity->pending && clock_ns() < until_ns)
        pthread_cond_timedwait(&identity->answered, &identity->lock, &until);
}

bool identity_refresh(struct identity *identity, const struct backend_url *url, int wait_ms,
                      struct error *error) {
    char audience[BACKEND_HOST_BYTES + 16];
    int64_t until_ns = clock_ns() + wait_ms * 1000000ll;
    audience_write(url, audience);
    pthread_mutex_lock(&identity->lock);
    answer_await(identity, until_ns);
    struct token *token = token_find(identity, audience, true);
    if (!token) {
        pthread_mutex_unlock(&identity->lock);
        return error_set(error, ERROR_MEMORY, "Google identity: more than %d backends", TOKENS_MOST);
    }
    if (token->expires <= time(NULL) + REFRESH_SECONDS && !identity->pending &&
        clock_ns() >= token->again_ns) {
        token->again_ns = clock_ns() + AGAIN_NS;
        identity->asked = token;
        identity->pending = http_loop_post(http_loops_get(identity->loops, 0), token_ask, identity);
        answer_await(identity, until_ns);
    }
    bool good = token->value[0] && token->expires > time(NULL);
    if (!good)
        error_set(error, ERROR_UNAVAILABLE, "no Google ID token for %s: %s", audience, token->reason);
    pthread_mutex_unlock(&identity->lock);
    return good;
}
