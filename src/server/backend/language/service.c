/* The life of a language model's service, and what it tells of itself. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory_budget.h"
#include "server/backend/language/private.h"
#include "server/edge/respond.h"

/* ---- Loading ---- */

/* Its weights, and all that its cache may come to hold. */
static bool check_memory(struct language *language, struct error *error) {
    const struct llm_config *config = llm_model_config(language->model);
    struct llm_sizes *sizes = &language->options.sizes;
    if (!llm_sizes_complete(sizes, config, error))
        return false;

    struct llm_memory memory = llm_memory_of(llm_model_gguf(language->model), config, sizes);
    return llm_memory_check(&memory, sizes, memory_limit(""), "this machine or container", error);
}

static bool load(struct language *language, struct error *error) {
    struct language_options *options = &language->options;
    double start = clock_ms();

    language->model = llm_model_load(language->path, error);
    if (!language->model || !check_memory(language, error))
        return false;
    language->dialogue = dialogue_create(language->model, error);
    if (!language->dialogue)
        return false;
    const struct scheduler_options scheduling = {
        .parallel = options->sizes.parallel,
        .context = options->sizes.context,
        .threads = options->threads,
        .waiting = options->waiting,
        .precision = options->sizes.precision,
        .kv = options->sizes.kv,
    };
    language->scheduler = scheduler_create(language->model, &scheduling, error);
    if (!language->scheduler)
        return false;

    double took = clock_ms() - start;
    snprintf(language->description, sizeof language->description,
             "%s, %s, %d sequences of %lld tokens, loaded in %.0f ms", options->name,
             language_precision_name(language), options->sizes.parallel, (long long)options->sizes.context,
             took);
    language_counts_set_ready(&language->counts, took / 1e3);
    return true;
}

static void *run_load(void *context) {
    struct language *language = context;
    struct error error = {0};
    bool done = load(language, &error);

    atomic_store(&language->ready, done);
    pthread_mutex_lock(&language->lock);
    language->loaded = true;
    if (!done)
        language->failure = error;
    pthread_cond_signal(&language->changed);
    pthread_mutex_unlock(&language->lock);
    return NULL;
}

/* ---- Life ---- */

struct language *language_create(const struct language_options *options, struct error *error) {
    struct language *language = calloc(1, sizeof *language);
    if (!language) {
        error_set(error, ERROR_MEMORY, "out of memory");
        return NULL;
    }

    language->options = *options;
    language->path = strdup(options->path);
    pthread_mutex_init(&language->lock, NULL);
    pthread_cond_init(&language->changed, NULL);
    language_counts_init(&language->counts, options->metrics, options->name);
    int number = language->path ? pthread_create(&language->loader, NULL, run_load, language) : ENOMEM;
    if (number == 0)
        return language;

    error_set_errno(error, ERROR_IO, number, "starting a thread");
    free(language->path);
    free(language);
    return NULL;
}

bool language_wait_ready(struct language *language, struct error *error) {
    pthread_mutex_lock(&language->lock);
    while (!language->loaded)
        pthread_cond_wait(&language->changed, &language->lock);
    if (language->failure.code != ERROR_NONE)
        *error = language->failure;
    pthread_mutex_unlock(&language->lock);
    return atomic_load(&language->ready);
}

void language_free(struct language *language) {
    if (!language)
        return;

    pthread_join(language->loader, NULL);
    scheduler_free(language->scheduler); /* what is under way is told to end */
    while (atomic_load(&language->pending))
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    token_trie_free(language->trie);
    dialogue_free(language->dialogue);
    llm_model_free(language->model);
    free(language->path);
    pthread_cond_destroy(&language->changed);
    pthread_mutex_destroy(&language->lock);
    free(language);
}

/* ---- What it tells of itself ---- */

bool language_is_ready(const struct language *language) {
    return atomic_load(&language->ready);
}

const char *language_description(const struct language *language) {
    return language->description;
}

const char *language_precision_name(const struct language *language) {
    return language->options.sizes.precision == LLM_F32 ? "f32" : "auto";
}

int64_t language_queued_tokens(struct language *language) {
    struct scheduler_counts counts = {0};
    if (language_is_ready(language))
        scheduler_counts_get(language->scheduler, &counts);
    return counts.queued_tokens;
}

void language_update_metrics(struct language *language) {
    struct scheduler_counts counts = {0};
    if (language_is_ready(language))
        scheduler_counts_get(language->scheduler, &counts);
    language_counts_update(&language->counts, &counts, atomic_load(&language->pending));
}

/* Control tokens have no text: no constraint allows them. */
static struct token_trie *create_trie(const struct llm_model *model, struct error *error) {
    const struct tokenizer *tokenizer = llm_model_tokenizer(model);
    int32_t count = llm_model_vocabulary(model);
    struct token_text *texts = calloc((size_t)count, sizeof *texts);
    size_t *ends = calloc((size_t)count, sizeof *ends);
    struct buffer bytes = {0};
    struct token_trie *trie = NULL;

    for (int32_t i = 0; texts && ends && i < count; i++) {
        tokenizer_decode(tokenizer, i, SPECIAL_AS_TEXT, &bytes);
        ends[i] = bytes.size;
    }
    if (!texts || !ends || bytes.failed)
        error_set(error, ERROR_MEMORY, "not enough memory for the texts of %d tokens", count);
    else {
        for (int32_t i = 0; i < count; i++) {
            size_t start = i ? ends[i - 1] : 0;
            texts[i] = (struct token_text){bytes.bytes + start, (uint32_t)(ends[i] - start)};
        }
        trie = token_trie_create(texts, count, error);
    }
    buffer_release(&bytes);
    free(texts);
    free(ends);
    return trie;
}

const struct token_trie *language_trie(struct language *language, struct error *error) {
    pthread_mutex_lock(&language->lock);
    if (!language->trie)
        language->trie = create_trie(language->model, error);
    const struct token_trie *trie = language->trie;
    pthread_mutex_unlock(&language->lock);
    return trie;
}

bool language_check_ready(struct language *language, struct http_request *request) {
    struct error error;
    if (language_is_ready(language))
        return true;

    error_set(&error, ERROR_UNAVAILABLE, "the model %s is still being loaded: try again soon",
              language->options.name);
    respond_error(request, &error);
    return false;
}
