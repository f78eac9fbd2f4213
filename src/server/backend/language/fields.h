/* What a request asks of a language model, out of its JSON body (OpenAI's names, and llama.cpp's for what
 * OpenAI has no word for). A field that would change the answer is obeyed or refused by name; null is as good
 * as absent. Pure functions. */
#pragma once
#include <jansson.h>

#include "chat/constraint.h"
#include "llm/generation.h"

enum language_route { LANGUAGE_CHAT = 1, LANGUAGE_COMPLETION = 2 };

enum { FIELDS_STOPS = 4 /* stop strings, at most */ };

struct language_fields {
    enum language_route route;
    bool stream, include_usage;
    int n;        /* answers to each prompt */
    int64_t most; /* tokens of an answer; 0: what the context has room for */
    struct sampler_options sampling;
    bool has_seed;
    char *stops[FIELDS_STOPS]; /* [stop_count] */
    int stop_count;
    struct token_bias *biases; /* [bias_count] */
    size_t bias_count;
    int top;                       /* alternatives to each token; -1: no probabilities */
    bool is_apart, goes_on;        /* cache_prompt is false; ignore_eos is true */
    struct constraint *constraint; /* of response_format; NULL: any text */
    const char *user;              /* NULL: none is named */
    json_t *conversation;          /* for dialogue_render; NULL: a completion */
    const json_t *prompt;          /* a string, or an array; borrowed from the body */
};

/* ret is released by language_fields_release, also after a failure; it refers to the body. `vocabulary`: how
 * many tokens there are. ERROR_INVALID names the field, and what it may be. */
bool language_fields_read(const json_t *body, enum language_route route, int32_t vocabulary,
                          struct language_fields *ret, struct error *error);
void language_fields_release(struct language_fields *fields);
