/* SentencePiece's byte pair encoding: neighbours are merged by the score of what they make together, blanks
 * are ▁, and what has no token becomes its bytes. Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "tokenizer/kinds.h"
#include "tokenizer/merge.h"
#include "tokenizer/unicode.h"

#define BLANK "\xe2\x96\x81" /* ▁ */
enum { BLANK_SIZE = 3 };

static bool score_rule(const void *context, const char *text, size_t left, size_t size, float *ret_cost) {
    const struct vocabulary *vocabulary = context;
    int32_t id = vocabulary_find(vocabulary, text, size);

    if (id >= 0)
        *ret_cost = -vocabulary->tokens[id].score;
    return id >= 0;
}

/* The text with ▁ for blanks, and one in front; malloc'ed. */
static char *mark_blanks(const char *text, size_t size, bool in_front, size_t *ret_size) {
    char *marked = malloc(BLANK_SIZE * (size + 1)), *to = marked;
    if (!marked)
        return NULL;

    if (in_front)
        to = mempcpy(to, BLANK, BLANK_SIZE);
    for (size_t i = 0; i < size; i++) {
        if (text[i] == ' ')
            to = mempcpy(to, BLANK, BLANK_SIZE);
        else
            *to++ = text[i];
    }

    *ret_size = (size_t)(to - marked);
    return marked;
}

static bool add_symbol(const struct tokenizer *tokenizer, const char *text, size_t size,
                       struct token_list *list, struct error *error) {
    int32_t id = vocabulary_find(&tokenizer->vocabulary, text, size);
    if (id >= 0)
        return token_list_add(list, id) || tokenizer_no_memory(tokenizer, error);

    for (size_t i = 0; i < size; i++) {
        int32_t byte = tokenizer->bytes[(unsigned char)text[i]];
        if (byte < 0)
            return tokenizer_add_unknown(tokenizer, list, error); /* one for the whole character */
        if (!token_list_add(list, byte))
            return tokenizer_no_memory(tokenizer, error);
    }
    return true;
}

static bool encode(const struct tokenizer *tokenizer, const char *text, size_t size, bool first,
                   struct token_list *list, struct error *error) {
    size_t marked_size;
    cleanup(freep) char *marked = mark_blanks(text, size, first && tokenizer->adds_blank, &marked_size);
    cleanup(freep) struct symbol *symbols = calloc(marked ? marked_size + 1 : 1, sizeof *symbols);
    if (!marked || !symbols)
        return tokenizer_no_memory(tokenizer, error);

    int32_t count = 0;
    for (size_t at = 0, length; at < marked_size; at += length) {
        character_at(marked + at, marked_size - at, &length);
        symbols[count++] = (struct symbol){.start = (uint32_t)at, .size = (uint32_t)length};
    }
    if (!symbols_merge(symbols, count, marked, score_rule, &tokenizer->vocabulary))
        return tokenizer_no_memory(tokenizer, error);

    for (int32_t i = 0; i >= 0 && i < count; i = symbols[i].next)
        if (!add_symbol(tokenizer, marked + symbols[i].start, symbols[i].size, list, error))
            return false;
    return true;
}

/* "<0xNN>": the byte; -1: it is not of this form. */
static int byte_of(const struct vocabulary_token *token) {
    char digits[3] = {0};
    if (token->size != 6 || memcmp(token->bytes, "<0x", 3) != 0 || token->bytes[5] != '>')
        return -1;

    memcpy(digits, token->bytes + 3, 2);
    char *end;
    long byte = strtol(digits, &end, 16);
    return *end || end == digits ? -1 : (int)byte;
}

static bool decode(const struct tokenizer *tokenizer, const struct vocabulary_token *token,
                   struct buffer *ret) {
    int byte = token->kind == TOKEN_BYTE ? byte_of(token) : -1;
    if (byte >= 0)
        return buffer_append(ret, &(char){(char)byte}, 1);

    for (size_t at = 0; at < token->size;) {
        bool blank = token->size - at >= BLANK_SIZE && memcmp(token->bytes + at, BLANK, BLANK_SIZE) == 0;
        if (!buffer_append(ret, blank ? " " : token->bytes + at, 1))
            return false;
        at += blank ? BLANK_SIZE : 1;
    }
    return true;
}

void sentencepiece_init(struct tokenizer *tokenizer) {
    for (int i = 0; i < 256; i++)
        tokenizer->bytes[i] = -1;
    for (int32_t id = 0; id < tokenizer->vocabulary.count; id++) {
        const struct vocabulary_token *token = &tokenizer->vocabulary.tokens[id];
        int byte = token->kind == TOKEN_BYTE ? byte_of(token) : -1;
        if (byte >= 0)
            tokenizer->bytes[byte] = id;
    }
}

const struct tokenizer_kind sentencepiece_kind = {.name = "llama", .encode = encode, .decode = decode};
