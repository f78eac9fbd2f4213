/* Text to tokens and back, as the model's file says: SentencePiece's byte pair encoding ("llama"), byte-level
 * byte pair encoding ("gpt2") with the rules that part words, and WordPiece ("bert").
 *
 * Immutable once created; any number of threads may use it at once. It refers to the GGUF, which must outlive
 * it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "gguf/gguf.h"

struct tokenizer;

/* ERROR_MODEL names a kind of tokenizer, or rules for parting words, that are not supported. */
struct tokenizer *tokenizer_create(const struct gguf *gguf, struct error *error);
void tokenizer_free(struct tokenizer *tokenizer);

/* Tokens that grow as text is added. A zeroed struct is an empty list. */
struct token_list {
    int32_t *ids; /* [count]; malloc'ed */
    size_t count, capacity;
};
void token_list_release(struct token_list *list);
/* False when memory is out. */
bool token_list_add(struct token_list *list, int32_t id);

/* Whether a text that looks like a special token is one: never in what a stranger wrote. A vocabulary's
 * user-defined tokens are a part of texts, unless they are left out. */
enum special_tokens { SPECIAL_AS_TEXT, SPECIAL_AS_TOKENS, SPECIAL_LEFT_OUT };

/* Append the tokens of `text`; no BOS or EOS is added. Bytes that are not UTF-8 are encoded too. Time and
 * memory are about proportional to `size`. ERROR_TOO_LARGE over LIMIT_TOKENIZED_BYTES; ERROR_INVALID where
 * the vocabulary has no tokens for a part of it and none for "unknown"; ERROR_MEMORY. The list has a part of
 * the tokens then. */
bool tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size,
                      enum special_tokens special, struct token_list *list, struct error *error);

/* The longest special token that text[0, size) begins with, size > 0; -1: none. `control`: control tokens
 * count, besides user-defined ones. */
int32_t tokenizer_match_special(const struct tokenizer *tokenizer, const char *text, size_t size,
                                bool control);
/* Bytes of a special token as it is written. */
size_t tokenizer_special_size(const struct tokenizer *tokenizer, int32_t id);
/* The token of that text, whatever its kind; -1: there is none. */
int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text, size_t size);

/* Append the text of one token: its bytes, which may be a part of a character. Control tokens have no text
 * unless special is SPECIAL_AS_TOKENS. False when memory is out, or id is no token. */
bool tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, enum special_tokens special,
                      struct buffer *ret);

int32_t tokenizer_count(const struct tokenizer *tokenizer);
/* -1: there is none. */
int32_t tokenizer_bos(const struct tokenizer *tokenizer);
int32_t tokenizer_eos(const struct tokenizer *tokenizer);
/* Control tokens have no text of their own. */
bool tokenizer_is_control(const struct tokenizer *tokenizer, int32_t id);
/* Does a text begin with BOS? */
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);
