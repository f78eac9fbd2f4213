/* Methods of strings that look for something, and the methods of lists, dicts and what else has some. */
#include <string.h>

#include "chat/builtins.h"

/* Arguments 1 and 2, start and end in characters, as bytes. */
static bool read_range(struct jinja_run *run, const struct jinja_bound *bound, size_t *start, size_t *end) {
    const struct jinja_text *text = bound->self.text;
    int64_t count = (int64_t)text->characters, from, to;
    if (!jinja_argument_int(run, bound, 1, 0, &from) || !jinja_argument_int(run, bound, 2, count, &to))
        return false;

    from = from < 0 ? from + count : from;
    to = to < 0 ? to + count : to;
    *start = from > count ? SIZE_MAX : jinja_text_offset(text, from < 0 ? 0 : (size_t)from);
    *end = jinja_text_offset(text, to < 0 ? 0 : (size_t)to);
    return jinja_step(run, 1 + text->length / 64);
}

/* Does it start (or end) with argument 0, a string or a tuple of them? */
static bool starts_or_ends(struct jinja_run *run, const struct jinja_bound *bound, bool ends,
                           struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text;
    const struct jinja_value *wanted = &bound->values[0];
    size_t start, end, count = wanted->type == JINJA_TUPLE ? wanted->list->count : 1;
    if (!read_range(run, bound, &start, &end))
        return false;

    *ret = jinja_bool(false);
    for (size_t i = 0; i < count; i++) {
        const struct jinja_value *each = wanted->type == JINJA_TUPLE ? &wanted->list->items[i] : wanted;
        if (each->type != JINJA_TEXT)
            return jinja_fail(run, "%s first arg must be str or a tuple of str, not %s",
                              ends ? "endswith" : "startswith", jinja_type_name(each));
        size_t length = each->text->length;
        if (start <= end && length <= end - start &&
            memcmp(text->bytes + (ends ? end - length : start), each->text->bytes, length) == 0)
            *ret = jinja_bool(true);
    }
    return true;
}

static bool method_startswith(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    return starts_or_ends(run, bound, false, ret);
}

static bool method_endswith(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return starts_or_ends(run, bound, true, ret);
}

static bool find(struct jinja_run *run, const struct jinja_bound *bound, bool last, bool must,
                 struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text, *needle;
    size_t start, end;
    if (!jinja_argument_text(run, bound, 0, "", &needle) || !read_range(run, bound, &start, &end))
        return false;
    if (last && !jinja_step(run, text->length / 64 * (1 + needle->length / 64)))
        return false;

    size_t found = (last ? jinja_text_find_last : jinja_text_find)(text, start, end, needle);
    if (found == SIZE_MAX && must)
        return jinja_fail(run, "substring not found");
    *ret = jinja_int(found == SIZE_MAX ? -1 : (int64_t)jinja_text_index(text, found));
    return true;
}

static bool method_find(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return find(run, bound, false, false, ret);
}

static bool method_rfind(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return find(run, bound, true, false, ret);
}

static bool method_index(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return find(run, bound, false, true, ret);
}

static bool method_rindex(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return find(run, bound, true, true, ret);
}

static bool method_count(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text, *needle;
    size_t start, end, found;
    int64_t count = 0;
    if (!jinja_argument_text(run, bound, 0, "", &needle) || !read_range(run, bound, &start, &end))
        return false;

    if (!needle->length)
        count = start <= end ? (int64_t)jinja_utf8_count(text->bytes + start, end - start) + 1 : 0;
    else
        for (; (found = jinja_text_find(text, start, end, needle)) != SIZE_MAX;
             start = found + needle->length)
            count++;
    *ret = jinja_int(count);
    return true;
}

/* What every character must be, and one at least. Letters and digits outside ASCII are not known here. */
enum character_class { CLASS_ALPHA = 1, CLASS_DIGIT = 2, CLASS_SPACE = 4 };

