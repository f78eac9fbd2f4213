/* Running a language model: rows of tokens in, logits out. */
#pragma once
#include "llm/kv_cache.h"
#include "llm/model.h"

/* What a sequence has seen. */
struct llm_sequence {
    struct kv_pages pages;
    int64_t length; /* positions whose keys and values are in the pages */
};

/* One token of one sequence. Rows of a sequence come in the order of their positions. */
struct llm_row {
    struct llm_sequence *sequence;
    int32_t token;
    bool wants_logits;
    /* Of a prompt, which brings many rows; else the one row of a step. They are computed in ways of their
     * own: which one is told, not guessed from the number of rows, so that a row gives the same in any
     * company. */
    bool is_prompt;
};

enum llm_precision {
    LLM_AUTO, /* activations are rounded where that is fast: cosine at least 0.9995 */
    LLM_F32,  /* weights as they are, activations, keys, values and sums float32 */
};

/* How keys and values are kept: in 16 bits (float16 is eight times as exact as bfloat16, and ends at 65,504),
 * or in 8 with a scale for each 32. */
enum llm_kv_type { LLM_KV_F16, LLM_KV_BF16, LLM_KV_Q8_0 };

/* … as attention sees them. */
enum attention_type llm_kept_as(enum llm_precision precision, enum llm_kv_type kv);

struct llm_context_options {
    int rows;          /* most rows of a run */
    int64_t positions; /* of all sequences together, that the cache has room for */
    int64_t longest;   /* of one sequence; 0: all of them */
    int threads;       /* of an OpenMP team; 0: as many as there are processors */
    enum llm_precision precision;
    enum llm_kv_type kv; /* of LLM_AUTO */
};

/* Working memory for runs, and a cache for keys and values. One thread at a time for each context. */
struct llm_context;
struct llm_context *llm_context_create(const struct llm_model *model,
                                       const struct llm_context_options *options, struct error *error);
void llm_context_free(struct llm_context *context);

/* Run the rows; each sequence grows by its rows. *ret_logits: [rows that want them, vocabulary], in the
 * context until the next run. What a row gives does not depend on the others of the run, but for those before
 * it in its sequence. ERROR_INVALID: a token that the vocabulary lacks; ERROR_MODEL: scores that are not
 * numbers; ERROR_UNAVAILABLE: the cache has no room; sequences are as they were then. */
bool llm_context_run(struct llm_context *context, const struct llm_row *rows, int count, float **ret_logits,
                     struct error *error);

/* Where the time of all runs went so far, in seconds: [LLM_PARTS]. */
enum llm_part { LLM_PRODUCTS, LLM_ATTENTION, LLM_ROWS /* norms, turning, gates */, LLM_LOGITS, LLM_PARTS };
const double *llm_context_times(const struct llm_context *context);

/* Numbers of a row of logits. */
int32_t llm_context_vocabulary(const struct llm_context *context);

/* Its pages, for sequences that share some (llm/prefix.h): a sequence of `length` positions has the pages of
 * that many, and may have more. */
struct kv_pool *llm_context_pool(struct llm_context *context);
void llm_sequence_release(struct llm_context *context, struct llm_sequence *sequence);
