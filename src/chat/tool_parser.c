#include "chat/tool_parser.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"

enum tool_place {
    IN_TEXT,
    BEFORE_CALL, /* behind `open`: blanks, a list's brackets and commas, `close` */
    IN_NAME,     /* of calls that are NAME name_end {…} */
    IN_HEAD,     /* of calls that are objects: up to the value of their arguments */
    IN_ARGUMENTS,
    IN_REST, /* of the object, behind the arguments */
};

struct tool_parser {
    const struct tool_format *format;
    struct tool_events events;
    enum tool_place place;
    struct buffer held; /* what is not decided: the beginning of `open`, a call's head */
    size_t calls;
    int depth; /* brackets in arguments, or in the rest */
    bool in_string, escaped, began;
};

struct tool_parser *tool_parser_create(const struct tool_format *format, const struct tool_events *events) {
    struct tool_parser *parser = calloc(1, sizeof *parser);
    if (parser)
        *parser = (struct tool_parser){
            .format = format, .events = *events, .place = *format->open ? IN_TEXT : BEFORE_CALL};
    return parser;
}

void tool_parser_free(struct tool_parser *parser) {
    if (!parser)
        return;
    buffer_release(&parser->held);
    free(parser);
}

size_t tool_parser_calls(const struct tool_parser *parser) {
    return parser->calls;
}

static void drop_held(struct tool_parser *parser) {
    parser->held.size = 0;
}

static void give_held(struct tool_parser *parser) {
    if (parser->held.size)
        parser->events.text(parser->events.data, parser->held.bytes, parser->held.size);
    drop_held(parser);
}

/* Does what is held end with `mark`? */
static bool held_ends_with(const struct tool_parser *parser, const char *mark) {
    size_t size = strlen(mark);
    return size && parser->held.size >= size &&
           memcmp(parser->held.bytes + parser->held.size - size, mark, size) == 0;
}

/* Bytes at the end of what is held that may be the beginning of `mark`. */
static size_t may_become(const struct tool_parser *parser, const char *mark) {
    size_t size = strlen(mark), most = parser->held.size < size ? parser->held.size : size;
    while (most && memcmp(parser->held.bytes + parser->held.size - most, mark, most) != 0)
        most--;
    return most;
}

/* Give what cannot become `open`. */
static void give_text(struct tool_parser *parser) {
    const char *open = parser->format->open;
    size_t kept = *open ? may_become(parser, open) : 0, given = parser->held.size - kept;

    if (given) {
        parser->events.text(parser->events.data, parser->held.bytes, given);
        memmove(parser->held.bytes, parser->held.bytes + given, kept);
        parser->held.size = kept;
    }
}

static void read_text(struct tool_parser *parser) {
    if (held_ends_with(parser, parser->format->open)) {
        parser->held.size -= strlen(parser->format->open);
        give_held(parser);
        parser->place = parser->format->name_end ? IN_NAME : BEFORE_CALL;
    } else if (parser->held.size > LIMIT_TOOL_HEAD / 2) {
        give_text(parser);
    }
}

/* --- A call's head ----------------------------------------------------------------------------------------
 */

static void begin_arguments(struct tool_parser *parser, const char *name) {
    parser->events.call(parser->events.data, parser->calls++, name);
    drop_held(parser);
    parser->depth = 0;
    parser->in_string = parser->escaped = parser->began = false;
    parser->place = IN_ARGUMENTS;
}

static void read_name(struct tool_parser *parser) {
    if (!held_ends_with(parser, parser->format->name_end))
        return;
    parser->held.size -= strlen(parser->format->name_end);
    char *name = strndup(parser->held.bytes, parser->held.size);
    if (name)
        begin_arguments(parser, name);
    free(name);
}

