#include "model/labels.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "model/config.h"

static bool labels_out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "no memory for a model's labels");
}

/* The text before the first comma. */
static const char *label_shorten(struct arena *arena, const char *full) {
    size_t length = strcspn(full, ",");
    while (length && full[length - 1] == ' ')
        length--;
    return length ? arena_copy_string(arena, full, length) : full;
}

static bool name_store(const json_t *value, int index, int count, struct arena *arena, const char **names) {
    if (index >= count)
        return true; /* more labels than the network has classes: the rest is never asked for */
    names[index] = arena_copy_string(arena, json_string_value(value), json_string_length(value));
    return names[index];
}

/* {"0": "tench", …} or ["tench", …] -> names by index. `field` may be missing. */
static bool indexed_read(const char *path, const json_t *config, const char *field, int count,
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
        if (*end || end == key || index < 0 || index > INT_MAX || !json_is_string(value))
            return error_set(error, ERROR_MODEL, "%s: '%s': \"%.40s\" is not a class number with a name",
                             path, field, key);
        if (!name_store(value, (int)index, count, arena, names))
            return labels_out_of_memory(error);
    }
    json_array_foreach(list, at, value) {
        if (!json_is_string(value))
            return error_set(error, ERROR_MODEL, "%s: '%s': entry %zu is not a name", path, field, at);
        if (!name_store(value, at > INT_MAX ? INT_MAX : (int)at, count, arena, names))
            return labels_out_of_memory(error);
    }
    return true;
}

static bool language_read(const char *path, const char *code, size_t code_length, struct arena *arena,
                          struct labels *labels, struct error *error) {
    json_t *list = config_read(path, JSON_ARRAY, error);
    if (!list)
        return false;
    struct label_language *language = &labels->languages[labels->language_count];
    language->code = arena_copy_string(arena, code, code_length);
    language->names = arena_allocate_array(arena, (size_t)labels->count, sizeof *language->names);
    bool done = language->code && language->names ? true : labels_out_of_memory(error);
    for (size_t i = 0; done && i < json_array_size(list) && i < (size_t)labels->count; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_string(value))
            done = error_set(error, ERROR_MODEL, "%s: entry %zu is not a name", path, i);
        else if (!(language->names[i] =
                       arena_copy_string(arena, json_string_value(value), json_string_length(value))))
            done = labels_out_of_memory(error);
    }
    json_decref(list);
    labels->language_count += done;
    return done;
}

enum { LANGUAGES = 32 };

/* Every labels_<language>.json of the folder. */
static bool languages_load(const char *folder, struct arena *arena, struct labels *labels,
                           struct error *error) {
    labels->languages = arena_allocate_array(arena, LANGUAGES, sizeof *labels->languages);
    if (!labels->languages)
        return labels_out_of_memory(error);
    DIR *entries = opendir(folder);
    bool done = true;
    for (const struct dirent *entry; entries && done && (entry = readdir(entries));) {
        const char *name = entry->d_name;
        size_t length = strlen(name);
        if (strncmp(name, "labels_", 7) != 0 || length < 13 || strcmp(name + length - 5, ".json") != 0 ||
            labels->language_count == LANGUAGES)
            continue;
        const char *path = arena_printf(arena, "%s/%s", folder, name);
        done = path ? language_read(path, name + 7, length - 12, arena, labels, error)
                    : labels_out_of_memory(error);
    }
    if (entries)
        closedir(entries);
    return done;
}

/* What a class without a label is called. */
static const char *label_fallback(struct arena *arena, int index, int count, bool has_labels) {
    int shift = count - IMAGENET_CLASSES;
    if (!has_labels && shift == 1 && index == 0)
        return "background";
    if (!has_labels && (shift == 0 || shift == 1))
        return imagenet_labels[index - shift];
    return arena_printf(arena, "class %d", index);
}

static bool names_fill(struct arena *arena, struct labels *labels, struct error *error) {
    bool has_labels = false;
    for (int i = 0; i < labels->count; i++)
        has_labels = has_labels || labels->full[i];
    for (int i = 0; i < labels->count; i++) {
        labels->names[i] = labels->full[i] ? label_shorten(arena, labels->full[i])
                                           : label_fallback(arena, i, labels->count, has_labels);
        if (!labels->names[i])
            return labels_out_of_memory(error);
    }
    return true;
}

bool labels_load(const char *folder, int classes, struct arena *arena, struct labels *ret,
                 struct error *error) {
    const char *path = arena_printf(arena, "%s/config.json", folder);
    if (!path)
        return labels_out_of_memory(error);
    json_t *config = config_read(path, JSON_OBJECT, error);
    if (!config && error->code != ERROR_NOT_FOUND)
        return false;
    struct labels labels = {.count = classes};
    labels.names = arena_allocate_array(arena, (size_t)classes, sizeof *labels.names);
    labels.full = arena_allocate_array(arena, (size_t)classes, sizeof *labels.full);
    labels.wnids = arena_allocate_array(arena, (size_t)classes, sizeof *labels.wnids);
    bool done = (labels.names && labels.full && labels.wnids) || labels_out_of_memory(error);
    done = done && indexed_read(path, config, "id2label", labels.count, arena, labels.full, error) &&
           indexed_read(path, config, "id2wnid", labels.count, arena, labels.wnids, error) &&
           names_fill(arena, &labels, error) && languages_load(folder, arena, &labels, error);
    json_decref(config);
    if (done)
        *ret = labels;
    return done;
}

static bool name_equal(const char *name, const char *label, size_t length) {
    if (strlen(name) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        int a = name[i] == '_' ? ' ' : tolower((unsigned char)name[i]);
        if (a != tolower((unsigned char)label[i]))
            return false;
    }
    return true;
}

static bool synonym_equal(const char *name, const char *full) {
    while (*full) {
        full += strspn(full, ", ");
        size_t length = strcspn(full, ",");
        if (name_equal(name, full, length))
            return true;
        full += length;
    }
    return false;
}

int labels_find(const struct labels *labels, const char *name) {
    for (int i = 0; i < labels->count; i++)
        if ((labels->wnids[i] && strcmp(labels->wnids[i], name) == 0) ||
            name_equal(name, labels->names[i], strlen(labels->names[i])) ||
            (labels->full[i] && name_equal(name, labels->full[i], strlen(labels->full[i]))))
            return i;
    for (int i = 0; i < labels->count; i++)
        if (labels->full[i] && synonym_equal(name, labels->full[i]))
            return i;
    return -1;
}
