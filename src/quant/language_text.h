/* Texts as windows of tokens, for calibrating and for judging: some windows choose, others judge, and none
 * does both. One thread. */
#pragma once
#include "base/progress.h"
#include "llm/context.h"

struct language_text {
    int32_t *tokens; /* [windows * window] */
    int window, windows;
    bool is_sampled; /* the model wrote it itself */
};

/* Of the tokens of texts, given one after the other. Each window begins with BOS where the model's texts do.
 * ERROR_INVALID where there are fewer than six windows: two must judge. */
bool language_text_cut(const struct llm_model *model, const int32_t *tokens, size_t count, int window,
                       struct language_text *ret, struct error *error);
/* What the model writes by itself, at temperature 1. */
bool language_text_sample(const struct llm_model *model, int window, int windows, int threads, uint64_t seed,
                          progress_report progress, void *context, struct language_text *ret,
                          struct error *error);
void language_text_release(struct language_text *text);

/* Part them: every third window judges, at most `judges`; of the others at most `choosers` choose, evenly
 * spread. The order is that of a seed. Both are new texts. */
bool language_text_part(const struct language_text *text, int choosers, int judges, uint64_t seed,
                        struct language_text *ret_choosers, struct language_text *ret_judges,
                        struct error *error);
