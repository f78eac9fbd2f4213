#include "serve/gateway_rate.h"

#include <math.h>
#include <sodium.h>
#include <stdlib.h>

#define SETS 16384 /* a power of two */
#define WAYS 4

struct bucket {
    uint64_t client; /* keyed hash of the client; 0: free */
    int64_t touched; /* ns */
    double tokens;
};

struct rate_limiter {
    double rate, burst;
    uint8_t key[crypto_shorthash_KEYBYTES]; /* random: nobody can aim at another's set */
    struct bucket buckets[SETS][WAYS];
};

struct rate_limiter *rate_limiter_create(double rate, double burst) {
    struct rate_limiter *limiter = calloc(1, sizeof *limiter);
    if (!limiter)
        return NULL;
    limiter->rate = rate;
    limiter->burst = burst;
    randombytes_buf(limiter->key, sizeof limiter->key);
    return limiter;
}

void rate_limiter_free(struct rate_limiter *limiter) {
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

bool rate_limiter_take(struct rate_limiter *limiter, const char *client, size_t length, int64_t now_ns,
                       double *ret_wait_seconds) {
    union {
        uint8_t bytes[crypto_shorthash_BYTES];
        uint64_t number;
    } hash;
    crypto_shorthash(hash.bytes, (const uint8_t *)client, length, limiter->key);
    struct bucket *bucket = bucket_find(limiter, hash.number | 1ull << 63, now_ns);
    bucket->tokens =
        fmin(limiter->burst, bucket->tokens + limiter->rate * (double)(now_ns - bucket->touched) / 1e9);
    bucket->touched = now_ns;
    if (bucket->tokens < 1) {
        *ret_wait_seconds = (1 - bucket->tokens) / limiter->rate;
        return false;
    }
    bucket->tokens -= 1;
    return true;
}
