/* Strings that remember, byte by byte, whether they came from the conversation: making, cutting, joining
 * them, and Unicode as Python has it. NULL or false: the run's error is set. */
#pragma once
#include "base/arena.h"
#include "chat/value.h"

/* A string that lives elsewhere, valid UTF-8, for as long as the run. */
const struct jinja_text *jinja_text_view(struct jinja_run *run, const char *bytes, size_t length,
                                         bool from_input);
/* The same as a part of a template; NULL when out of memory. Immutable: any thread. */
const struct jinja_text *jinja_text_constant(struct arena *arena, const char *bytes, size_t length);
/* One of the template's own: a literal of this program. */
const struct jinja_text *jinja_text_literal(struct jinja_run *run, const char *text);
/* Bytes [start, start + length) of a string, which are whole characters. */
const struct jinja_text *jinja_text_cut(struct jinja_run *run, const struct jinja_text *text, size_t start,
                                        size_t length);
const struct jinja_text *jinja_text_join(struct jinja_run *run, const struct jinja_text *a,
                                         const struct jinja_text *b);
/* Is byte `at` from the conversation? */
bool jinja_text_mark(const struct jinja_text *text, size_t at);
/* The same string, with or without the flag. */
const struct jinja_text *jinja_text_with_markup(struct jinja_run *run, const struct jinja_text *text,
                                                bool markup);
/* Characters for HTML. */
const struct jinja_text *jinja_text_escape(struct jinja_run *run, const struct jinja_text *text);

/* Where character `index` starts, in bytes; the length for those behind the end. */
size_t jinja_text_offset(const struct jinja_text *text, size_t index);
/* Characters among the first `offset` bytes. */
size_t jinja_text_index(const struct jinja_text *text, size_t offset);
/* The bytes of `needle` in [start, end); SIZE_MAX where they are not. */
size_t jinja_text_find(const struct jinja_text *text, size_t start, size_t end,
                       const struct jinja_text *needle);
size_t jinja_text_find_last(const struct jinja_text *text, size_t start, size_t end,
                            const struct jinja_text *needle);

bool jinja_text_equal(const struct jinja_text *a, const struct jinja_text *b);
bool jinja_text_is(const struct jinja_text *text, const char *literal);

/* A string that grows. Zeroed, with the run set, it is empty. */
struct jinja_builder {
    struct jinja_run *run;
    struct jinja_store *store;
    size_t limit; /* bytes; 0: only memory is */
};

bool jinja_build_bytes(struct jinja_builder *builder, const char *bytes, size_t length, bool from_input);
bool jinja_build_literal(struct jinja_builder *builder, const char *text);
bool jinja_build_text(struct jinja_builder *builder, const struct jinja_text *text);
bool jinja_build_part(struct jinja_builder *builder, const struct jinja_text *text, size_t start,
                      size_t length);
bool jinja_build_repeat(struct jinja_builder *builder, const struct jinja_text *text, size_t times);
bool jinja_build_character(struct jinja_builder *builder, uint32_t character, bool from_input);
/* The string so far; the builder may go on. */
const struct jinja_text *jinja_build_end(struct jinja_builder *builder);

/* The character at *at, which moves behind it; at < end, and the bytes are valid UTF-8. */
uint32_t jinja_utf8_next(const char **at);
size_t jinja_utf8_count(const char *bytes, size_t length);
/* Whether all of it is UTF-8 as RFC 3629 has it. */
bool jinja_utf8_valid(const char *bytes, size_t length);
/* Writes at most 4 bytes; returns how many. */
size_t jinja_utf8_write(uint32_t character, char *ret);
/* str.isspace() of one character */
bool jinja_is_space(uint32_t character);
/* One character in another case, as 1 to 3 characters; returns how many. */
size_t jinja_upper(uint32_t character, uint32_t ret[3]);
size_t jinja_lower(uint32_t character, uint32_t ret[3]);
size_t jinja_title(uint32_t character, uint32_t ret[3]);
bool jinja_is_upper(uint32_t character);
bool jinja_is_lower(uint32_t character);
/* The bytes of white space at the start and at the end. */
size_t jinja_space_before(const char *bytes, size_t length);
size_t jinja_space_behind(const char *bytes, size_t length);
