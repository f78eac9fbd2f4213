#include "gguf/cursor.h"

#include "base/checked.h"
#include "base/limits.h"

static const char *const type_names[GGUF_TYPES] = {
    [GGUF_U8] = "uint8",      [GGUF_I8] = "int8",     [GGUF_U16] = "uint16",  [GGUF_I16] = "int16",
    [GGUF_U32] = "uint32",    [GGUF_I32] = "int32",   [GGUF_F32] = "float32", [GGUF_BOOL] = "bool",
    [GGUF_STRING] = "string", [GGUF_ARRAY] = "array", [GGUF_U64] = "uint64",  [GGUF_I64] = "int64",
    [GGUF_F64] = "float64",
};

size_t gguf_number_size(uint32_t type) {
    static const uint8_t sizes[GGUF_TYPES] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
        [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};
    return type < GGUF_TYPES ? sizes[type] : 0;
}

const uint8_t *cursor_take(struct cursor *cursor, uint64_t size, struct error *error) {
    const uint8_t *at = cursor->at;

    if (size > (uint64_t)(cursor->end - at)) {
        error_set(error, ERROR_MODEL, "%s: the file ends at byte %td, in the middle of its head",
                  cursor->name, cursor->end - cursor->base);
        return NULL;
    }

    cursor->at += size;
    return at;
}

bool cursor_u32(struct cursor *cursor, uint32_t *ret, struct error *error) {
    const uint8_t *bytes = cursor_take(cursor, sizeof *ret, error);
    if (bytes)
        memcpy(ret, bytes, sizeof *ret);
    return bytes;
}

bool cursor_u64(struct cursor *cursor, uint64_t *ret, struct error *error) {
    const uint8_t *bytes = cursor_take(cursor, sizeof *ret, error);
    if (bytes)
        memcpy(ret, bytes, sizeof *ret);
    return bytes;
}

bool cursor_text(struct cursor *cursor, struct gguf_text *ret, struct error *error) {
    uint64_t size;
    const uint8_t *bytes = cursor_u64(cursor, &size, error) ? cursor_take(cursor, size, error) : NULL;

    if (bytes)
        *ret = (struct gguf_text){(const char *)bytes, (size_t)size};
    return bytes;
}

static bool read_array(struct cursor *cursor, struct gguf_array *ret, struct error *error) {
    uint32_t type;
    uint64_t count;
    if (!cursor_u32(cursor, &type, error) || !cursor_u64(cursor, &count, error))
        return false;

    size_t number = gguf_number_size(type), size;
    const uint8_t *bytes = cursor->at;
    if (!number && type != GGUF_STRING)
        return error_set(error, ERROR_MODEL, "%s: an array of %s (type %u) at byte %td", cursor->name,
                         type < GGUF_TYPES ? type_names[type] : "no known type", type,
                         cursor->at - cursor->base);

    if (number) {
        if (!size_multiply(count, number, &size))
            size = SIZE_MAX;
        if (!cursor_take(cursor, size, error))
            return false;
    }
    for (uint64_t i = 0; !number && i < count; i++) {
        struct gguf_text text;
        if (!cursor_text(cursor, &text, error))
            return false;
    }

    *ret = (struct gguf_array){(enum gguf_type)type, (size_t)count, bytes};
    return true;
}

/* Integers are extended to 64 bits by their sign. */
static void read_number(const uint8_t *bytes, enum gguf_type type, struct gguf_value *ret) {
    size_t size = gguf_number_size(type);
    uint64_t bits = 0;

    memcpy(&bits, bytes, size);
    if (type == GGUF_F32) {
        float value;
        memcpy(&value, bytes, sizeof value);
        ret->real = (double)value;
    } else if (type == GGUF_F64) {
        memcpy(&ret->real, bytes, sizeof ret->real);
    } else {
        int unused = 64 - 8 * (int)size;
        bool is_signed = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
        ret->integer = is_signed ? (uint64_t)((int64_t)(bits << unused) >> unused) : bits;
    }
}

bool cursor_value(struct cursor *cursor, struct gguf_value *ret, struct error *error) {
    struct gguf_value value = {0};
    uint32_t type;

    if (!cursor_text(cursor, &value.key, error) || !cursor_u32(cursor, &type, error))
        return false;
    value.type = (enum gguf_type)type;

    if (type == GGUF_STRING) {
        if (!cursor_text(cursor, &value.text, error))
            return false;
    } else if (type == GGUF_ARRAY) {
        if (!read_array(cursor, &value.array, error))
            return false;
    } else {
        size_t size = gguf_number_size(type);
        const uint8_t *bytes = size ? cursor_take(cursor, size, error) : NULL;
        if (!size)
            return error_set(error, ERROR_MODEL,
                             "%s: key '%.*s' has a value of type %u, which GGUF does not know", cursor->name,
                             (int)(value.key.size < 80 ? value.key.size : 80), value.key.bytes, type);
        if (!bytes)
            return false;
        read_number(bytes, value.type, &value);
    }

    *ret = value;
    return true;
}

struct gguf_text gguf_next_text(const uint8_t **at) {
    uint64_t size;
    memcpy(&size, *at, sizeof size);

    struct gguf_text text = {(const char *)*at + sizeof size, (size_t)size};
    *at += sizeof size + size;
    return text;
}

static struct gguf_value array_element(const struct gguf_array *array, size_t index) {
    struct gguf_value value = {.type = array->type};
    read_number(array->bytes + index * gguf_number_size(array->type), array->type, &value);
    return value;
}

double gguf_array_real(const struct gguf_array *array, size_t index) {
    struct gguf_value value = array_element(array, index);
    return value.type == GGUF_F32 || value.type == GGUF_F64 ? value.real : (double)(int64_t)value.integer;
}

int64_t gguf_array_integer(const struct gguf_array *array, size_t index) {
    return (int64_t)array_element(array, index).integer;
}
