#include "chat/text.h"

#include <string.h>

#include "chat/run.h"

static const struct jinja_text *make_text(struct jinja_run *run, struct jinja_store *store, const char *bytes,
                                          size_t length, size_t characters) {
    struct jinja_text *text = jinja_allocate(run, 1, sizeof *text);
    if (text)
        *text =
            (struct jinja_text){.store = store, .bytes = bytes, .length = length, .characters = characters};
    return text;
}

const struct jinja_text *jinja_text_view(struct jinja_run *run, const char *bytes, size_t length,
                                         bool from_input) {
    struct jinja_store *store = jinja_allocate(run, 1, sizeof *store);
    if (!store || !jinja_step(run, length / 64))
        return NULL;

    *store = (struct jinja_store){.bytes = (char *)bytes,
                                  .used = length,
                                  .capacity = length,
                                  .from_input = from_input}; /* full: never written */
    return make_text(run, store, bytes, length, jinja_utf8_count(bytes, length));
}

const struct jinja_text *jinja_text_literal(struct jinja_run *run, const char *text) {
    return jinja_text_view(run, text, strlen(text), false);
}

const struct jinja_text *jinja_text_constant(struct arena *arena, const char *bytes, size_t length) {
    struct jinja_store *store = arena_allocate(arena, sizeof *store);
    struct jinja_text *text = arena_allocate(arena, sizeof *text);
    char *copy = arena_copy_string(arena, bytes, length);
    if (!store || !text || !copy)
        return NULL;

    *store = (struct jinja_store){.bytes = copy, .used = length, .capacity = length};
    *text = (struct jinja_text){
        .store = store, .bytes = copy, .length = length, .characters = jinja_utf8_count(copy, length)};
    return text;
}

const struct jinja_text *jinja_text_cut(struct jinja_run *run, const struct jinja_text *text, size_t start,
                                        size_t length) {
    if (start == 0 && length == text->length)
        return text;
    if (!jinja_step(run, length / 64))
        return NULL;

    bool ascii = text->characters == text->length;
    size_t characters = ascii ? length : jinja_utf8_count(text->bytes + start, length);
    const struct jinja_text *cut = make_text(run, text->store, text->bytes + start, length, characters);
    return cut && text->markup ? jinja_text_with_markup(run, cut, true) : cut;
}

bool jinja_text_mark(const struct jinja_text *text, size_t at) {
    const struct jinja_store *store = text->store;
    return store->marks ? store->marks[(size_t)(text->bytes - store->bytes) + at] : store->from_input;
}

const struct jinja_text *jinja_text_with_markup(struct jinja_run *run, const struct jinja_text *text,
                                                bool markup) {
    struct jinja_text *copy;
    if (text->markup == markup)
        return text;

    if ((copy = jinja_allocate(run, 1, sizeof *copy))) {
        *copy = *text;
        copy->markup = markup;
    }
    return copy;
}

const struct jinja_text *jinja_text_join(struct jinja_run *run, const struct jinja_text *a,
                                         const struct jinja_text *b) {
    struct jinja_builder builder = {.run = run};

    /* Nothing was appended behind `a` yet: so it is done there, and joining piece by piece takes linear time.
     */
    if (a->bytes + a->length == a->store->bytes + a->store->used &&
        a->store->capacity - a->store->used >= b->length) {
        builder.store = a->store;
        if (!jinja_build_text(&builder, b))
            return NULL;
        return make_text(run, a->store, a->bytes, a->length + b->length, a->characters + b->characters);
    }

    if (!jinja_build_text(&builder, a) || !jinja_build_text(&builder, b))
        return NULL;
    return jinja_build_end(&builder);
}

