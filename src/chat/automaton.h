/* The automaton of a constraint: nodes that bytes lead through, with a stack for what is nested.
 *
 * It is built from its end: each function makes nodes that go on to `next`, and returns the first of them.
 * A rule is what NODE_CALL calls; it ends with NODE_RETURN. Used inside chat/ only. One thread while it is
 * built; immutable after automaton_check: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    CONSTRAINT_DEPTH = 64, /* rules in one another */
    OBJECT_PROPERTIES = 64,
    NO_NODE = 0, /* also what functions return when memory is out, or nodes are */
};

enum node_op {
    NODE_NONE,
    /* These read bytes. */
    NODE_BYTES, /* one of sets[a] */
    NODE_WORD,  /* a word of the tree at a */
    NODE_KEY,   /* a key of objects[a] that has not been, with its closing quote */
    NODE_FREE,  /* any other key of objects[a], with its closing quote */
    NODE_TEXT,  /* the rest of a string of a to b characters, with its closing quote */
    NODE_CHAR,  /* one character of a string: ASCII of sets[a]; others where b says so */
    NODE_SPACE, /* nothing, a blank, or a line end and blanks */
    /* These do not. */
    NODE_JUMP,
    NODE_SPLIT, /* edges[a … a + b) */
    NODE_CALL,  /* the rule at a, then next */
    NODE_RETURN,
    NODE_COUNT, /* one item more */
    NODE_LEAST, /* only with at least a items */
    NODE_MOST,  /* only with fewer than a items */
    NODE_CLOSE, /* only with all required keys of objects[a] */
    NODE_MORE,  /* only where objects[a] may have one more key */
    NODE_END,
};

struct automaton_node {
    enum node_op op;
    uint32_t next, a, b;
    uint16_t need; /* how deep it must be possible to call from here; NEED_ENDLESS: no text comes to an end */
};
enum { NEED_ENDLESS = UINT16_MAX };

struct byte_set {
    uint64_t bits[4];
};

/* Words as a tree of bytes. */
struct word_node {
    uint32_t child, sibling;
    int32_t word;   /* that ends here; -1: none */
    uint64_t below; /* the words that end here or further on; for keys */
    uint8_t byte;
};

struct automaton_object {
    uint32_t words;                     /* the tree of its keys, each with its closing quote */
    uint32_t values[OBJECT_PROPERTIES]; /* what follows each key … */
    uint32_t rules[OBJECT_PROPERTIES];  /* … and the rule of its value */
    uint32_t free_value, free_rule;     /* of other keys; NO_NODE: there are none */
    uint64_t required;
    int count;
};

struct automaton {
    struct automaton_node *nodes; /* [node_count]; 0 is NO_NODE */
    uint32_t *edges;
    struct byte_set *sets;
    struct word_node *words; /* 0 is none */
    struct automaton_object *objects;
    size_t node_count, edge_count, set_count, word_count, object_count;
    uint32_t start; /* a rule */
    bool failed;    /* out of memory, or over LIMIT_CONSTRAINT_NODES */
};

void automaton_init(struct automaton *automaton);
void automaton_release(struct automaton *automaton);

/* A node; NO_NODE where there is no room, and `failed`. */
uint32_t automaton_node(struct automaton *automaton, enum node_op op, uint32_t next, uint32_t a, uint32_t b);
/* Any of targets[count]. */
uint32_t automaton_split(struct automaton *automaton, const uint32_t *targets, size_t count);
/* A set that automaton_set fills byte by byte, or range by range. */
struct byte_set byte_set_range(unsigned from, unsigned to);
bool byte_set_has(const struct byte_set *set, uint8_t byte);
uint32_t automaton_bytes(struct automaton *automaton, struct byte_set set, uint32_t next);
uint32_t automaton_byte(struct automaton *automaton, uint8_t byte, uint32_t next);
uint32_t automaton_literal(struct automaton *automaton, const char *text, size_t size, uint32_t next);

/* An empty tree of words; NO_NODE where there is no room. */
uint32_t automaton_words(struct automaton *automaton);
void automaton_add_word(struct automaton *automaton, uint32_t words, const char *text, size_t size,
                        int32_t word);
/* The node that `byte` leads to; 0: none. */
uint32_t automaton_word_next(const struct automaton *automaton, uint32_t word, uint8_t byte);

/* The index of a new, empty object. */
uint32_t automaton_object(struct automaton *automaton);

/* How deep it must be possible to call for the value of a rule. */
int automaton_rule_need(const struct automaton *automaton, uint32_t rule);

/* After building: works out `need`. ERROR_INVALID where no text fits, or a rule calls itself before it has
 * read anything; ERROR_TOO_LARGE; ERROR_MEMORY. */
bool automaton_check(struct automaton *automaton, struct error *error);
