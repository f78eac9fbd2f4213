/* Chat templates: a conversation -> the prompt that a model was trained with. The language is Jinja's, as
 * Hugging Face's library renders it (sandboxed, trim_blocks, lstrip_blocks, loop controls, raise_exception,
 * strftime_now, tojson). Limits on the template, its steps, depth, memory and output are in base/limits.h.
 *
 * A template is immutable: several threads may render it at once. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/error.h"

struct chat_template;

/* From its text, UTF-8. NULL with ERROR_MODEL, naming the line, where it is not a template. */
struct chat_template *chat_template_create(const char *text, size_t size, struct error *error);
void chat_template_free(struct chat_template *chat);
DEFINE_FREEP(struct chat_template, chat_template)

/* What a template is rendered with. */
struct chat_variables {
    const json_t
        *conversation;    /* an object: messages, tools, add_generation_prompt …: what came from outside */
    const json_t *tokens; /* an object or NULL: bos_token, eos_token …: the model's own; they come first */
    struct tm today;      /* for strftime_now */
};

/* A segment: bytes from the end of the one before up to `end`. */
struct chat_segment {
    size_t end;
    bool from_conversation; /* no special token may be recognised in them */
};

struct chat_prompt {
    char *text; /* UTF-8, with a NUL behind it */
    size_t size;
    struct chat_segment *segments; /* [segment_count], alternating; the last one ends at `size` */
    size_t segment_count;
};

/* Render. ERROR_INVALID, naming the line, for what the template raises or cannot compute; ERROR_TOO_LARGE
 * over a limit. Release the prompt with chat_prompt_release. */
bool chat_template_render(const struct chat_template *chat, const struct chat_variables *variables,
                          struct chat_prompt *ret, struct error *error);
void chat_prompt_release(struct chat_prompt *prompt);
