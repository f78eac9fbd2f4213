/* A language model loaded from its file: configuration, weights, tokenizer. Immutable: any number of threads,
 * each with a context of its own. */
#pragma once
#include "llm/config.h"
#include "tokenizer/tokenizer.h"

struct llm_model;

/* ERROR_MODEL says what is damaged or not supported. */
struct llm_model *llm_model_load(const char *path, struct error *error);
void llm_model_free(struct llm_model *model);
const struct llm_config *llm_model_config(const struct llm_model *model);
const struct gguf *llm_model_gguf(const struct llm_model *model); /* its file */
const struct tokenizer *llm_model_tokenizer(const struct llm_model *model);
int32_t llm_model_vocabulary(const struct llm_model *model); /* rows of logits */
