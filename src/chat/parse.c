#include "chat/parse.h"

#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "chat/parser.h"

static struct jinja_node *parse_statement(struct jinja_parser *parser);

/* Does one of the words, which blanks part, stand here? */
static bool is_one_of(const struct jinja_parser *parser, const char *words) {
    size_t length = parser->at->length;
    if (parser->at->type != TOKEN_NAME)
        return false;

    for (const char *word = words; *word; word += strcspn(word, " "), word += *word == ' ')
        if (strcspn(word, " ") == length && memcmp(word, parser->at->text, length) == 0)
            return true;
    return false;
}

static bool parse_variable(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_growing items = {0};
    struct jinja_node *value = parse_tuple(parser, true);
    if (!value || !parser_append(parser, &items, value))
        return false;

    node->items = items.nodes;
    return true;
}

/* Text, variables and statements up to `{%` and one of the words (NULL: up to the end); that word is the
 * current token then. */
static bool parse_until(struct jinja_parser *parser, const char *words, struct jinja_nodes *ret) {
    struct jinja_growing list = {0};

    for (struct jinja_node *node; parser->at->type != TOKEN_END;) {
        enum jinja_token_type type = parser->at->type;
        if (type == TOKEN_DATA) {
            const struct jinja_text *text = parser_text(parser, parser->at);
            node = text ? parser_node(parser, JINJA_DATA, parser->at->line) : NULL;
            if (node)
                node->constant = jinja_string(text);
            parser->at++;
        } else {
            parser->at++;
            if (type == TOKEN_BLOCK_BEGIN && words && is_one_of(parser, words)) {
                *ret = list.nodes;
                return true;
            }
            node = type == TOKEN_BLOCK_BEGIN ? parse_statement(parser)
                                             : parser_node(parser, JINJA_PRINT, parser->at->line);
            if (node && type == TOKEN_VARIABLE_BEGIN && !parse_variable(parser, node))
                return false;
            if (!node ||
                !parser_expect(parser, type == TOKEN_BLOCK_BEGIN ? TOKEN_BLOCK_END : TOKEN_VARIABLE_END))
                return false;
        }
        if (!node || !parser_finish(parser, node) || !parser_append(parser, &list, node))
            return false;
    }

    *ret = list.nodes;
    if (words)
        parser_fail(parser, "the template ends where {%% %.*s %%} is missing", (int)strcspn(words, " "),
                    words);
    return !words;
}

/* What follows a statement's own tag. A body may be lenient (parser.h). */
static bool parse_body(struct jinja_parser *parser, const char *words, bool lenient,
                       struct jinja_nodes *ret) {
    bool before = parser->lenient;
    parser_skip_operator(parser, ":");
    if (!parser_expect(parser, TOKEN_BLOCK_END))
        return false;

    parser->lenient = lenient;
    bool done = parse_until(parser, words, ret);
    parser->lenient = before;
    return done;
}

/* A body up to its only end, which is skipped, as branch `index` of a node with `count`. */
static bool parse_last_body(struct jinja_parser *parser, struct jinja_node *node, const char *word) {
    node->branches = parser_allocate(parser, 1, sizeof *node->branches);
    node->branch_count = 1;
    return node->branches && parse_body(parser, word, false, node->branches) &&
           parser_expect_word(parser, word);
}

static bool append_branch(struct jinja_parser *parser, struct jinja_node *node, size_t *capacity) {
    if (node->branch_count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 4;
        struct jinja_nodes *branches = parser_allocate(parser, *capacity, sizeof *branches);
        if (!branches)
            return false;
        if (node->branch_count)
            memcpy(branches, node->branches, node->branch_count * sizeof *branches);
        node->branches = branches;
    }

    node->branches[node->branch_count++] = (struct jinja_nodes){0};
    return true;
}

static bool parse_if(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_growing conditions = {0};
    size_t capacity = 0;
    bool more = true, lenient = parser->lenient;

    while (more) {
        parser->lenient = true;
        struct jinja_node *condition = parse_tuple(parser, false);
        parser->lenient = lenient;
        if (!condition || !parser_append(parser, &conditions, condition) ||
            !append_branch(parser, node, &capacity) ||
            !parse_body(parser, "endif elif else", true, &node->branches[node->branch_count - 1]))
            return false;
        more = parser_skip_word(parser, "elif");
    }

    node->items = conditions.nodes;
    if (parser_skip_word(parser, "else") &&
        (!append_branch(parser, node, &capacity) ||
         !parse_body(parser, "endif", true, &node->branches[node->branch_count - 1])))
        return false;
    return parser_expect_word(parser, "endif");
}

