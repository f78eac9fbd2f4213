#include "chat/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "chat/string_steps.h"

struct builder {
    struct token_trie *trie;
    size_t count, capacity; /* of nodes */
};

/* Characters of a token that a string may have as it is; 0: it has others, or parts of some. */
static uint8_t count_plain(const struct token_text *token) {
    uint8_t step = STRING_START;
    unsigned count = 0;

    for (uint32_t i = 0; i < token->size; i++) {
        step = string_step(step, (uint8_t)token->bytes[i]);
        if (step >= STRING_ESCAPE)
            return 0;
        count += step == STRING_START;
    }
    return step == STRING_START && count < 256 ? (uint8_t)count : 0;
}

/* 0: no memory. */
static uint32_t add_child(struct builder *builder, uint32_t parent, uint8_t byte) {
    if (builder->count == builder->capacity) {
        size_t capacity = 2 * builder->capacity;
        struct token_node *grown = realloc(builder->trie->nodes, capacity * sizeof *grown);
        if (!grown)
            return 0;
        builder->trie->nodes = grown;
        builder->capacity = capacity;
    }
    struct token_node *nodes = builder->trie->nodes;
    nodes[builder->count] = (struct token_node){.sibling = nodes[parent].child, .token = -1, .byte = byte};
    nodes[parent].child = (uint32_t)builder->count;
    return (uint32_t)builder->count++;
}

/* The node of a text, made where it is missing; 0: no memory. */
static uint32_t node_of(struct builder *builder, uint32_t root, const struct token_text *token) {
    uint32_t at = root;

    for (uint32_t i = 0; i < token->size; i++) {
        uint8_t byte = (uint8_t)token->bytes[i];
        uint32_t child = builder->trie->nodes[at].child;
        while (child && builder->trie->nodes[child].byte != byte)
            child = builder->trie->nodes[child].sibling;
        at = child ? child : add_child(builder, at, byte);
        if (!at)
            return 0;
    }
    return at;
}

static bool add_tokens(struct builder *builder, const struct token_text *tokens) {
    struct token_trie *trie = builder->trie;

    for (int32_t id = trie->count - 1; id >= 0; id--) {
        trie->same[id] = -1;
        if (!tokens[id].size || tokens[id].size > LIMIT_CONSTRAINED_TOKEN)
            continue;

        trie->plain[id] = count_plain(&tokens[id]);
        for (uint32_t root = 0; root < (trie->plain[id] ? 1 : 2); root++) {
            uint32_t node = node_of(builder, root, &tokens[id]);
            if (!node)
                return false;
            trie->same[id] = trie->nodes[node].token;
            trie->nodes[node].token = id;
        }
    }
    return true;
}

struct token_trie *token_trie_create(const struct token_text *tokens, int32_t count, struct error *error) {
    struct token_trie *trie = calloc(1, sizeof *trie);
    struct builder builder = {.trie = trie, .count = 2, .capacity = 1024};
    if (trie) {
        *trie = (struct token_trie){.count = count,
                                    .nodes = malloc(builder.capacity * sizeof *trie->nodes),
                                    .same = malloc(((size_t)count + 1) * sizeof *trie->same),
                                    .plain = calloc((size_t)count + 1, 1)};
        if (trie->nodes)
            trie->nodes[0] = trie->nodes[1] = (struct token_node){.token = -1};
        if (trie->nodes && trie->same && trie->plain && add_tokens(&builder, tokens))
            return trie;
    }
    token_trie_free(trie);
    error_set(error, ERROR_MEMORY, "not enough memory for the tree of %d tokens", count);
    return NULL;
}

void token_trie_free(struct token_trie *trie) {
    if (!trie)
        return;
    free(trie->nodes);
    free(trie->same);
    free(trie->plain);
    free(trie);
}
