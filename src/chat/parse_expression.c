/* Expressions: one function for each level of precedence. */
#include <string.h>

#include "chat/parser.h"

struct operator_row {
    const char *text;
    enum jinja_operator operation;
};

static const struct operator_row sums[] = {{"+", JINJA_ADD}, {"-", JINJA_SUBTRACT}, {NULL, 0}};
static const struct operator_row products[] = {
    {"*", JINJA_MULTIPLY}, {"//", JINJA_FLOOR_DIVIDE}, {"/", JINJA_DIVIDE}, {"%", JINJA_MODULO}, {NULL, 0}};
static const struct operator_row powers[] = {{"**", JINJA_POWER}, {NULL, 0}};
static const struct operator_row comparisons[] = {
    {"==", JINJA_EQUAL},  {"!=", JINJA_UNEQUAL},       {"<", JINJA_LESS}, {"<=", JINJA_LESS_EQUAL},
    {">", JINJA_GREATER}, {">=", JINJA_GREATER_EQUAL}, {NULL, 0}};

static const struct operator_row *take_operator(struct jinja_parser *parser,
                                                const struct operator_row *rows) {
    for (; rows->text; rows++)
        if (parser_skip_operator(parser, rows->text))
            return rows;
    return NULL;
}

/* a OP b OP c, from the left. */
static struct jinja_node *parse_left(struct jinja_parser *parser, const struct operator_row *rows,
                                     struct jinja_node *(*parse)(struct jinja_parser *)) {
    int line = parser->at->line;
    struct jinja_node *node = parse(parser);
    const struct operator_row *row;

    while (node && (row = take_operator(parser, rows))) {
        node = parser_pair(parser, JINJA_BINARY, line, node, parse(parser));
        if (node)
            node->operation = (uint8_t)row->operation;
    }
    return node;
}

static struct jinja_node *parse_power(struct jinja_parser *parser) {
    return parse_left(parser, powers, parse_operand);
}

static struct jinja_node *parse_product(struct jinja_parser *parser) {
    return parse_left(parser, products, parse_power);
}

static struct jinja_node *parse_concat(struct jinja_parser *parser) {
    int line = parser->at->line;
    struct jinja_node *first = parse_product(parser), *node;
    struct jinja_growing items = {0};
    if (!first || !parser_is_operator(parser, "~"))
        return first;

    if (!parser_append(parser, &items, first) || !(node = parser_node(parser, JINJA_CONCAT, line)))
        return NULL;
    while (parser_skip_operator(parser, "~"))
        if (!(first = parse_product(parser)) || !parser_append(parser, &items, first))
            return NULL;
    node->items = items.nodes;
    return parser_finish(parser, node);
}

static struct jinja_node *parse_sum(struct jinja_parser *parser) {
    return parse_left(parser, sums, parse_concat);
}

/* The comparison here, if it is one. */
static bool take_comparison(struct jinja_parser *parser, uint8_t *ret) {
    const struct operator_row *row = take_operator(parser, comparisons);
    const struct jinja_token *next = parser->at->type == TOKEN_NAME ? parser->at + 1 : NULL;

    if (row) {
        *ret = (uint8_t)row->operation;
    } else if (parser_skip_word(parser, "in")) {
        *ret = JINJA_IN;
    } else if (next && parser_is_word(parser, "not") && next->type == TOKEN_NAME && next->length == 2 &&
               memcmp(next->text, "in", 2) == 0) {
        parser->at += 2;
        *ret = JINJA_NOT_IN;
    } else {
        return false;
    }
    return true;
}

static struct jinja_node *parse_comparison(struct jinja_parser *parser) {
    uint8_t operations[64], *copy, operation;
    int line = parser->at->line;
    struct jinja_node *first = parse_sum(parser), *node;
    struct jinja_growing items = {0};
    if (!first || !parser_append(parser, &items, first))
        return NULL;

    while (take_comparison(parser, &operation)) {
        if (items.nodes.count > sizeof operations)
            return parser_fail(parser, "too many comparisons in one expression");
        operations[items.nodes.count - 1] = operation;
        struct jinja_node *operand = parse_sum(parser);
        if (!operand || !parser_append(parser, &items, operand))
            return NULL;
    }
    if (items.nodes.count == 1)
        return first;

