/* What operators stand between: names, literals, calls, subscripts, filters and tests. */
#include <string.h>

#include "chat/builtins.h"
#include "chat/parser.h"

static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filters);

static struct jinja_node *constant(struct jinja_parser *parser, int line, struct jinja_value value) {
    struct jinja_node *node = parser_node(parser, JINJA_CONSTANT, line);
    if (!node)
        return NULL;

    node->constant = value;
    return parser_finish(parser, node);
}

/* Strings side by side are one. */
static struct jinja_node *parse_string(struct jinja_parser *parser) {
    const struct jinja_token *first = parser->at;
    size_t length = 0;
    while (parser->at->type == TOKEN_STRING)
        length += parser->at++->length;

    char *bytes = parser_allocate(parser, length + 1, 1), *out = bytes;
    if (!bytes)
        return NULL;
    for (const struct jinja_token *token = first; token < parser->at; token++) {
        memcpy(out, token->text, token->length);
        out += token->length;
    }

    const struct jinja_text *text =
        parser_text(parser, &(struct jinja_token){.type = TOKEN_STRING, .text = bytes, .length = length});
    return text ? constant(parser, first->line, jinja_string(text)) : NULL;
}

static struct jinja_node *parse_name(struct jinja_parser *parser) {
    const struct jinja_token *token = parser->at;
    static const struct {
        const char *word;
        uint8_t type;
        bool value;
    } constants[] = {{"true", JINJA_BOOL, true},   {"True", JINJA_BOOL, true},  {"false", JINJA_BOOL, false},
                     {"False", JINJA_BOOL, false}, {"none", JINJA_NONE, false}, {"None", JINJA_NONE, false}};

    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (parser_skip_word(parser, constants[i].word))
            return constant(parser, token->line,
                            (struct jinja_value){.type = constants[i].type, .boolean = constants[i].value});

    struct jinja_node *node = parser_node(parser, JINJA_NAME, token->line);
    if (!node || (node->name = parser_name(parser, token->text, token->length)) < 0)
        return NULL;
    if (parser->signature) {
        parser->signature->uses_caller |= parser_is_word(parser, "caller");
        parser->signature->uses_varargs |= parser_is_word(parser, "varargs");
        parser->signature->uses_kwargs |= parser_is_word(parser, "kwargs");
    }
    parser->at++;
    return parser_finish(parser, node);
}

/* Items up to the closing bracket, which may follow a comma; a dict's are pairs. */
static struct jinja_node *parse_display(struct jinja_parser *parser, enum jinja_kind kind,
                                        const char *closer) {
    struct jinja_node *node = parser_node(parser, kind, parser->at->line), *item;
    struct jinja_growing items = {0};
    if (!node)
        return NULL;

    for (parser->at++; !parser_is_operator(parser, closer);) {
        if (items.nodes.count && !parser_expect_operator(parser, ","))
            return NULL;
        if (parser_is_operator(parser, closer))
            break;
        if (!(item = parse_expression(parser)) || !parser_append(parser, &items, item))
            return NULL;
        if (kind == JINJA_MAKE_DICT &&
            (!parser_expect_operator(parser, ":") || !(item = parse_expression(parser)) ||
             !parser_append(parser, &items, item)))
            return NULL;
    }

    node->items = items.nodes;
    return parser_expect_operator(parser, closer) ? parser_finish(parser, node) : NULL;
}

static bool ends_tuple(const struct jinja_parser *parser) {
    return parser->at->type == TOKEN_VARIABLE_END || parser->at->type == TOKEN_BLOCK_END ||
           parser_is_operator(parser, ")") || parser_is_word(parser, "in");
}

struct jinja_node *parse_items(struct jinja_parser *parser,
                               struct jinja_node *(*parse)(struct jinja_parser *), bool may_be_empty) {
    int line = parser->at->line;
    struct jinja_growing items = {0};
    bool is_tuple = may_be_empty && ends_tuple(parser);

    while (!ends_tuple(parser)) {
        struct jinja_node *item = parse(parser);
        if (!item || !parser_append(parser, &items, item))
            return NULL;
        if (!parser_skip_operator(parser, ","))
            break;
        is_tuple = true;
    }

    if (!is_tuple)
        return items.nodes.count ? items.nodes.items[0] : parser_fail_unexpected(parser);
    struct jinja_node *node = parser_node(parser, JINJA_MAKE_TUPLE, line);
    if (!node)
        return NULL;
    node->items = items.nodes;
    return parser_finish(parser, node);
}