static bool parse_for(struct jinja_parser *parser, struct jinja_node *node) {
    if (!(node->a = parse_target(parser, false, false)) || !parser_expect_word(parser, "in") ||
        !(node->b = parse_tuple(parser, false)))
        return false;
    if (parser_skip_word(parser, "if") && !(node->c = parse_expression(parser)))
        return false;
    node->flag = parser_skip_word(parser, "recursive");

    node->branches = parser_allocate(parser, 2, sizeof *node->branches);
    node->branch_count = 2;
    parser->loops++;
    if (!node->branches || (node->name = parser_name(parser, "loop", 4)) < 0 ||
        !parse_body(parser, "endfor else", false, &node->branches[0]))
        return false;
    parser->loops--;

    if (parser_skip_word(parser, "else") && !parse_body(parser, "endfor", false, &node->branches[1]))
        return false;
    return parser_expect_word(parser, "endfor");
}

static bool parse_set(struct jinja_parser *parser, struct jinja_node *node) {
    if (!(node->a = parse_target(parser, true, false)))
        return false;
    if (parser_skip_operator(parser, "="))
        return (node->b = parse_tuple(parser, true)) != NULL;

    node->kind = JINJA_SET_BLOCK;
    if (parser_is_operator(parser, "|") && !(node->b = parse_filters(parser, NULL)))
        return false;
    return parse_last_body(parser, node, "endset");
}

static bool parse_with(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_growing items = {0};

    while (parser->at->type != TOKEN_BLOCK_END) {
        struct jinja_node *target, *value;
        if (items.nodes.count && !parser_expect_operator(parser, ","))
            return false;
        if (!(target = parse_target(parser, false, true)) || !parser_expect_operator(parser, "=") ||
            !(value = parse_expression(parser)) || !parser_append(parser, &items, target) ||
            !parser_append(parser, &items, value))
            return false;
    }

    node->items = items.nodes;
    return parse_last_body(parser, node, "endwith");
}

static bool parse_parameter(struct jinja_parser *parser, struct jinja_growing *names,
                            struct jinja_growing *defaults, bool *any_default) {
    struct jinja_node *name = parse_target(parser, false, true), *value = NULL;
    if (!name)
        return false;

    if (parser_skip_operator(parser, "=")) {
        *any_default = true;
        if (!(value = parse_expression(parser)))
            return false;
    } else if (*any_default) {
        parser_fail(parser, "a parameter without a default follows one that has one");
        return false;
    }
    return parser_append(parser, names, name) && parser_append(parser, defaults, value);
}

static bool parse_signature(struct jinja_parser *parser, struct jinja_signature *signature) {
    struct jinja_growing names = {0}, defaults = {0};
    bool any_default = false;

    for (parser->at++; !parser_is_operator(parser, ")");)
        if ((names.nodes.count && !parser_expect_operator(parser, ",")) ||
            !parse_parameter(parser, &names, &defaults, &any_default))
            return false;
    parser->at++;

    size_t count = signature->count = names.nodes.count;
    signature->defaults = defaults.nodes.items;
    signature->names = parser_allocate(parser, count, sizeof *signature->names);
    if (!signature->names)
        return false;
    for (size_t i = 0; i < count; i++)
        signature->names[i] = names.nodes.items[i]->name;
    return true;
}

/* Parameters and body of a macro, or of the caller of a call block, whose call is parsed between them. */
static bool parse_macro_like(struct jinja_parser *parser, struct jinja_node *macro, const char *end,
                             struct jinja_node **ret_call) {
    struct jinja_signature *signature = macro->signature = parser_allocate(parser, 1, sizeof *signature);
    struct jinja_signature *around = parser->signature;
    int loops = parser->loops;
    if (!signature || (signature->caller = parser_name(parser, "caller", 6)) < 0 ||
        (signature->varargs = parser_name(parser, "varargs", 7)) < 0 ||
        (signature->kwargs = parser_name(parser, "kwargs", 6)) < 0)
        return false;

    if (parser_is_operator(parser, "(") ? !parse_signature(parser, signature)
                                        : !ret_call && !parser_expect_operator(parser, "("))
        return false;
    if (ret_call && !(*ret_call = parse_expression(parser)))
        return false;
    if (ret_call && (*ret_call)->kind != JINJA_CALL) {
        parser_fail(parser, "a call block needs a call");
        return false;
    }

    parser->signature = signature;
    parser->loops = 0;
    bool done = parse_last_body(parser, macro, end);
    parser->signature = around;
    parser->loops = loops;
    if (done && around) { /* what the inner one names may be the outer one's */
        around->uses_caller |= signature->uses_caller;
        around->uses_varargs |= signature->uses_varargs;
        around->uses_kwargs |= signature->uses_kwargs;
    }
    return done;
}

