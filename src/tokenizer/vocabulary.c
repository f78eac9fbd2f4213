#include "tokenizer/vocabulary.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"
#include "base/limits.h"

static uint64_t mix(uint64_t hash) {
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

/* The seed keeps files from choosing strings that collide. */
static uint64_t hash_of(const struct vocabulary *vocabulary, const char *bytes, size_t size) {
    return mix(hash_bytes(vocabulary->seed, bytes, size));
}

static uint64_t pair_hash(const struct vocabulary *vocabulary, const char *left, size_t left_size,
                          const char *right, size_t right_size) {
    return mix(hash_of(vocabulary, left, left_size) * 3 + hash_of(vocabulary, right, right_size));
}

int32_t vocabulary_find(const struct vocabulary *vocabulary, const char *bytes, size_t size) {
    if (size > vocabulary->longest)
        return -1;

    size_t slot = hash_of(vocabulary, bytes, size) & (vocabulary->capacity - 1);
    for (; vocabulary->slots[slot] >= 0; slot = (slot + 1) & (vocabulary->capacity - 1)) {
        const struct vocabulary_token *token = &vocabulary->tokens[vocabulary->slots[slot]];
        if (token->size == size && memcmp(token->bytes, bytes, size) == 0)
            return vocabulary->slots[slot];
    }
    return -1;
}

/* Where "left right" is cut: at the first blank that is not its first byte. */
static size_t merge_cut(struct gguf_text merge) {
    const char *blank = merge.size > 1 ? memchr(merge.bytes + 1, ' ', merge.size - 1) : NULL;
    return blank ? (size_t)(blank - merge.bytes) : 0;
}

int32_t vocabulary_merge(const struct vocabulary *vocabulary, const char *bytes, size_t left, size_t size) {
    if (!vocabulary->merge_count || size > vocabulary->longest)
        return -1;

    size_t slot =
        pair_hash(vocabulary, bytes, left, bytes + left, size - left) & (vocabulary->merge_capacity - 1);
    for (; vocabulary->merge_slots[slot] >= 0; slot = (slot + 1) & (vocabulary->merge_capacity - 1)) {
        struct gguf_text merge = vocabulary->merges[vocabulary->merge_slots[slot]];
        if (merge.size == size + 1 && merge_cut(merge) == left && memcmp(merge.bytes, bytes, left) == 0 &&
            memcmp(merge.bytes + left + 1, bytes + left, size - left) == 0)
            return vocabulary->merge_slots[slot];
    }
    return -1;
}

/* Empty slots for a table that stays at most half full. */
static int32_t *slots_create(size_t count, size_t *ret_capacity) {
    size_t capacity = 16;
    while (capacity < 2 * count)
        capacity *= 2;

    int32_t *slots = malloc(capacity * sizeof *slots);
    if (slots)
        memset(slots, 0xff, capacity * sizeof *slots);
    *ret_capacity = capacity;
    return slots;
}

static bool index_tokens(struct vocabulary *vocabulary) {
    vocabulary->slots = slots_create((size_t)vocabulary->count, &vocabulary->capacity);
    if (!vocabulary->slots)
        return false;

    for (int32_t id = 0; id < vocabulary->count; id++) {
        const struct vocabulary_token *token = &vocabulary->tokens[id];
        size_t slot = hash_of(vocabulary, token->bytes, token->size) & (vocabulary->capacity - 1);
        bool known = false;

        for (; !known && vocabulary->slots[slot] >= 0; slot = (slot + 1) & (vocabulary->capacity - 1)) {
            const struct vocabulary_token *other = &vocabulary->tokens[vocabulary->slots[slot]];
            known = other->size == token->size && memcmp(other->bytes, token->bytes, token->size) == 0;
        }
        if (!known)
            vocabulary->slots[slot] = id;
    }
    return true;
}

static bool index_merges(struct vocabulary *vocabulary) {
    vocabulary->merge_slots = slots_create((size_t)vocabulary->merge_count, &vocabulary->merge_capacity);
    if (!vocabulary->merge_slots)
        return false;

    for (int32_t rank = 0; rank < vocabulary->merge_count; rank++) {
        struct gguf_text merge = vocabulary->merges[rank];
        size_t cut = merge_cut(merge);
        if (!cut)
            continue; /* no pair: it can never be applied */

        /* Of equal pairs the first, which is before the others in its chain, is found. */
        size_t slot = pair_hash(vocabulary, merge.bytes, cut, merge.bytes + cut + 1, merge.size - cut - 1) &
                      (vocabulary->merge_capacity - 1);
        while (vocabulary->merge_slots[slot] >= 0)
            slot = (slot + 1) & (vocabulary->merge_capacity - 1);
        vocabulary->merge_slots[slot] = rank;
    }
    return true;
}

static bool no_memory(const struct gguf *gguf, struct error *error) {
    return error_set(error, ERROR_MEMORY, "%s: not enough memory for the vocabulary", gguf_name(gguf));
}

static bool read_tokens(struct vocabulary *vocabulary, const struct gguf *gguf, struct error *error) {
    struct gguf_array texts, kinds, scores;
    if (!gguf_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &texts, error) ||
        !gguf_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, &kinds, error) ||
        !gguf_array(gguf, "tokenizer.ggml.scores", GGUF_F32, &scores, error))
        return false;
    if (texts.count == 0 || texts.count > LIMIT_TOKENS)
        return error_set(error, ERROR_MODEL,
                         "%s has %zu tokens (tokenizer.ggml.tokens); 1 to %d are possible", gguf_name(gguf),
                         texts.count, LIMIT_TOKENS);
    if ((kinds.count && kinds.count != texts.count) || (scores.count && scores.count != texts.count))
        return error_set(error, ERROR_MODEL, "%s has %zu tokens, %zu token types and %zu scores",
                         gguf_name(gguf), texts.count, kinds.count, scores.count);

    vocabulary->tokens = calloc(texts.count, sizeof *vocabulary->tokens);
    if (!vocabulary->tokens)
        return no_memory(gguf, error);

    const uint8_t *at = texts.bytes;
    for (size_t i = 0; i < texts.count; i++) {
        struct gguf_text text = gguf_next_text(&at);
        int64_t kind = kinds.count ? gguf_array_integer(&kinds, i) : TOKEN_NORMAL;
        if (text.size > LIMIT_TOKEN_BYTES)
            return error_set(error, ERROR_MODEL, "%s: token %zu has %zu bytes, and %d are possible",
                             gguf_name(gguf), i, text.size, LIMIT_TOKEN_BYTES);

        vocabulary->tokens[i] = (struct vocabulary_token){
            text.bytes, (uint32_t)text.size, kind >= 1 && kind <= 6 ? (uint8_t)kind : TOKEN_NORMAL,
            scores.count ? (float)gguf_array_real(&scores, i) : 0};
        if (text.size > vocabulary->longest)
            vocabulary->longest = text.size;
    }
    vocabulary->count = (int32_t)texts.count;
    return true;
}

