#include "model/labels.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "model/config.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for a model's labels");
}

/* A name, or a number or truth that serves as one. */
static bool is_name(const json_t *value) {
    return json_is_string(value) || json_is_number(value) || json_is_boolean(value);
}

/* A name for terminals, too: what would move the cursor there, or worse, becomes blanks. */
static const char *copy_name(struct arena *arena, const char *name, size_t length) {
    char *copy = arena_copy_string(arena, name, length);
    for (unsigned char *at = (unsigned char *)copy; at && *at; at++)
        if (*at < ' ' || *at == 127)
            *at = ' ';
        else if (*at == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* U+0080 to U+009F */
            at[0] = at[1] = ' ';
    return copy;
}

static bool store_name(const json_t *value, int index, int count, struct arena *arena, const char **names) {
    if (index >= count)
        return true; /* more labels than the network has classes */
    if (json_is_string(value))
        names[index] = copy_name(arena, json_string_value(value), json_string_length(value));
    else if (json_is_integer(value))
        names[index] = arena_printf(arena, "%lld", (long long)json_integer_value(value));
    else if (json_is_real(value))
        names[index] = arena_printf(arena, "%.15g", json_real_value(value));
    else
        names[index] = arena_printf(arena, "%s", json_is_true(value) ? "true" : "false");
    return names[index];
}

/* {"0": "tench", …} or ["tench", …] -> names by index. `field` may be missing. */
static bool read_indexed(const char *path, const json_t *config, const char *field, int count,
                         struct arena *arena, const char **names, struct error *error) {
    const json_t *list = json_object_get(config, field), *value;
    const char *key;
    size_t at;

    if (!list || json_is_null(list))
        return true;
    if (!json_is_object(list) && !json_is_array(list))
        return error_set(error, ERROR_MODEL, "%s: '%s' is neither an object nor a list", path, field);

    json_object_foreach((json_t *)list, key, value) {
        char *end;
        long index = strtol(key, &end, 10);
        if (*end || end == key || index < 0 || index > INT_MAX || !is_name(value))
            return error_set(error, ERROR_MODEL, "%s: '%s': \"%.40s\" is not a class number with a name",
                             path, field, key);
        if (!store_name(value, (int)index, count, arena, names))
            return no_memory(error);
    }

    json_array_foreach(list, at, value) {
        if (!is_name(value))
            return error_set(error, ERROR_MODEL, "%s: '%s': entry %zu is not a name", path, field, at);
        if (!store_name(value, at > INT_MAX ? INT_MAX : (int)at, count, arena, names))
            return no_memory(error);
    }

    return true;
}

/* label2id: {"tench": 0, …} -> names by index. */
static bool read_inverse(const char *path, const json_t *map, int count, struct arena *arena,
                         const char **names, struct error *error) {
    const json_t *value;
    const char *key;

    json_object_foreach((json_t *)map, key, value) {
        json_int_t index = json_is_integer(value)  ? json_integer_value(value)
                           : json_is_string(value) ? strtoll(json_string_value(value), NULL, 10)
                                                   : -1;
        if (index < 0)
            return error_set(error, ERROR_MODEL, "%s: 'label2id': \"%.40s\" has no class number", path, key);
        if (index < count && !(names[index] = arena_copy_string(arena, key, strlen(key))))
            return no_memory(error);
    }
    return true;
}

/* The names of the classes, from the first field that has some. */
static bool read_own_names(const char *path, const json_t *config, struct arena *arena, struct labels *labels,
                           struct error *error) {
    static const struct {
        const char *field, *source;
    } lists[] = {{"id2label", "config.json: id2label"},
                 {"label_names", "config.json: label_names"},
                 {"labels", "config.json: labels"}};

    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const json_t *list = json_object_get(config, lists[i].field);
        if (i > 0 && !json_is_array(list)) /* anything else of these names is no list of classes */
            continue;
        if (!read_indexed(path, config, lists[i].field, labels->count, arena, labels->full, error))
            return false;
        if (json_object_size(list) || json_array_size(list)) {
            labels->source = lists[i].source;
            return true;
        }
    }

    const json_t *inverse = json_object_get(config, "label2id");
    if (json_object_size(inverse))
        labels->source = "config.json: label2id";
    return read_inverse(path, inverse, labels->count, arena, labels->full, error);
}

