/* value.name, value[key], value[start:stop:step] in Jinja's sandbox: what begins with an underscore is not
 * reached, and what would change a list or dict cannot be called. */
#include <string.h>

#include "chat/builtins.h"

static struct jinja_value undefined(const struct jinja_missing *missing) {
    return (struct jinja_value){.type = JINJA_UNDEFINED, .missing = missing};
}

struct jinja_value jinja_undefined_because(struct jinja_run *run, const char *message) {
    struct jinja_missing *missing = jinja_allocate(run, 1, sizeof *missing);
    if (missing)
        missing->because = message;
    return undefined(missing);
}

bool jinja_fail_undefined(struct jinja_run *run, const struct jinja_value *value) {
    const struct jinja_missing *missing = value->missing;
    if (!missing)
        return jinja_fail(run, "a value is undefined");
    if (missing->because)
        return jinja_fail(run, "%s", missing->because);
    if (!missing->name)
        return jinja_fail(run, "%s object has no element %lld", missing->owner, (long long)missing->index);

    int length = (int)(missing->name->length < 200 ? missing->name->length : 200);
    if (!missing->owner)
        return jinja_fail(run, "'%.*s' is undefined", length, missing->name->bytes);
    return jinja_fail(run, "'%s%s' has no attribute '%.*s'", missing->owner,
                      strcmp(missing->owner, "None") ? " object" : "", length, missing->name->bytes);
}

static bool lacks(struct jinja_run *run, const struct jinja_value *owner, const struct jinja_text *name,
                  int64_t index, struct jinja_value *ret) {
    struct jinja_missing *missing = jinja_allocate(run, 1, sizeof *missing);
    if (!missing)
        return false;

    missing->owner = owner->type == JINJA_NONE ? "None" : jinja_type_name(owner);
    missing->name = name;
    missing->index = index;
    *ret = undefined(missing);
    return true;
}

static bool is_one_of(const struct jinja_text *name, const char *const *words) {
    for (; *words; words++)
        if (jinja_text_is(name, *words))
            return true;
    return false;
}

