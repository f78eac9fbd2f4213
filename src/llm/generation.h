/* One sequence that a scheduler is to write: a prompt, and how its tokens are chosen. */
#pragma once
#include <stdatomic.h>

#include "llm/sampler.h"

enum { GENERATION_TOP = 20 /* alternatives to a token that can be told, at most */ };

struct token_chance {
    int32_t token;
    float logprob; /* natural logarithm of its probability, as the model has it, before sampling changes it */
};

struct generated_token {
    struct token_chance chance;     /* .logprob is 0 where none was asked for */
    const struct token_chance *top; /* the likeliest, [top_count] */
    int top_count;
};

struct token_bias {
    int32_t token;
    float bias; /* added to its logit */
};

enum generation_end {
    GENERATION_STOPPED,   /* `take` said so */
    GENERATION_LENGTH,    /* as many tokens as it may have */
    GENERATION_CANCELLED, /* also where the scheduler ends */
    GENERATION_FAILED,    /* with the reason */
};

struct generation {
    /* What to do: set before scheduler_submit, and left alone until `done`. */
    const int32_t *prompt; /* [prompt_count], at least one; tokens of the vocabulary */
    size_t prompt_count;
    int64_t most;            /* tokens to write, at least 1; with the prompt, at most the context */
    struct sampler *sampler; /* the scheduler's until `done` */
    const struct token_bias *biases;
    size_t bias_count;
    int top;            /* alternatives to tell, up to GENERATION_TOP; -1: no probabilities either */
    bool is_apart;      /* shares no pages with others */
    uint64_t scope;     /* shares pages with those of the same scope alone */
    uint64_t client;    /* where several wait, the client with the fewest sequences is next */
    int64_t expires_ns; /* clock_ns(): it does not begin later; 0: whenever it can */
    /* Called by the scheduler's thread, or by one of its team: `constrain`, where it is not NULL, may change
     * logits before a token is chosen. `take` gets the token, and returns false where that was the last.
     * `done` is the end of all calls; the generation may be freed in it. */
    void (*constrain)(void *context, float *logits);
    bool (*take)(void *context, const struct generated_token *token);
    void (*done)(void *context, enum generation_end end, const struct error *error);
    void *context;

    /* Set by anybody: it ends within a run. */
    atomic_bool cancelled;

    /* What became of it, from the first `take` on. */
    size_t shared;     /* tokens of the prompt that were there already */
    int64_t count;     /* tokens written */
    int64_t queued_ns; /* clock_ns() of scheduler_submit … */
    int64_t begun_ns;  /* … of the first run that it was in; 0: it was in none */

    struct generation *next; /* the scheduler's */
};