    if (!(node = parser_node(parser, JINJA_COMPARE, line)) ||
        !(copy = parser_allocate(parser, items.nodes.count, 1)))
        return NULL;
    memcpy(copy, operations, items.nodes.count - 1);
    node->items = items.nodes;
    node->operations = copy;
    return parser_finish(parser, node);
}

static struct jinja_node *parse_not(struct jinja_parser *parser) {
    int line = parser->at->line;
    if (!parser_skip_word(parser, "not"))
        return parse_comparison(parser);
    if (!parser_enter(parser))
        return NULL;

    struct jinja_node *node = parser_single(parser, JINJA_NOT, line, parse_not(parser));
    parser->depth--;
    return node;
}

static struct jinja_node *parse_and(struct jinja_parser *parser) {
    int line = parser->at->line;
    struct jinja_node *node = parse_not(parser);
    while (node && parser_skip_word(parser, "and"))
        node = parser_pair(parser, JINJA_AND, line, node, parse_not(parser));
    return node;
}

static struct jinja_node *parse_or(struct jinja_parser *parser) {
    int line = parser->at->line;
    struct jinja_node *node = parse_and(parser);
    while (node && parser_skip_word(parser, "or"))
        node = parser_pair(parser, JINJA_OR, line, node, parse_and(parser));
    return node;
}

struct jinja_node *parse_plain_expression(struct jinja_parser *parser) {
    if (!parser_enter(parser))
        return NULL;

    struct jinja_node *node = parse_or(parser);
    parser->depth--;
    return node;
}

/* value if condition [else otherwise] */
static struct jinja_node *parse_condition(struct jinja_parser *parser) {
    int line = parser->at->line;
    const struct jinja_node *unknown = parser->unknown;
    struct jinja_node *value = parse_or(parser);

    while (value && parser_skip_word(parser, "if")) {
        struct jinja_node *node = parser_node(parser, JINJA_CONDITION, line);
        if (!node || !(node->b = parse_or(parser)))
            return NULL;
        node->a = value;
        if (parser_skip_word(parser, "else") && !(node->c = parse_expression(parser)))
            return NULL;
        value = parser_finish(parser, node);
        parser->unknown = unknown;
    }
    return value;
}

struct jinja_node *parse_expression(struct jinja_parser *parser) {
    if (!parser_enter(parser))
        return NULL;

    struct jinja_node *node = parse_condition(parser);
    parser->depth--;
    return node;
}

static struct jinja_node *parse_name_or_tuple(struct jinja_parser *parser) {
    if (!parser_enter(parser))
        return NULL;

    struct jinja_node *node = parse_primary(parser);
    parser->depth--;
    return node;
}

/* Can this be assigned to? */
static bool is_target(const struct jinja_node *node) {
    if (node->kind == JINJA_NAME || node->kind == JINJA_MEMBER)
        return true;
    if (node->kind != JINJA_MAKE_TUPLE)
        return false;
    for (size_t i = 0; i < node->items.count; i++)
        if (!is_target(node->items.items[i]))
            return false;
    return true;
}

struct jinja_node *parse_target(struct jinja_parser *parser, bool namespaces, bool name_only) {
    const struct jinja_token *token = parser->at;
    struct jinja_node *node;

    if (namespaces && token->type == TOKEN_NAME && token[1].type == TOKEN_OPERATOR && token[1].length == 1 &&
        *token[1].text == '.') {
        node = parser_node(parser, JINJA_MEMBER, token->line);
        if (!node || (node->name = parser_name(parser, token->text, token->length)) < 0)
            return NULL;
        parser->at += 2;
        const struct jinja_token *member = parser_expect_name(parser);
        const struct jinja_text *name = member ? parser_text(parser, member) : NULL;
        if (!name)
            return NULL;
        node->constant = jinja_string(name);
        return parser_finish(parser, node);
    }

    if (name_only && token->type != TOKEN_NAME)
        return parser_expect_name(parser) ? NULL : NULL;
    node = name_only ? parse_primary(parser) : parse_items(parser, parse_name_or_tuple, false);
    if (node && !is_target(node)) {
        parser->at = token;
        return parser_fail(parser, "this cannot be assigned to");
    }
    return node;
}
