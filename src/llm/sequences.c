#include "llm/sequences.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/team.h"
#include "llm/prefix.h"

/* Tokens of prompts in one run: fewer where others wait for their next token meanwhile. */
enum { SLICE_ALONE = 512, SLICE_BESIDE = 256 };

struct sequence_slot {
    struct generation *generation; /* NULL: free */
    struct llm_sequence sequence;
    struct prefix_place place;
    int32_t *tokens; /* [count] of prompt and answer, in one allocation for all that may come */
    size_t count;
    float *chances; /* [vocabulary]: logits as the model gave them, where probabilities are asked for */

    /* Of a run. */
    int rows;   /* in it */
    int logits; /* which row of logits is its own; -1: none */
    int32_t token;
    float logprob;
    struct token_chance top[GENERATION_TOP];
    int top_count;
};

struct sequences {
    struct llm_context *context;
    struct prefix_index *prefixes;
    struct sequences_options options;
    int32_t vocabulary;
    int count;
    int turn; /* whose prompt is next */
    struct sequences_counts counts;
    struct llm_row *rows;         /* [parallel + SLICE_ALONE] */
    struct sequence_slot slots[]; /* [parallel] */
};

/* --- Creation ------------------------------------------------------------------------------------------- */

struct sequences *sequences_create(const struct llm_model *model, const struct sequences_options *options,
                                   struct error *error) {
    int rows = options->parallel + SLICE_ALONE;
    int64_t pages = (options->context + KV_PAGE - 1) / KV_PAGE * options->parallel;
    struct sequences *sequences =
        calloc(1, sizeof *sequences + (size_t)options->parallel * sizeof sequences->slots[0]);
    if (!sequences) {
        error_set(error, ERROR_MEMORY, "not enough memory for %d sequences", options->parallel);
        return NULL;
    }

    sequences->options = *options;
    sequences->vocabulary = llm_model_vocabulary(model);
    sequences->rows = calloc((size_t)rows, sizeof *sequences->rows);
    sequences->context = llm_context_create(model,
                                            &(struct llm_context_options){
                                                .rows = rows,
                                                .positions = pages * KV_PAGE,
                                                .longest = options->context,
                                                .threads = options->threads,
                                                .precision = options->precision,
                                                .kv = options->kv,
                                            },
                                            error);
    if (sequences->context)
        sequences->prefixes = prefix_index_create(llm_context_pool(sequences->context), (int)pages);
    sequences->counts.pages = sequences->counts.free_pages = (int)pages;
    if (sequences->rows && sequences->prefixes)
        return sequences;

    if (sequences->context)
        error_set(error, ERROR_MEMORY, "not enough memory for %d sequences", options->parallel);
    sequences_free(sequences);
    return NULL;
}

void sequences_free(struct sequences *sequences) {
    if (!sequences)
        return;

    prefix_index_free(sequences->prefixes);
    llm_context_free(sequences->context);
    free(sequences->rows);
    free(sequences);
}

int sequences_count(const struct sequences *sequences) {
    return sequences->count;
}

bool sequences_have_place(const struct sequences *sequences) {
    return sequences->count < sequences->options.parallel;
}

int sequences_of_client(const struct sequences *sequences, uint64_t client) {
    int count = 0;
    for (int i = 0; i < sequences->options.parallel; i++) {
        const struct generation *generation = sequences->slots[i].generation;
        count += generation && generation->client == client;
    }
    return count;
}

void sequences_counts_get(const struct sequences *sequences, struct sequences_counts *ret) {
    *ret = sequences->counts;
}

/* --- A sequence's beginning and end ----------------------------------------------------------------------
 */

static void end_slot(struct sequences *sequences, struct sequence_slot *slot, enum generation_end end,
                     const struct error *error) {
    struct generation *generation = slot->generation;

    prefix_leave(sequences->prefixes, &slot->place);
    llm_sequence_release(sequences->context, &slot->sequence);
    free(slot->tokens);
    free(slot->chances);
    *slot = (struct sequence_slot){0};
    sequences->count--;
    generation->done(generation->context, end, error);
}

void sequences_begin(struct sequences *sequences, struct generation *generation) {
    size_t vocabulary = (size_t)sequences->vocabulary;
    struct sequence_slot *slot = sequences->slots;
    while (slot->generation)
        slot++;

    sequences->count++;
    *slot = (struct sequence_slot){
        .generation = generation,
        .place = PREFIX_BEGINNING(generation->scope),
        .tokens = calloc(generation->prompt_count + (size_t)generation->most, sizeof *slot->tokens),
        .count = generation->prompt_count,
        .chances = generation->top >= 0 ? calloc(vocabulary, sizeof *slot->chances) : NULL,
    };
    if (!slot->tokens || (generation->top >= 0 && !slot->chances)) {
        end_slot(sequences, slot, GENERATION_FAILED,
                 &(struct error){ERROR_MEMORY, "not enough memory for a sequence"});
        return;
    }
    memcpy(slot->tokens, generation->prompt, slot->count * sizeof *slot->tokens);
}

