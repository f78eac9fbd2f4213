/* What the service of a language model counts and measures. Any thread. */
#pragma once
#include "llm/scheduler.h"
#include "server/edge/metrics.h"

struct language_counts {
    struct metric *first_token, *pace, *queue, *total; /* histograms */
    struct metric *prompt_tokens, *shared_tokens, *written_tokens, *runs;
    struct metric *running, *waiting, *queued_tokens, *pages, *free_pages, *ready, *loads, *load_seconds;
    struct metric *pending;
};

void language_counts_init(struct language_counts *counts, struct metrics *metrics, const char *model);
void language_counts_set_ready(const struct language_counts *counts, double seconds);
/* A sequence has its first token, this long after its request came. */
void language_counts_first(const struct language_counts *counts, double seconds);
/* A sequence has ended. */
void language_counts_end(const struct language_counts *counts, const struct generation *generation,
                         double first_ns);
/* A request has ended. */
void language_counts_total(const struct language_counts *counts, double seconds);
/* What the scheduler counts. */
void language_counts_update(struct language_counts *counts, const struct scheduler_counts *now, int pending);
