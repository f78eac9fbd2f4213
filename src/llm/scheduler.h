/* Continuous batching: one thread runs many sequences of one model together. Each run takes a row of every
 * sequence that is being written and a slice of the prompts that wait, in turn; sequences come and go between
 * two runs. Pages of prompts are shared (prefix.h). What a sequence gets does not depend on the others, but
 * for the last bits where it shares pages.
 *
 * Any thread, unless said otherwise. */
#pragma once
#include "llm/context.h"
#include "llm/generation.h"

struct scheduler;

struct scheduler_options {
    int parallel;    /* sequences at once */
    int64_t context; /* positions of each */
    int threads;     /* 0: as many as there are processors */
    int waiting;     /* sequences that may wait */
    enum llm_precision precision;
    enum llm_kv_type kv;
};

/* The model must outlive it. ERROR_MEMORY, ERROR_IO. */
struct scheduler *scheduler_create(const struct llm_model *model, const struct scheduler_options *options,
                                   struct error *error);
/* Cancels what is left. Not from its own thread. Takes NULL. */
void scheduler_free(struct scheduler *scheduler);

/* Write these, all or none: false, with ERROR_UNAVAILABLE, where too many wait. `done` is called for each. */
bool scheduler_submit(struct scheduler *scheduler, struct generation *const *generations, int count,
                      struct error *error);

struct scheduler_counts {
    int running, waiting;  /* sequences */
    int64_t queued_tokens; /* of prompts that are not computed yet */
    uint64_t runs, prompt_tokens, shared_tokens, written_tokens;
    int pages, free_pages;
};
void scheduler_counts_get(struct scheduler *scheduler, struct scheduler_counts *ret);