static bool parse_macro(struct jinja_parser *parser, struct jinja_node *node) {
    const struct jinja_token *name = parser_expect_name(parser);
    return name && (node->name = parser_name(parser, name->text, name->length)) >= 0 &&
           parse_macro_like(parser, node, "endmacro", NULL);
}

static bool parse_call_block(struct jinja_parser *parser, struct jinja_node *node) {
    node->b = parser_node(parser, JINJA_DEFINE_MACRO, node->line);
    return node->b && (node->b->name = parser_name(parser, "caller", 6)) >= 0 &&
           parse_macro_like(parser, node->b, "endcall", &node->a) && parser_finish(parser, node->b);
}

static bool parse_filter_block(struct jinja_parser *parser, struct jinja_node *node) {
    if (!(node->b = parse_filter(parser, NULL)) || !(node->b = parse_filters(parser, node->b)))
        return false;
    return parse_last_body(parser, node, "endfilter");
}

static bool parse_print(struct jinja_parser *parser, struct jinja_node *node) {
    struct jinja_growing items = {0};
    do {
        struct jinja_node *item = parse_expression(parser);
        if (!item || !parser_append(parser, &items, item))
            return false;
    } while (parser_skip_operator(parser, ","));

    node->items = items.nodes;
    return true;
}

static bool parse_break(struct jinja_parser *parser, struct jinja_node *node) {
    if (!parser->loops)
        parser_fail(parser, "break and continue belong within a loop");
    return parser->loops > 0;
}

/* Its body is part of the text around it: what it marks is of use in training only. */
static bool parse_generation(struct jinja_parser *parser, struct jinja_node *node) {
    return parse_last_body(parser, node, "endgeneration");
}

static bool parse_unsupported(struct jinja_parser *parser, struct jinja_node *node) {
    parser->at--;
    parser_fail(parser, "the tag '%.*s' is not supported in chat templates", (int)parser->at->length,
                parser->at->text);
    return false;
}

static const struct {
    const char *word;
    enum jinja_kind kind;
    bool (*parse)(struct jinja_parser *parser, struct jinja_node *node);
} statements[] = {
    {"if", JINJA_IF, parse_if},
    {"for", JINJA_FOR, parse_for},
    {"set", JINJA_SET, parse_set},
    {"macro", JINJA_DEFINE_MACRO, parse_macro},
    {"call", JINJA_CALL_BLOCK, parse_call_block},
    {"filter", JINJA_FILTER_BLOCK, parse_filter_block},
    {"with", JINJA_WITH, parse_with},
    {"print", JINJA_PRINT, parse_print},
    {"break", JINJA_BREAK_LOOP, parse_break},
    {"continue", JINJA_CONTINUE_LOOP, parse_break},
    {"generation", JINJA_GENERATION, parse_generation},
    {"include", JINJA_DATA, parse_unsupported},
    {"import", JINJA_DATA, parse_unsupported},
    {"from", JINJA_DATA, parse_unsupported},
    {"extends", JINJA_DATA, parse_unsupported},
    {"block", JINJA_DATA, parse_unsupported},
    {"autoescape", JINJA_DATA, parse_unsupported},
};

/* Behind `{%`, up to its `%}` or that of its end. */
static struct jinja_node *parse_statement(struct jinja_parser *parser) {
    const struct jinja_token *token = parser_expect_name(parser);
    struct jinja_node *node = NULL;
    if (!token || !parser_enter(parser))
        return NULL;

    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (strlen(statements[i].word) == token->length &&
            memcmp(statements[i].word, token->text, token->length) == 0) {
            node = parser_node(parser, statements[i].kind, token->line);
            if (!node || !statements[i].parse(parser, node))
                return NULL;
            break;
        }

    parser->depth--;
    parser->at -= !node;
    return node ? node
                : parser_fail(parser, "unknown tag '%.*s'", (int)(token->length < 40 ? token->length : 40),
                              token->text);
}

struct jinja_program *jinja_parse(struct arena *arena, const char *text, size_t size, struct error *error) {
    struct jinja_parser parser = {.arena = arena, .error = error};
    struct jinja_tokens tokens = {0};
    if (!jinja_tokenize(arena, text, size, &tokens, error))
        return NULL;

    parser.at = tokens.items;
    parser.program = parser_allocate(&parser, 1, sizeof *parser.program);
    if (!parser.program || !parse_until(&parser, NULL, &parser.program->body))
        return NULL;
    if (parser.unknown) {
        const struct jinja_text *name = parser.unknown->constant.text;
        error_set(error, ERROR_MODEL, "line %d: there is no %s '%.*s'", parser.unknown->line,
                  parser.unknown->kind == JINJA_FILTER ? "filter" : "test", (int)name->length, name->bytes);
        return NULL;
    }

    parser.program->arena = arena;
    return parser.program;
}
