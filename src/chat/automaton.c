#include "chat/automaton.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* Room for one element more in an array whose capacity is its count rounded up to a power of two; at
 * least 64. */
static void *grow(struct automaton *automaton, void *array, size_t count, size_t size) {
    if (automaton->failed || count >= LIMIT_CONSTRAINT_NODES) {
        automaton->failed = true;
        return NULL;
    }
    if (count && (count < 64 || (count & (count - 1))))
        return array;

    void *grown = realloc(array, (count < 64 ? 64 : 2 * count) * size);
    automaton->failed |= !grown;
    return grown;
}

#define APPEND(automaton, array, count, ...)                                                                \
    ({                                                                                                      \
        void *grown_ = grow(automaton, (automaton)->array, (automaton)->count, sizeof *(automaton)->array); \
        if (grown_) {                                                                                       \
            (automaton)->array = grown_;                                                                    \
            (automaton)->array[(automaton)->count++] = __VA_ARGS__;                                         \
        }                                                                                                   \
        grown_ ? (uint32_t)((automaton)->count - 1) : 0;                                                    \
    })

void automaton_init(struct automaton *automaton) {
    *automaton = (struct automaton){0};
    APPEND(automaton, nodes, node_count, (struct automaton_node){.need = NEED_ENDLESS});
    APPEND(automaton, words, word_count, (struct word_node){.word = -1});
}

void automaton_release(struct automaton *automaton) {
    free(automaton->nodes);
    free(automaton->edges);
    free(automaton->sets);
    free(automaton->words);
    free(automaton->objects);
    *automaton = (struct automaton){0};
}

uint32_t automaton_node(struct automaton *automaton, enum node_op op, uint32_t next, uint32_t a, uint32_t b) {
    return APPEND(automaton, nodes, node_count,
                  (struct automaton_node){.op = op, .next = next, .a = a, .b = b, .need = NEED_ENDLESS});
}

uint32_t automaton_split(struct automaton *automaton, const uint32_t *targets, size_t count) {
    if (count == 1)
        return targets[0];

    size_t first = automaton->edge_count;
    for (size_t i = 0; i < count; i++)
        APPEND(automaton, edges, edge_count, targets[i]);
    return automaton_node(automaton, NODE_SPLIT, NO_NODE, (uint32_t)first, (uint32_t)count);
}

struct byte_set byte_set_range(unsigned from, unsigned to) {
    struct byte_set set = {0};
    for (unsigned i = from; i <= to; i++)
        set.bits[i / 64] |= 1ull << i % 64;
    return set;
}

bool byte_set_has(const struct byte_set *set, uint8_t byte) {
    return set->bits[byte / 64] >> byte % 64 & 1;
}

uint32_t automaton_bytes(struct automaton *automaton, struct byte_set set, uint32_t next) {
    for (size_t i = 0; i < automaton->set_count; i++)
        if (memcmp(&automaton->sets[i], &set, sizeof set) == 0)
            return automaton_node(automaton, NODE_BYTES, next, (uint32_t)i, 0);
    return automaton_node(automaton, NODE_BYTES, next, APPEND(automaton, sets, set_count, set), 0);
}

uint32_t automaton_byte(struct automaton *automaton, uint8_t byte, uint32_t next) {
    return automaton_bytes(automaton, byte_set_range(byte, byte), next);
}

uint32_t automaton_literal(struct automaton *automaton, const char *text, size_t size, uint32_t next) {
    while (size--)
        next = automaton_byte(automaton, (uint8_t)text[size], next);
    return next;
}

uint32_t automaton_words(struct automaton *automaton) {
    return APPEND(automaton, words, word_count, (struct word_node){.word = -1});
}

uint32_t automaton_word_next(const struct automaton *automaton, uint32_t word, uint8_t byte) {
    uint32_t child = automaton->words[word].child;
    while (child && automaton->words[child].byte != byte)
        child = automaton->words[child].sibling;
    return child;
}

void automaton_add_word(struct automaton *automaton, uint32_t words, const char *text, size_t size,
                        int32_t word) {
    uint64_t bit = word >= 0 && word < 64 ? 1ull << word : 0;
    uint32_t at = words;

    for (size_t i = 0; at && i < size; i++) {
        uint32_t next = automaton_word_next(automaton, at, (uint8_t)text[i]);
        if (!next) {
            next = APPEND(automaton, words, word_count,
                          (struct word_node){
                              .word = -1, .byte = (uint8_t)text[i], .sibling = automaton->words[at].child});
            if (next)
                automaton->words[at].child = next;
        }
        at = next;
        automaton->words[at].below |= bit;
    }
    if (at)
        automaton->words[at].word = word;
}

uint32_t automaton_object(struct automaton *automaton) {
    return APPEND(automaton, objects, object_count, (struct automaton_object){0});
}

/* --- Checks -----------------------------------------------------------------------------------------------
 */

static uint16_t larger(uint16_t a, uint16_t b) {
    return a > b ? a : b;
}

int automaton_rule_need(const struct automaton *automaton, uint32_t rule) {
    uint16_t need = automaton->nodes[rule].need;
    return need == NEED_ENDLESS ? need : need + 1;
}

