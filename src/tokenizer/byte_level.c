/* Byte-level byte pair encoding: each byte is a printable character, words are parted by rules, and
 * neighbours are merged in the order in which training found them. Radford et al. 2019, "Language Models are
 * Unsupervised Multitask Learners", section 2.2 */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tokenizer/kinds.h"
#include "tokenizer/merge.h"
#include "tokenizer/unicode.h"

/* A byte as a character: itself where it is printable and no blank, else one from U+0100 on, in order. */
static int32_t byte_character(unsigned char byte) {
    if ((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad))
        return byte;
    if (byte <= 0x20)
        return 0x100 + byte;
    return byte == 0xad ? 0x143 : 0x121 + (byte - 0x7f);
}

/* … and back; -1: no byte is this character. */
static int character_byte(int32_t character) {
    if (character >= 0 && character < 0x100)
        return byte_character((unsigned char)character) == character ? character : -1;
    if (character == 0x143)
        return 0xad;
    if (character >= 0x100 && character <= 0x120)
        return character - 0x100;
    return character >= 0x121 && character <= 0x142 ? character - 0x121 + 0x7f : -1;
}

static bool rank_rule(const void *context, const char *text, size_t left, size_t size, float *ret_cost) {
    int32_t rank = vocabulary_merge(context, text, left, size);
    *ret_cost = (float)rank; /* exact: LIMIT_MERGES is below 2^24 */
    return rank >= 0;
}

/* What is left of merging; a symbol that is no token is unknown, character by character. */
static bool add_symbol(const struct tokenizer *tokenizer, const char *text, size_t size,
                       struct token_list *list, struct error *error) {
    int32_t id = vocabulary_find(&tokenizer->vocabulary, text, size);
    if (id >= 0)
        return token_list_add(list, id) || tokenizer_no_memory(tokenizer, error);

    for (size_t at = 0, length; at < size; at += length) {
        character_at(text + at, size - at, &length);
        id = vocabulary_find(&tokenizer->vocabulary, text + at, length);
        if (id < 0) {
            if (!tokenizer_add_unknown(tokenizer, list, error))
                return false;
        } else if (!token_list_add(list, id)) {
            return tokenizer_no_memory(tokenizer, error);
        }
    }
    return true;
}

/* Memory for the longest word so far. */
struct mapped_word {
    char *text;
    struct symbol *symbols;
    size_t capacity;
};

static bool word_reserve(struct mapped_word *word, size_t size) {
    if (size <= word->capacity)
        return true;

    size_t capacity = size < 128 ? 256 : size * 2;
    free(word->text);
    free(word->symbols);
    word->text = malloc(2 * capacity);
    word->symbols = malloc(capacity * sizeof *word->symbols);
    word->capacity = word->text && word->symbols ? capacity : 0;
    return word->capacity;
}

static bool encode_word(const struct tokenizer *tokenizer, struct mapped_word *word, const char *bytes,
                        size_t size, struct token_list *list, struct error *error) {
    if (!word_reserve(word, size))
        return tokenizer_no_memory(tokenizer, error);

    uint32_t end = 0;
    for (size_t i = 0; i < size; i++) {
        uint32_t length =
            (uint32_t)character_write(byte_character((unsigned char)bytes[i]), word->text + end);
        word->symbols[i] = (struct symbol){.start = end, .size = length};
        end += length;
    }

    int32_t whole = tokenizer->whole_words ? vocabulary_find(&tokenizer->vocabulary, word->text, end) : -1;
    if (whole >= 0)
        return token_list_add(list, whole) || tokenizer_no_memory(tokenizer, error);

    int32_t count = (int32_t)size;
    if (!symbols_merge(word->symbols, count, word->text, rank_rule, &tokenizer->vocabulary))
        return tokenizer_no_memory(tokenizer, error);
    for (int32_t i = 0; i >= 0 && i < count; i = word->symbols[i].next)
        if (!add_symbol(tokenizer, word->text + word->symbols[i].start, word->symbols[i].size, list, error))
            return false;
    return true;
}

static bool encode(const struct tokenizer *tokenizer, const char *text, size_t size, bool first,
                   struct token_list *list, struct error *error) {
    struct mapped_word word = {0};
    bool done = true;

    for (size_t at = 0, length; done && at < size; at += length) {
        length = word_rules_next(tokenizer->rules, text + at, size - at);
        done = encode_word(tokenizer, &word, text + at, length, list, error);
    }

    free(word.text);
    free(word.symbols);
    return done;
}

static bool decode(const struct tokenizer *tokenizer, const struct vocabulary_token *token,
                   struct buffer *ret) {
    for (size_t at = 0, length; at < token->size; at += length) {
        int32_t character = character_at(token->bytes + at, token->size - at, &length);
        int byte = character_byte(character);
        if (!(byte >= 0 ? buffer_append(ret, &(char){(char)byte}, 1)
                        : buffer_append(ret, token->bytes + at, length)))
            return false;
    }
    return true;
}

const struct tokenizer_kind byte_level_kind = {.name = "gpt2", .encode = encode, .decode = decode};