struct jinja_node *parse_tuple(struct jinja_parser *parser, bool with_condition) {
    return parse_items(parser, with_condition ? parse_expression : parse_plain_expression, false);
}

static struct jinja_node *parse_parentheses(struct jinja_parser *parser) {
    parser->at++;
    struct jinja_node *node = parse_items(parser, parse_expression, true);
    return node && parser_expect_operator(parser, ")") ? node : NULL;
}

struct jinja_node *parse_primary(struct jinja_parser *parser) {
    const struct jinja_token *token = parser->at;

    switch (token->type) {
    case TOKEN_NAME:
        return parse_name(parser);
    case TOKEN_STRING:
        return parse_string(parser);
    case TOKEN_INTEGER:
        parser->at++;
        return constant(parser, token->line, jinja_int(token->integer));
    case TOKEN_FLOAT:
        parser->at++;
        return constant(parser, token->line, jinja_float(token->real));
    default:
        break;
    }

    if (parser_is_operator(parser, "("))
        return parse_parentheses(parser);
    if (parser_is_operator(parser, "["))
        return parse_display(parser, JINJA_MAKE_LIST, "]");
    if (parser_is_operator(parser, "{"))
        return parse_display(parser, JINJA_MAKE_DICT, "}");
    return parser_fail_unexpected(parser);
}

static bool parse_keyword(struct jinja_parser *parser, struct jinja_growing *keywords) {
    struct jinja_node *node = parser_node(parser, JINJA_KEYWORD, parser->at->line);
    const struct jinja_text *name = node ? parser_text(parser, parser->at) : NULL;
    if (!name)
        return false;

    parser->at += 2;
    node->constant = jinja_string(name);
    node->a = parse_expression(parser);
    return node->a && parser_finish(parser, node) && parser_append(parser, keywords, node);
}

static bool parse_argument(struct jinja_parser *parser, struct jinja_actual *actual,
                           struct jinja_growing *positions, struct jinja_growing *keywords) {
    bool is_star = parser_is_operator(parser, "*"), is_double = parser_is_operator(parser, "**");
    const struct jinja_token *next = parser->at->type == TOKEN_NAME ? parser->at + 1 : NULL;
    bool is_keyword = next && next->type == TOKEN_OPERATOR && next->length == 1 && *next->text == '=';

    if (actual->double_star || (actual->star && !is_double && !is_keyword) ||
        (!is_star && !is_double && !is_keyword && keywords->nodes.count)) {
        parser_fail(parser, "arguments of a call are out of order");
        return false;
    }
    if (is_keyword)
        return parse_keyword(parser, keywords);
    if (is_star || is_double) {
        parser->at++;
        struct jinja_node *value = parse_expression(parser);
        *(is_star ? &actual->star : &actual->double_star) = value;
        return value != NULL;
    }

    struct jinja_node *value = parse_expression(parser);
    return value && parser_append(parser, positions, value);
}

static struct jinja_actual *parse_arguments(struct jinja_parser *parser) {
    struct jinja_actual *actual = parser_allocate(parser, 1, sizeof *actual);
    struct jinja_growing positions = {0}, keywords = {0};
    bool comma = false;
    if (!actual)
        return NULL;

    for (parser->at++; !parser_is_operator(parser, ")"); comma = true) {
        if (comma && !parser_expect_operator(parser, ","))
            return NULL;
        if (comma && parser_is_operator(parser, ")"))
            break;
        if (!parse_argument(parser, actual, &positions, &keywords))
            return NULL;
    }

    actual->positions = positions.nodes;
    actual->keywords = keywords.nodes;
    parser->at++;
    return actual;
}

