/* Methods of strings that make strings, numbers or lists. */
#include <string.h>

#include "chat/builtins.h"

static bool give_text(const struct jinja_text *text, struct jinja_value *ret) {
    if (text)
        *ret = jinja_string(text);
    return text != NULL;
}

/* Is a letter the next one before (or behind) byte `at`? Apostrophes and the like are passed over. */
static bool letter_beside(const struct jinja_text *text, size_t at, bool before) {
    const char *c = text->bytes + at, *end = text->bytes + text->length;
    if (!before)
        jinja_utf8_next(&c);

    while (before ? c > text->bytes : c < end) {
        if (before)
            do
                c--;
            while (((unsigned char)*c & 0xc0) == 0x80);
        const char *next = c;
        uint32_t character = jinja_utf8_next(&next);
        if (jinja_is_upper(character) || jinja_is_lower(character))
            return true;
        if (!(character < 0x80 && character && strchr("'.:^`", (int)character)) && character != 0xb7 &&
            character != 0x2019 && character != 0xad && !(character >= 0x300 && character < 0x370))
            return false;
        if (!before)
            c = next;
    }
    return false;
}

bool jinja_change_case(struct jinja_run *run, const struct jinja_text *text, enum jinja_case to,
                       const struct jinja_text **ret) {
    struct jinja_builder builder = {.run = run};
    const char *at = text->bytes, *end = at + text->length;
    bool within = false; /* a word */

    while (at < end) {
        size_t start = (size_t)(at - text->bytes);
        uint32_t c = jinja_utf8_next(&at), changed[3];
        bool cased = jinja_is_upper(c) || jinja_is_lower(c);
        size_t count = to == JINJA_UPPER || (to == JINJA_SWAP && jinja_is_lower(c)) ? jinja_upper(c, changed)
                       : to == JINJA_LOWER || to == JINJA_SWAP                      ? jinja_lower(c, changed)
                       : within || (to == JINJA_CAPITALIZE && start > 0)            ? jinja_lower(c, changed)
                                                                                    : jinja_title(c, changed);
        if (c == 0x3a3 && changed[0] == 0x3c3 && letter_beside(text, start, true) &&
            !letter_beside(text, start, false))
            changed[0] = 0x3c2; /* a sigma that ends a word */
        within = to == JINJA_TITLE && cased;
        if (!jinja_step(run, 1))
            return false;
        for (size_t i = 0; i < count; i++)
            if (!jinja_build_character(&builder, changed[i], jinja_text_mark(text, start)))
                return false;
    }

    *ret = jinja_build_end(&builder);
    if (*ret && text->markup)
        *ret = jinja_text_with_markup(run, *ret, true);
    return *ret != NULL;
}

static bool method_case(struct jinja_run *run, const struct jinja_bound *bound, enum jinja_case to,
                        struct jinja_value *ret) {
    const struct jinja_text *text;
    return jinja_change_case(run, bound->self.text, to, &text) && give_text(text, ret);
}

static bool method_upper(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_case(run, bound, JINJA_UPPER, ret);
}

static bool method_lower(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_case(run, bound, JINJA_LOWER, ret);
}

static bool method_capitalize(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    return method_case(run, bound, JINJA_CAPITALIZE, ret);
}

static bool method_title(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_case(run, bound, JINJA_TITLE, ret);
}

static bool method_swapcase(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_case(run, bound, JINJA_SWAP, ret);
}

/* Is the character, `length` bytes at `at`, one of them? */
static bool is_among(const char *at, size_t length, const struct jinja_text *characters) {
    if (!characters) {
        const char *copy = at;
        return jinja_is_space(jinja_utf8_next(&copy));
    }
    return memmem(characters->bytes, characters->length, at, length) != NULL; /* UTF-8 has no false matches */
}

bool jinja_strip(struct jinja_run *run, const struct jinja_text *text, const struct jinja_text *characters,
                 bool left, bool right, const struct jinja_text **ret) {
    const char *start = text->bytes, *end = start + text->length;
    size_t work = characters ? characters->length / 16 + 1 : 1;

    while (left && start < end) {
        const char *next = start;
        jinja_utf8_next(&next);
        if (!is_among(start, (size_t)(next - start), characters))
            break;
        start = next;
        if (characters && !jinja_step(run, work))
            return false;
    }
    while (right && start < end) {
        const char *last = end - 1;
        while (((unsigned char)*last & 0xc0) == 0x80)
            last--;
        if (!is_among(last, (size_t)(end - last), characters))
            break;
        end = last;
        if (characters && !jinja_step(run, work))
            return false;
    }

    *ret = jinja_text_cut(run, text, (size_t)(start - text->bytes), (size_t)(end - start));
    return *ret != NULL;
}

