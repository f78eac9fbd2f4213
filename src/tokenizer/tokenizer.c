#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "tokenizer/kinds.h"

/* --- Lists ---------------------------------------------------------------------------------------------- */

void token_list_release(struct token_list *list) {
    free(list->ids);
    *list = (struct token_list){0};
}

bool token_list_add(struct token_list *list, int32_t id) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        int32_t *ids = realloc(list->ids, capacity * sizeof *ids);
        if (!ids)
            return false;
        list->ids = ids;
        list->capacity = capacity;
    }

    list->ids[list->count++] = id;
    return true;
}

/* --- The model's keys ----------------------------------------------------------------------------------- */

static bool read_kind(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *error) {
    static const struct tokenizer_kind *const kinds[] = {&sentencepiece_kind, &byte_level_kind,
                                                         &wordpiece_kind};
    struct gguf_text name = {0};
    if (!gguf_text(gguf, "tokenizer.ggml.model", &name, error))
        return false;
    if (!name.bytes)
        return error_set(error, ERROR_MODEL, "%s has no tokenizer (tokenizer.ggml.model)", tokenizer->name);

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (gguf_text_is(name, kinds[i]->name))
            tokenizer->kind = kinds[i];
    if (!tokenizer->kind)
        return error_set(error, ERROR_MODEL,
                         "%s has a tokenizer of the kind '%.*s'; llama, gpt2 and bert are supported",
                         tokenizer->name, (int)(name.size < 80 ? name.size : 80), name.bytes);
    return true;
}

static bool read_rules(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *error) {
    struct gguf_text name = {0};
    if (tokenizer->kind != &byte_level_kind)
        return true;
    if (!gguf_text(gguf, "tokenizer.ggml.pre", &name, error))
        return false;
    if (!name.bytes)
        return error_set(error, ERROR_MODEL,
                         "%s does not say how its tokenizer parts words (tokenizer.ggml.pre)",
                         tokenizer->name);

    tokenizer->rules = word_rules_find(name);
    if (!tokenizer->rules)
        return error_set(error, ERROR_MODEL,
                         "%s parts words by the rules '%.*s' (tokenizer.ggml.pre), which are not "
                         "supported",
                         tokenizer->name, (int)(name.size < 80 ? name.size : 80), name.bytes);
    tokenizer->whole_words = word_rules_whole_words(tokenizer->rules);
    return true;
}

static bool read_ids(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *error) {
    const struct {
        const char *key;
        int32_t *id;
        int64_t fallback;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &tokenizer->bos, -1},
        {"tokenizer.ggml.eos_token_id", &tokenizer->eos, -1},
        {"tokenizer.ggml.unknown_token_id", &tokenizer->unknown, -1},
        {"tokenizer.ggml.cls_token_id", &tokenizer->bos, -1},
        {"tokenizer.ggml.seperator_token_id", &tokenizer->eos, -1}, /* spelled so in the format */
    };

    tokenizer->bos = tokenizer->eos = tokenizer->unknown = -1;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int64_t id = *ids[i].id;
        /* 4294967295 stands for "none" in some files. */
        if (!gguf_integer(gguf, ids[i].key, -1, UINT32_MAX, &id, error))
            return false;
        if (id == UINT32_MAX)
            id = -1;
        if (id >= tokenizer->vocabulary.count)
            return error_set(error, ERROR_MODEL, "%s: the key '%s' is %lld, and there are %d tokens",
                             tokenizer->name, ids[i].key, (long long)id, tokenizer->vocabulary.count);
        *ids[i].id = (int32_t)id;
    }
    return true;
}

static bool read_flags(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *error) {
    tokenizer->adds_bos = tokenizer->kind != &byte_level_kind;
    tokenizer->adds_blank = tokenizer->kind == &sentencepiece_kind;

    return gguf_bool(gguf, "tokenizer.ggml.add_bos_token", &tokenizer->adds_bos, error) &&
           gguf_bool(gguf, "tokenizer.ggml.add_space_prefix", &tokenizer->adds_blank, error);
}

static bool init(struct tokenizer *tokenizer, const struct gguf *gguf, struct error *error) {
    tokenizer->name = gguf_name(gguf);
    if (!read_kind(tokenizer, gguf, error) || !read_rules(tokenizer, gguf, error) ||
        !vocabulary_init(&tokenizer->vocabulary, gguf, error) || !read_ids(tokenizer, gguf, error) ||
        !read_flags(tokenizer, gguf, error))
        return false;
    if (tokenizer->kind == &byte_level_kind && !tokenizer->vocabulary.merge_count)
        return error_set(error, ERROR_MODEL, "%s has no merges (tokenizer.ggml.merges)", tokenizer->name);

    if (tokenizer->kind == &sentencepiece_kind)
        sentencepiece_init(tokenizer);
    tokenizer->special = special_index_create(&tokenizer->vocabulary);
    return tokenizer->special || tokenizer_no_memory(tokenizer, error);
}

