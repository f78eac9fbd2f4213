/* The parser's state, and what its two files call of each other. */
#pragma once
#include "chat/lexer.h"
#include "chat/tree.h"

struct jinja_growing {
    struct jinja_nodes nodes;
    size_t capacity;
};

struct jinja_parser {
    struct arena *arena;
    const struct jinja_token *at;
    struct error *error;
    struct jinja_program *program;
    uint32_t *name_slots; /* name + 1 by hash, [slot_count] */
    size_t slot_count, name_capacity;
    int depth;    /* of the functions that call each other */
    int loops;    /* around this place, within the macro */
    bool lenient; /* a condition decides whether this place is reached */
    const struct jinja_node
        *unknown; /* the first filter or test that does not exist, and is reached for certain */
    struct jinja_signature *signature; /* of the macro around this place */
};

/* Put the error with the line of the current token. Returns NULL. */
void *parser_fail(struct jinja_parser *parser, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *parser_allocate(struct jinja_parser *parser, size_t count, size_t size);
bool parser_enter(struct jinja_parser *parser);
struct jinja_node *parser_node(struct jinja_parser *parser, enum jinja_kind kind, int line);
/* Called once a node has its children: measures its height. NULL where the tree is too high. */
struct jinja_node *parser_finish(struct jinja_parser *parser, struct jinja_node *node);
/* A node with its children a and b (NULL in, NULL out), finished. */
struct jinja_node *parser_pair(struct jinja_parser *parser, enum jinja_kind kind, int line,
                               struct jinja_node *a, struct jinja_node *b);
struct jinja_node *parser_single(struct jinja_parser *parser, enum jinja_kind kind, int line,
                                 struct jinja_node *a);
bool parser_append(struct jinja_parser *parser, struct jinja_growing *list, struct jinja_node *node);
/* The index of a variable's name; -1 when memory is out. */
int parser_name(struct jinja_parser *parser, const char *text, size_t length);
const struct jinja_text *parser_text(struct jinja_parser *parser, const struct jinja_token *token);

bool parser_is_operator(const struct jinja_parser *parser, const char *text);
bool parser_is_word(const struct jinja_parser *parser, const char *word);
/* Move on if it is; false if not. */
bool parser_skip_operator(struct jinja_parser *parser, const char *text);
bool parser_skip_word(struct jinja_parser *parser, const char *word);
/* Fails if it is not. */
bool parser_expect_operator(struct jinja_parser *parser, const char *text);
bool parser_expect_word(struct jinja_parser *parser, const char *word);
/* A name; NULL, with the error, if there is none. */
const struct jinja_token *parser_expect_name(struct jinja_parser *parser);

/* The end of a tag. */
bool parser_expect(struct jinja_parser *parser, enum jinja_token_type type);
void *parser_fail_unexpected(struct jinja_parser *parser);

/* Operands (parse_operand.c). NULL: the error is set. */
struct jinja_node *parse_operand(struct jinja_parser *parser);
struct jinja_node *parse_primary(struct jinja_parser *parser);
/* What `parse` finds, or several parted by commas: a tuple. */
struct jinja_node *parse_items(struct jinja_parser *parser,
                               struct jinja_node *(*parse)(struct jinja_parser *), bool may_be_empty);

/* Expressions (parse_expression.c). */
struct jinja_node *parse_expression(struct jinja_parser *parser);
/* Without `… if … else …`. */
struct jinja_node *parse_plain_expression(struct jinja_parser *parser);
/* One expression, or several parted by commas: a tuple. */
struct jinja_node *parse_tuple(struct jinja_parser *parser, bool with_condition);
/* Names and tuples of names that can be set; `namespaces`: also a.b. */
struct jinja_node *parse_target(struct jinja_parser *parser, bool namespaces, bool name_only);
/* The filters at `|`, upon `node` (NULL: a block's text). */
struct jinja_node *parse_filters(struct jinja_parser *parser, struct jinja_node *node);
struct jinja_node *parse_filter(struct jinja_parser *parser, struct jinja_node *node);