static bool method_strip_sides(struct jinja_run *run, const struct jinja_bound *bound, bool left, bool right,
                               struct jinja_value *ret) {
    const struct jinja_text *characters, *text;
    return jinja_argument_text(run, bound, 0, NULL, &characters) &&
           jinja_strip(run, bound->self.text, characters, left, right, &text) && give_text(text, ret);
}

static bool method_strip(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_strip_sides(run, bound, true, true, ret);
}

static bool method_lstrip(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_strip_sides(run, bound, true, false, ret);
}

static bool method_rstrip(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return method_strip_sides(run, bound, false, true, ret);
}

bool jinja_replace(struct jinja_run *run, const struct jinja_text *text, const struct jinja_text *old,
                   const struct jinja_text *fresh, int64_t most, const struct jinja_text **ret) {
    struct jinja_builder builder = {.run = run};
    size_t done = 0, at = 0;
    if (!jinja_step(run, text->length / 64))
        return false;

    for (int64_t count = 0; most < 0 || count < most; count++) {
        size_t found = jinja_text_find(text, at, text->length, old);
        if (found == SIZE_MAX)
            break;
        if (!jinja_step(run, 1) || !jinja_build_part(&builder, text, done, found - done) ||
            !jinja_build_text(&builder, fresh))
            return false;
        done = found + old->length;
        at = done;
        if (!old->length) { /* between all characters */
            if (at == text->length)
                break;
            const char *next = text->bytes + at;
            jinja_utf8_next(&next);
            at = (size_t)(next - text->bytes);
        }
    }

    *ret = jinja_build_part(&builder, text, done, text->length - done) ? jinja_build_end(&builder) : NULL;
    if (*ret && text->markup)
        *ret = jinja_text_with_markup(run, *ret, true);
    return *ret != NULL;
}

static bool method_replace(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *old, *fresh, *text;
    int64_t most;
    if (!jinja_argument_text(run, bound, 0, NULL, &old) ||
        !jinja_argument_text(run, bound, 1, NULL, &fresh) || !jinja_argument_int(run, bound, 2, -1, &most))
        return false;
    if (!old || !fresh)
        return jinja_fail(run, "replace() argument must be str, not None");
    return jinja_replace(run, bound->self.text, old, fresh, most, &text) && give_text(text, ret);
}

static bool append_cut(struct jinja_run *run, struct jinja_list *list, const struct jinja_text *text,
                       size_t start, size_t end) {
    const struct jinja_text *cut = jinja_text_cut(run, text, start, end - start);
    return cut && jinja_step(run, 1) && jinja_list_append(run, list, jinja_string(cut));
}

/* str.split() at runs of white space. */
static bool split_words(struct jinja_run *run, const struct jinja_text *text, int64_t most,
                        struct jinja_list *list) {
    size_t at = jinja_space_before(text->bytes, text->length);

    while (at < text->length) {
        size_t end = at;
        const char *next = text->bytes + at;
        while (end < text->length && !jinja_is_space(jinja_utf8_next(&next)))
            end = (size_t)(next - text->bytes);
        if (most >= 0 && (int64_t)list->count >= most)
            end = text->length;
        if (!append_cut(run, list, text, at, end))
            return false;
        at = end + jinja_space_before(text->bytes + end, text->length - end);
    }
    return jinja_step(run, text->length / 16);
}

static bool split_at(struct jinja_run *run, const struct jinja_text *text, const struct jinja_text *separator,
                     int64_t most, struct jinja_list *list) {
    size_t at = 0, found;

    while ((most < 0 || (int64_t)list->count < most) &&
           (found = jinja_text_find(text, at, text->length, separator)) != SIZE_MAX) {
        if (!append_cut(run, list, text, at, found))
            return false;
        at = found + separator->length;
    }
    return append_cut(run, list, text, at, text->length) && jinja_step(run, text->length / 64);
}

static void reverse_list(struct jinja_list *list) {
    for (size_t i = 0, j = list->count; i + 1 < j; i++) {
        struct jinja_value item = list->items[i];
        list->items[i] = list->items[--j];
        list->items[j] = item;
    }
}

static bool split_words_from_end(struct jinja_run *run, const struct jinja_text *text, int64_t most,
                                 struct jinja_list *list) {
    size_t end = text->length - jinja_space_behind(text->bytes, text->length);

    while (end) {
        size_t start = end;
        while (start) {
            size_t last = start - 1;
            while (((unsigned char)text->bytes[last] & 0xc0) == 0x80)
                last--;
            const char *character = text->bytes + last;
            if (jinja_is_space(jinja_utf8_next(&character)))
                break;
            start = last;
        }
        if (most >= 0 && (int64_t)list->count >= most)
            start = 0;
        if (!append_cut(run, list, text, start, end))
            return false;
        end = start - jinja_space_behind(text->bytes, start);
    }
    reverse_list(list);
    return jinja_step(run, text->length / 16);
}