void sequences_cancel(struct sequences *sequences) {
    for (int i = 0; i < sequences->options.parallel; i++)
        if (sequences->slots[i].generation)
            atomic_store(&sequences->slots[i].generation->cancelled, true);
}

static void end_cancelled(struct sequences *sequences) {
    for (int i = 0; i < sequences->options.parallel; i++) {
        struct sequence_slot *slot = &sequences->slots[i];
        if (slot->generation && atomic_load(&slot->generation->cancelled))
            end_slot(sequences, slot, GENERATION_CANCELLED, NULL);
    }
}

/* --- The rows of a run -----------------------------------------------------------------------------------
 */

/* Tokens that are not in the cache yet. */
static size_t tokens_left(const struct sequence_slot *slot) {
    return slot->count - (size_t)slot->sequence.length;
}

static bool is_writing(const struct sequence_slot *slot) {
    return slot->generation && slot->generation->count > 0;
}

static int add_rows(struct sequences *sequences, struct sequence_slot *slot, int at, size_t count) {
    size_t first = (size_t)slot->sequence.length;

    for (size_t i = 0; i < count; i++)
        sequences->rows[at++] = (struct llm_row){
            .sequence = &slot->sequence,
            .token = slot->tokens[first + i],
            .wants_logits = first + i + 1 == slot->count,
            .is_prompt = !is_writing(slot),
        };
    slot->rows = (int)count;
    return at;
}

/* What others have computed of the prompt, perhaps just now, need not be computed again; its last token is,
 * for its logits. */
static void share_prompt(struct sequences *sequences, struct sequence_slot *slot) {
    if (slot->generation->is_apart || slot->sequence.length != (int64_t)slot->place.blocks * KV_PAGE ||
        slot->sequence.pages.count != slot->place.blocks)
        return;

    int found = prefix_follow(sequences->prefixes, &slot->place, slot->tokens, slot->count - 1,
                              &slot->sequence.pages);
    slot->sequence.length += (int64_t)found * KV_PAGE;
    slot->generation->shared += (size_t)found * KV_PAGE;
    sequences->counts.shared_tokens += (uint64_t)found * KV_PAGE;
}

/* Tokens of a prompt for a run with `left` rows: all, or up to the end of a page, where sharing may go on. */
static size_t slice_of(const struct sequence_slot *slot, size_t left) {
    size_t first = (size_t)slot->sequence.length, end = (first + left) / KV_PAGE * KV_PAGE;
    if (tokens_left(slot) <= left)
        return tokens_left(slot);
    return end > first ? end - first : 0;
}

/* Slices of prompts, each sequence in its turn, up to `left` rows. */
static int add_prompts(struct sequences *sequences, int at, size_t left) {
    int parallel = sequences->options.parallel, turn = sequences->turn;

    for (int i = 0; i < parallel && left > 0; i++) {
        struct sequence_slot *slot = &sequences->slots[(turn + i) % parallel];
        if (!slot->generation || is_writing(slot))
            continue;

        share_prompt(sequences, slot);
        size_t count = slice_of(slot, left);
        at = add_rows(sequences, slot, at, count);
        left -= count;
        sequences->counts.prompt_tokens += count;
        sequences->turn = (turn + i + (count > 0)) % parallel;
        if (count == 0)
            break;
    }
    return at;
}

static int gather_rows(struct sequences *sequences) {
    int64_t now = clock_ns();
    int at = 0;

    for (int i = 0; i < sequences->options.parallel; i++) {
        struct sequence_slot *slot = &sequences->slots[i];
        slot->rows = 0;
        if (is_writing(slot))
            at = add_rows(sequences, slot, at, 1);
    }
    at = add_prompts(sequences, at, at > 0 ? SLICE_BESIDE : SLICE_ALONE);

    int logits = 0;
    for (int i = 0; i < at; i++) { /* rows of one sequence stand together */
        struct sequence_slot *slot =
            (struct sequence_slot *)(void *)((char *)sequences->rows[i].sequence -
                                             offsetof(struct sequence_slot, sequence));
        slot->logits = sequences->rows[i].wants_logits ? logits++ : -1;
        if (!slot->generation->begun_ns)
            slot->generation->begun_ns = now;
    }
    return at;
}

/* Pages for the rows, from those that are kept for others where it must be. There are always as many as all
 * sequences together can need. */
static void make_room(struct sequences *sequences) {
    int pages = 0;

    for (int i = 0; i < sequences->options.parallel; i++) {
        const struct sequence_slot *slot = &sequences->slots[i];
        int64_t wanted = (slot->sequence.length + slot->rows + KV_PAGE - 1) / KV_PAGE;
        if (slot->generation && wanted > slot->sequence.pages.count)
            pages += (int)wanted - slot->sequence.pages.count;
    }
    prefix_make_room(sequences->prefixes, pages);
}

/* --- Choosing tokens: by the team, a sequence a thread ---------------------------------------------------
 */