static bool check_characters(struct jinja_run *run, const struct jinja_bound *bound, unsigned classes,
                             struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text;
    bool all = text->length > 0;
    if (!jinja_step(run, text->length / 16))
        return false;

    for (const char *at = text->bytes, *end = at + text->length; at < end;) {
        uint32_t c = jinja_utf8_next(&at);
        if (c >= 0x80 && classes != CLASS_SPACE && !jinja_is_space(c))
            return jinja_fail(run, "whether a character outside ASCII is a letter or digit is not supported");
        bool alpha = (c | 0x20) >= 'a' && (c | 0x20) <= 'z', digit = c >= '0' && c <= '9';
        all &= (classes & CLASS_ALPHA && alpha) || (classes & CLASS_DIGIT && digit) ||
               (classes & CLASS_SPACE && jinja_is_space(c));
    }
    *ret = jinja_bool(all);
    return true;
}

static bool method_isalpha(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return check_characters(run, bound, CLASS_ALPHA, ret);
}

static bool method_isdigit(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return check_characters(run, bound, CLASS_DIGIT, ret);
}

static bool method_isalnum(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return check_characters(run, bound, CLASS_ALPHA | CLASS_DIGIT, ret);
}

static bool method_isspace(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return check_characters(run, bound, CLASS_SPACE, ret);
}

static bool method_isascii(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    *ret = jinja_bool(bound->self.text->length == bound->self.text->characters);
    return true;
}

static bool check_case(struct jinja_run *run, const struct jinja_bound *bound, bool upper,
                       struct jinja_value *ret) {
    const struct jinja_text *text = bound->self.text;
    bool any = false, other = false;
    if (!jinja_step(run, text->length))
        return false;

    for (const char *at = text->bytes, *end = at + text->length; at < end;) {
        uint32_t c = jinja_utf8_next(&at);
        any |= upper ? jinja_is_upper(c) : jinja_is_lower(c);
        other |= upper ? jinja_is_lower(c) : jinja_is_upper(c);
    }
    *ret = jinja_bool(any && !other);
    return true;
}

static bool method_isupper(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return check_case(run, bound, true, ret);
}

static bool method_islower(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return check_case(run, bound, false, ret);
}

const struct jinja_builtin jinja_text_checks[] = {
    {"count", "sub start end", 1, method_count},
    {"endswith", "suffix start end", 1, method_endswith},
    {"find", "sub start end", 1, method_find},
    {"index", "sub start end", 1, method_index},
    {"isalnum", "", 0, method_isalnum},
    {"isalpha", "", 0, method_isalpha},
    {"isascii", "", 0, method_isascii},
    {"isdecimal", "", 0, method_isdigit},
    {"isdigit", "", 0, method_isdigit},
    {"islower", "", 0, method_islower},
    {"isnumeric", "", 0, method_isdigit},
    {"isspace", "", 0, method_isspace},
    {"isupper", "", 0, method_isupper},
    {"rfind", "sub start end", 1, method_rfind},
    {"rindex", "sub start end", 1, method_rindex},
    {"startswith", "prefix start end", 1, method_startswith},
    {0},
};

static bool list_count(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    int64_t count = 0;
    for (size_t i = 0; i < bound->self.list->count; i++) {
        bool same;
        if (!jinja_equal(run, &bound->self.list->items[i], &bound->values[0], &same))
            return false;
        count += same;
    }
    *ret = jinja_int(count);
    return true;
}

static bool list_index(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    for (size_t i = 0; i < bound->self.list->count; i++) {
        bool same;
        if (!jinja_equal(run, &bound->self.list->items[i], &bound->values[0], &same))
            return false;
        if (same) {
            *ret = jinja_int((int64_t)i);
            return true;
        }
    }
    return jinja_fail(run, "the value is not in the list");
}

static bool copy_self(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    *ret = bound->self; /* nothing can change it */
    return true;
}

