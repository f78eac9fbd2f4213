/* Texts that two models continue. Used inside quant/ only. */
#pragma once
#include "quant/language_measure.h"

/* The beginnings of some of the judges' windows, continued by each model, always with the likeliest token. */
bool language_continue(struct language_comparison *comparison, struct llm_context *const contexts[2],
                       const struct language_text *judges, struct error *error);

/* Which words of two texts differ: those that are in no longest common part. ret_a, ret_b: a flag for each
 * word, malloc'ed; words are parted by white space, at most 200 of each count. */
bool language_words_differ(const char *a, const char *b, bool **ret_a, bool **ret_b, struct error *error);