static size_t find_last(struct jinja_run *run, const struct jinja_text *text, size_t start, size_t end,
                        const struct jinja_text *needle, bool *done) {
    size_t range = end > start ? end - start : 0;
    *done = jinja_step(run, 1 + range / 64 * (1 + needle->length / 64));
    return *done ? jinja_text_find_last(text, start, end, needle) : SIZE_MAX;
}

static bool split_from_end(struct jinja_run *run, const struct jinja_text *text,
                           const struct jinja_text *separator, int64_t most, struct jinja_list *list) {
    size_t end = text->length, found;
    bool done = true;

    while ((most < 0 || (int64_t)list->count < most) &&
           (found = jinja_text_find_last(text, 0, end, separator)) != SIZE_MAX) {
        if (!append_cut(run, list, text, found + separator->length, end))
            return false;
        end = found;
    }
    (void)find_last(run, text, 0, text->length, separator, &done); /* its work, once for the whole string */
    if (!done || !append_cut(run, list, text, 0, end))
        return false;
    reverse_list(list);
    return true;
}

static bool split(struct jinja_run *run, const struct jinja_bound *bound, bool from_end,
                  struct jinja_value *ret) {
    const struct jinja_text *separator;
    struct jinja_list *list = jinja_list_create(run, 0);
    int64_t most;
    if (!list || !jinja_argument_text(run, bound, 0, NULL, &separator) ||
        !jinja_argument_int(run, bound, 1, -1, &most))
        return false;
    if (separator && !separator->length)
        return jinja_fail(run, "empty separator");

    const struct jinja_text *text = bound->self.text;
    bool done = !separator ? (from_end ? split_words_from_end : split_words)(run, text, most, list)
                           : (from_end ? split_from_end : split_at)(run, text, separator, most, list);
    *ret = jinja_sequence(JINJA_LIST, list);
    return done;
}

static bool method_split(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return split(run, bound, false, ret);
}

static bool method_rsplit(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return split(run, bound, true, ret);
}

static bool is_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool jinja_split_lines(struct jinja_run *run, const struct jinja_text *text, bool keep_ends,
                       struct jinja_list **ret) {
    struct jinja_list *list = jinja_list_create(run, 0);
    const char *at = text->bytes, *end = at + text->length, *start = at;
    if (!list || !jinja_step(run, text->length / 16))
        return false;

    while (at < end) {
        const char *character = at;
        uint32_t c = jinja_utf8_next(&at);
        if (!is_line_end(c))
            continue;
        if (c == '\r' && at < end && *at == '\n')
            at++;
        if (!append_cut(run, list, text, (size_t)(start - text->bytes),
                        (size_t)((keep_ends ? at : character) - text->bytes)))
            return false;
        start = at;
    }
    if (start < end && !append_cut(run, list, text, (size_t)(start - text->bytes), text->length))
        return false;

    *ret = list;
    return true;
}

static bool method_splitlines(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    struct jinja_list *list;
    if (!jinja_split_lines(run, bound->self.text, jinja_argument_truth(bound, 0), &list))
        return false;
    *ret = jinja_sequence(JINJA_LIST, list);
    return true;
}

bool jinja_join(struct jinja_run *run, const struct jinja_text *separator, const struct jinja_list *items,
                bool convert, const struct jinja_text **ret) {
    struct jinja_builder builder = {.run = run};

    for (size_t i = 0; i < items->count; i++) {
        const struct jinja_value *item = &items->items[i];
        if (!convert && item->type != JINJA_TEXT)
            return jinja_fail(run, "sequence item %zu: expected str instance, %s found", i,
                              jinja_type_name(item));
        if (!jinja_step(run, 1) || (i && !jinja_build_text(&builder, separator)) ||
            !jinja_write_text(&builder, item))
            return false;
    }
    return (*ret = jinja_build_end(&builder)) != NULL;
}

static bool method_join(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text;
    struct jinja_list *items;
    return jinja_iterate(run, &bound->values[0], &items) &&
           jinja_join(run, bound->self.text, items, false, &text) && give_text(text, ret);
}

/* Three parts around the first or last place of the separator. */
static bool part(struct jinja_run *run, const struct jinja_bound *bound, bool last, struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text, *separator;
    struct jinja_list *list = jinja_list_create(run, 3);
    bool done = true;
    if (!list || !jinja_argument_text(run, bound, 0, "", &separator))
        return false;
    if (!separator->length)
        return jinja_fail(run, "empty separator");

    size_t found = last ? find_last(run, text, 0, text->length, separator, &done)
                        : jinja_text_find(text, 0, text->length, separator);
    size_t stop = found == SIZE_MAX ? 0 : found + separator->length;
    if (found == SIZE_MAX)
        found = stop = last ? 0 : text->length;
    if (!done || !jinja_step(run, text->length / 64) || !append_cut(run, list, text, 0, found) ||
        !append_cut(run, list, text, found, stop) || !append_cut(run, list, text, stop, text->length))
        return false;
    *ret = jinja_sequence(JINJA_TUPLE, list);
    return true;
}