const struct jinja_text *jinja_text_escape(struct jinja_run *run, const struct jinja_text *text) {
    static const struct {
        char character;
        const char *escape;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    struct jinja_builder builder = {.run = run};
    size_t start = 0;

    for (size_t i = 0; i < text->length; i++)
        for (size_t e = 0; e < sizeof escapes / sizeof *escapes; e++)
            if (text->bytes[i] == escapes[e].character) {
                const char *escape = escapes[e].escape;
                if (!jinja_build_part(&builder, text, start, i - start) ||
                    !jinja_build_bytes(&builder, escape, strlen(escape), jinja_text_mark(text, i)))
                    return NULL;
                start = i + 1;
            }

    if (!jinja_build_part(&builder, text, start, text->length - start))
        return NULL;
    const struct jinja_text *escaped = jinja_build_end(&builder);
    return escaped ? jinja_text_with_markup(run, escaped, true) : NULL;
}

size_t jinja_text_offset(const struct jinja_text *text, size_t index) {
    if (index >= text->characters)
        return text->length;
    if (text->characters == text->length)
        return index;

    const char *at = text->bytes;
    while (index--)
        jinja_utf8_next(&at);
    return (size_t)(at - text->bytes);
}

size_t jinja_text_index(const struct jinja_text *text, size_t offset) {
    return text->characters == text->length ? offset : jinja_utf8_count(text->bytes, offset);
}

size_t jinja_text_find(const struct jinja_text *text, size_t start, size_t end,
                       const struct jinja_text *needle) {
    if (start > end)
        return SIZE_MAX;
    const char *found = memmem(text->bytes + start, end - start, needle->bytes, needle->length);
    return found ? (size_t)(found - text->bytes) : SIZE_MAX;
}

size_t jinja_text_find_last(const struct jinja_text *text, size_t start, size_t end,
                            const struct jinja_text *needle) {
    if (start > end || needle->length > end - start)
        return SIZE_MAX;
    for (size_t at = end - needle->length;; at--) {
        if (memcmp(text->bytes + at, needle->bytes, needle->length) == 0)
            return at;
        if (at == start)
            return SIZE_MAX;
    }
}

bool jinja_text_equal(const struct jinja_text *a, const struct jinja_text *b) {
    return a->length == b->length && (!a->length || memcmp(a->bytes, b->bytes, a->length) == 0);
}

bool jinja_text_is(const struct jinja_text *text, const char *literal) {
    return text->length == strlen(literal) && memcmp(text->bytes, literal, text->length) == 0;
}

/* Room for `length` bytes more. What was built so far may move; strings that end in it stay where they are.
 */
static bool builder_reserve(struct jinja_builder *builder, size_t length) {
    struct jinja_store *old = builder->store;
    size_t used = old ? old->used : 0;
    if (old && old->capacity - used >= length)
        return true;

    size_t capacity = 2 * used > used + length ? 2 * used : used + length;
    struct jinja_store *store = jinja_allocate(builder->run, 1, sizeof *store);
    if (!store || !(store->bytes = jinja_allocate(builder->run, capacity, 1)))
        return false;
    if (old && old->marks && !(store->marks = jinja_allocate(builder->run, capacity, 1)))
        return false;

    if (used) {
        memcpy(store->bytes, old->bytes, used);
        if (old->marks)
            memcpy(store->marks, old->marks, used);
        store->from_input = old->from_input;
    }
    store->used = used;
    store->capacity = capacity;
    builder->store = store;
    return true;
}

/* A mark of its own for each byte, once they differ. */
static bool store_needs_marks(struct jinja_builder *builder, bool from_input) {
    struct jinja_store *store = builder->store;
    if (!store->used)
        store->from_input = from_input;
    if (store->marks || store->from_input == from_input)
        return true;

    uint8_t *marks = jinja_allocate(builder->run, store->capacity, 1);
    if (!marks)
        return false;
    memset(marks, store->from_input, store->used);
    store->marks = marks;
    return true;
}

bool jinja_build_bytes(struct jinja_builder *builder, const char *bytes, size_t length, bool from_input) {
    if (!length)
        return true;
    if (builder->limit && (builder->store ? builder->store->used : 0) + length > builder->limit)
        return jinja_fail_large(builder->run, "the prompt is longer than %zu bytes", builder->limit);
    if (!jinja_step(builder->run, length / 64) || !builder_reserve(builder, length) ||
        !store_needs_marks(builder, from_input))
        return false;

    struct jinja_store *store = builder->store;
    memcpy(store->bytes + store->used, bytes, length);
    if (store->marks)
        memset(store->marks + store->used, from_input, length);
    store->used += length;
    return true;
}

bool jinja_build_literal(struct jinja_builder *builder, const char *text) {
    return jinja_build_bytes(builder, text, strlen(text), false);
}

bool jinja_build_part(struct jinja_builder *builder, const struct jinja_text *text, size_t start,
                      size_t length) {
    const struct jinja_store *store = text->store;
    if (!store->marks)
        return jinja_build_bytes(builder, text->bytes + start, length, store->from_input);

    const uint8_t *marks = store->marks + (text->bytes - store->bytes) + start;
    for (size_t done = 0, run; done < length; done += run) {
        const uint8_t *other = memchr(marks + done, !marks[done], length - done);
        run = other ? (size_t)(other - marks) - done : length - done;
        if (!jinja_build_bytes(builder, text->bytes + start + done, run, marks[done]))
            return false;
    }
    return true;
}

bool jinja_build_text(struct jinja_builder *builder, const struct jinja_text *text) {
    return jinja_build_part(builder, text, 0, text->length);
}

bool jinja_build_repeat(struct jinja_builder *builder, const struct jinja_text *text, size_t times) {
    for (size_t i = 0; i < times && text->length; i++)
        if (!jinja_step(builder->run, 1) || !jinja_build_text(builder, text))
            return false;
    return true;
}

bool jinja_build_character(struct jinja_builder *builder, uint32_t character, bool from_input) {
    char bytes[4];
    return jinja_build_bytes(builder, bytes, jinja_utf8_write(character, bytes), from_input);
}

const struct jinja_text *jinja_build_end(struct jinja_builder *builder) {
    const struct jinja_store *store = builder->store;
    if (!store)
        return jinja_text_literal(builder->run, "");
    if (!jinja_step(builder->run, store->used / 64))
        return NULL;
    return make_text(builder->run, builder->store, store->bytes, store->used,
                     jinja_utf8_count(store->bytes, store->used));
}
