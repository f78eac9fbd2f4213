#include "model/settings.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/text.h"
#include "model/config.h"

enum {
    MOST_CONTEXT = 1 << 24,
    MOST_PARALLEL = 1024,
    MOST_THREADS = 1024,
    MOST_BATCH = 256,
    MOST_LENGTH = 1 << 24
};

/* A whole number from 1 on. */
static bool read_count(const json_t *value, int most, int *ret) {
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 1 || number > most)
        return false;
    *ret = (int)number;
    return true;
}

static bool read_precision(const json_t *value, struct model_settings *settings) {
    return json_is_string(value) && precision_parse(json_string_value(value), &settings->precision);
}

/* Language models compute exactly, or as is fastest. */
static bool read_language_precision(const json_t *value, struct model_settings *settings) {
    return read_precision(value, settings) &&
           (settings->precision == PRECISION_AUTO || settings->precision == PRECISION_F32);
}

static bool read_variant(const json_t *value, struct model_settings *settings) {
    const char *variant = json_string_value(value);
    if (!variant || !model_folder_name_valid(variant))
        return false;
    text_copy(settings->variant, sizeof settings->variant, variant);
    return true;
}

/* Text of one line that fits. */
static bool read_text(const json_t *value, char *ret, size_t size) {
    const char *text = json_string_value(value);
    if (!text || strlen(text) >= size || strlen(text) != json_string_length(value))
        return false;
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return false;
    text_copy(ret, size, text);
    return true;
}

static bool read_title(const json_t *value, struct model_settings *settings) {
    return read_text(value, settings->title, sizeof settings->title);
}

static bool read_description(const json_t *value, struct model_settings *settings) {
    return read_text(value, settings->description, sizeof settings->description);
}

static bool read_threads(const json_t *value, struct model_settings *settings) {
    return read_count(value, MOST_THREADS, &settings->threads);
}

static bool read_batch(const json_t *value, struct model_settings *settings) {
    return read_count(value, MOST_BATCH, &settings->batch);
}

static bool read_length(const json_t *value, struct model_settings *settings) {
    return read_count(value, MOST_LENGTH, &settings->length);
}

static bool read_context(const json_t *value, struct model_settings *settings) {
    return read_count(value, MOST_CONTEXT, &settings->context);
}

static bool read_parallel(const json_t *value, struct model_settings *settings) {
    return read_count(value, MOST_PARALLEL, &settings->parallel);
}

static bool read_kv(const json_t *value, struct model_settings *settings) {
    static const char *const types[] = {"f16", "bf16", "q8_0", "f32"};
    for (size_t i = 0; json_is_string(value) && i < sizeof types / sizeof *types; i++)
        if (strcmp(json_string_value(value), types[i]) == 0)
            settings->kv = types[i];
    return settings->kv != NULL;
}

struct key {
    const char *name;
    bool (*read)(const json_t *value, struct model_settings *settings);
    const char *values; /* for messages */
};

#define KEYS_OF_BOTH                                                   \
    {"title", read_title, "a line of at most 127 bytes"}, {            \
        "description", read_description, "a line of at most 399 bytes" \
    }

static const struct key network_keys[] = {
    KEYS_OF_BOTH,
    {"precision", read_precision, "auto, f32, bf16 or int8"},
    {"threads", read_threads, "a number of threads, at most 1024"},
    {"batch", read_batch, "a number of rows, at most 256"},
    {"length", read_length, "a whole number from 1 on"},
    {0},
};
static const struct key language_keys[] = {
    KEYS_OF_BOTH,
    {"precision", read_language_precision, "auto or f32"},
    {"variant", read_variant, "the name of one of the model's files, as Q4_K_M"},
    {"context", read_context, "a number of tokens"},
    {"parallel", read_parallel, "a number of sequences, at most 1024"},
    {"kv", read_kv, "f16, bf16, q8_0 or f32"},
    {0},
};

static bool refuse_key(const char *path, const char *name, const struct key *keys, struct error *error) {
    char known[160] = "";
    for (size_t used = 0; keys->name; keys++)
        used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", keys->name);
    return error_set(error, ERROR_MODEL, "%s: unknown key '%.60s'; there is %s", path, name, known);
}

static bool read_all(const json_t *settings, const char *path, const struct key *keys,
                     struct model_settings *ret, struct error *error) {
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)settings, name, value) {
        const struct key *key = keys;
        while (key->name && strcmp(key->name, name) != 0)
            key++;
        if (!key->name)
            return refuse_key(path, name, keys, error);
        if (!key->read(value, ret))
            return error_set(error, ERROR_MODEL, "%s: '%s' is not %s", path, name, key->values);
    }
    return true;
}

bool model_settings_read(const char *folder, enum model_kind kind, struct model_settings *ret,
                         struct error *error) {
    struct model_settings settings = {.precision = PRECISION_AUTO};
    cleanup(freep) char *path = NULL;
    if (asprintf(&path, "%s/guichet.json", folder) < 0) {
        path = NULL;
        return error_set(error, ERROR_MEMORY, "not enough memory for a model");
    }

    json_t *json = config_read(path, JSON_OBJECT, error);
    bool done =
        json ? read_all(json, path, kind == MODEL_LANGUAGE ? language_keys : network_keys, &settings, error)
             : error->code == ERROR_NOT_FOUND;
    json_decref(json);
    if (done)
        *ret = settings;
    return done;
}
