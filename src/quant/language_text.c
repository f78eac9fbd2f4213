#include "quant/language_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "llm/sampler.h"
#include "quant/shuffle.h"

static bool allocate(struct language_text *text, struct error *error) {
    text->tokens = calloc((size_t)text->windows * (size_t)text->window, sizeof *text->tokens);
    return text->tokens ||
           error_set(error, ERROR_MEMORY, "not enough memory for %d windows of text", text->windows);
}

void language_text_release(struct language_text *text) {
    free(text->tokens);
    *text = (struct language_text){0};
}

bool language_text_cut(const struct llm_model *model, const int32_t *tokens, size_t count, int window,
                       struct language_text *ret, struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(model);
    int bos = tokenizer_adds_bos(tokenizer);
    size_t own = (size_t)(window - bos), windows = count / own;
    if (windows < 6)
        return error_set(
            error, ERROR_INVALID,
            "the texts have %zu tokens; at least six windows of %d are needed: give more of them", count,
            window);

    struct language_text text = {.window = window, .windows = windows < 100000 ? (int)windows : 100000};
    if (!allocate(&text, error))
        return false;
    for (int i = 0; i < text.windows; i++) {
        int32_t *to = text.tokens + (size_t)i * (size_t)window;
        if (bos)
            to[0] = tokenizer_bos(tokenizer);
        memcpy(to + bos, tokens + (size_t)i * own, own * sizeof *to);
    }
    *ret = text;
    return true;
}

/* Some sequences that are written side by side. */
struct writing {
    struct llm_context *context;
    struct llm_sequence *sequences;
    struct sampler *sampler;
    struct llm_row *rows;
};

/* Windows [first, first + count). */
static bool write_windows(struct writing *writing, struct language_text *text, int first, int count,
                          struct error *error) {
    float *logits;
    bool done = true;
    for (int at = 0; done && at + 1 < text->window; at++) {
        for (int i = 0; i < count; i++)
            writing->rows[i] = (struct llm_row){
                &writing->sequences[i], text->tokens[(size_t)(first + i) * (size_t)text->window + (size_t)at],
                .wants_logits = true};
        done = llm_context_run(writing->context, writing->rows, count, &logits, error);
        for (int i = 0; done && i < count; i++)
            text->tokens[(size_t)(first + i) * (size_t)text->window + (size_t)at + 1] = sampler_pick(
                writing->sampler, logits + (size_t)i * (size_t)llm_context_vocabulary(writing->context));
    }
    for (int i = 0; i < count; i++)
        llm_sequence_release(writing->context, &writing->sequences[i]);
    return done;
}

/* Where the model's texts have no BOS they begin with a token of any kind: one after the other of a step
 * through the vocabulary. */
static void begin_windows(const struct llm_model *model, struct language_text *text, uint64_t seed) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(model);
    uint64_t count = (uint64_t)tokenizer_count(tokenizer);
    for (int i = 0; i < text->windows; i++)
        text->tokens[(size_t)i * (size_t)text->window] =
            tokenizer_adds_bos(tokenizer) ? tokenizer_bos(tokenizer)
                                          : (int32_t)((seed * 7919 + (uint64_t)i * 104729 + 1000) % count);
}

bool language_text_sample(const struct llm_model *model, int window, int windows, int threads, uint64_t seed,
                          progress_report progress, void *context, struct language_text *ret,
                          struct error *error) {
    enum { TOGETHER = 16 };
    const struct llm_context_options options = {
        .rows = TOGETHER, .positions = (int64_t)TOGETHER * (window + 32), .threads = threads};
    const struct sampler_options sampling = {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = seed};
    struct llm_sequence sequences[TOGETHER] = {0};
    struct llm_row rows[TOGETHER];
    struct language_text text = {.window = window, .windows = windows, .is_sampled = true};
    struct writing writing = {llm_context_create(model, &options, error), sequences, NULL, rows};
    bool done = writing.context && allocate(&text, error);

    if (done)
        writing.sampler = sampler_create(&sampling, llm_model_vocabulary(model), error);
    done = writing.sampler;
    if (done)
        begin_windows(model, &text, seed);
    for (int i = 0; done && i < windows; i += TOGETHER) {
        if (!progress(context, "writing a text", (uint64_t)i, (uint64_t)windows))
            done = error_set(error, ERROR_UNAVAILABLE, "interrupted");
        else
            done = write_windows(&writing, &text, i, windows - i < TOGETHER ? windows - i : TOGETHER, error);
    }

    sampler_free(writing.sampler);
    llm_context_free(writing.context);
    if (done)
        *ret = text;
    else
        language_text_release(&text);
    return done;
}

static bool take(const struct language_text *text, const int *order, int count, struct language_text *ret,
                 struct error *error) {
    *ret = (struct language_text){.window = text->window, .windows = count, .is_sampled = text->is_sampled};
    if (!allocate(ret, error))
        return false;
    for (int i = 0; i < count; i++)
        memcpy(ret->tokens + (size_t)i * (size_t)text->window,
               text->tokens + (size_t)order[i] * (size_t)text->window,
               (size_t)text->window * sizeof *text->tokens);
    return true;
}

bool language_text_part(const struct language_text *text, int choosers, int judges, uint64_t seed,
                        struct language_text *ret_choosers, struct language_text *ret_judges,
                        struct error *error) {
    cleanup(freep) int *order = calloc((size_t)text->windows + 1, sizeof *order);
    int third = text->windows / 3, judging = third < judges ? third : judges,
        choosing = text->windows - judging < choosers ? text->windows - judging : choosers;
    if (!order)
        return error_set(error, ERROR_MEMORY, "not enough memory for %d windows of text", text->windows);

    shuffle(order, text->windows, seed);
    struct language_text first = {0};
    if (!take(text, order, choosing, &first, error))
        return false;
    if (!take(text, order + choosing, judging, ret_judges, error)) {
        language_text_release(&first);
        return false;
    }
    *ret_choosers = first;
    return true;
}
