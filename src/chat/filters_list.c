/* Filters of sequences. */
#include <string.h>

#include "chat/builtins.h"

/* The items of what stands before the filter, for the filter to change. */
static bool copy_items(struct jinja_run *run, const struct jinja_value *value, struct jinja_list **ret) {
    struct jinja_list *items, *copy;
    if (!jinja_iterate(run, value, &items) || !jinja_step(run, items->count) ||
        !(copy = jinja_list_create(run, items->count)))
        return false;

    if (items->count)
        memcpy(copy->items, items->items, items->count * sizeof *items->items);
    copy->count = items->count;
    *ret = copy;
    return true;
}

static bool filter_list(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items;
    if (!copy_items(run, &bound->self, &items))
        return false;
    *ret = jinja_sequence(JINJA_LIST, items);
    return true;
}

static bool filter_first(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items;
    if (!jinja_iterate(run, &bound->self, &items))
        return false;
    *ret =
        items->count ? items->items[0] : jinja_undefined_because(run, "No first item, sequence was empty.");
    return ret->type != JINJA_UNDEFINED || ret->missing || items->count;
}

static bool filter_last(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items;
    if (bound->self.type == JINJA_ITERATOR)
        return jinja_fail(run, "'generator' object is not reversible");
    if (!jinja_iterate(run, &bound->self, &items))
        return false;
    *ret = items->count ? items->items[items->count - 1]
                        : jinja_undefined_because(run, "No last item, sequence was empty.");
    return ret->type != JINJA_UNDEFINED || ret->missing || items->count;
}

static bool filter_reverse(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items;
    const struct jinja_text *text, *empty;
    if (!copy_items(run, &bound->self, &items))
        return false;

    for (size_t i = 0, j = items->count; i + 1 < j; i++) {
        struct jinja_value item = items->items[i];
        items->items[i] = items->items[--j];
        items->items[j] = item;
    }
    *ret = jinja_sequence(JINJA_ITERATOR, items);
    if (bound->self.type != JINJA_TEXT)
        return true;
    if (!(empty = jinja_text_literal(run, "")) || !jinja_join(run, empty, items, false, &text))
        return false;
    *ret = jinja_string(text);
    return true;
}

static bool filter_items(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items;
    if (bound->self.type != JINJA_DICT && bound->self.type != JINJA_UNDEFINED)
        return jinja_fail(run, "Can only get item pairs from a mapping.");
    if (bound->self.type == JINJA_UNDEFINED ? !(items = jinja_list_create(run, 0))
                                            : !jinja_dict_list(run, bound->self.dict, JINJA_ITEMS, &items))
        return false;
    *ret = jinja_sequence(JINJA_ITERATOR, items);
    return true;
}

static bool append_slice(struct jinja_run *run, struct jinja_list *list, const struct jinja_list *items,
                         size_t start, size_t end, size_t length, const struct jinja_value *filler) {
    struct jinja_list *slice = jinja_list_create(run, length > end - start ? length : end - start);
    if (!slice || !jinja_step(run, 1 + slice->capacity))
        return false;

    for (size_t i = start; i < end; i++)
        slice->items[slice->count++] = items->items[i];
    while (filler && slice->count < length)
        slice->items[slice->count++] = *filler;
    return jinja_list_append(run, list, jinja_sequence(JINJA_LIST, slice));
}

static const struct jinja_value *filler_of(const struct jinja_bound *bound) {
    return bound->given[1] && bound->values[1].type != JINJA_NONE ? &bound->values[1] : NULL;
}

static bool filter_batch(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items, *list = jinja_list_create(run, 0);
    const struct jinja_value *filler = filler_of(bound);
    int64_t length;
    if (!list || !jinja_iterate(run, &bound->self, &items) || !jinja_argument_int(run, bound, 0, 1, &length))
        return false;
    if (length < 1)
        return jinja_fail(run, "batch: the number of items must be 1 at least");

    for (size_t i = 0; i < items->count; i += (size_t)length) {
        size_t end = items->count - i > (size_t)length ? i + (size_t)length : items->count;
        if (!append_slice(run, list, items, i, end, filler ? (size_t)length : 0, filler))
            return false;
        if (end == items->count)
            break;
    }
    *ret = jinja_sequence(JINJA_ITERATOR, list);
    return true;
}