static struct jinja_node *parse_call(struct jinja_parser *parser, struct jinja_node *callee) {
    struct jinja_node *node = parser_node(parser, JINJA_CALL, parser->at->line);
    if (!node || !(node->arguments = parse_arguments(parser)))
        return NULL;

    node->a = callee;
    return parser_finish(parser, node);
}

/* One of the bounds of a slice: NULL in *ret where there is none. */
static bool parse_bound(struct jinja_parser *parser, struct jinja_node **ret) {
    *ret = NULL;
    if (parser_is_operator(parser, ":") || parser_is_operator(parser, "]") || parser_is_operator(parser, ","))
        return true;
    return (*ret = parse_expression(parser)) != NULL;
}

static struct jinja_node *parse_slice(struct jinja_parser *parser, struct jinja_node *value,
                                      struct jinja_node *start, int line) {
    struct jinja_node *node = parser_node(parser, JINJA_SLICE, line);
    struct jinja_node **bounds = parser_allocate(parser, 3, sizeof *bounds);
    if (!node || !bounds)
        return NULL;

    parser->at++;
    bounds[0] = start;
    if (!parse_bound(parser, &bounds[1]))
        return NULL;
    if (parser_skip_operator(parser, ":") && !parse_bound(parser, &bounds[2]))
        return NULL;

    node->a = value;
    node->items = (struct jinja_nodes){bounds, 3};
    return parser_expect_operator(parser, "]") ? parser_finish(parser, node) : NULL;
}

static struct jinja_node *parse_brackets(struct jinja_parser *parser, struct jinja_node *value) {
    int line = parser->at++->line;
    struct jinja_node *key;
    if (!parse_bound(parser, &key))
        return NULL;
    if (parser_is_operator(parser, ":"))
        return parse_slice(parser, value, key, line);
    if (!key)
        return parser_fail_unexpected(parser);

    if (parser_is_operator(parser, ",")) {
        struct jinja_growing items = {0};
        if (!parser_append(parser, &items, key))
            return NULL;
        while (parser_skip_operator(parser, ","))
            if (!(key = parse_expression(parser)) || !parser_append(parser, &items, key))
                return NULL;
        if (!(key = parser_node(parser, JINJA_MAKE_TUPLE, line)))
            return NULL;
        key->items = items.nodes;
        if (!parser_finish(parser, key))
            return NULL;
    }
    return parser_expect_operator(parser, "]") ? parser_pair(parser, JINJA_SUBSCRIPT, line, value, key)
                                               : NULL;
}

static struct jinja_node *parse_member(struct jinja_parser *parser, struct jinja_node *value) {
    const struct jinja_token *token = ++parser->at;
    if (token->type == TOKEN_INTEGER) {
        parser->at++;
        return parser_pair(parser, JINJA_SUBSCRIPT, token->line, value,
                           constant(parser, token->line, jinja_int(token->integer)));
    }
    if (!parser_expect_name(parser))
        return NULL;

    struct jinja_node *node = parser_node(parser, JINJA_ATTRIBUTE, token->line);
    const struct jinja_text *name = parser_text(parser, token);
    if (!node || !name)
        return NULL;
    node->a = value;
    node->constant = jinja_string(name);
    return parser_finish(parser, node);
}

static struct jinja_node *parse_postfix(struct jinja_parser *parser, struct jinja_node *node) {
    while (node) {
        if (parser_is_operator(parser, "."))
            node = parse_member(parser, node);
        else if (parser_is_operator(parser, "["))
            node = parse_brackets(parser, node);
        else if (parser_is_operator(parser, "("))
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}

/* A name, with others behind dots, as one text. */
static const struct jinja_text *parse_dotted(struct jinja_parser *parser) {
    const struct jinja_token *token = parser_expect_name(parser);
    char name[128];
    size_t length = 0;

    while (token) {
        if (token->length > sizeof name - 2 - length)
            return parser_fail(parser, "the name of a filter or test is too long");
        memcpy(name + length, token->text, token->length);
        length += token->length;
        if (!parser_skip_operator(parser, "."))
            return parser_text(parser, &(struct jinja_token){.text = name, .length = length});
        name[length++] = '.';
        token = parser_expect_name(parser);
    }
    return NULL;
}

/* A filter or test that does not exist: an error, unless whether it is reached depends on a condition. */
static void note_unknown(struct jinja_parser *parser, const struct jinja_node *node) {
    if (!parser->lenient && !parser->unknown)
        parser->unknown = node;
}

struct jinja_node *parse_filter(struct jinja_parser *parser, struct jinja_node *value) {
    struct jinja_node *node = parser_node(parser, JINJA_FILTER, parser->at->line);
    const struct jinja_text *name = node ? parse_dotted(parser) : NULL;
    if (!name)
        return NULL;

