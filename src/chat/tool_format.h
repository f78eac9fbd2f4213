/* How models write calls of tools: found by the model's chat template. Immutable: any thread. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "chat/constraint.h"

struct tool_format {
    const char *name; /* for messages */
    const char *mark; /* what a template of this kind has in it */
    const char *open; /* before a call, or a list of calls; "": a call is the whole answer */
    const char *close;
    const char *name_end;  /* calls are NAME name_end {arguments}; NULL: {"name": NAME, KEY: {arguments}} */
    const char *arguments; /* KEY */
    bool is_list;          /* [{…}, {…}] within open and close */
};

/* NULL: the template has no calls, or writes them in a way that is not supported. */
const struct tool_format *tool_format_find(const char *chat_template, size_t size);

/* Is a control token of this text a part of how calls are written? The parser must see it then. */
bool tool_format_is_mark(const struct tool_format *format, const char *text, size_t size);

/* The answer must be calls of tools (OpenAI's list; the schemas are those of their parameters), of the one
 * with this name where `name` is not NULL; more than one call only where `several`. ERROR_INVALID names the
 * tool and the keyword of its schema that is not supported. */
struct constraint *constraint_create_tools(const struct tool_format *format, json_t *tools, const char *name,
                                           bool several, struct error *error);
