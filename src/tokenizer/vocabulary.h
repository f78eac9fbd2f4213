/* The tokens of a model by id and by text, and the merges of byte pair encoding. Strings stay in the file's
 * map. Immutable once created: any thread. */
#pragma once
#include "gguf/gguf.h"

enum token_kind {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

struct vocabulary_token {
    const char *bytes; /* not NUL-terminated */
    uint32_t size;
    uint8_t kind; /* enum token_kind */
    float score;
};

struct vocabulary {
    struct vocabulary_token *tokens; /* [count] */
    int32_t count;
    int32_t *slots;           /* [capacity], a power of two: ids, -1 where empty */
    struct gguf_text *merges; /* [merge_count]: "left right", by rank */
    int32_t merge_count;
    int32_t *merge_slots; /* [merge_capacity]: ranks, -1 where empty */
    size_t capacity, merge_capacity;
    uint64_t seed;
    size_t longest; /* bytes of the longest token */
};

/* Reads the keys tokenizer.ggml.{tokens, token_type, scores, merges}. ret is released by vocabulary_release,
 * also after a failure. */
bool vocabulary_init(struct vocabulary *ret, const struct gguf *gguf, struct error *error);
void vocabulary_release(struct vocabulary *vocabulary);

/* -1: there is no such token. The first of several. */
int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *bytes, size_t size);
/* The rank of the merge of two neighbours, bytes[0, left) and bytes[left, size); -1: there is none. */
int32_t vocabulary_merge(const struct vocabulary *vocabulary, const char *bytes, size_t left, size_t size);
