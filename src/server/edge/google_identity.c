#include "server/edge/google_identity.h"

#include <jansson.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define TOKENS_MOST 256
#define AGAIN_NS 1000000000ll /* minimum time between requests for one token */
#define REFRESH_SECONDS 300
#define LIFE_SECONDS 3000 /* assumed lifetime of a token without "exp" */

struct token {
    char audience[URL_ORIGIN_BYTES];  /* Cloud Run's: the origin of the receiving service's URL */
    char value[IDENTITY_TOKEN_BYTES]; /* "" until the first response */
    time_t expires;
    int64_t again_ns; /* not requested again before */
    char reason[160]; /* why there is none */
};

struct identity {
    struct http_loops *loops;
    struct http_upstream *upstream;
    pthread_mutex_t lock;
    pthread_cond_t done;
    struct token *tokens[TOKENS_MOST];
    int count;
    bool pending;           /* a request is under way: one at a time */
    struct token *asked;    /* the token being requested */
    struct http_call *call; /* used on loop 0 only */
};

struct identity *identity_create(struct http_loops *loops, struct error *error) {
    const char *host = getenv("GCE_METADATA_HOST");
    char text[300];
    struct url url;

    snprintf(text, sizeof text, "http://%.290s", host && *host ? host : "metadata.google.internal");
    struct http_upstream_options options = {.url = &url, .response_limit = 64 << 10};
    struct http_upstream *upstream =
        url_parse_base(text, &url, error) ? http_upstream_create(loops, &options, error) : NULL;
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
    pthread_cond_init(&identity->done, &attributes);
    pthread_condattr_destroy(&attributes);
    return identity;
}

/* On loop 0, after everything posted before. */
static void token_forget(void *context) {
    struct identity *identity = context;
    pthread_mutex_lock(&identity->lock);
    http_call_cancel(identity->call);
    identity->call = NULL;
    identity->pending = false;
    pthread_cond_broadcast(&identity->done);
    pthread_mutex_unlock(&identity->lock);
}

void identity_free(struct identity *identity) {
    if (!identity)
        return;

    pthread_mutex_lock(&identity->lock);
    if (identity->pending) /* if posting fails, the request still ends by its timeout */
        http_loop_post(http_loops_get(identity->loops, 0), token_forget, identity);
    while (identity->pending)
        pthread_cond_wait(&identity->done, &identity->lock);
    pthread_mutex_unlock(&identity->lock);

    http_upstream_free(identity->upstream);
    for (int i = 0; i < identity->count; i++)
        free(identity->tokens[i]);
    pthread_cond_destroy(&identity->done);
    pthread_mutex_destroy(&identity->lock);
    free(identity);
}

/* Lock held. NULL if there is none and it is not, or cannot be, added. */
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
    strcpy(token->reason, "not requested yet");
    return identity->tokens[identity->count++] = token;
}

bool identity_token(struct identity *identity, const struct url *url, char ret[IDENTITY_TOKEN_BYTES],
                    struct error *error) {
    char audience[URL_ORIGIN_BYTES];
    url_write_origin(url, audience);

    pthread_mutex_lock(&identity->lock);
    struct token *token = token_find(identity, audience, false);
    bool good = token && token->value[0] && token->expires > time(NULL);
    if (good)
        strcpy(ret, token->value);
    else
        error_set(error, ERROR_UNAVAILABLE, "no Google ID token for %s: %s", audience,
                  token ? token->reason : "not requested yet");

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

/* Printable without blanks, so valid in a header. */
static bool token_usable(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 127)
            return false;
    return length > 0 && length < IDENTITY_TOKEN_BYTES - 8;
}

static void token_done(void *context, const struct http_response *response) {
    struct identity *identity = context;
    pthread_mutex_lock(&identity->lock);
    identity->call = NULL;
    struct token *token = identity->asked;

    size_t length = response->body ? response->body->size : 0;
    while (length > 0 &&
           (response->body->bytes[length - 1] == '\n' || response->body->bytes[length - 1] == '\r'))
        length--;

    if (response->failure == HTTP_COMPLETE && response->status == 200 && length > 0 &&
        token_usable(response->body->bytes, length)) {
        memcpy(token->value, "Bearer ", 7);
        memcpy(token->value + 7, response->body->bytes, length);
        token->value[7 + length] = 0;
        long expires = identity_expiry(response->body->bytes, length);
        token->expires = expires ? expires : time(NULL) + LIFE_SECONDS;
    } else if (response->failure == HTTP_COMPLETE) {
        snprintf(token->reason, sizeof token->reason, "the metadata server returned status %d",
                 response->status);
    } else {
        snprintf(token->reason, sizeof token->reason, "the metadata server: %.100s", response->reason);
    }

    identity->pending = false;
    pthread_cond_broadcast(&identity->done);
    pthread_mutex_unlock(&identity->lock);
}

/* On loop 0: request the token of `asked`. */
static void token_request(void *context) {
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
                                                                         .done = token_done,
                                                                         .context = identity});
    identity->call = call;
    if (!call)
        token_done(identity,
                   &(struct http_response){.failure = HTTP_FAILED_MEMORY, .reason = "out of memory"});
}

/* Lock held: wait until no request is under way, at most until `until_ns`. */
static void request_wait(struct identity *identity, int64_t until_ns) {
    struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};
    while (identity->pending && clock_ns() < until_ns)
        pthread_cond_timedwait(&identity->done, &identity->lock, &until);
}

bool identity_refresh(struct identity *identity, const struct url *url, int wait_ms, struct error *error) {
    char audience[URL_ORIGIN_BYTES];
    int64_t until_ns = clock_ns() + wait_ms * 1000000ll;
    url_write_origin(url, audience);

    pthread_mutex_lock(&identity->lock);
    request_wait(identity, until_ns);
    struct token *token = token_find(identity, audience, true);
    if (!token) {
        pthread_mutex_unlock(&identity->lock);
        return error_set(error, ERROR_MEMORY, "Google identity: more than %d backends", TOKENS_MOST);
    }

    if (token->expires <= time(NULL) + REFRESH_SECONDS && !identity->pending &&
        clock_ns() >= token->again_ns) {
        token->again_ns = clock_ns() + AGAIN_NS;
        identity->asked = token;
        identity->pending = http_loop_post(http_loops_get(identity->loops, 0), token_request, identity);
        request_wait(identity, until_ns);
    }

    bool good = token->value[0] && token->expires > time(NULL);
    if (!good)
        error_set(error, ERROR_UNAVAILABLE, "no Google ID token for %s: %s", audience, token->reason);
    pthread_mutex_unlock(&identity->lock);
    return good;
}
