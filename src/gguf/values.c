/* Keys by name, as the types that callers want. */
#include <stdlib.h>

#include "gguf/file.h"

int gguf_text_compare(struct gguf_text a, struct gguf_text b) {
    int order = memcmp(a.bytes, b.bytes, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

bool gguf_text_is(struct gguf_text text, const char *other) {
    return text.size == strlen(other) && memcmp(text.bytes, other, text.size) == 0;
}

static int compare_keys(const void *a, const void *b) {
    return gguf_text_compare(((const struct gguf_value *)a)->key, ((const struct gguf_value *)b)->key);
}

bool gguf_sort_values(struct gguf *gguf, struct error *error) {
    qsort(gguf->values, gguf->value_count, sizeof *gguf->values, compare_keys);
    for (size_t i = 1; i < gguf->value_count; i++)
        if (compare_keys(&gguf->values[i - 1], &gguf->values[i]) == 0)
            return error_set(error, ERROR_MODEL, "%s: the key '%.*s' comes twice", gguf->name,
                             SHOWN(gguf->values[i].key));
    return true;
}

const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key) {
    struct gguf_value wanted = {.key = {key, strlen(key)}};
    return gguf->value_count ? bsearch(&wanted, gguf->values, gguf->value_count, sizeof wanted, compare_keys)
                             : NULL;
}

size_t gguf_value_count(const struct gguf *gguf) {
    return gguf->value_count;
}

const struct gguf_value *gguf_value(const struct gguf *gguf, size_t index) {
    return &gguf->values[index];
}

static bool wrong_kind(const struct gguf *gguf, const char *key, const char *kind, struct error *error) {
    return error_set(error, ERROR_MODEL, "%s: the key '%s' should be %s", gguf->name, key, kind);
}

static bool is_integer(enum gguf_type type) {
    return gguf_number_size(type) && type != GGUF_F32 && type != GGUF_F64 && type != GGUF_BOOL;
}

bool gguf_integer(const struct gguf *gguf, const char *key, int64_t least, int64_t most, int64_t *ret,
                  struct error *error) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value)
        return true;
    if (!is_integer(value->type))
        return wrong_kind(gguf, key, "a whole number", error);

    int64_t number = (int64_t)value->integer;
    if (number < least || number > most)
        return error_set(error, ERROR_MODEL, "%s: the key '%s' is %lld, which is not within %lld and %lld",
                         gguf->name, key, (long long)number, (long long)least, (long long)most);
    *ret = number;
    return true;
}

bool gguf_real(const struct gguf *gguf, const char *key, double *ret, struct error *error) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value)
        return true;

    bool is_real = value->type == GGUF_F32 || value->type == GGUF_F64;
    if (!is_real && !is_integer(value->type))
        return wrong_kind(gguf, key, "a number", error);
    double number = is_real ? value->real : (double)(int64_t)value->integer;
    if (!(number - number == 0))
        return wrong_kind(gguf, key, "a finite number", error);

    *ret = number;
    return true;
}

bool gguf_bool(const struct gguf *gguf, const char *key, bool *ret, struct error *error) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value)
        return true;
    if (value->type != GGUF_BOOL)
        return wrong_kind(gguf, key, "true or false", error);

    *ret = value->integer != 0;
    return true;
}

bool gguf_text(const struct gguf *gguf, const char *key, struct gguf_text *ret, struct error *error) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value)
        return true;
    if (value->type != GGUF_STRING)
        return wrong_kind(gguf, key, "a string", error);

    *ret = value->text;
    return true;
}

bool gguf_array(const struct gguf *gguf, const char *key, enum gguf_type type, struct gguf_array *ret,
                struct error *error) {
    const struct gguf_value *value = gguf_find(gguf, key);
    if (!value) {
        *ret = (struct gguf_array){.type = type};
        return true;
    }

    bool alike = value->type == GGUF_ARRAY &&
                 (value->array.type == type || (type == GGUF_I32 && value->array.type == GGUF_U32));
    if (!alike)
        return wrong_kind(gguf, key,
                          type == GGUF_STRING ? "an array of strings"
                          : type == GGUF_F32  ? "an array of float32"
                                              : "an array of whole numbers",
                          error);
    *ret = value->array;
    return true;
}