/* The head of a call is an object but for the value of its arguments: with null in its place it is JSON. */
static void read_head(struct tool_parser *parser) {
    const char *keys[] = {parser->format->arguments, "arguments", "parameters"};
    char last = parser->held.bytes[parser->held.size - 1];
    struct buffer whole = {0};
    if (last != ':' && last != '}')
        return;

    buffer_append(&whole, parser->held.bytes, parser->held.size);
    if (last == ':')
        buffer_append_string(&whole, "null}");
    json_t *head = whole.failed ? NULL : json_loadb(whole.bytes, whole.size, 0, NULL);
    const char *name = json_string_value(json_object_get(head, "name"));
    bool ends = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ends |= json_is_null(json_object_get(head, keys[i]));

    if (name && ends && last == ':') {
        begin_arguments(parser, name);
    } else if (head && last == '}') { /* no arguments, or they came before the name */
        json_t *given = json_object_get(head, "arguments");
        given = given ? given : json_object_get(head, "parameters");
        char *text = json_is_object(given) ? json_dumps(given, JSON_COMPACT) : strdup("{}");
        if (name && text) {
            begin_arguments(parser, name);
            parser->events.arguments(parser->events.data, parser->calls - 1, text, strlen(text));
            parser->place = BEFORE_CALL;
        } else {
            give_held(parser);
            parser->place = IN_TEXT;
        }
        free(text);
    }
    json_decref(head);
    buffer_release(&whole);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Behind `open`, or behind a call. */
static void read_before(struct tool_parser *parser, char c) {
    const char *close = parser->format->close;
    bool whole_answer = !*parser->format->open, between = strchr("[],;", c) != NULL;

    if (c == '{' && parser->held.size == 1) {
        parser->place = IN_HEAD;
    } else if (*close && held_ends_with(parser, close)) {
        drop_held(parser);
        parser->place = IN_TEXT;
    } else if (parser->held.size == 1 &&
               (is_blank(c) || (between && !whole_answer) || (c == ';' && parser->calls))) {
        drop_held(parser);
    } else if (!*close || may_become(parser, close) != parser->held.size) {
        parser->place = IN_TEXT;
        read_text(parser);
    }
}

/* --- Arguments --------------------------------------------------------------------------------------------
 */

/* Is `c` still a part of the value? */
static bool goes_on(struct tool_parser *parser, char c) {
    if (parser->in_string) {
        bool ends = c == '"' && !parser->escaped;
        parser->escaped = c == '\\' && !parser->escaped;
        parser->in_string = !ends;
        return true;
    }
    if (c == '"')
        parser->in_string = true;
    else if (c == '{' || c == '[')
        parser->depth++;
    else if (c == '}' || c == ']')
        return parser->depth-- > 0;
    else if (parser->depth == 0 && c == ',')
        return false;
    return true;
}

/* The bytes of text[0, size) that belong to the arguments are given at once; how many. */
static size_t read_arguments(struct tool_parser *parser, const char *text, size_t size) {
    size_t start = 0, end;
    while (!parser->began && start < size && is_blank(text[start]))
        start++;
    parser->began |= start < size;

    bool named = parser->format->name_end, over = false;
    for (end = start; end < size && !over; end++) {
        if (!goes_on(parser, text[end])) {
            over = true;
            break;
        }
        if (named && !parser->in_string && parser->depth == 0 && (text[end] == '}' || text[end] == ']')) {
            over = true;
            end++;
            break;
        }
    }
    if (end > start)
        parser->events.arguments(parser->events.data, parser->calls - 1, text + start, end - start);
    if (over) {
        parser->place = !named ? IN_REST : *parser->format->close ? BEFORE_CALL : IN_TEXT;
        parser->depth = 0;
    }
    return end;
}

/* Up to the brace that ends the call. */
static void read_rest(struct tool_parser *parser, char c) {
    if (!goes_on(parser, c) && c == '}')
        parser->place = BEFORE_CALL;
    else if (c == ',')
        parser->depth = 0;
}

/* --- All --------------------------------------------------------------------------------------------------
 */

bool tool_parser_feed(struct tool_parser *parser, const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        if (parser->place == IN_ARGUMENTS) {
            i += read_arguments(parser, text + i, size - i);
            continue;
        }
        char c = text[i++];
        if (parser->place == IN_REST) {
            read_rest(parser, c);
            continue;
        }
        if (parser->held.size >= LIMIT_TOOL_HEAD || !buffer_append(&parser->held, &c, 1))
            return false;
        if (parser->place == IN_TEXT)
            read_text(parser);
        else if (parser->place == BEFORE_CALL)
            read_before(parser, c);
        else if (parser->place == IN_NAME)
            read_name(parser);
        else
            read_head(parser);
    }
    if (parser->place == IN_TEXT)
        give_text(parser);
    return true;
}

bool tool_parser_finish(struct tool_parser *parser) {
    if (parser->place != IN_ARGUMENTS && parser->place != IN_REST)
        give_held(parser);
    return !parser->held.failed;
}