/* A list of names, into an entry of labels->languages. */
static bool read_names(const char *path, const json_t *list, int count, struct arena *arena, const char **ret,
                       struct error *error) {
    for (size_t i = 0; i < json_array_size(list) && i < (size_t)count; i++) {
        const json_t *value = json_array_get(list, i);
        if (!is_name(value))
            return error_set(error, ERROR_MODEL, "%s: entry %zu is not a name", path, i);
        if (!store_name(value, (int)i, count, arena, ret))
            return no_memory(error);
    }
    return true;
}

static bool read_language(const char *path, const char *code, size_t code_length, struct arena *arena,
                          struct labels *labels, struct error *error) {
    json_t *list = config_read(path, JSON_ARRAY, error);
    if (!list)
        return false;

    struct label_language *language = &labels->languages[labels->language_count];
    language->code = arena_copy_string(arena, code, code_length);
    language->names = arena_allocate_array(arena, (size_t)labels->count, sizeof *language->names);
    bool done = language->code && language->names
                    ? read_names(path, list, labels->count, arena, language->names, error)
                    : no_memory(error);

    json_decref(list);
    labels->language_count += done;
    return done;
}

enum { LANGUAGES = 32 };

/* Every labels_<language>.json of the folder. */
static bool load_languages(const char *folder, struct arena *arena, struct labels *labels,
                           struct error *error) {
    labels->languages = arena_allocate_array(arena, LANGUAGES, sizeof *labels->languages);
    if (!labels->languages)
        return no_memory(error);

    DIR *entries = opendir(folder);
    bool done = true;
    for (const struct dirent *entry; entries && done && (entry = readdir(entries));) {
        const char *name = entry->d_name;
        size_t length = strlen(name);
        if (strncmp(name, "labels_", 7) != 0 || length < 13 || strcmp(name + length - 5, ".json") != 0 ||
            labels->language_count == LANGUAGES)
            continue;
        const char *path = arena_printf(arena, "%s/%s", folder, name);
        done = path ? read_language(path, name + 7, length - 12, arena, labels, error) : no_memory(error);
    }

    if (entries)
        closedir(entries);
    return done;
}

/* What a class without a label is called. */
static const char *make_fallback(struct arena *arena, int index, int count, bool has_labels) {
    int shift = count - IMAGENET_CLASSES;
    if (!has_labels && shift == 1 && index == 0)
        return "background";
    if (!has_labels && (shift == 0 || shift == 1))
        return imagenet_labels[index - shift];
    return arena_printf(arena, "class %d", index);
}

/* The first synonym of "tench, Tinca tinca"; NULL where there is no list. */
static const char *first_synonym(struct arena *arena, const char *full) {
    size_t length = strcspn(full, ",");
    return full[length] == ',' && full[length + 1] == ' ' && length ? arena_copy_string(arena, full, length)
                                                                    : NULL;
}

/* Is it a list of ImageNet's classes, in its order, "background" before them or not? Where its names are
 * ours (assumed), or nine of ten begin with them. */
static bool is_imagenet_list(const struct labels *labels, bool has_labels) {
    int shift = labels->count - IMAGENET_CLASSES, same = 0;
    if (shift != 0 && shift != 1)
        return false;
    if (!has_labels)
        return true;

    for (int i = shift; i < labels->count; i++) {
        const char *name = imagenet_labels[i - shift], *full = labels->full[i];
        size_t length = strlen(name);
        same += full && strncasecmp(full, name, length) == 0 && (full[length] == ',' || full[length] == 0);
    }
    return same >= IMAGENET_CLASSES * 9 / 10;
}

static int compare_names(const void *a, const void *b) {
    return strcasecmp(**(const char **const *)a, **(const char **const *)b);
}

/* A name that two classes would have is written out for both. */
static bool separate_names(struct labels *labels, struct error *error) {
    const char ***sorted = calloc((size_t)labels->count + 1, sizeof *sorted);
    if (!sorted)
        return no_memory(error);
    for (int i = 0; i < labels->count; i++)
        sorted[i] = &labels->names[i];
    qsort(sorted, (size_t)labels->count, sizeof *sorted, compare_names);

    for (int first = 0, end; first < labels->count; first = end) {
        for (end = first + 1; end < labels->count && strcasecmp(*sorted[first], *sorted[end]) == 0; end++)
            ;
        for (int i = first; end - first > 1 && i < end; i++) {
            ptrdiff_t index = sorted[i] - labels->names;
            *sorted[i] = labels->full[index] ? labels->full[index] : *sorted[i];
        }
    }

    free(sorted);
    return true;
}

