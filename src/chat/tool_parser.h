/* Calls of tools in what a model writes, found as it is written. One thread at a time. */
#pragma once
#include <stddef.h>

#include "chat/tool_format.h"

/* What is found, in order; a call's arguments come in pieces that make one text, JSON unless the model erred.
 */
struct tool_events {
    void *data;
    void (*text)(void *data, const char *text, size_t size); /* that belongs to no call */
    void (*call)(void *data, size_t index, const char *name);
    void (*arguments)(void *data, size_t index, const char *text, size_t size);
};

struct tool_parser;

/* `format` outlives the parser. NULL: no memory. */
struct tool_parser *tool_parser_create(const struct tool_format *format, const struct tool_events *events);
void tool_parser_free(struct tool_parser *parser);

/* The text goes on. What may be the beginning of a call is held back until it is known. False when memory is
 * out, or a call's head is longer than LIMIT_TOOL_HEAD. */
bool tool_parser_feed(struct tool_parser *parser, const char *text, size_t size);
/* The text has ended: what was held back is text, after all. */
bool tool_parser_finish(struct tool_parser *parser);
/* Calls so far. */
size_t tool_parser_calls(const struct tool_parser *parser);
