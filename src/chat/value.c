#include "chat/value.h"

#include <math.h>
#include <string.h>

#include "chat/run.h"

const char *jinja_type_name(const struct jinja_value *value) {
    static const char *const names[] = {
        [JINJA_UNDEFINED] = "Undefined", [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",           [JINJA_INT] = "int",
        [JINJA_FLOAT] = "float",         [JINJA_TEXT] = "str",
        [JINJA_LIST] = "list",           [JINJA_TUPLE] = "tuple",
        [JINJA_RANGE] = "range",         [JINJA_KEYS] = "dict_keys",
        [JINJA_VALUES] = "dict_values",  [JINJA_ITEMS] = "dict_items",
        [JINJA_ITERATOR] = "generator",  [JINJA_DICT] = "dict",
        [JINJA_NAMESPACE] = "Namespace", [JINJA_FUNCTION] = "function",
        [JINJA_MACRO] = "Macro",         [JINJA_LOOP] = "LoopContext",
        [JINJA_CYCLER] = "Cycler",       [JINJA_JOINER] = "Joiner",
    };
    return names[value->type];
}

bool jinja_truth(const struct jinja_value *value) {
    switch (value->type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
    case JINJA_INT:
        return jinja_whole(value) != 0;
    case JINJA_FLOAT:
        return value->real != 0;
    case JINJA_TEXT:
        return value->text->length > 0;
    case JINJA_DICT:
        return value->dict->count > 0;
    case JINJA_LOOP:
        return value->loop->items->count > 0;
    default:
        return !jinja_is_sequence(value) || value->list->count > 0;
    }
}

/* Whole and broken numbers, exactly. */
static int compare_numbers(const struct jinja_value *a, const struct jinja_value *b) {
    if (jinja_is_whole(a) && jinja_is_whole(b))
        return (jinja_whole(a) > jinja_whole(b)) - (jinja_whole(a) < jinja_whole(b));
    long double x = jinja_is_whole(a) ? (long double)jinja_whole(a) : (long double)a->real;
    long double y = jinja_is_whole(b) ? (long double)jinja_whole(b) : (long double)b->real;
    return (x > y) - (x < y);
}

static bool is_nan(const struct jinja_value *value) {
    return value->type == JINJA_FLOAT && isnan(value->real);
}

static bool equal_lists(struct jinja_run *run, const struct jinja_list *a, const struct jinja_list *b,
                        bool *ret) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++)
        if (!jinja_equal(run, &a->items[i], &b->items[i], &same))
            return false;

    *ret = same;
    return true;
}

static bool equal_dicts(struct jinja_run *run, const struct jinja_dict *a, const struct jinja_dict *b,
                        bool *ret) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        const struct jinja_value *other;
        if (!jinja_dict_get(run, b, &a->entries[i].key, &other))
            return false;
        same = other != NULL;
        if (same && !jinja_equal(run, &a->entries[i].value, other, &same))
            return false;
    }

    *ret = same;
    return true;
}

static bool equal_inside(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                         bool *ret) {
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *ret = !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
        return true;
    }
    if (a->type != b->type) {
        *ret = false;
        return true;
    }

    switch (a->type) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        *ret = true;
        return true;
    case JINJA_TEXT:
        *ret = jinja_text_equal(a->text, b->text);
        return jinja_step(run, a->text->length / 64);
    case JINJA_DICT:
        return equal_dicts(run, a->dict, b->dict, ret);
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_RANGE:
        return equal_lists(run, a->list, b->list, ret);
    default:
        *ret = a->list == b->list; /* the same object */
        return true;
    }
}

bool jinja_equal(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b, bool *ret) {
    if (!jinja_step(run, 1) || !jinja_enter(run))
        return false;

    bool done = equal_inside(run, a, b, ret);
    jinja_leave(run);
    return done;
}

static int compare_texts(const struct jinja_text *a, const struct jinja_text *b) {
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = shorter ? memcmp(a->bytes, b->bytes, shorter) : 0; /* UTF-8 sorts as its code points do */
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

static bool compare_lists(struct jinja_run *run, const struct jinja_list *a, const struct jinja_list *b,
                          const char *sign, int *ret) {
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool same;
        if (!jinja_equal(run, &a->items[i], &b->items[i], &same))
            return false;
        if (!same)
            return jinja_compare(run, &a->items[i], &b->items[i], sign, ret);
    }

    *ret = (a->count > b->count) - (a->count < b->count);
    return true;
}

bool jinja_compare(struct jinja_run *run, const struct jinja_value *a, const struct jinja_value *b,
                   const char *sign, int *ret) {
    if (a->type == JINJA_UNDEFINED || b->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, a->type == JINJA_UNDEFINED ? a : b);
    if (jinja_is_number(a) && jinja_is_number(b)) {
        *ret = compare_numbers(a, b);
        return jinja_step(run, 1);
    }
    if (a->type == JINJA_TEXT && b->type == JINJA_TEXT) {
        *ret = compare_texts(a->text, b->text);
        return jinja_step(run, 1 + a->text->length / 64);
    }
    if (a->type == b->type && (a->type == JINJA_LIST || a->type == JINJA_TUPLE)) {
        if (!jinja_enter(run))
            return false;
        bool done = compare_lists(run, a->list, b->list, sign, ret);
        jinja_leave(run);
        return done;
    }

    return jinja_fail(run, "'%s' not supported between instances of '%s' and '%s'", sign, jinja_type_name(a),
                      jinja_type_name(b));
}

