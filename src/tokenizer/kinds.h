/* The kinds of tokenizers. Used inside tokenizer/ only. Each encodes a text that has no special tokens, and
 * appends the text of a token; any thread. */
#pragma once
#include "tokenizer/split.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary.h"

struct tokenizer_kind;

struct tokenizer {
    const char *name; /* of the GGUF */
    const struct tokenizer_kind *kind;
    struct vocabulary vocabulary;
    const struct word_rules *rules; /* of byte-level encoding */
    struct special_index *special;
    int32_t bos, eos, unknown; /* -1: none */
    bool adds_bos;
    bool adds_blank;    /* a blank before the first word (SentencePiece) */
    bool whole_words;   /* a word that is a token is taken whole, whatever the merges say */
    int32_t bytes[256]; /* tokens of single bytes (SentencePiece); -1: none */
};

struct tokenizer_kind {
    const char *name; /* of tokenizer.ggml.model */
    /* `first`: nothing, or a special token, is before the text. */
    bool (*encode)(const struct tokenizer *tokenizer, const char *text, size_t size, bool first,
                   struct token_list *list, struct error *error);
    bool (*decode)(const struct tokenizer *tokenizer, const struct vocabulary_token *token,
                   struct buffer *ret);
};

extern const struct tokenizer_kind sentencepiece_kind, byte_level_kind, wordpiece_kind;

/* Finds the tokens of single bytes. */
void sentencepiece_init(struct tokenizer *tokenizer);

bool tokenizer_no_memory(const struct tokenizer *tokenizer, struct error *error);
/* The token for what the vocabulary cannot say; ERROR_INVALID where it has none. */
bool tokenizer_add_unknown(const struct tokenizer *tokenizer, struct token_list *list, struct error *error);

/* Special tokens by their text, for finding them in a text. NULL when memory is out. */
struct special_index *special_index_create(const struct vocabulary *vocabulary);
void special_index_free(struct special_index *index);
/* The longest special token that text[0, size) starts with; -1: none. Control tokens only where `control`
 * says so. */
int32_t special_index_match(const struct special_index *index, const char *text, size_t size, bool control);