static bool read_merges(struct vocabulary *vocabulary, const struct gguf *gguf, struct error *error) {
    struct gguf_array texts;
    if (!gguf_array(gguf, "tokenizer.ggml.merges", GGUF_STRING, &texts, error))
        return false;
    if (texts.count > LIMIT_MERGES)
        return error_set(error, ERROR_MODEL, "%s has %zu merges, and %d are possible", gguf_name(gguf),
                         texts.count, LIMIT_MERGES);

    vocabulary->merges = calloc(texts.count ? texts.count : 1, sizeof *vocabulary->merges);
    if (!vocabulary->merges)
        return no_memory(gguf, error);

    const uint8_t *at = texts.bytes;
    for (size_t i = 0; i < texts.count; i++)
        vocabulary->merges[i] = gguf_next_text(&at);
    vocabulary->merge_count = (int32_t)texts.count;
    return true;
}

bool vocabulary_init(struct vocabulary *ret, const struct gguf *gguf, struct error *error) {
    *ret = (struct vocabulary){.seed = HASH_START};
    if (getrandom(&ret->seed, sizeof ret->seed, GRND_NONBLOCK) != sizeof ret->seed)
        ret->seed = HASH_START ^ (uintptr_t)ret;

    if (!read_tokens(ret, gguf, error) || !read_merges(ret, gguf, error))
        return false;
    return (index_tokens(ret) && index_merges(ret)) || no_memory(gguf, error);
}

void vocabulary_release(struct vocabulary *vocabulary) {
    free(vocabulary->tokens);
    free(vocabulary->slots);
    free(vocabulary->merges);
    free(vocabulary->merge_slots);
    *vocabulary = (struct vocabulary){0};
}