/* What Python has and the sandbox does not give. */
static bool is_unsafe(const struct jinja_value *value, const struct jinja_text *name) {
    static const char *const of_lists[] = {"append", "clear",   "extend", "insert", "pop",
                                           "remove", "reverse", "sort",   NULL};
    static const char *const of_dicts[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    if (value->type == JINJA_LIST && is_one_of(name, of_lists))
        return true;
    if (value->type == JINJA_DICT && is_one_of(name, of_dicts))
        return true;
    return name->length > 4 && memcmp(name->bytes, "__", 2) == 0 &&
           memcmp(name->bytes + name->length - 2, "__", 2) == 0;
}

static bool get_unsafe(struct jinja_run *run, const struct jinja_value *value, const struct jinja_text *name,
                       struct jinja_value *ret) {
    int length = (int)(name->length < 60 ? name->length : 60);
    char *message = arena_printf(run->arena, "access to attribute '%.*s' of '%s' object is unsafe.", length,
                                 name->bytes, jinja_type_name(value));
    if (!message)
        return error_set(run->error, ERROR_MEMORY, "out of memory");

    *ret = jinja_undefined_because(run, message);
    return ret->missing != NULL;
}

static struct jinja_value item_or(struct jinja_run *run, const struct jinja_list *list, size_t index,
                                  const char *otherwise) {
    return index < list->count ? list->items[index] : jinja_undefined_because(run, otherwise);
}

/* False where the loop has no such attribute. */
static bool get_of_loop(struct jinja_run *run, const struct jinja_loop *loop, const struct jinja_text *name,
                        struct jinja_value *ret) {
    size_t count = loop->items->count, index = loop->index;

    if (jinja_text_is(name, "index"))
        *ret = jinja_int((int64_t)index + 1);
    else if (jinja_text_is(name, "index0"))
        *ret = jinja_int((int64_t)index);
    else if (jinja_text_is(name, "first"))
        *ret = jinja_bool(index == 0);
    else if (jinja_text_is(name, "last"))
        *ret = jinja_bool(index + 1 >= count);
    else if (jinja_text_is(name, "length"))
        *ret = jinja_int((int64_t)count);
    else if (jinja_text_is(name, "revindex"))
        *ret = jinja_int((int64_t)(count - index));
    else if (jinja_text_is(name, "revindex0"))
        *ret = jinja_int((int64_t)(count - index) - 1);
    else if (jinja_text_is(name, "depth"))
        *ret = jinja_int(loop->depth + 1);
    else if (jinja_text_is(name, "depth0"))
        *ret = jinja_int(loop->depth);
    else if (jinja_text_is(name, "previtem"))
        *ret = item_or(run, loop->items, index - 1, "there is no previous item");
    else if (jinja_text_is(name, "nextitem"))
        *ret = item_or(run, loop->items, index + 1, "there is no next item");
    else
        return false;
    return true;
}

/* What Python's getattr finds. */
static bool find_attribute(struct jinja_run *run, const struct jinja_value *value,
                           const struct jinja_text *name, struct jinja_value *ret, bool *found) {
    const struct jinja_value *entry = NULL;
    struct jinja_value key = jinja_string(name);
    *found = true;

    if (value->type == JINJA_NAMESPACE) {
        if (!jinja_dict_get(run, value->dict, &key, &entry))
            return false;
        if (entry) {
            *ret = *entry;
            return true;
        }
    }
    if (value->type == JINJA_LOOP && get_of_loop(run, value->loop, name, ret))
        return true;
    if (value->type == JINJA_MACRO && jinja_text_is(name, "name")) {
        *ret = jinja_string(run->program->names[value->callable->macro->name]);
        return true;
    }
    if (value->type == JINJA_CYCLER && jinja_text_is(name, "current")) {
        *ret = value->list->items[value->list->position % value->list->count];
        return true;
    }

    const struct jinja_builtin *method = jinja_find_method(value, name);
    if (method) {
        struct jinja_callable *callable = jinja_allocate(run, 1, sizeof *callable);
        if (!callable)
            return false;
        callable->builtin = method;
        callable->self = *value;
        *ret = (struct jinja_value){.type = JINJA_FUNCTION, .callable = callable};
        return true;
    }
    *found = is_unsafe(value, name);
    return !*found || get_unsafe(run, value, name, ret);
}

bool jinja_get_attribute(struct jinja_run *run, const struct jinja_value *value,
                         const struct jinja_text *name, struct jinja_value *ret) {
    struct jinja_value key = jinja_string(name);
    const struct jinja_value *entry = NULL;
    bool found;
    if (value->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (!find_attribute(run, value, name, ret, &found))
        return false;
    if (found)
        return true;

    if (value->type == JINJA_DICT && !jinja_dict_get(run, value->dict, &key, &entry))
        return false;
    if (entry)
        *ret = *entry;
    return entry || lacks(run, value, name, 0, ret);
}

static bool is_hashable(const struct jinja_value *key) {
    if (key->type == JINJA_TUPLE) {
        for (size_t i = 0; i < key->list->count; i++)
            if (key->list->items[i].type == JINJA_TUPLE || !is_hashable(&key->list->items[i]))
                return false;
        return true;
    }
    return key->type != JINJA_DICT && !jinja_is_sequence(key);
}

/* value[index]; *ret untouched and *found false where there is none. */
static bool find_index(struct jinja_run *run, const struct jinja_value *value, int64_t index,
                       struct jinja_value *ret, bool *found) {
    bool is_text = value->type == JINJA_TEXT;
    int64_t count = (int64_t)(is_text ? value->text->characters : value->list->count);
    if (index < 0)
        index += count;
    *found = index >= 0 && index < count;
    if (!*found)
        return true;
    if (!is_text) {
        *ret = value->list->items[index];
        return true;
    }

    const struct jinja_text *text = value->text;
    if (text->characters != text->length && !jinja_step(run, text->length / 16))
        return false;
    size_t start = jinja_text_offset(text, (size_t)index), end = jinja_text_offset(text, (size_t)index + 1);
    const struct jinja_text *character = jinja_text_cut(run, text, start, end - start);
    if (character)
        *ret = jinja_string(character);
    return character != NULL;
}

bool jinja_get_item(struct jinja_run *run, const struct jinja_value *value, const struct jinja_value *key,
                    struct jinja_value *ret) {
    const struct jinja_value *entry;
    bool found = false, indexed = value->type == JINJA_TEXT || value->type == JINJA_LIST ||
                                  value->type == JINJA_TUPLE || value->type == JINJA_RANGE;
    if (value->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);

    if (value->type == JINJA_DICT && is_hashable(key)) {
        if (!jinja_dict_get(run, value->dict, key, &entry))
            return false;
        found = entry != NULL;
        if (found)
            *ret = *entry;
    } else if (indexed && jinja_is_whole(key)) {
        if (!find_index(run, value, jinja_whole(key), ret, &found))
            return false;
    }
    if (!found && key->type == JINJA_TEXT && !find_attribute(run, value, key->text, ret, &found))
        return false;
    if (found)
        return true;

    return key->type == JINJA_TEXT ? lacks(run, value, key->text, 0, ret)
           : jinja_is_whole(key)
               ? lacks(run, value, NULL, jinja_whole(key), ret)
               : (*ret = jinja_undefined_because(run, "there is no such element")).missing != NULL;
}

/* A bound of a slice within [0, length], or [-1, length - 1] from behind. */
static int64_t clamp_bound(const struct jinja_value *bound, int64_t length, bool backwards,
                           int64_t otherwise) {
    int64_t at = otherwise;
    if (bound->type == JINJA_NONE)
        return at;

    at = jinja_whole(bound);
    if (at < 0)
        at += length;
    if (at < 0)
        return backwards ? -1 : 0;
    return at < length ? at : backwards ? length - 1 : length;
}

/* Python's slice.indices(): `count` items from `first` on, `step` apart. False where a bound is no number. */
static bool slice_indices(const struct jinja_value bounds[3], int64_t length, int64_t *first, int64_t *count,
                          int64_t *step) {
    for (int i = 0; i < 3; i++)
        if (bounds[i].type != JINJA_NONE && !jinja_is_whole(&bounds[i]))
            return false;

    *step = bounds[2].type == JINJA_NONE ? 1 : jinja_whole(&bounds[2]);
    bool backwards = *step < 0;
    int64_t start = clamp_bound(&bounds[0], length, backwards, backwards ? length - 1 : 0);
    int64_t stop = clamp_bound(&bounds[1], length, backwards, backwards ? -1 : length);

    int64_t distance = backwards ? start - stop : stop - start;
    uint64_t stride = backwards ? 0 - (uint64_t)*step : (uint64_t)*step;
    *first = start;
    *count = distance > 0 && stride ? (int64_t)(((uint64_t)distance - 1) / stride) + 1 : 0;
    return true;
}

static bool slice_text(struct jinja_run *run, const struct jinja_text *text, int64_t first, int64_t count,
                       int64_t step, struct jinja_value *ret) {
    struct jinja_builder builder = {.run = run};
    const struct jinja_text *result = NULL;
    if (!jinja_step(run, 1 + (text->characters != text->length ? text->length / 16 : 0)))
        return false;

    if (step == 1) {
        size_t start = jinja_text_offset(text, (size_t)first),
               end = jinja_text_offset(text, (size_t)(first + count));
        result = jinja_text_cut(run, text, start, count ? end - start : 0);
    } else {
        struct jinja_value all = jinja_string(text);
        struct jinja_list *characters;
        if (!jinja_iterate(run, &all, &characters))
            return false;
        for (int64_t i = 0; i < count; i++)
            if (!jinja_step(run, 1) || !jinja_build_text(&builder, characters->items[first + i * step].text))
                return false;
        result = jinja_build_end(&builder);
    }

    if (result)
        *ret = jinja_string(result);
    return result != NULL;
}

bool jinja_get_slice(struct jinja_run *run, const struct jinja_value *value,
                     const struct jinja_value bounds[3], struct jinja_value *ret) {
    int64_t first, count, step;
    bool is_text = value->type == JINJA_TEXT;
    if (value->type == JINJA_UNDEFINED)
        return jinja_fail_undefined(run, value);
    if (value->type == JINJA_DICT)
        return jinja_fail(run, "unhashable type: 'slice'");
    if (!is_text && value->type != JINJA_LIST && value->type != JINJA_TUPLE && value->type != JINJA_RANGE)
        return jinja_fail(run, "'%s' object is not subscriptable", jinja_type_name(value));
    if (!slice_indices(bounds, (int64_t)(is_text ? value->text->characters : value->list->count), &first,
                       &count, &step))
        return jinja_fail(run, "slice indices must be integers or None");
    if (step == 0)
        return jinja_fail(run, "slice step cannot be zero");
    if (is_text)
        return slice_text(run, value->text, first, count, step, ret);

    struct jinja_list *list = jinja_list_create(run, (size_t)count);
    if (!list || !jinja_step(run, (size_t)count))
        return false;
    for (int64_t i = 0; i < count; i++)
        list->items[list->count++] = value->list->items[first + i * step];
    *ret = jinja_sequence(value->type == JINJA_RANGE ? JINJA_LIST : value->type, list);
    return true;
}
