/* The tokens of a vocabulary by their bytes: what constraint_mask walks. Immutable once created: any thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct token_text {
    const char *bytes; /* size 0: a token that no constraint ever allows, as control tokens are */
    uint32_t size;
};

struct token_node {
    uint32_t child, sibling; /* 0: none */
    int32_t token;           /* the first that ends here; -1: none */
    uint8_t byte;
};

struct token_trie {
    int32_t count;
    struct token_node *nodes; /* [0]: the root of all tokens; [1]: of those that are not plain */
    int32_t *same;            /* [count]: the next token of the same bytes; -1: none */
    uint8_t *plain; /* [count]: the characters of a token that is whole characters which a JSON string
                       has as they are; 0 for all others */
};

/* tokens[count], by id; they are copied, but for those longer than LIMIT_CONSTRAINED_TOKEN, which are never
 * allowed. ERROR_MEMORY. */
struct token_trie *token_trie_create(const struct token_text *tokens, int32_t count, struct error *error);
void token_trie_free(struct token_trie *trie);
