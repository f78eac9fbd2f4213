#include "chat/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "chat/parse.h"
#include "chat/run.h"

struct chat_template {
    struct arena *arena;
    struct jinja_program *program;
};

struct chat_template *chat_template_create(const char *text, size_t size, struct error *error) {
    if (size > LIMIT_TEMPLATE_BYTES) {
        error_set(error, ERROR_TOO_LARGE, "the chat template is larger than %d bytes", LIMIT_TEMPLATE_BYTES);
        return NULL;
    }
    if (!jinja_utf8_valid(text, size)) {
        error_set(error, ERROR_MODEL, "the chat template is not UTF-8");
        return NULL;
    }

    struct chat_template *chat = calloc(1, sizeof *chat);
    struct arena *arena = arena_create();
    if (!chat || !arena) {
        error_set(error, ERROR_MEMORY, "out of memory");
        goto fail;
    }
    chat->arena = arena;
    if ((chat->program = jinja_parse(arena, text, size, error)))
        return chat;

fail:
    arena_free(arena);
    free(chat);
    return NULL;
}

void chat_template_free(struct chat_template *chat) {
    if (!chat)
        return;
    arena_free(chat->arena);
    free(chat);
}

/* Where the marks of the store change. */
static size_t write_segments(const struct jinja_store *store, struct chat_segment *segments) {
    size_t count = 0;
    if (!store || !store->used)
        return 0;

    for (size_t at = 0; at < store->used;) {
        bool mark = store->marks ? store->marks[at] : store->from_input;
        const uint8_t *other = store->marks ? memchr(store->marks + at, !mark, store->used - at) : NULL;
        at = other ? (size_t)(other - store->marks) : store->used;
        if (segments)
            segments[count] = (struct chat_segment){.end = at, .from_conversation = mark};
        count++;
    }
    return count;
}

static bool make_prompt(const struct jinja_store *store, struct chat_prompt *ret, struct error *error) {
    size_t count = write_segments(store, NULL), size = store ? store->used : 0;
    char *text = malloc(size + 1);
    struct chat_segment *segments = calloc(count + 1, sizeof *segments);
    if (!text || !segments) {
        free(text);
        free(segments);
        return error_set(error, ERROR_MEMORY, "out of memory");
    }

    if (size)
        memcpy(text, store->bytes, size);
    text[size] = 0;
    write_segments(store, segments);
    *ret = (struct chat_prompt){.text = text, .size = size, .segments = segments, .segment_count = count};
    return true;
}

bool chat_template_render(const struct chat_template *chat, const struct chat_variables *variables,
                          struct chat_prompt *ret, struct error *error) {
    cleanup(arena_freep) struct arena *arena = arena_create();
    if (!arena)
        return error_set(error, ERROR_MEMORY, "out of memory");

    struct jinja_run run = {
        .arena = arena,
        .line = 1,
        .error = error,
        .program = chat->program,
        .conversation = variables->conversation,
        .trusted = variables->tokens,
        .today = &variables->today,
    };
    struct jinja_builder output = {.run = &run, .limit = LIMIT_PROMPT_BYTES};
    run.output = &output;
    run.variables = jinja_allocate(&run, (size_t)chat->program->name_count, sizeof *run.variables);
    return run.variables && jinja_execute(&run, &chat->program->body, NULL) &&
           make_prompt(output.store, ret, error);
}

void chat_prompt_release(struct chat_prompt *prompt) {
    free(prompt->text);
    free(prompt->segments);
    *prompt = (struct chat_prompt){0};
}