struct tokenizer *tokenizer_create(const struct gguf *gguf, struct error *error) {
    struct tokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) {
        error_set(error, ERROR_MEMORY, "%s: not enough memory for the tokenizer", gguf_name(gguf));
        return NULL;
    }
    if (init(tokenizer, gguf, error))
        return tokenizer;

    tokenizer_free(tokenizer);
    return NULL;
}

void tokenizer_free(struct tokenizer *tokenizer) {
    if (!tokenizer)
        return;

    special_index_free(tokenizer->special);
    vocabulary_release(&tokenizer->vocabulary);
    free(tokenizer);
}

/* --- Text ----------------------------------------------------------------------------------------------- */

bool tokenizer_no_memory(const struct tokenizer *tokenizer, struct error *error) {
    return error_set(error, ERROR_MEMORY, "%s: not enough memory for the tokens of a text", tokenizer->name);
}

bool tokenizer_add_unknown(const struct tokenizer *tokenizer, struct token_list *list, struct error *error) {
    if (tokenizer->unknown < 0)
        return error_set(error, ERROR_INVALID, "the vocabulary of %s has no token for a part of the text",
                         tokenizer->name);
    return token_list_add(list, tokenizer->unknown) || tokenizer_no_memory(tokenizer, error);
}

bool tokenizer_encode(const struct tokenizer *tokenizer, const char *text, size_t size,
                      enum special_tokens special, struct token_list *list, struct error *error) {
    bool first = true;
    size_t start = 0;
    if (size > LIMIT_TOKENIZED_BYTES)
        return error_set(error, ERROR_TOO_LARGE, "a text of %zu bytes; at most %d can be made into tokens",
                         size, LIMIT_TOKENIZED_BYTES);

    for (size_t at = 0; at < size && special != SPECIAL_LEFT_OUT;) {
        int32_t id =
            special_index_match(tokenizer->special, text + at, size - at, special == SPECIAL_AS_TOKENS);
        if (id < 0) {
            at++;
            continue;
        }

        if (at > start && !tokenizer->kind->encode(tokenizer, text + start, at - start, first, list, error))
            return false;
        if (!token_list_add(list, id))
            return tokenizer_no_memory(tokenizer, error);
        at += tokenizer->vocabulary.tokens[id].size;
        start = at;
        first = true;
    }
    return start == size ||
           tokenizer->kind->encode(tokenizer, text + start, size - start, first, list, error);
}

int32_t tokenizer_match_special(const struct tokenizer *tokenizer, const char *text, size_t size,
                                bool control) {
    return special_index_match(tokenizer->special, text, size, control);
}

size_t tokenizer_special_size(const struct tokenizer *tokenizer, int32_t id) {
    return tokenizer->vocabulary.tokens[id].size;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text, size_t size) {
    return vocabulary_find(&tokenizer->vocabulary, text, size);
}

bool tokenizer_decode(const struct tokenizer *tokenizer, int32_t id, enum special_tokens special,
                      struct buffer *ret) {
    if (id < 0 || id >= tokenizer->vocabulary.count)
        return false;

    const struct vocabulary_token *token = &tokenizer->vocabulary.tokens[id];
    if (token->kind == TOKEN_CONTROL || token->kind == TOKEN_UNKNOWN)
        return special == SPECIAL_AS_TEXT || buffer_append(ret, token->bytes, token->size);
    if (token->kind == TOKEN_USER_DEFINED)
        return buffer_append(ret, token->bytes, token->size);
    return tokenizer->kind->decode(tokenizer, token, ret);
}

int32_t tokenizer_count(const struct tokenizer *tokenizer) {
    return tokenizer->vocabulary.count;
}

int32_t tokenizer_bos(const struct tokenizer *tokenizer) {
    return tokenizer->bos;
}

int32_t tokenizer_eos(const struct tokenizer *tokenizer) {
    return tokenizer->eos;
}

bool tokenizer_is_control(const struct tokenizer *tokenizer, int32_t id) {
    return id >= 0 && id < tokenizer->vocabulary.count &&
           tokenizer->vocabulary.tokens[id].kind == TOKEN_CONTROL;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer) {
    return tokenizer->adds_bos && tokenizer->bos >= 0;
}
