/* Encoders of the BERT family: a text in, one vector out, which is close to those of texts that mean alike.
 * Devlin et al. 2018, https://arxiv.org/abs/1810.04805. Weights count as they are; activations and sums are
 * float32. Immutable once loaded: any number of threads. */
#pragma once
#include "tokenizer/tokenizer.h"

struct llm_encoder;

/* Is this the file of an encoder, by its architecture? */
bool llm_is_encoder(const struct gguf *gguf);

/* The file is the encoder's from then on, also after a failure. ERROR_MODEL: a tensor that is missing or has
 * the wrong shape, a pooling that is not supported, by name. */
struct llm_encoder *llm_encoder_create(struct gguf *gguf, struct error *error);
void llm_encoder_free(struct llm_encoder *encoder);

/* Numbers of a vector; tokens of a text, at most. */
int64_t llm_encoder_width(const struct llm_encoder *encoder);
int64_t llm_encoder_context(const struct llm_encoder *encoder);

/* Append the tokens of a text with those that begin and end it. Errors as of tokenizer_encode. */
bool llm_encoder_tokens(const struct llm_encoder *encoder, const char *text, size_t size,
                        struct token_list *list, struct error *error);
/* The vector of one text, of length 1: ret[width]. The tokens are pooled as the file says: the mean of all,
 * or the first. ERROR_INVALID: no token, more than the context has, or one that is none; ERROR_MEMORY.
 * threads: 0: all processors. */
bool llm_encoder_embed(const struct llm_encoder *encoder, const int32_t *tokens, size_t count, int threads,
                       float *ret, struct error *error);