bool jinja_contains(struct jinja_run *run, const struct jinja_value *container,
                    const struct jinja_value *item, bool *ret) {
    struct jinja_list *list;

    if (container->type == JINJA_TEXT) {
        if (item->type == JINJA_UNDEFINED)
            return jinja_fail(run, "'in <string>' requires string as left operand, not Undefined");
        if (item->type != JINJA_TEXT)
            return jinja_fail(run, "'in <string>' requires string as left operand, not %s",
                              jinja_type_name(item));
        *ret = jinja_text_find(container->text, 0, container->text->length, item->text) != SIZE_MAX;
        return jinja_step(run, 1 + container->text->length / 64);
    }
    if (container->type == JINJA_DICT) {
        const struct jinja_value *found;
        if (!jinja_dict_get(run, container->dict, item, &found))
            return false;
        *ret = found != NULL;
        return true;
    }
    if (!jinja_is_iterable(container))
        return jinja_fail(run, "argument of type '%s' is not iterable", jinja_type_name(container));
    if (!jinja_iterate(run, container, &list))
        return false;

    *ret = false;
    for (size_t i = 0; i < list->count && !*ret; i++)
        if (!jinja_equal(run, &list->items[i], item, ret))
            return false;
    return true;
}

bool jinja_length(struct jinja_run *run, const struct jinja_value *value, size_t *ret) {
    if (value->type == JINJA_TEXT)
        *ret = value->text->characters;
    else if (value->type == JINJA_DICT)
        *ret = value->dict->count;
    else if (value->type == JINJA_LOOP)
        *ret = value->loop->items->count;
    else if (jinja_is_sequence(value))
        *ret = value->list->count;
    else if (value->type == JINJA_UNDEFINED)
        *ret = 0;
    else
        return jinja_fail(run, "object of type '%s' has no len()", jinja_type_name(value));
    return true;
}

bool jinja_is_iterable(const struct jinja_value *value) {
    return value->type == JINJA_TEXT || value->type == JINJA_DICT || value->type == JINJA_UNDEFINED ||
           value->type == JINJA_ITERATOR || jinja_is_sequence(value);
}

static bool characters_of(struct jinja_run *run, const struct jinja_text *text, struct jinja_list **ret) {
    struct jinja_list *list = jinja_list_create(run, text->characters);
    const char *at = text->bytes, *end = at + text->length;
    if (!list)
        return false;

    while (at < end) {
        const char *start = at;
        jinja_utf8_next(&at);
        const struct jinja_text *character =
            jinja_text_cut(run, text, (size_t)(start - text->bytes), (size_t)(at - start));
        if (!jinja_step(run, 1) || !character || !jinja_list_append(run, list, jinja_string(character)))
            return false;
    }

    *ret = list;
    return true;
}

bool jinja_iterate(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **ret) {
    if (value->type == JINJA_TEXT)
        return characters_of(run, value->text, ret);
    if (value->type == JINJA_DICT)
        return jinja_dict_list(run, value->dict, JINJA_KEYS, ret);
    if (value->type == JINJA_UNDEFINED)
        return (*ret = jinja_list_create(run, 0)) != NULL;
    if (jinja_is_sequence(value)) {
        *ret = value->list;
        return true;
    }
    if (value->type != JINJA_ITERATOR)
        return jinja_fail(run, "'%s' object is not iterable", jinja_type_name(value));

    struct jinja_list *rest = jinja_allocate(run, 1, sizeof *rest);
    if (!rest)
        return false;
    rest->items = value->list->items ? value->list->items + value->list->position : NULL;
    rest->count = rest->capacity = value->list->count - value->list->position;
    value->list->position = value->list->count;
    *ret = rest;
    return true;
}

struct jinja_list *jinja_list_create(struct jinja_run *run, size_t capacity) {
    struct jinja_list *list = jinja_allocate(run, 1, sizeof *list);
    if (!list || (capacity && !(list->items = jinja_allocate(run, capacity, sizeof *list->items))))
        return NULL;

    list->capacity = capacity;
    return list;
}

bool jinja_list_append(struct jinja_run *run, struct jinja_list *list, struct jinja_value value) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        struct jinja_value *items = jinja_allocate(run, capacity, sizeof *items);
        if (!items)
            return false;
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }

    list->items[list->count++] = value;
    return true;
}

bool jinja_pair(struct jinja_run *run, struct jinja_value first, struct jinja_value second,
                struct jinja_value *ret) {
    struct jinja_list *list = jinja_list_create(run, 2);
    if (!list || !jinja_list_append(run, list, first) || !jinja_list_append(run, list, second))
        return false;

    *ret = jinja_sequence(JINJA_TUPLE, list);
    return true;
}