/* Insert into the likeliest, which are in order. */
static void keep_chance(struct sequence_slot *slot, int most, int32_t token, float logit) {
    int at = slot->top_count < most ? slot->top_count++ : most;

    for (; at > 0 && !(slot->top[at - 1].logprob >= logit); at--)
        if (at < most)
            slot->top[at] = slot->top[at - 1];
    if (at < most)
        slot->top[at] = (struct token_chance){token, logit};
}

/* Of slot->chances, the logits. */
static void find_chances(struct sequence_slot *slot, int32_t vocabulary) {
    const float *logits = slot->chances;
    float largest = -INFINITY;
    double sum = 0;

    slot->top_count = 0;
    for (int32_t i = 0; i < vocabulary; i++)
        largest = fmaxf(largest, logits[i]);
    for (int32_t i = 0; i < vocabulary; i++) {
        sum += (double)expf(logits[i] - largest);
        if (slot->top_count < slot->generation->top ||
            (slot->top_count > 0 && logits[i] > slot->top[slot->top_count - 1].logprob))
            keep_chance(slot, slot->generation->top, i, logits[i]);
    }

    float whole = largest + (float)log(sum);
    for (int i = 0; i < slot->top_count; i++)
        slot->top[i].logprob -= whole;
    slot->logprob = logits[slot->token] - whole;
}

static void pick(struct sequences *sequences, struct sequence_slot *slot, float *logits) {
    const struct generation *generation = slot->generation;
    if (slot->chances)
        memcpy(slot->chances, logits, (size_t)sequences->vocabulary * sizeof *logits);

    for (size_t i = 0; i < generation->bias_count; i++)
        logits[generation->biases[i].token] += generation->biases[i].bias;
    if (generation->constrain)
        generation->constrain(generation->context, logits);
    slot->token = sampler_pick(generation->sampler, logits);
    sampler_note(generation->sampler, slot->token);

    if (slot->chances)
        find_chances(slot, sequences->vocabulary);
}

static int team_size(const struct sequences *sequences) {
    return sequences->options.threads ? sequences->options.threads : team_default_size();
}

static void pick_all(struct sequences *sequences, float *logits) {
    int parallel = sequences->options.parallel;

#pragma omp parallel for schedule(dynamic) num_threads(team_size(sequences))
    for (int i = 0; i < parallel; i++) {
        struct sequence_slot *slot = &sequences->slots[i];
        if (slot->generation && slot->rows > 0 && slot->logits >= 0)
            pick(sequences, slot, logits + (size_t)slot->logits * (size_t)sequences->vocabulary);
    }
}

/* --- A run ---------------------------------------------------------------------------------------------- */

/* The token that was chosen goes to whom it is for, and is a row of the next run. */
static void deliver(struct sequences *sequences, struct sequence_slot *slot) {
    struct generation *generation = slot->generation;
    const struct generated_token token = {
        .chance = {slot->token, slot->chances ? slot->logprob : 0},
        .top = slot->top,
        .top_count = slot->top_count,
    };

    generation->count++;
    sequences->counts.written_tokens++;
    slot->tokens[slot->count++] = slot->token;
    if (!generation->take(generation->context, &token))
        end_slot(sequences, slot, GENERATION_STOPPED, NULL);
    else if (generation->count >= generation->most)
        end_slot(sequences, slot, GENERATION_LENGTH, NULL);
}

static void finish_run(struct sequences *sequences) {
    for (int i = 0; i < sequences->options.parallel; i++) {
        struct sequence_slot *slot = &sequences->slots[i];
        if (!slot->generation || slot->rows == 0)
            continue;

        if (!slot->generation->is_apart)
            prefix_add(sequences->prefixes, &slot->place, slot->tokens,
                       (int)(slot->sequence.length / KV_PAGE), &slot->sequence.pages);
        if (slot->logits >= 0)
            deliver(sequences, slot);
    }
}

static void fail_run(struct sequences *sequences, const struct error *error) {
    for (int i = 0; i < sequences->options.parallel; i++)
        if (sequences->slots[i].generation && sequences->slots[i].rows > 0)
            end_slot(sequences, &sequences->slots[i], GENERATION_FAILED, error);
}

static void update_counts(struct sequences *sequences) {
    sequences->counts.queued_tokens = 0;
    sequences->counts.free_pages = kv_pool_free_pages(llm_context_pool(sequences->context));
    for (int i = 0; i < sequences->options.parallel; i++)
        if (sequences->slots[i].generation && !is_writing(&sequences->slots[i]))
            sequences->counts.queued_tokens += (int64_t)tokens_left(&sequences->slots[i]);
}

void sequences_step(struct sequences *sequences) {
    struct error error;
    float *logits = NULL;

    end_cancelled(sequences);
    int rows = gather_rows(sequences);
    if (rows > 0) {
        make_room(sequences);
        sequences->counts.runs++;
        if (llm_context_run(sequences->context, sequences->rows, rows, &logits, &error)) {
            pick_all(sequences, logits);
            finish_run(sequences);
        } else {
            fail_run(sequences, &error);
        }
    }
    update_counts(sequences);
}