static bool filter_slice(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items, *list = jinja_list_create(run, 0);
    const struct jinja_value *filler = filler_of(bound);
    int64_t slices;
    if (!list || !jinja_iterate(run, &bound->self, &items) || !jinja_argument_int(run, bound, 0, 1, &slices))
        return false;
    if (slices < 1)
        return jinja_fail(run, "slice: the number of slices must be 1 at least");

    size_t each = items->count / (size_t)slices, longer = items->count % (size_t)slices, start = 0;
    for (size_t i = 0; i < (size_t)slices; i++) {
        size_t end = start + each + (i < longer);
        if (!append_slice(run, list, items, start, end, filler && i >= longer ? each + 1 : 0, filler))
            return false;
        start = end;
    }
    *ret = jinja_sequence(JINJA_ITERATOR, list);
    return true;
}

/* Merge sort; `from` and `to` change places at each width. */
struct sorting {
    struct jinja_run *run;
    struct jinja_value *keys, *items, *other_keys, *other_items;
    bool reverse;
};

static bool merge(struct sorting *sorting, size_t left, size_t middle, size_t end) {
    size_t right = middle, i = left;
    for (size_t out = left; out < end; out++) {
        int order = 0;
        if (i < middle && right < end &&
            !jinja_compare(sorting->run, &sorting->keys[right], &sorting->keys[i], "<", &order))
            return false;
        bool take_right = i >= middle || (right < end && (sorting->reverse ? order > 0 : order < 0));
        size_t from = take_right ? right++ : i++;
        sorting->other_keys[out] = sorting->keys[from];
        sorting->other_items[out] = sorting->items[from];
    }
    return true;
}

bool jinja_sort(struct jinja_run *run, struct jinja_value *keys, struct jinja_value *items, size_t count,
                bool reverse) {
    struct sorting sorting = {.run = run, .keys = keys, .items = items, .reverse = reverse};
    if (count < 2)
        return true;
    sorting.other_keys = jinja_allocate(run, count, sizeof *keys);
    sorting.other_items = jinja_allocate(run, count, sizeof *items);
    if (!sorting.other_keys || !sorting.other_items)
        return false;

    for (size_t width = 1; width < count; width *= 2) {
        for (size_t left = 0; left < count; left += 2 * width) {
            size_t middle = count - left > width ? left + width : count;
            size_t end = count - middle > width ? middle + width : count;
            if (!merge(&sorting, left, middle, end))
                return false;
        }
        memcpy(keys, sorting.other_keys, count * sizeof *keys);
        memcpy(items, sorting.other_items, count * sizeof *items);
        if (!jinja_step(run, count))
            return false;
    }
    return true;
}

/* The pairs of a dict by key or value. */
static bool filter_dictsort(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    const struct jinja_text *by;
    struct jinja_list *items, *keys;
    if (bound->self.type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, &bound->self);
    if (bound->self.type != JINJA_DICT)
        return jinja_fail(run, "dictsort: '%s' object is not a mapping", jinja_type_name(&bound->self));
    if (!jinja_argument_text(run, bound, 1, "key", &by))
        return false;
    if (!jinja_text_is(by, "key") && !jinja_text_is(by, "value"))
        return jinja_fail(run, "You can only sort by either \"key\" or \"value\"");

    enum jinja_type which = jinja_text_is(by, "key") ? JINJA_KEYS : JINJA_VALUES;
    if (!jinja_dict_list(run, bound->self.dict, JINJA_ITEMS, &items) ||
        !jinja_dict_list(run, bound->self.dict, which, &keys))
        return false;
    for (size_t i = 0; i < keys->count && !jinja_argument_truth(bound, 0); i++)
        if (!jinja_fold(run, &keys->items[i]))
            return false;
    *ret = jinja_sequence(JINJA_LIST, items);
    return jinja_sort(run, keys->items, items->items, items->count, jinja_argument_truth(bound, 2));
}

static bool filter_sort(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items, *keys;
    if (!copy_items(run, &bound->self, &items) ||
        !jinja_keys_of(run, items, bound->given[2] ? &bound->values[2] : NULL, NULL,
                       !jinja_argument_truth(bound, 1), true, &keys))
        return false;
    *ret = jinja_sequence(JINJA_LIST, items);
    return jinja_sort(run, keys->items, items->items, items->count, jinja_argument_truth(bound, 0));
}

