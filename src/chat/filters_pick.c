/* Filters that go by attributes, tests and other filters: map, select, groupby … */
#include <string.h>

#include "chat/builtins.h"

bool jinja_fold(struct jinja_run *run, struct jinja_value *value) {
    const struct jinja_text *text;
    if (value->type != JINJA_TEXT)
        return true;
    if (!jinja_change_case(run, value->text, JINJA_LOWER, &text))
        return false;

    *value = jinja_string(text);
    return true;
}

/* "a.b.0" of an item; `otherwise` (or NULL) stands for what is undefined. */
static bool follow_path(struct jinja_run *run, const struct jinja_value *item, const struct jinja_text *path,
                        size_t start, size_t end, const struct jinja_value *otherwise,
                        struct jinja_value *ret) {
    struct jinja_value value = *item, next;

    while (start <= end) {
        const char *dot = memchr(path->bytes + start, '.', end - start);
        size_t stop = dot ? (size_t)(dot - path->bytes) : end;
        const struct jinja_text *name = jinja_text_cut(run, path, start, stop - start);
        if (!name)
            return false;
        struct jinja_value key = jinja_string(name);
        int64_t index = 0;
        size_t digits = 0;
        while (digits < name->length && digits < 9 && name->bytes[digits] >= '0' &&
               name->bytes[digits] <= '9')
            index = index * 10 + name->bytes[digits++] - '0';
        if (digits && digits == name->length)
            key = jinja_int(index);
        if (!jinja_get_item(run, &value, &key, &next))
            return false;
        value = otherwise && next.type == JINJA_UNDEFINED ? *otherwise : next;
        start = stop + 1;
    }

    *ret = value;
    return true;
}

static bool attribute_of(struct jinja_run *run, const struct jinja_value *item,
                         const struct jinja_value *attribute, const struct jinja_value *otherwise, bool fold,
                         struct jinja_value *ret) {
    if (!attribute || attribute->type == JINJA_NONE) {
        *ret = *item;
    } else if (attribute->type == JINJA_TEXT) {
        if (!follow_path(run, item, attribute->text, 0, attribute->text->length, otherwise, ret))
            return false;
    } else {
        if (!jinja_get_item(run, item, attribute, ret))
            return false;
        if (otherwise && ret->type == JINJA_UNDEFINED)
            *ret = *otherwise;
    }
    return !fold || jinja_fold(run, ret);
}

/* Several attributes, parted by commas, are a list of keys. */
static bool attributes_of(struct jinja_run *run, const struct jinja_value *item,
                          const struct jinja_text *paths, bool fold, struct jinja_value *ret) {
    struct jinja_list *list = jinja_list_create(run, 0);
    struct jinja_value key;
    if (!list)
        return false;

    for (size_t start = 0; start <= paths->length;) {
        const char *comma = memchr(paths->bytes + start, ',', paths->length - start);
        size_t stop = comma ? (size_t)(comma - paths->bytes) : paths->length;
        if (!follow_path(run, item, paths, start, stop, NULL, &key) || (fold && !jinja_fold(run, &key)) ||
            !jinja_list_append(run, list, key))
            return false;
        start = stop + 1;
    }
    *ret = jinja_sequence(JINJA_LIST, list);
    return true;
}

bool jinja_keys_of(struct jinja_run *run, const struct jinja_list *items, const struct jinja_value *attribute,
                   const struct jinja_value *otherwise, bool fold, bool several, struct jinja_list **ret) {
    struct jinja_list *keys = jinja_list_create(run, items->count);
    if (!keys)
        return false;

    several = several && attribute && attribute->type == JINJA_TEXT &&
              memchr(attribute->text->bytes, ',', attribute->text->length);
    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value key;
        if (!jinja_step(run, 1) ||
            !(several ? attributes_of(run, &items->items[i], attribute->text, fold, &key)
                      : attribute_of(run, &items->items[i], attribute, otherwise, fold, &key)))
            return false;
        keys->items[keys->count++] = key;
    }
    *ret = keys;
    return true;
}

/* A filter or test by the name that argument `index` has, and the arguments behind it. */
static bool named_builtin(struct jinja_run *run, const struct jinja_given *all, size_t index, bool is_test,
                          const struct jinja_builtin **ret, struct jinja_given *rest) {
    const struct jinja_value *name = &all->values[index];
    if (name->type != JINJA_TEXT)
        return jinja_fail(run, "the name of a %s is needed here", is_test ? "test" : "filter");

    *ret = is_test ? jinja_find_test(name->text) : jinja_find_filter(name->text);
    *rest = (struct jinja_given){all->values + index + 1, all->count - index - 1, all->keywords};
    return *ret || jinja_fail(run, "there is no %s '%.*s'", is_test ? "test" : "filter",
                              (int)(name->text->length < 60 ? name->text->length : 60), name->text->bytes);
}

/* What is false has no items: none, for example. */
static bool items_of(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **ret) {
    if (jinja_truth(value))
        return jinja_iterate(run, value, ret);
    return (*ret = jinja_list_create(run, 0)) != NULL;
}

