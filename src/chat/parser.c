/* What both parts of the parser are made of: nodes, names, tokens. */
#include "chat/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "chat/text.h"

void *parser_fail(struct jinja_parser *parser, const char *format, ...) {
    char message[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);

    error_set(parser->error, ERROR_MODEL, "line %d: %s", parser->at->line, message);
    return NULL;
}

void *parser_allocate(struct jinja_parser *parser, size_t count, size_t size) {
    void *memory = arena_allocate_array(parser->arena, count, size);
    if (!memory)
        error_set(parser->error, ERROR_MEMORY, "out of memory");
    return memory;
}

bool parser_enter(struct jinja_parser *parser) {
    if (++parser->depth <= LIMIT_TEMPLATE_NESTING)
        return true;

    parser_fail(parser, "nested deeper than %d levels", LIMIT_TEMPLATE_NESTING);
    return false;
}

struct jinja_node *parser_node(struct jinja_parser *parser, enum jinja_kind kind, int line) {
    struct jinja_node *node = parser_allocate(parser, 1, sizeof *node);
    if (node) {
        node->kind = (uint8_t)kind;
        node->line = line;
        node->name = -1;
    }
    return node;
}

static void raise_height(int *height, const struct jinja_node *node) {
    if (node && node->height > *height)
        *height = node->height;
}

static void raise_height_by(int *height, const struct jinja_nodes *nodes) {
    for (size_t i = 0; i < nodes->count; i++)
        raise_height(height, nodes->items[i]);
}

struct jinja_node *parser_finish(struct jinja_parser *parser, struct jinja_node *node) {
    int height = 0;
    raise_height(&height, node->a);
    raise_height(&height, node->b);
    raise_height(&height, node->c);
    raise_height_by(&height, &node->items);
    for (size_t i = 0; i < node->branch_count; i++)
        raise_height_by(&height, &node->branches[i]);

    if (node->arguments) {
        raise_height_by(&height, &node->arguments->positions);
        raise_height_by(&height, &node->arguments->keywords);
        raise_height(&height, node->arguments->star);
        raise_height(&height, node->arguments->double_star);
    }
    if (node->signature)
        raise_height_by(&height, &(struct jinja_nodes){node->signature->defaults, node->signature->count});

    node->height = height + 1;
    if (node->height > LIMIT_TEMPLATE_NESTING)
        return parser_fail(parser, "an expression has more than %d levels", LIMIT_TEMPLATE_NESTING);
    return node;
}

struct jinja_node *parser_pair(struct jinja_parser *parser, enum jinja_kind kind, int line,
                               struct jinja_node *a, struct jinja_node *b) {
    struct jinja_node *node = a && b ? parser_node(parser, kind, line) : NULL;
    if (!node)
        return NULL;

    node->a = a;
    node->b = b;
    return parser_finish(parser, node);
}

struct jinja_node *parser_single(struct jinja_parser *parser, enum jinja_kind kind, int line,
                                 struct jinja_node *a) {
    struct jinja_node *node = a ? parser_node(parser, kind, line) : NULL;
    if (!node)
        return NULL;

    node->a = a;
    return parser_finish(parser, node);
}

bool parser_append(struct jinja_parser *parser, struct jinja_growing *list, struct jinja_node *node) {
    if (list->nodes.count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        struct jinja_node **items = parser_allocate(parser, capacity, sizeof *items);
        if (!items)
            return false;
        if (list->nodes.count)
            memcpy(items, list->nodes.items, list->nodes.count * sizeof(struct jinja_node *));
        list->nodes.items = items;
        list->capacity = capacity;
    }

    list->nodes.items[list->nodes.count++] = node;
    return true;
}

static size_t find_slot(const struct jinja_parser *parser, const char *text, size_t length) {
    size_t slot = hash_bytes(HASH_START, text, length) & (parser->slot_count - 1);

    for (; parser->name_slots[slot]; slot = (slot + 1) & (parser->slot_count - 1)) {
        const struct jinja_text *name = parser->program->names[parser->name_slots[slot] - 1];
        if (name->length == length && memcmp(name->bytes, text, length) == 0)
            break;
    }
    return slot;
}

