#include "llm/encoder.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "base/team.h"
#include "llm/encoder_weights.h"

struct llm_encoder {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct encoder_weights weights;
};

/* --- Loading ----------------------------------------------------------------------------------------------
 */

bool llm_is_encoder(const struct gguf *gguf) {
    const struct gguf_value *value = gguf_find(gguf, "general.architecture");
    return value && value->type == GGUF_STRING && gguf_text_is(value->text, "bert");
}

struct llm_encoder *llm_encoder_create(struct gguf *gguf, struct error *error) {
    struct llm_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder) {
        error_set(error, ERROR_MEMORY, "%s: not enough memory for the model", gguf_name(gguf));
        gguf_free(gguf);
        return NULL;
    }

    encoder->gguf = gguf;
    if (encoder_weights_init(&encoder->weights, gguf, error) &&
        (encoder->tokenizer = tokenizer_create(gguf, error))) {
        if (tokenizer_count(encoder->tokenizer) <= encoder->weights.embedding.outputs)
            return encoder;
        error_set(error, ERROR_MODEL, "%s has %d tokens and weights for %lld", gguf_name(gguf),
                  tokenizer_count(encoder->tokenizer), (long long)encoder->weights.embedding.outputs);
    }
    llm_encoder_free(encoder);
    return NULL;
}

void llm_encoder_free(struct llm_encoder *encoder) {
    if (!encoder)
        return;
    tokenizer_free(encoder->tokenizer);
    encoder_weights_release(&encoder->weights);
    gguf_free(encoder->gguf);
    free(encoder);
}

int64_t llm_encoder_width(const struct llm_encoder *encoder) {
    return encoder->weights.width;
}

int64_t llm_encoder_context(const struct llm_encoder *encoder) {
    return encoder->weights.context;
}

bool llm_encoder_tokens(const struct llm_encoder *encoder, const char *text, size_t size,
                        struct token_list *list, struct error *error) {
    int32_t first = tokenizer_bos(encoder->tokenizer), last = tokenizer_eos(encoder->tokenizer);
    if (first >= 0 && !token_list_add(list, first))
        return error_set(error, ERROR_MEMORY, "not enough memory for the tokens of a text");
    if (!tokenizer_encode(encoder->tokenizer, text, size, SPECIAL_AS_TEXT, list, error))
        return false;
    if (last >= 0 && !token_list_add(list, last))
        return error_set(error, ERROR_MEMORY, "not enough memory for the tokens of a text");
    return true;
}

/* --- Running ----------------------------------------------------------------------------------------------
 */

struct encoder_run {
    const struct encoder_weights *weights;
    int64_t rows;
    float *x, *query, *key, *value, *attended, *inner; /* [rows, …] */
    float **scratch;                                   /* [threads] */
};

/* Each row to mean 0 and variance 1, then scaled and shifted. */
static void layer_norm(const struct encoder_norm *norm, float epsilon, int64_t rows, int64_t width,
                       float *x) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        float *at = x + row * width;
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < width; i++)
            sum += at[i];
        float mean = (float)(sum / (double)width);
        for (int64_t i = 0; i < width; i++)
            squares += (double)(at[i] - mean) * (at[i] - mean);

        float factor = (float)(1 / sqrt(squares / (double)width + epsilon));
        for (int64_t i = 0; i < width; i++)
            at[i] = (at[i] - mean) * factor * norm->scale[i] + norm->shift[i];
    }
}

/* x += added, normalised */
static void add_and_norm(const struct encoder_run *run, const float *added, const struct encoder_norm *norm) {
    int64_t count = run->rows * run->weights->width;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i++)
        run->x[i] += added[i];
    layer_norm(norm, run->weights->epsilon, run->rows, run->weights->width, run->x);
}

static void multiply(const struct encoder_run *run, const struct encoder_linear *linear, const float *x,
                     float *y) {
    linear_multiply(&linear->weights, x, run->rows, linear->bias, y, run->scratch[omp_get_thread_num()]);
}

/* One head of one row. scores: [rows] */
static void attend_head(const struct encoder_run *run, int64_t row, int64_t first, int64_t size,
                        float *scores) {
    const float *q = run->query + row * run->weights->width + first;
    float largest = -INFINITY, sum = 0, *out = run->attended + row * run->weights->width + first;

    for (int64_t other = 0; other < run->rows; other++) {
        const float *k = run->key + other * run->weights->width + first;
        float score = 0;
        for (int64_t i = 0; i < size; i++)
            score += q[i] * k[i];
        scores[other] = score / sqrtf((float)size);
        largest = fmaxf(largest, scores[other]);
    }
    for (int64_t other = 0; other < run->rows; other++) {
        scores[other] = expf(scores[other] - largest);
        sum += scores[other];
    }

    memset(out, 0, (size_t)size * sizeof *out);
    for (int64_t other = 0; other < run->rows; other++) {
        const float *v = run->value + other * run->weights->width + first;
        for (int64_t i = 0; i < size; i++)
            out[i] += scores[other] / sum * v[i];
    }
}

static void attend(const struct encoder_run *run) {
    int64_t heads = run->weights->heads, size = run->weights->width / heads;
#pragma omp for schedule(static) collapse(2)
    for (int64_t row = 0; row < run->rows; row++)
        for (int64_t head = 0; head < heads; head++)
            attend_head(run, row, head * size, size, run->scratch[omp_get_thread_num()]);
}