static bool method_partition(struct jinja_run *run, const struct jinja_bound *bound,
                             struct jinja_value *ret) {
    return part(run, bound, false, ret);
}

static bool method_rpartition(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    return part(run, bound, true, ret);
}

static bool remove_end(struct jinja_run *run, const struct jinja_bound *bound, bool suffix,
                       struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text, *end;
    if (!jinja_argument_text(run, bound, 0, "", &end))
        return false;

    size_t left = text->length - end->length;
    bool there = end->length <= text->length &&
                 memcmp(text->bytes + (suffix ? left : 0), end->bytes, end->length) == 0;
    return give_text(there ? jinja_text_cut(run, text, suffix ? 0 : end->length, left) : text, ret);
}

static bool method_removeprefix(struct jinja_run *run, const struct jinja_bound *bound,
                                struct jinja_value *ret) {
    return remove_end(run, bound, false, ret);
}

static bool method_removesuffix(struct jinja_run *run, const struct jinja_bound *bound,
                                struct jinja_value *ret) {
    return remove_end(run, bound, true, ret);
}

/* Filled up to a width; `before` of `missing` characters in front. */
static bool fill(struct jinja_run *run, const struct jinja_bound *bound, char align,
                 struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text, *filler;
    struct jinja_builder builder = {.run = run};
    int64_t width;
    if (!jinja_argument_int(run, bound, 0, 0, &width) || !jinja_argument_text(run, bound, 1, " ", &filler))
        return false;
    if (filler->characters != 1)
        return jinja_fail(run, "The fill character must be exactly one character long");

    size_t missing = width > (int64_t)text->characters ? (size_t)width - text->characters : 0;
    /* Python gives the odd one to the left where the width is odd, too. */
    size_t before = align == '<' ? 0 : align == '>' ? missing : missing / 2 + (missing & (size_t)width & 1);
    if (!jinja_build_repeat(&builder, filler, before) || !jinja_build_text(&builder, text) ||
        !jinja_build_repeat(&builder, filler, missing - before))
        return false;
    return give_text(jinja_build_end(&builder), ret);
}

static bool method_center(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return fill(run, bound, '^', ret);
}

static bool method_ljust(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return fill(run, bound, '<', ret);
}

static bool method_rjust(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return fill(run, bound, '>', ret);
}

static bool method_zfill(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text, *zero = jinja_text_literal(run, "0");
    struct jinja_builder builder = {.run = run};
    int64_t width;
    if (!zero || !jinja_argument_int(run, bound, 0, 0, &width))
        return false;

    size_t missing = width > (int64_t)text->characters ? (size_t)width - text->characters : 0;
    size_t sign = text->length && (*text->bytes == '-' || *text->bytes == '+');
    if (!jinja_build_part(&builder, text, 0, sign) || !jinja_build_repeat(&builder, zero, missing) ||
        !jinja_build_part(&builder, text, sign, text->length - sign))
        return false;
    return give_text(jinja_build_end(&builder), ret);
}

static bool method_format(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return jinja_format_braces(run, bound->self.text, bound->all, ret);
}

const struct jinja_builtin jinja_text_methods[] = {
    {"capitalize", "", 0, method_capitalize},
    {"center", "width fillchar", 1, method_center},
    {"format", "*", 0, method_format},
    {"join", "iterable", 1, method_join},
    {"ljust", "width fillchar", 1, method_ljust},
    {"lower", "", 0, method_lower},
    {"lstrip", "chars", 0, method_lstrip},
    {"partition", "sep", 1, method_partition},
    {"removeprefix", "prefix", 1, method_removeprefix},
    {"removesuffix", "suffix", 1, method_removesuffix},
    {"replace", "old new count", 2, method_replace},
    {"rjust", "width fillchar", 1, method_rjust},
    {"rpartition", "sep", 1, method_rpartition},
    {"rsplit", "sep maxsplit", 0, method_rsplit},
    {"rstrip", "chars", 0, method_rstrip},
    {"split", "sep maxsplit", 0, method_split},
    {"splitlines", "keepends", 0, method_splitlines},
    {"strip", "chars", 0, method_strip},
    {"swapcase", "", 0, method_swapcase},
    {"title", "", 0, method_title},
    {"upper", "", 0, method_upper},
    {"zfill", "width", 1, method_zfill},
    {0},
};
