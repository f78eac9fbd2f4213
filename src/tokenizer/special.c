/* Special tokens in a text: the longest one at each place. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer/kinds.h"

struct special_index {
    const struct vocabulary *vocabulary;
    uint32_t *sizes; /* [size_count]: the different sizes of special tokens, longest first */
    size_t size_count;
    bool begins[256]; /* does any begin with this byte? */
};

static bool is_special(const struct vocabulary_token *token) {
    return (token->kind == TOKEN_CONTROL || token->kind == TOKEN_USER_DEFINED) && token->size > 0;
}

static int longest_first(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x < y) - (x > y);
}

struct special_index *special_index_create(const struct vocabulary *vocabulary) {
    struct special_index *index = calloc(1, sizeof *index);
    bool *seen = calloc(vocabulary->longest + 1, sizeof *seen);
    if (index)
        index->sizes = calloc(vocabulary->longest + 1, sizeof *index->sizes);
    if (!index || !seen || !index->sizes) {
        free(seen);
        special_index_free(index);
        return NULL;
    }

    index->vocabulary = vocabulary;
    for (int32_t id = 0; id < vocabulary->count; id++) {
        const struct vocabulary_token *token = &vocabulary->tokens[id];
        if (!is_special(token))
            continue;
        index->begins[(unsigned char)token->bytes[0]] = true;
        if (!seen[token->size])
            index->sizes[index->size_count++] = token->size;
        seen[token->size] = true;
    }
    qsort(index->sizes, index->size_count, sizeof *index->sizes, longest_first);
    free(seen);
    return index;
}

void special_index_free(struct special_index *index) {
    if (index)
        free(index->sizes);
    free(index);
}

int32_t special_index_match(const struct special_index *index, const char *text, size_t size, bool control) {
    if (!index->begins[(unsigned char)text[0]])
        return -1;

    for (size_t i = 0; i < index->size_count; i++) {
        if (index->sizes[i] > size)
            continue;
        int32_t id = vocabulary_find(index->vocabulary, text, index->sizes[i]);
        if (id < 0 || !is_special(&index->vocabulary->tokens[id]))
            continue;
        if (control || index->vocabulary->tokens[id].kind == TOKEN_USER_DEFINED)
            return id;
    }
    return -1;
}
