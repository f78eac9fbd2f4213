#include "server/backend/language/counts.h"

#include "base/clock.h"
#include "model/name.h"

void language_counts_init(struct language_counts *counts, struct metrics *metrics, const char *model) {
    const struct {
        struct metric **ret;
        enum metric_kind kind;
        const char *name, *help;
    } all[] = {
        {&counts->first_token, METRIC_SECONDS, "guichet_first_token_seconds",
         "From a request's first byte to the first token of an answer."},
        {&counts->pace, METRIC_SECONDS, "guichet_token_seconds",
         "From one token of an answer to the next, each answer's mean."},
        {&counts->queue, METRIC_SECONDS, "guichet_queue_seconds", "Waiting for the model."},
        {&counts->total, METRIC_SECONDS, "guichet_prediction_seconds",
         "A prediction, from its first byte to its response."},
        {&counts->prompt_tokens, METRIC_COUNTER, "guichet_prompt_tokens_total",
         "Tokens of prompts that were computed."},
        {&counts->shared_tokens, METRIC_COUNTER, "guichet_prefix_tokens_total",
         "Tokens of prompts that were there from an earlier prompt."},
        {&counts->written_tokens, METRIC_COUNTER, "guichet_written_tokens_total", "Tokens of answers."},
        {&counts->runs, METRIC_COUNTER, "guichet_model_runs_total", "Runs of the model."},
        {&counts->running, METRIC_GAUGE, "guichet_sequences_running", "Sequences that are being written."},
        {&counts->waiting, METRIC_GAUGE, "guichet_queue_length", "Requests waiting for the model."},
        {&counts->queued_tokens, METRIC_GAUGE, "guichet_queued_tokens",
         "Tokens of prompts that are not computed yet."},
        {&counts->pages, METRIC_GAUGE, "guichet_cache_pages", "Pages of the cache of keys and values."},
        {&counts->free_pages, METRIC_GAUGE, "guichet_cache_free_pages",
         "… that hold nothing, not even what another prompt may share."},
        {&counts->ready, METRIC_GAUGE, "guichet_model_ready", "1 once the model has answered."},
        {&counts->loads, METRIC_COUNTER, "guichet_model_loads_total", "Times the model was loaded."},
        {&counts->load_seconds, METRIC_GAUGE, "guichet_model_load_seconds", "Loading and the first run."},
        {&counts->pending, METRIC_GAUGE, "guichet_predictions_pending", "Predictions under way."},
    };
    char labels[MODEL_NAME_BYTES + 64] = "";

    metrics_label(labels, sizeof labels, "model", model);
    metrics_label(labels, sizeof labels, "version", "1");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        *all[i].ret = metrics_get(metrics, all[i].kind, all[i].name, all[i].help, labels);
}

void language_counts_set_ready(const struct language_counts *counts, double seconds) {
    metric_add(counts->loads, 1);
    metric_set(counts->load_seconds, seconds);
    metric_set(counts->ready, 1);
}

void language_counts_first(const struct language_counts *counts, double seconds) {
    metric_observe(counts->first_token, seconds);
}

void language_counts_end(const struct language_counts *counts, const struct generation *generation,
                         double first_ns) {
    double seconds = ((double)clock_ns() - first_ns) / 1e9;
    if (generation->begun_ns)
        metric_observe(counts->queue, (double)(generation->begun_ns - generation->queued_ns) / 1e9);
    if (generation->count > 1 && first_ns > 0 && seconds > 0)
        metric_observe(counts->pace, seconds / (double)(generation->count - 1));
    metric_add(counts->prompt_tokens,
               generation->begun_ns ? (double)(generation->prompt_count - generation->shared) : 0);
    metric_add(counts->shared_tokens, (double)generation->shared);
    metric_add(counts->written_tokens, (double)generation->count);
}

void language_counts_total(const struct language_counts *counts, double seconds) {
    metric_observe(counts->total, seconds);
}

void language_counts_update(struct language_counts *counts, const struct scheduler_counts *now, int pending) {
    metric_set(counts->running, now->running);
    metric_set(counts->waiting, now->waiting);
    metric_set(counts->queued_tokens, (double)now->queued_tokens);
    metric_set(counts->pages, now->pages);
    metric_set(counts->free_pages, now->free_pages);
    metric_set(counts->pending, pending);
}
