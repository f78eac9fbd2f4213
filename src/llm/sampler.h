/* Choosing the next token from logits. One thread at a time for each sampler; the same options and seed, and
 * the same logits, give the same tokens. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct sampler_options {
    double temperature; /* 0: always the likeliest token */
    double top_p;       /* the likeliest tokens that have so much of the probability together; 1: all */
    double min_p;       /* only tokens with at least this part of the likeliest one's probability; 0: all */
    int top_k;          /* the likeliest so many; 0: all */
    double
        repeat_penalty; /* logits of tokens seen are divided by it, or multiplied where negative; 1: none */
    double presence_penalty;  /* taken from logits of tokens seen */
    double frequency_penalty; /* … once for each time */
    uint64_t seed;
};
#define SAMPLER_DEFAULTS \
    { .temperature = 0.8, .top_p = 0.95, .min_p = 0.05, .top_k = 40, .repeat_penalty = 1 }

struct sampler;

/* NULL with ERROR_INVALID, which names the option that is beyond its range, or ERROR_MEMORY. */
struct sampler *sampler_create(const struct sampler_options *options, int32_t vocabulary,
                               struct error *error);
void sampler_free(struct sampler *sampler);

/* The token to come. logits: [vocabulary], changed. NaN counts as impossible; where nothing is possible, the
 * first token is taken. */
int32_t sampler_pick(struct sampler *sampler, float *logits);
/* Note a token of the text, for the penalties. */
void sampler_note(struct sampler *sampler, int32_t token);