static bool filter_map(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_given *all = bound->all;
    const struct jinja_builtin *filter;
    struct jinja_given rest;
    struct jinja_list *items, *mapped;
    if (!items_of(run, &bound->self, &items))
        return false;

    if (!all->count) {
        const struct jinja_value *attribute =
            all->keywords ? jinja_dict_find(all->keywords, "attribute", 9) : NULL;
        const struct jinja_value *otherwise =
            all->keywords ? jinja_dict_find(all->keywords, "default", 7) : NULL;
        if (!attribute)
            return jinja_fail(run, "map requires a filter argument");
        if (otherwise && otherwise->type == JINJA_NONE)
            otherwise = NULL;
        if (!jinja_keys_of(run, items, attribute, otherwise, false, false, &mapped))
            return false;
    } else {
        if (!named_builtin(run, all, 0, false, &filter, &rest) ||
            !(mapped = jinja_list_create(run, items->count)))
            return false;
        for (size_t i = 0; i < items->count; i++, mapped->count++)
            if (!jinja_call_builtin(run, filter, &items->items[i], &rest, &mapped->items[i]))
                return false;
    }
    *ret = jinja_sequence(JINJA_ITERATOR, mapped);
    return true;
}

/* The items, or those of an attribute, that pass (or fail) a test. */
static bool pick(struct jinja_run *run, const struct jinja_bound *bound, bool by_attribute, bool wanted,
                 struct jinja_value *ret) {
    const struct jinja_given *all = bound->all;
    const struct jinja_builtin *test = NULL;
    struct jinja_given rest;
    struct jinja_list *items, *kept = jinja_list_create(run, 0);
    if (!kept || !items_of(run, &bound->self, &items))
        return false;
    if (by_attribute && !all->count)
        return jinja_fail(run, "Missing parameter for attribute name");
    if (all->count > by_attribute && !named_builtin(run, all, by_attribute, true, &test, &rest))
        return false;

    for (size_t i = 0; i < items->count; i++) {
        struct jinja_value value, result;
        if (!jinja_step(run, 1) ||
            !attribute_of(run, &items->items[i], by_attribute ? &all->values[0] : NULL, NULL, false, &value))
            return false;
        result = value;
        if (test && !jinja_call_builtin(run, test, &value, &rest, &result))
            return false;
        if (jinja_truth(&result) == wanted && !jinja_list_append(run, kept, items->items[i]))
            return false;
    }
    *ret = jinja_sequence(JINJA_ITERATOR, kept);
    return true;
}

static bool filter_select(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return pick(run, bound, false, true, ret);
}

static bool filter_reject(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return pick(run, bound, false, false, ret);
}

static bool filter_selectattr(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    return pick(run, bound, true, true, ret);
}

static bool filter_rejectattr(struct jinja_run *run, const struct jinja_bound *bound,
                              struct jinja_value *ret) {
    return pick(run, bound, true, false, ret);
}

static bool append_group(struct jinja_run *run, struct jinja_list *groups, struct jinja_value key,
                         struct jinja_list *members) {
    struct jinja_value group;
    return jinja_pair(run, key, jinja_sequence(JINJA_LIST, members), &group) &&
           jinja_list_append(run, groups, group);
}

static bool filter_groupby(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_value *attribute = &bound->values[0];
    const struct jinja_value *otherwise =
        bound->given[1] && bound->values[1].type != JINJA_NONE ? &bound->values[1] : NULL;
    bool fold = !jinja_argument_truth(bound, 2), same = false;
    struct jinja_list *items, *keys, *sorted, *names, *groups = jinja_list_create(run, 0), *members = NULL;
    if (!groups || !jinja_iterate(run, &bound->self, &items) ||
        !(sorted = jinja_list_create(run, items->count)) ||
        !jinja_keys_of(run, items, attribute, otherwise, fold, false, &keys))
        return false;

    for (size_t i = 0; i < items->count; i++)
        sorted->items[sorted->count++] = items->items[i];
    if (!jinja_sort(run, keys->items, sorted->items, sorted->count, false) ||
        !jinja_keys_of(run, sorted, attribute, otherwise, false, false, &names))
        return false;
    for (size_t i = 0; i < sorted->count; i++) {
        if (i && !jinja_equal(run, &keys->items[i], &keys->items[i - 1], &same))
            return false;
        if (!same &&
            (!(members = jinja_list_create(run, 0)) || !append_group(run, groups, names->items[i], members)))
            return false;
        if (!jinja_list_append(run, members, sorted->items[i]))
            return false;
    }
    *ret = jinja_sequence(JINJA_LIST, groups);
    return true;
}

const struct jinja_builtin jinja_pick_filters[] = {
    {"groupby", "attribute default case_sensitive", 1, filter_groupby},
    {"map", "*", 0, filter_map},
    {"reject", "*", 0, filter_reject},
    {"rejectattr", "*", 0, filter_rejectattr},
    {"select", "*", 0, filter_select},
    {"selectattr", "*", 0, filter_selectattr},
    {0},
};

const struct jinja_builtin *jinja_find_filter(const struct jinja_text *name) {
    const struct jinja_builtin *filter = jinja_find_builtin(jinja_text_filters, name);
    if (!filter)
        filter = jinja_find_builtin(jinja_list_filters, name);
    return filter ? filter : jinja_find_builtin(jinja_pick_filters, name);
}