    node->a = value;
    node->constant = jinja_string(name);
    node->builtin = jinja_find_filter(name);
    if (!node->builtin)
        note_unknown(parser, node);
    if (parser_is_operator(parser, "(") && !(node->arguments = parse_arguments(parser)))
        return NULL;
    return parser_finish(parser, node);
}

struct jinja_node *parse_filters(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_node *last = node;
    while (parser_skip_operator(parser, "|"))
        if (!(last = parse_filter(parser, last)))
            return NULL;
    return last;
}

/* The argument of a test without parentheses: `is divisibleby 3`. */
static bool parse_test_argument(struct jinja_parser *parser, struct jinja_node *node) {
    bool is_value = parser->at->type == TOKEN_NAME || parser->at->type == TOKEN_STRING ||
                    parser->at->type == TOKEN_INTEGER || parser->at->type == TOKEN_FLOAT ||
                    parser_is_operator(parser, "[") || parser_is_operator(parser, "{");
    if (!is_value || parser_is_word(parser, "else") || parser_is_word(parser, "or") ||
        parser_is_word(parser, "and"))
        return true;
    if (parser_is_word(parser, "is")) {
        parser_fail(parser, "tests cannot be chained with 'is'");
        return false;
    }

    struct jinja_node *value = parse_postfix(parser, parse_primary(parser));
    struct jinja_growing positions = {0};
    node->arguments = value ? parser_allocate(parser, 1, sizeof *node->arguments) : NULL;
    if (!node->arguments || !parser_append(parser, &positions, value))
        return false;
    node->arguments->positions = positions.nodes;
    return true;
}

static struct jinja_node *parse_test(struct jinja_parser *parser, struct jinja_node *value) {
    int line = parser->at++->line;
    bool negated = parser_skip_word(parser, "not");
    struct jinja_node *node = parser_node(parser, JINJA_TEST, line);
    const struct jinja_text *name = node ? parse_dotted(parser) : NULL;
    if (!name)
        return NULL;

    node->a = value;
    node->constant = jinja_string(name);
    node->builtin = jinja_find_test(name);
    if (!node->builtin)
        note_unknown(parser, node);
    if (parser_is_operator(parser, "(") ? !(node->arguments = parse_arguments(parser))
                                        : !parse_test_argument(parser, node))
        return NULL;

    node = parser_finish(parser, node);
    return negated ? parser_single(parser, JINJA_NOT, line, node) : node;
}

static struct jinja_node *parse_signed(struct jinja_parser *parser) {
    int line = parser->at->line;
    enum jinja_kind kind = parser_is_operator(parser, "-") ? JINJA_NEGATE : JINJA_PLUS;
    parser->at++;
    if (!parser_enter(parser))
        return NULL;

    struct jinja_node *node = parser_single(parser, kind, line, parse_unary(parser, false));
    parser->depth--;
    return node;
}

static struct jinja_node *parse_unary(struct jinja_parser *parser, bool with_filters) {
    bool is_signed = parser_is_operator(parser, "-") || parser_is_operator(parser, "+");
    struct jinja_node *node = parse_postfix(parser, is_signed ? parse_signed(parser) : parse_primary(parser));

    while (node && with_filters) {
        if (parser_is_operator(parser, "|"))
            node = parse_filters(parser, node);
        else if (parser_is_word(parser, "is"))
            node = parse_test(parser, node);
        else if (parser_is_operator(parser, "("))
            node = parse_call(parser, node);
        else
            break;
    }
    return node;
}

struct jinja_node *parse_operand(struct jinja_parser *parser) {
    return parse_unary(parser, true);
}