static bool filter_unique(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items, *keys, *kept = jinja_list_create(run, 0);
    struct jinja_dict *seen = jinja_dict_create(run, 0);
    const struct jinja_value *found, none = jinja_none();
    if (!kept || !seen || !jinja_iterate(run, &bound->self, &items) ||
        !jinja_keys_of(run, items, bound->given[1] ? &bound->values[1] : NULL, NULL,
                       !jinja_argument_truth(bound, 0), false, &keys))
        return false;

    for (size_t i = 0; i < items->count; i++) {
        if (!jinja_dict_get(run, seen, &keys->items[i], &found))
            return false;
        if (!found && (!jinja_dict_set(run, seen, &keys->items[i], &none) ||
                       !jinja_list_append(run, kept, items->items[i])))
            return false;
    }
    *ret = jinja_sequence(JINJA_ITERATOR, kept);
    return true;
}

/* The first of the least, or of the largest. */
static bool extreme(struct jinja_run *run, const struct jinja_bound *bound, bool largest,
                    struct jinja_value *ret) {
    struct jinja_list *items, *keys;
    size_t best = 0;
    int order;
    if (!jinja_iterate(run, &bound->self, &items) ||
        !jinja_keys_of(run, items, bound->given[1] ? &bound->values[1] : NULL, NULL,
                       !jinja_argument_truth(bound, 0), false, &keys))
        return false;
    if (!items->count) {
        *ret = jinja_undefined_because(run, "No aggregated item, sequence was empty.");
        return ret->missing != NULL;
    }

    for (size_t i = 1; i < items->count; i++) {
        if (!jinja_compare(run, &keys->items[i], &keys->items[best], largest ? ">" : "<", &order))
            return false;
        if (largest ? order > 0 : order < 0)
            best = i;
    }
    *ret = items->items[best];
    return true;
}

static bool filter_max(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return extreme(run, bound, true, ret);
}

static bool filter_min(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    return extreme(run, bound, false, ret);
}

static bool filter_sum(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items, *keys;
    struct jinja_value sum = bound->given[1] ? bound->values[1] : jinja_int(0), next;
    if (!jinja_iterate(run, &bound->self, &items) ||
        !jinja_keys_of(run, items, bound->given[0] ? &bound->values[0] : NULL, NULL, false, false, &keys))
        return false;
    if (sum.type == JINJA_TEXT)
        return jinja_fail(run, "sum() can't sum strings [use ''.join(seq) instead]");

    for (size_t i = 0; i < items->count; i++) {
        if (!jinja_operate(run, JINJA_ADD, &sum, &keys->items[i], &next))
            return false;
        sum = next;
    }
    *ret = sum;
    return true;
}

static bool filter_join(struct jinja_run *run, const struct jinja_bound *bound, struct jinja_value *ret) {
    struct jinja_list *items, *keys;
    const struct jinja_text *separator, *text;
    if (!jinja_iterate(run, &bound->self, &items) ||
        !jinja_keys_of(run, items, bound->given[1] ? &bound->values[1] : NULL, NULL, false, false, &keys))
        return false;
    if (bound->given[0] ? !jinja_to_text(run, &bound->values[0], &separator)
                        : !(separator = jinja_text_literal(run, "")))
        return false;
    if (!jinja_join(run, separator, keys, true, &text))
        return false;
    *ret = jinja_string(text);
    return true;
}

const struct jinja_builtin jinja_list_filters[] = {
    {"batch", "linecount fill_with", 1, filter_batch},
    {"dictsort", "case_sensitive by reverse", 0, filter_dictsort},
    {"first", "", 0, filter_first},
    {"items", "", 0, filter_items},
    {"join", "d attribute", 0, filter_join},
    {"last", "", 0, filter_last},
    {"list", "", 0, filter_list},
    {"max", "case_sensitive attribute", 0, filter_max},
    {"min", "case_sensitive attribute", 0, filter_min},
    {"reverse", "", 0, filter_reverse},
    {"slice", "slices fill_with", 1, filter_slice},
    {"sort", "reverse case_sensitive attribute", 0, filter_sort},
    {"sum", "attribute start", 0, filter_sum},
    {"unique", "case_sensitive attribute", 0, filter_unique},
    {0},
};