/* x / 2 (1 + erf(x / √2)) */
static void gelu(float *x, int64_t count) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i++)
        x[i] = 0.5f * x[i] * (1 + erff(x[i] * 0.70710678f));
}

/* Called by every thread of a team. */
static void run_layer(const struct encoder_run *run, const struct encoder_layer *layer) {
    multiply(run, &layer->query, run->x, run->query);
    multiply(run, &layer->key, run->x, run->key);
    multiply(run, &layer->value, run->x, run->value);
    attend(run);
    multiply(run, &layer->output, run->attended, run->query);
    add_and_norm(run, run->query, &layer->attention_norm);

    multiply(run, &layer->up, run->x, run->inner);
    gelu(run->inner, run->rows * run->weights->inner);
    multiply(run, &layer->down, run->inner, run->query);
    add_and_norm(run, run->query, &layer->output_norm);
}

/* Tokens, their positions, and the one kind that all have. */
static void embed_tokens(const struct encoder_run *run, const int32_t *tokens) {
    const struct encoder_weights *weights = run->weights;
#pragma omp for schedule(static)
    for (int64_t row = 0; row < run->rows; row++) {
        float *x = run->x + row * weights->width, *position = run->query + row * weights->width;
        linear_row(&weights->embedding, tokens[row], x);
        linear_row(&weights->positions, row, position);
        for (int64_t i = 0; i < weights->width; i++)
            x[i] += position[i] + (weights->kind ? weights->kind[i] : 0);
    }
    layer_norm(&weights->embedding_norm, weights->epsilon, run->rows, weights->width, run->x);
}

/* Floats of scratch that a thread needs: for rows of weights, or scores. */
static size_t scratch_floats(const struct encoder_weights *weights, int64_t rows) {
    size_t most = (size_t)rows;
    for (int i = 0; i < weights->layers; i++) {
        const struct encoder_layer *layer = &weights->layer[i];
        const struct encoder_linear *all[] = {&layer->query,  &layer->key, &layer->value,
                                              &layer->output, &layer->up,  &layer->down};
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
            size_t wanted = linear_scratch(&all[j]->weights);
            most = wanted > most ? wanted : most;
        }
    }
    return most;
}

static bool allocate(struct encoder_run *run, struct arena *arena, int threads) {
    size_t rows = (size_t)run->rows, width = (size_t)run->weights->width;
    float **arrays[] = {&run->x, &run->query, &run->key, &run->value, &run->attended};

    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        if (!(*arrays[i] = arena_allocate_array(arena, rows * width, sizeof(float))))
            return false;
    run->inner = arena_allocate_array(arena, rows * (size_t)run->weights->inner, sizeof(float));
    run->scratch = arena_allocate_array(arena, (size_t)threads, sizeof *run->scratch);
    for (int i = 0; run->scratch && i < threads; i++)
        if (!(run->scratch[i] =
                  arena_allocate_array(arena, scratch_floats(run->weights, run->rows), sizeof(float))))
            return false;
    return run->inner && run->scratch;
}

static void pool(const struct encoder_run *run, float *ret) {
    int64_t width = run->weights->width, rows = run->weights->pooling == ENCODER_MEAN ? run->rows : 1;
    double squares = 0;

    for (int64_t i = 0; i < width; i++) {
        double sum = 0;
        for (int64_t row = 0; row < rows; row++)
            sum += run->x[row * width + i];
        ret[i] = (float)(sum / (double)rows);
        squares += (double)ret[i] * ret[i];
    }
    for (int64_t i = 0; i < width; i++)
        ret[i] = squares > 0 ? (float)(ret[i] / sqrt(squares)) : 0;
}

static bool check_tokens(const struct llm_encoder *encoder, const int32_t *tokens, size_t count,
                         struct error *error) {
    if (count == 0)
        return error_set(error, ERROR_INVALID, "the text is empty");
    if (count > (size_t)encoder->weights.context)
        return error_set(error, ERROR_INVALID,
                         "the text has %zu tokens, more than the model's context of %lld", count,
                         (long long)encoder->weights.context);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= encoder->weights.embedding.outputs)
            return error_set(error, ERROR_INVALID, "%d is no token of the model", tokens[i]);
    return true;
}

bool llm_encoder_embed(const struct llm_encoder *encoder, const int32_t *tokens, size_t count, int threads,
                       float *ret, struct error *error) {
    struct encoder_run run = {.weights = &encoder->weights, .rows = (int64_t)count};
    if (!check_tokens(encoder, tokens, count, error))
        return false;

    cleanup(arena_freep) struct arena *arena = arena_create();
    threads = threads > 0 ? threads : team_default_size();
    if (!arena || !allocate(&run, arena, threads))
        return error_set(error, ERROR_MEMORY, "not enough memory for a text of %zu tokens", count);

#pragma omp parallel num_threads(threads)
    {
        embed_tokens(&run, tokens);
        for (int i = 0; i < encoder->weights.layers; i++)
            run_layer(&run, &encoder->weights.layer[i]);
    }
    pool(&run, ret);
    return true;
}