/* What the required keys need; 0 without any. */
static uint16_t need_of_required(const struct automaton *automaton, const struct automaton_object *object) {
    uint16_t need = 0;
    for (int i = 0; i < object->count; i++)
        if (object->required >> i & 1)
            need = larger(need, (uint16_t)automaton_rule_need(automaton, object->rules[i]));
    return need;
}

static uint16_t need_of_key(const struct automaton *automaton, const struct automaton_object *object) {
    int need = NEED_ENDLESS;
    if (object->required)
        return need_of_required(automaton, object);
    for (int i = 0; i < object->count; i++)
        if (automaton_rule_need(automaton, object->rules[i]) < need)
            need = automaton_rule_need(automaton, object->rules[i]);
    return (uint16_t)need;
}

static uint16_t need_of(const struct automaton *automaton, const struct automaton_node *node) {
    const struct automaton_node *nodes = automaton->nodes;
    uint16_t need = NEED_ENDLESS, callee;

    switch (node->op) {
    case NODE_RETURN:
    case NODE_END:
        return 0;
    case NODE_SPLIT:
        for (uint32_t i = 0; i < node->b; i++)
            if (nodes[automaton->edges[node->a + i]].need < need)
                need = nodes[automaton->edges[node->a + i]].need;
        return need;
    case NODE_CALL:
        callee = nodes[node->a].need;
        return callee == NEED_ENDLESS ? callee : larger((uint16_t)(callee + 1), nodes[node->next].need);
    case NODE_KEY:
        return need_of_key(automaton, &automaton->objects[node->a]);
    case NODE_FREE:
        return larger((uint16_t)automaton_rule_need(automaton, automaton->objects[node->a].free_rule),
                      need_of_required(automaton, &automaton->objects[node->a]));
    case NODE_CLOSE:
        return larger(nodes[node->next].need, need_of_required(automaton, &automaton->objects[node->a]));
    default:
        return nodes[node->next].need;
    }
}

/* Each round, what is known spreads by at least one node; mostly by many, as it goes to and fro. */
static void work_out_need(struct automaton *automaton) {
    bool changed = true;

    for (int round = 0; changed; round++) {
        changed = false;
        for (size_t j = 1; j < automaton->node_count; j++) {
            size_t i = round % 2 ? automaton->node_count - j : j;
            uint16_t need = need_of(automaton, &automaton->nodes[i]);
            changed |= need < automaton->nodes[i].need;
            automaton->nodes[i].need = need;
        }
    }
}

/* The nodes that a node leads to without reading: `index` from 0; NO_NODE after the last. */
static uint32_t silent_next(const struct automaton *automaton, const struct automaton_node *node,
                            uint32_t index) {
    if (node->op == NODE_SPLIT)
        return index < node->b ? automaton->edges[node->a + index] : NO_NODE;
    if (index > 0 || node->op < NODE_SPACE || node->op == NODE_RETURN)
        return NO_NODE;
    return node->op == NODE_CALL ? node->a : node->next;
}

struct visit {
    uint32_t node, index;
};

/* Is there a way from a node back to it without reading? Every rule reads something, so what follows a call
 * is no part of such a way. */
static bool turns_in_circles(const struct automaton *automaton, uint8_t *marks, struct visit *path) {
    enum { NEW, OPEN, DONE };

    for (uint32_t start = 1; start < automaton->node_count; start++) {
        size_t depth = 0;
        if (marks[start] == NEW)
            path[depth++] = (struct visit){start, 0};
        marks[start] = marks[start] == NEW ? OPEN : marks[start];

        while (depth) {
            struct visit *at = &path[depth - 1];
            uint32_t next = silent_next(automaton, &automaton->nodes[at->node], at->index++);
            if (next == NO_NODE) {
                marks[at->node] = DONE;
                depth--;
            } else if (marks[next] == OPEN) {
                return true;
            } else if (marks[next] == NEW) {
                marks[next] = OPEN;
                path[depth++] = (struct visit){next, 0};
            }
        }
    }
    return false;
}

bool automaton_check(struct automaton *automaton, struct error *error) {
    if (automaton->failed && automaton->node_count >= LIMIT_CONSTRAINT_NODES)
        return error_set(error, ERROR_TOO_LARGE,
                         "the schema is too large: its automaton has more than %d states",
                         LIMIT_CONSTRAINT_NODES);

    uint8_t *marks = calloc(automaton->node_count + 1, 1);
    struct visit *path = calloc(automaton->node_count + 1, sizeof *path);
    bool circles = !automaton->failed && marks && path && turns_in_circles(automaton, marks, path);
    bool memory = !automaton->failed && marks && path;
    free(marks);
    free(path);
    if (!memory)
        return error_set(error, ERROR_MEMORY, "not enough memory for the schema");
    if (circles)
        return error_set(error, ERROR_INVALID, "the schema refers to itself without end");

    work_out_need(automaton);
    if (automaton->nodes[automaton->start].need >= CONSTRAINT_DEPTH)
        return error_set(error, ERROR_INVALID, "no JSON of at most %d levels fits the schema",
                         CONSTRAINT_DEPTH);
    return true;
}