static bool grow_names(struct jinja_parser *parser) {
    size_t capacity = parser->name_capacity ? 2 * parser->name_capacity : 64;
    const struct jinja_text **names = parser_allocate(parser, capacity, sizeof *names);
    uint32_t *slots = parser_allocate(parser, 2 * capacity, sizeof *slots);
    if (!names || !slots)
        return false;

    int count = parser->program->name_count;
    if (count)
        memcpy(names, parser->program->names, (size_t)count * sizeof *names);
    parser->program->names = names;
    parser->name_capacity = capacity;
    parser->name_slots = slots;
    parser->slot_count = 2 * capacity;
    for (int i = 0; i < count; i++)
        slots[find_slot(parser, names[i]->bytes, names[i]->length)] = (uint32_t)i + 1;
    return true;
}

int parser_name(struct jinja_parser *parser, const char *text, size_t length) {
    struct jinja_program *program = parser->program;
    if ((size_t)program->name_count == parser->name_capacity && !grow_names(parser))
        return -1;

    size_t slot = find_slot(parser, text, length);
    if (!parser->name_slots[slot]) {
        const struct jinja_text *name = jinja_text_constant(parser->arena, text, length);
        if (!name) {
            error_set(parser->error, ERROR_MEMORY, "out of memory");
            return -1;
        }
        program->names[program->name_count++] = name;
        parser->name_slots[slot] = (uint32_t)program->name_count;
    }
    return (int)parser->name_slots[slot] - 1;
}

const struct jinja_text *parser_text(struct jinja_parser *parser, const struct jinja_token *token) {
    const struct jinja_text *text = jinja_text_constant(parser->arena, token->text, token->length);
    if (!text)
        error_set(parser->error, ERROR_MEMORY, "out of memory");
    return text;
}

static bool token_is(const struct jinja_token *token, enum jinja_token_type type, const char *text) {
    return token->type == type && token->length == strlen(text) &&
           memcmp(token->text, text, token->length) == 0;
}

bool parser_is_operator(const struct jinja_parser *parser, const char *text) {
    return token_is(parser->at, TOKEN_OPERATOR, text);
}

bool parser_is_word(const struct jinja_parser *parser, const char *word) {
    return token_is(parser->at, TOKEN_NAME, word);
}

bool parser_skip_operator(struct jinja_parser *parser, const char *text) {
    bool is = parser_is_operator(parser, text);
    parser->at += is;
    return is;
}

bool parser_skip_word(struct jinja_parser *parser, const char *word) {
    bool is = parser_is_word(parser, word);
    parser->at += is;
    return is;
}

/* What the current token is, for a message. */
static const char *describe(const struct jinja_parser *parser, char ret[64]) {
    static const char *const names[] = {
        [TOKEN_DATA] = "text",
        [TOKEN_VARIABLE_BEGIN] = "{{",
        [TOKEN_VARIABLE_END] = "}}",
        [TOKEN_BLOCK_BEGIN] = "{%",
        [TOKEN_BLOCK_END] = "%}",
        [TOKEN_STRING] = "a string",
        [TOKEN_END] = "the end of the template",
    };
    const struct jinja_token *token = parser->at;
    if (names[token->type])
        return names[token->type];

    snprintf(ret, 64, "'%.*s'", (int)(token->length < 40 ? token->length : 40), token->text);
    return ret;
}

bool parser_expect_operator(struct jinja_parser *parser, const char *text) {
    char found[64];
    if (parser_skip_operator(parser, text))
        return true;

    parser_fail(parser, "expected '%s', got %s", text, describe(parser, found));
    return false;
}

bool parser_expect_word(struct jinja_parser *parser, const char *word) {
    char found[64];
    if (parser_skip_word(parser, word))
        return true;

    parser_fail(parser, "expected '%s', got %s", word, describe(parser, found));
    return false;
}

const struct jinja_token *parser_expect_name(struct jinja_parser *parser) {
    char found[64];
    if (parser->at->type == TOKEN_NAME)
        return parser->at++;

    return parser_fail(parser, "expected a name, got %s", describe(parser, found));
}

bool parser_expect(struct jinja_parser *parser, enum jinja_token_type type) {
    char found[64];
    if (parser->at->type == type) {
        parser->at += type != TOKEN_END;
        return true;
    }

    parser_fail(parser, "expected the end of the tag, got %s", describe(parser, found));
    return false;
}

void *parser_fail_unexpected(struct jinja_parser *parser) {
    char found[64];
    return parser_fail(parser, "unexpected %s", describe(parser, found));
}
