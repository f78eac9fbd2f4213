/* How far a language model is from another, and how fast both are: measured on texts that chose nothing. One
 * thread calls. */
#pragma once
#include "quant/estimate.h"
#include "quant/language_text.h"

struct language_side {
    char *name;
    struct llm_model *model;
    uint64_t bytes;  /* of its weights */
    uint64_t memory; /* that one conversation of LLM_CONTEXT tokens takes with it */
    struct estimate perplexity;
    struct estimate prompt_rate, step_rate; /* tokens per second */
};

enum { LANGUAGE_CONTINUATIONS = 5 };

struct language_continuation {
    char *beginning, *texts[2]; /* malloc'ed, UTF-8 */
};

struct language_comparison {
    struct language_side sides[2];                              /* the original, and the one that is judged */
    struct estimate divergence, divergence_99, divergence_most; /* Kullback-Leibler, in nats */
    struct estimate same_first;                                 /* share of tokens that both find likeliest */
    struct estimate ratio;                                      /* of perplexities */
    struct estimate prompt_speedup, step_speedup;
    struct language_continuation continuations[LANGUAGE_CONTINUATIONS];
    int continuation_count;
    int windows;
    size_t tokens;   /* counted */
    bool is_sampled; /* the text that judged is the model's own */
    int threads;
    char processor[96];
};

/* Load both, and measure on the windows of `judges`: at the second half of each. ERROR_INVALID: their
 * vocabularies differ. To be released also after a failure. */
bool language_compare(const char *const paths[2], const struct language_text *judges, int threads,
                      progress_report progress, void *context, struct language_comparison *ret,
                      struct error *error);
void language_comparison_release(struct language_comparison *comparison);

enum language_verdict { LANGUAGE_TAKE, LANGUAGE_MAYBE, LANGUAGE_LEAVE };
/* By what is certain: the far ends of the intervals. The sentences say why, and
 * where the text that judged is the model's own; [size]. */
enum language_verdict language_judge(const struct language_comparison *comparison, char *ret_english,
                                     char *ret_french, size_t size);
const char *language_verdict_name(enum language_verdict verdict); /* "take", "maybe", "leave" */