/* Short names only where a label is certain to be a list of synonyms: a WordNet id names its set, and
 * ImageNet's list is known. Elsewhere a comma is part of the name. */
static bool fill_names(struct arena *arena, struct labels *labels, struct error *error) {
    bool has_labels = false;
    for (int i = 0; i < labels->count; i++)
        has_labels = has_labels || labels->full[i];
    bool imagenet = is_imagenet_list(labels, has_labels);
    labels->imagenet_shift = imagenet ? labels->count - IMAGENET_CLASSES : -1;

    for (int i = 0; i < labels->count; i++) {
        const char *full = labels->full[i];
        bool has_synonyms = full && (imagenet || labels->wnids[i]);
        const char *name = has_synonyms ? first_synonym(arena, full) : NULL;
        labels->names[i] = name ? name : full ? full : make_fallback(arena, i, labels->count, has_labels);
        if (!labels->names[i])
            return no_memory(error);
    }

    if (!labels->source)
        labels->source = !has_labels && imagenet ? "assumed: ImageNet's names" : "none: classes are numbered";
    return separate_names(labels, error);
}

/* Our French names, where the classes are ImageNet's and the folder has none of its own. */
static bool add_imagenet_french(struct arena *arena, struct labels *labels, struct error *error) {
    for (int i = 0; i < labels->language_count; i++)
        if (strcmp(labels->languages[i].code, "fr") == 0)
            return true;
    if (labels->imagenet_shift < 0 || labels->language_count == LANGUAGES)
        return true;

    const char **names = arena_allocate_array(arena, (size_t)labels->count, sizeof *names);
    if (!names)
        return no_memory(error);
    for (int i = 0; i < labels->count; i++)
        names[i] =
            i < labels->imagenet_shift ? "arrière-plan" : imagenet_labels_fr[i - labels->imagenet_shift];
    labels->languages[labels->language_count++] = (struct label_language){"fr", names};
    return true;
}

bool labels_load(const char *folder, int classes, struct arena *arena, struct labels *ret,
                 struct error *error) {
    const char *path = arena_printf(arena, "%s/config.json", folder);
    if (!path)
        return no_memory(error);

    json_t *config = config_read(path, JSON_OBJECT, error);
    if (!config && error->code != ERROR_NOT_FOUND)
        return false;

    struct labels labels = {.count = classes};
    bool done = false;
    labels.names = arena_allocate_array(arena, (size_t)classes, sizeof *labels.names);
    labels.full = arena_allocate_array(arena, (size_t)classes, sizeof *labels.full);
    labels.wnids = arena_allocate_array(arena, (size_t)classes, sizeof *labels.wnids);
    labels.imagenet = arena_allocate_array(arena, (size_t)classes, sizeof *labels.imagenet);
    if (!labels.names || !labels.full || !labels.wnids || !labels.imagenet) {
        no_memory(error);
        goto out;
    }

    done = read_own_names(path, config, arena, &labels, error) &&
           read_indexed(path, config, "id2wnid", labels.count, arena, labels.wnids, error) &&
           read_indexed(path, config, "id2imagenet", labels.count, arena, labels.imagenet, error) &&
           fill_names(arena, &labels, error) && load_languages(folder, arena, &labels, error) &&
           add_imagenet_french(arena, &labels, error);
    if (done)
        *ret = labels;

out:
    json_decref(config);
    return done;
}

static bool names_equal(const char *name, const char *label, size_t length) {
    if (strlen(name) != length)
        return false;

    for (size_t i = 0; i < length; i++) {
        int a = name[i] == '_' ? ' ' : tolower((unsigned char)name[i]);
        if (a != tolower((unsigned char)label[i]))
            return false;
    }

    return true;
}

static bool has_synonym(const char *name, const char *full) {
    while (*full) {
        full += strspn(full, ", ");
        size_t length = strcspn(full, ",");
        if (names_equal(name, full, length))
            return true;
        full += length;
    }

    return false;
}

int labels_find(const struct labels *labels, const char *name) {
    for (int i = 0; i < labels->count; i++)
        if ((labels->wnids[i] && strcmp(labels->wnids[i], name) == 0) ||
            names_equal(name, labels->names[i], strlen(labels->names[i])) ||
            (labels->full[i] && names_equal(name, labels->full[i], strlen(labels->full[i]))))
            return i;

    for (int i = 0; i < labels->count; i++)
        if (labels->full[i] && labels->names[i] != labels->full[i] && has_synonym(name, labels->full[i]))
            return i;

    return -1;
}
