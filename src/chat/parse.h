/* A template's text -> its tree. */
#pragma once
#include "base/error.h"
#include "chat/tree.h"

/* Of at most LIMIT_TEMPLATE_BYTES. The program is the arena's. NULL with ERROR_MODEL and a message that names
 * the line, ERROR_TOO_LARGE or ERROR_MEMORY. */
struct jinja_program *jinja_parse(struct arena *arena, const char *text, size_t size, struct error *error);
