#include "server/edge/rate_limit.h"

#include <arpa/inet.h>
#include <math.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/edge/links.h"
#include "server/edge/respond.h"

#define SETS 16384 /* a power of two */
#define WAYS 4

struct bucket {
    uint64_t client; /* keyed hash of the client; 0: free */
    int64_t touched; /* ns */
    double tokens;
};

struct rate_limiter {
    double rate, burst;
    pthread_mutex_t mutex;                  /* guards the buckets */
    uint8_t key[crypto_shorthash_KEYBYTES]; /* random, so that clients cannot choose their set */
    struct bucket buckets[SETS][WAYS];
};

struct rate_limiter *rate_limiter_create(double rate, double burst) {
    struct rate_limiter *limiter = calloc(1, sizeof *limiter);
    if (!limiter)
        return NULL;

    limiter->rate = rate;
    limiter->burst = burst;
    pthread_mutex_init(&limiter->mutex, NULL);
    randombytes_buf(limiter->key, sizeof limiter->key);

    return limiter;
}

void rate_limiter_free(struct rate_limiter *limiter) {
    if (!limiter)
        return;
    pthread_mutex_destroy(&limiter->mutex);
    free(limiter);
}

static struct bucket *bucket_find(struct rate_limiter *limiter, uint64_t client, int64_t now_ns) {
    struct bucket *set = limiter->buckets[client & (SETS - 1)], *oldest = &set[0];
    for (int i = 0; i < WAYS; i++) {
        if (set[i].client == client)
            return &set[i];
        if (set[i].client == 0 || (oldest->client != 0 && set[i].touched < oldest->touched))
            oldest = &set[i];
    }

    *oldest = (struct bucket){.client = client, .touched = now_ns, .tokens = limiter->burst};
    return oldest;
}

/* Take a token. False: there is none, and *ret_wait_seconds says when there will be. */
static bool bucket_take(struct bucket *bucket, const struct rate_limiter *limiter, int64_t now_ns,
                        double *ret_wait_seconds) {
    double earned = limiter->rate * (double)(now_ns - bucket->touched) / 1e9;

    bucket->tokens = fmin(limiter->burst, bucket->tokens + earned);
    bucket->touched = now_ns;
    if (bucket->tokens < 1) {
        *ret_wait_seconds = (1 - bucket->tokens) / limiter->rate;
        return false;
    }

    bucket->tokens -= 1;
    return true;
}

bool rate_limiter_take(struct rate_limiter *limiter, const char *client, size_t length, int64_t now_ns,
                       double *ret_wait_seconds) {
    union {
        uint8_t bytes[crypto_shorthash_BYTES];
        uint64_t number;
    } hash;
    crypto_shorthash(hash.bytes, (const uint8_t *)client, length, limiter->key);

    pthread_mutex_lock(&limiter->mutex);
    struct bucket *bucket = bucket_find(limiter, hash.number | 1ull << 63, now_ns);
    bool taken = bucket_take(bucket, limiter, now_ns, ret_wait_seconds);
    pthread_mutex_unlock(&limiter->mutex);
    return taken;
}

bool link_limit_rate(struct http_request *request, struct rate_limiter *limiter) {
    const struct context *context = context_of(request);
    struct in6_addr address;
    double wait = 0;

    if (!limiter || (context->endpoint && context->endpoint->right == RIGHT_NONE))
        return true;

    /* An IPv6 network of 64 bits is one client: its owner has all of it. */
    bool network = inet_pton(AF_INET6, context->client, &address) == 1;
    if (network ? rate_limiter_take(limiter, (const char *)&address, 8, clock_ns(), &wait)
                : rate_limiter_take(limiter, context->client, strlen(context->client), clock_ns(), &wait))
        return true;

    struct error error;
    char seconds[16];
    snprintf(seconds, sizeof seconds, "%.0f", fmin(ceil(wait), 3600));
    error_set(&error, ERROR_RATE, "more than %g requests a second; wait %s s", limiter->rate, seconds);
    respond_error_with(request, &error, seconds, NULL);
    return false;
}
