/* Parting a text into words before byte pair encoding, as the regular expression that a model was trained
 * with does. Linear in time. Pure functions: any thread. */
#pragma once
#include <stddef.h>

#include "gguf/gguf.h"

struct word_rules;

/* The rules of this name (tokenizer.ggml.pre); NULL: not known. */
const struct word_rules *word_rules_find(struct gguf_text name);
/* Is a word that is a token taken whole? */
bool word_rules_whole_words(const struct word_rules *rules);
/* Bytes of the first word of `text`, which has `size` > 0 bytes. */
size_t word_rules_next(const struct word_rules *rules, const char *text, size_t size);
