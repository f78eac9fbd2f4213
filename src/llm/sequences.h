/* The sequences that are being written, on one context. Used by scheduler.c alone; one thread. */
#pragma once
#include "llm/context.h"
#include "llm/generation.h"

struct sequences;

struct sequences_options {
    int parallel;    /* sequences at once */
    int64_t context; /* positions of each */
    int threads;     /* 0: as many as there are processors */
    enum llm_precision precision;
    enum llm_kv_type kv;
};

/* ERROR_MEMORY. */
struct sequences *sequences_create(const struct llm_model *model, const struct sequences_options *options,
                                   struct error *error);
/* After the last one has ended. */
void sequences_free(struct sequences *sequences);

/* How many are being written, and whether there is a place for one more. */
int sequences_count(const struct sequences *sequences);
bool sequences_have_place(const struct sequences *sequences);
/* Of one client. */
int sequences_of_client(const struct sequences *sequences, uint64_t client);
/* There is a place. Calls `done` where memory is out. */
void sequences_begin(struct sequences *sequences, struct generation *generation);

/* All of them end with the next step. */
void sequences_cancel(struct sequences *sequences);

struct sequences_counts {
    uint64_t runs, prompt_tokens, shared_tokens, written_tokens;
    int64_t queued_tokens; /* of prompts that are not computed yet */
    int pages, free_pages; /* of the cache; what is kept for others to share is not free */
};
/* One run of the model for all of them; calls `take` and `done`. */
void sequences_step(struct sequences *sequences);
void sequences_counts_get(const struct sequences *sequences, struct sequences_counts *ret);
