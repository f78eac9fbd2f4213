/* Functions that templates find without anybody giving them. */
#include <string.h>
#include <time.h>

#include "chat/builtins.h"

#define MOST_RANGE 100000 /* Jinja's sandbox has the same */
#define MOST_DATE_BYTES 4096

static bool global_range(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_given *all = bound->all;
    int64_t bounds[3] = {0, 0, 1};
    if (all->count < 1 || all->count > 3 || all->keywords)
        return jinja_fail(run, "range expected 1 to 3 arguments, got %zu", all->count);
    for (size_t i = 0; i < all->count; i++) {
        const struct jinja_value *value = &all->values[i];
        if (value->type == JINJA_UNDEFINED)
            return jinja_fail_undefined(run, value);
        if (!jinja_is_whole(value))
            return jinja_fail(run, "'%s' object cannot be interpreted as an integer", jinja_type_name(value));
        bounds[all->count == 1 ? 1 : i] = jinja_whole(value);
    }
    if (bounds[2] == 0)
        return jinja_fail(run, "range() arg 3 must not be zero");

    bool up = bounds[2] > 0;
    __int128 distance = up ? (__int128)bounds[1] - bounds[0] : (__int128)bounds[0] - bounds[1];
    __int128 stride = up ? bounds[2] : -(__int128)bounds[2],
             count = distance > 0 ? (distance - 1) / stride + 1 : 0;
    if (count > MOST_RANGE)
        return jinja_fail(run, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                          MOST_RANGE);
    struct jinja_list *list = jinja_list_create(run, (size_t)count + 3);
    if (!list || !jinja_step(run, (size_t)count))
        return false;
    for (int64_t i = 0; i < (int64_t)count; i++)
        list->items[list->count++] = jinja_int(bounds[0] + i * bounds[2]);
    for (size_t i = 0; i < 3; i++)
        list->items[list->count + i] = jinja_int(bounds[i]);
    *ret = jinja_sequence(JINJA_RANGE, list);
    return true;
}

/* dict(mapping or pairs, **entries) */
static bool make_dict(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_dict **ret) {
    const struct jinja_given *all = bound->all;
    struct jinja_dict *dict = jinja_dict_create(run, all->keywords ? all->keywords->count : 0);
    struct jinja_list *pairs = NULL, *pair;
    if (!dict)
        return false;
    if (all->count > 1)
        return jinja_fail(run, "dict expected at most 1 argument, got %zu", all->count);
    if (all->count == 1 && all->values[0].type == JINJA_DICT) {
        if (!jinja_dict_list(run, all->values[0].dict, JINJA_ITEMS, &pairs))
            return false;
    } else if (all->count == 1 && !jinja_iterate(run, &all->values[0], &pairs)) {
        return false;
    }

    for (size_t i = 0; pairs && i < pairs->count; i++) {
        if (!jinja_iterate(run, &pairs->items[i], &pair))
            return false;
        if (pair->count != 2)
            return jinja_fail(run, "dictionary update sequence element #%zu has length %zu; 2 is required", i,
                              pair->count);
        if (!jinja_dict_set(run, dict, &pair->items[0], &pair->items[1]))
            return false;
    }
    for (size_t i = 0; all->keywords && i < all->keywords->count; i++)
        if (!jinja_dict_set(run, dict, &all->keywords->entries[i].key, &all->keywords->entries[i].value))
            return false;
    *ret = dict;
    return true;
}

static bool global_dict(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_dict *dict;
    if (!make_dict(run, bound, &dict))
        return false;
    *ret = (struct jinja_value){.type = JINJA_DICT, .dict = dict};
    return true;
}

static bool global_namespace(struct jinja_run *run, const struct jinja_bound *bound,
                             struct jinja_value *ret) {
    struct jinja_dict *dict;
    if (!make_dict(run, bound, &dict))
        return false;
    *ret = (struct jinja_value){.type = JINJA_NAMESPACE, .dict = dict};
    return true;
}

static bool global_cycler(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *list = jinja_list_create(run, bound->all->count);
    if (!list)
        return false;
    if (!bound->all->count)
        return jinja_fail(run, "at least one item has to be provided");

    for (size_t i = 0; i < bound->all->count; i++)
        list->items[list->count++] = bound->all->values[i];
    *ret = jinja_sequence(JINJA_CYCLER, list);
    return true;
}

static bool global_joiner(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *list = jinja_list_create(run, 1);
    const struct jinja_text *separator;
    if (!list || !jinja_argument_text(run, bound, 0, ", ", &separator))
        return false;

    list->items[list->count++] = jinja_string(separator);
    *ret = jinja_sequence(JINJA_JOINER, list);
    return true;
}

static bool global_raise(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *message;
    if (!jinja_to_text(run, &bound->values[0], &message))
        return false;
    return jinja_fail(run, "%.*s", (int)(message->length < 400 ? message->length : 400), message->bytes);
}

/* strftime, of the day that the run was given. */
static bool global_strftime_now(struct jinja_run *run, const struct jinja_bound *bound,
                                struct jinja_value *ret) {
    const struct jinja_text *text;
    char format[256], date[MOST_DATE_BYTES];
    if (!jinja_argument_text(run, bound, 0, "", &text))
        return false;
    if (text->length > sizeof format - 2 || memchr(text->bytes, 0, text->length))
        return jinja_fail(run, "strftime_now: the format is longer than %zu bytes", sizeof format - 2);

    format[0] = '.'; /* so that an empty date is not an error */
    memcpy(format + 1, text->bytes, text->length);
    format[1 + text->length] = 0;
    size_t length = strftime(date, sizeof date, format, run->today);
    if (!length)
        return jinja_fail(run, "strftime_now: the date is longer than %d bytes", MOST_DATE_BYTES);
    if (!jinja_utf8_valid(date + 1, length - 1))
        return jinja_fail(run, "strftime_now: the date is not UTF-8");

    struct jinja_builder builder = {.run = run};
    const struct jinja_text *made = NULL;
    if (jinja_build_bytes(&builder, date + 1, length - 1, false))
        made = jinja_build_end(&builder);
    if (made)
        *ret = jinja_string(made);
    return made != NULL;
}

const struct jinja_builtin jinja_globals[] = {
    {"cycler", "*", 0, global_cycler},
    {"dict", "*", 0, global_dict},
    {"joiner", "sep", 0, global_joiner},
    {"namespace", "*", 0, global_namespace},
    {"raise_exception", "message", 1, global_raise},
    {"range", "*", 0, global_range},
    {"strftime_now", "format", 1, global_strftime_now},
    {0},
};

const struct jinja_builtin *jinja_find_global(const struct jinja_text *name) {
    return jinja_find_builtin(jinja_globals, name);
}
