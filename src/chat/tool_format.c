#include "chat/tool_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "chat/constraint_internal.h"

/* The first whose mark is there: the more particular come first. */
static const struct tool_format formats[] = {
    {.name = "functionary",
     .mark = "<function={",
     .open = "<function=",
     .name_end = ">",
     .close = "</function>"},
    {.name = "functionary",
     .mark = "'<function=' + tool_call['function']['name'] + '>' + ",
     .open = "<function=",
     .name_end = ">",
     .close = "</function>"},
    {.name = "mistral", .mark = "[ARGS]", .open = "[TOOL_CALLS]", .name_end = "[ARGS]", .close = ""},
    {.name = "mistral list",
     .mark = "[TOOL_CALLS][",
     .open = "[TOOL_CALLS]",
     .close = "",
     .arguments = "arguments",
     .is_list = true},
    {.name = "nemotron",
     .mark = "<TOOLCALL>[",
     .open = "<TOOLCALL>",
     .close = "</TOOLCALL>",
     .arguments = "arguments",
     .is_list = true},
    {.name = "granite",
     .mark = "<|tool_call|>",
     .open = "<|tool_call|>",
     .close = "",
     .arguments = "arguments",
     .is_list = true},
    {.name = "firefunction",
     .mark = " functools[",
     .open = "functools",
     .close = "",
     .arguments = "arguments",
     .is_list = true},
    {.name = "hermes",
     .mark = "<tool_call>\\n{\"name\": ",
     .open = "<tool_call>",
     .close = "</tool_call>",
     .arguments = "arguments"},
    {.name = "hermes",
     .mark = "<tool_call>\\n{\\\"name\\\": ",
     .open = "<tool_call>",
     .close = "</tool_call>",
     .arguments = "arguments"},
    {.name = "hermes",
     .mark = "function name and arguments within <tool_call></tool_call> XML tags as follows",
     .open = "<tool_call>",
     .close = "</tool_call>",
     .arguments = "arguments"},
    {.name = "llama",
     .mark = "{\"name\": function name, \"parameters\": ",
     .open = "",
     .close = "",
     .arguments = "parameters"},
};

const struct tool_format *tool_format_find(const char *chat_template, size_t size) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (memmem(chat_template, size, formats[i].mark, strlen(formats[i].mark)))
            return &formats[i];
    return NULL;
}

static bool is_text(const char *wanted, const char *text, size_t size) {
    return wanted && size > 0 && strlen(wanted) == size && memcmp(wanted, text, size) == 0;
}

bool tool_format_is_mark(const struct tool_format *format, const char *text, size_t size) {
    return is_text(format->open, text, size) || is_text(format->close, text, size) ||
           is_text(format->name_end, text, size);
}

/* --- Constraints ------------------------------------------------------------------------------------------
 */

struct forced {
    const struct tool_format *format;
    json_t *tools;
    const char *name;
    bool several;
};

static uint32_t literal(struct automaton *automaton, const char *text, uint32_t next) {
    return automaton_literal(automaton, text, strlen(text), next);
}

/* `text` as JSON writes it, with its quotes. */
static uint32_t quoted(struct automaton *automaton, const char *text, uint32_t next) {
    json_t *string = json_string(text);
    char *written = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
    uint32_t start = written ? literal(automaton, written, next) : NO_NODE;
    free(written);
    json_decref(string);
    return start;
}

/* One call, from its name on. */
static uint32_t call_nodes(struct automaton *automaton, struct schema_reader *reader,
                           const struct tool_format *format, json_t *function, uint32_t next) {
    const char *name = json_string_value(json_object_get(function, "name"));
    json_t *schema = json_object_get(function, "parameters");
    char path[160];
    snprintf(path, sizeof path, "%.100s's parameters", name);
    schema_reader_enter(reader, schema);
    uint32_t rule = schema_rule(reader, json_object_size(schema) ? schema : NULL, path);

    if (!format->name_end)
        next = literal(automaton, "}", next);
    uint32_t arguments = rule ? automaton_node(automaton, NODE_CALL, next, rule, 0) : NO_NODE;
    if (!arguments)
        return NO_NODE;
    if (format->name_end)
        return literal(automaton, name, literal(automaton, format->name_end, arguments));
    arguments = quoted(automaton, format->arguments, literal(automaton, ": ", arguments));
    return literal(automaton, "{\"name\": ", quoted(automaton, name, literal(automaton, ", ", arguments)));
}

static uint32_t forced_nodes(struct automaton *automaton, struct schema_reader *reader, uint32_t end,
                             void *data) {
    const struct forced *forced = data;
    const struct tool_format *format = forced->format;
    const char *line = format->name_end || format->is_list || !*format->open ? "" : "\n";
    uint32_t ways[LIMIT_TOOLS], after = automaton_node(automaton, NODE_JUMP, end, 0, 0);
    size_t count = 0, i;
    json_t *tool;

    /* Behind a call: the end of the answer, or of the list; or another call. */
    uint32_t close = literal(automaton, line, literal(automaton, format->close, end));
    uint32_t item =
        format->is_list ? after : literal(automaton, line, literal(automaton, format->close, after));
    json_array_foreach(forced->tools, i, tool) {
        json_t *function = json_object_get(tool, "function");
        const char *name = json_string_value(json_object_get(function, "name"));
        if (!forced->name || strcmp(forced->name, name) == 0)
            ways[count++] = call_nodes(automaton, reader, format, function, item);
    }
    uint32_t calls = automaton_split(automaton, ways, count);
    uint32_t start =
        literal(automaton, format->open, literal(automaton, format->is_list ? "[" : line, calls));

    uint32_t finish = format->is_list ? literal(automaton, "]", close) : end;
    uint32_t again = format->is_list ? literal(automaton, ", ", calls) : literal(automaton, "\n", start);
    uint32_t both[] = {finish, again};
    uint32_t rest = automaton_split(automaton, both, forced->several && *format->open ? 2 : 1);
    if (!automaton->failed)
        automaton->nodes[after].next = rest;
    return start;
}

struct constraint *constraint_create_tools(const struct tool_format *format, json_t *tools, const char *name,
                                           bool several, struct error *error) {
    struct forced forced = {format, tools, name, several};
    size_t count = json_array_size(tools), i;
    bool found = !name && count > 0;
    json_t *tool;
    if (count > LIMIT_TOOLS) {
        error_set(error, ERROR_INVALID, "%zu tools are more than %d", count, LIMIT_TOOLS);
        return NULL;
    }

    json_array_foreach(tools, i, tool) {
        const char *own = json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
        if (!own || !*own) {
            error_set(error, ERROR_INVALID, "tool %zu is no function with a name", i);
            return NULL;
        }
        found |= name && strcmp(own, name) == 0;
    }
    if (!found) {
        error_set(error, ERROR_INVALID,
                  name ? "there is no tool '%.80s' to call" : "there are no tools to call", name);
        return NULL;
    }
    return constraint_build(NULL, forced_nodes, &forced, error);
}