static const struct jinja_builtin list_methods[] = {
    {"copy", "", 0, copy_self}, {"count", "value", 1, list_count}, {"index", "value", 1, list_index}, {0}};
static const struct jinja_builtin tuple_methods[] = {
    {"count", "value", 1, list_count}, {"index", "value", 1, list_index}, {0}};

static bool dict_get(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *found;
    if (!jinja_dict_get(run, bound->self.dict, &bound->values[0], &found))
        return false;
    *ret = found ? *found : bound->given[1] ? bound->values[1] : jinja_none();
    return true;
}

static bool dict_view(struct jinja_run *run, const struct jinja_bound *bound, enum jinja_type which,
                      struct jinja_value *ret) {
    struct jinja_list *list;
    if (!jinja_dict_list(run, bound->self.dict, which, &list))
        return false;
    *ret = jinja_sequence(which, list);
    return true;
}

static bool dict_keys(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return dict_view(run, bound, JINJA_KEYS, ret);
}

static bool dict_values(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return dict_view(run, bound, JINJA_VALUES, ret);
}

static bool dict_items(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return dict_view(run, bound, JINJA_ITEMS, ret);
}

static const struct jinja_builtin dict_methods[] = {
    {"copy", "", 0, copy_self}, {"get", "key default", 1, dict_get}, {"items", "", 0, dict_items},
    {"keys", "", 0, dict_keys}, {"values", "", 0, dict_values},      {0},
};

static bool loop_cycle(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    if (!bound->all->count)
        return jinja_fail(run, "no items for cycling given");
    *ret = bound->all->values[bound->self.loop->index % bound->all->count];
    return true;
}

static bool loop_changed(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_loop *loop = bound->self.loop;
    struct jinja_list *list = jinja_list_create(run, bound->all->count);
    bool same = false;
    if (!list)
        return false;

    for (size_t i = 0; i < bound->all->count; i++)
        list->items[list->count++] = bound->all->values[i];
    const struct jinja_value now = jinja_sequence(JINJA_TUPLE, list);
    const struct jinja_value before = jinja_sequence(JINJA_TUPLE, loop->last_changed);
    if (loop->last_changed && !jinja_equal(run, &now, &before, &same))
        return false;
    loop->last_changed = list;
    *ret = jinja_bool(!same);
    return true;
}

static const struct jinja_builtin loop_methods[] = {
    {"changed", "*", 0, loop_changed}, {"cycle", "*", 0, loop_cycle}, {0}};

static bool cycler_next(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *list = bound->self.list;
    *ret = list->items[list->position % list->count];
    list->position = (list->position + 1) % list->count;
    return true;
}

static bool cycler_reset(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    bound->self.list->position = 0;
    *ret = jinja_none();
    return true;
}

static const struct jinja_builtin cycler_methods[] = {
    {"next", "", 0, cycler_next}, {"reset", "", 0, cycler_reset}, {0}};

const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *table,
                                               const struct jinja_text *name) {
    for (; table->name; table++)
        if (jinja_text_is(name, table->name))
            return table;
    return NULL;
}

const struct jinja_builtin *jinja_find_method(const struct jinja_value *value,
                                              const struct jinja_text *name) {
    const struct jinja_builtin *method;

    switch (value->type) {
    case JINJA_TEXT:
        method = jinja_find_builtin(jinja_text_methods, name);
        return method ? method : jinja_find_builtin(jinja_text_checks, name);
    case JINJA_LIST:
        return jinja_find_builtin(list_methods, name);
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return jinja_find_builtin(tuple_methods, name);
    case JINJA_DICT:
        return jinja_find_builtin(dict_methods, name);
    case JINJA_LOOP:
        return jinja_find_builtin(loop_methods, name);
    case JINJA_CYCLER:
        return jinja_find_builtin(cycler_methods, name);
    default:
        return NULL;
    }
}
