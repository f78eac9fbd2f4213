/* The head of a file, and of each file of a split one. */
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/limits.h"
#include "gguf/file.h"

/* The least bytes that a key with its value, and a tensor's description, take in a file. */
enum { LEAST_VALUE = 8 + 4 + 1, LEAST_TENSOR = 8 + 4 + 8 + 4 + 8 };

struct gguf_head {
    uint64_t tensor_count, value_count;
};

static bool read_head(struct cursor *cursor, struct gguf_head *ret, struct error *error) {
    const uint8_t *magic = cursor_take(cursor, 4, error);
    uint32_t version;
    struct gguf_head head;

    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return error_set(error, ERROR_MODEL, "%s is not a GGUF file", cursor->name);
    if (!cursor_u32(cursor, &version, error))
        return false;
    if (version != 2 && version != 3)
        return error_set(error, ERROR_MODEL, "%s has version %u of GGUF%s; versions 2 and 3 are supported",
                         cursor->name, version, version > 0xffff ? " (big-endian)" : "");
    if (!cursor_u64(cursor, &head.tensor_count, error) || !cursor_u64(cursor, &head.value_count, error))
        return false;

    uint64_t left = (uint64_t)(cursor->end - cursor->at);
    if (head.tensor_count > left / LEAST_TENSOR || head.value_count > left / LEAST_VALUE)
        return error_set(error, ERROR_MODEL,
                         "%s claims %llu tensors and %llu keys, more than its %td bytes can hold",
                         cursor->name, (unsigned long long)head.tensor_count,
                         (unsigned long long)head.value_count, cursor->end - cursor->base);
    *ret = head;
    return true;
}

/* Room for `more` elements of `size` bytes after `count`; false when memory is out. */
static bool grow(void **array, size_t count, uint64_t more, size_t size) {
    size_t total, bytes;
    if (!size_add(count, more, &total) || !size_multiply(total ? total : 1, size, &bytes))
        return false;

    void *grown = realloc(*array, bytes);
    if (grown)
        *array = grown;
    return grown;
}

static bool out_of_memory(const char *name, struct error *error) {
    return error_set(error, ERROR_MEMORY, "%s: not enough memory for the list of its contents", name);
}

static bool read_dims(struct cursor *cursor, struct gguf_tensor *tensor, struct error *error) {
    uint32_t rank;
    if (!cursor_u32(cursor, &rank, error))
        return false;
    if (rank < 1 || rank > 4)
        return error_set(error, ERROR_MODEL, "%s: tensor '%.*s' has %u dimensions, and 1 to 4 are possible",
                         cursor->name, SHOWN(tensor->name), rank);

    tensor->rank = (int)rank;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->dims[i] = 1;
        if (i < rank && !cursor_u64(cursor, &tensor->dims[i], error))
            return false;
    }
    return true;
}

/* The size in bytes, from type and dimensions. */
static bool measure(const char *name, uint32_t type, struct gguf_tensor *tensor, struct error *error) {
    const char *type_name = block_type_name(type);
    size_t size;

    if (!block_type_is_known(type))
        return error_set(error, ERROR_MODEL, "%s: tensor '%.*s' has the type %s%.0u, which is not supported",
                         name, SHOWN(tensor->name), type_name ? type_name : "number ", type_name ? 0 : type);
    tensor->type = (enum block_type)type;

    bool fits = tensor->dims[0] > 0 && block_row_bytes(tensor->type, tensor->dims[0], &size);
    for (int i = 1; fits && i < 4; i++)
        fits = tensor->dims[i] > 0 && size_multiply(size, tensor->dims[i], &size);
    if (!fits)
        return error_set(error, ERROR_MODEL, "%s: tensor '%.*s' of %llu x %llu x %llu x %llu cannot be %s",
                         name, SHOWN(tensor->name), (unsigned long long)tensor->dims[0],
                         (unsigned long long)tensor->dims[1], (unsigned long long)tensor->dims[2],
                         (unsigned long long)tensor->dims[3], type_name);
    tensor->size = size;
    return true;
}

/* Its description; tensor->bytes is NULL + the offset, until the data's start is known. */
static bool read_tensor(struct cursor *cursor, struct gguf_tensor *ret, uint64_t *ret_offset,
                        struct error *error) {
    struct gguf_tensor tensor = {0};
    uint32_t type;

    if (!cursor_text(cursor, &tensor.name, error) || !read_dims(cursor, &tensor, error) ||
        !cursor_u32(cursor, &type, error) || !cursor_u64(cursor, ret_offset, error) ||
        !measure(cursor->name, type, &tensor, error))
        return false;

    *ret = tensor;
    return true;
}

static bool read_tensors(struct gguf *gguf, struct cursor *cursor, uint64_t count, uint64_t alignment,
                         struct error *error) {
    cleanup(freep) uint64_t *offsets = calloc(count ? count : 1, sizeof *offsets);
    if (!offsets || !grow((void **)&gguf->tensors, gguf->tensor_count, count, sizeof *gguf->tensors))
        return out_of_memory(cursor->name, error);

    struct gguf_tensor *tensors = gguf->tensors + gguf->tensor_count;
    for (uint64_t i = 0; i < count; i++)
        if (!read_tensor(cursor, &tensors[i], &offsets[i], error))
            return false;

    size_t total = (size_t)(cursor->end - cursor->base);
    size_t start = size_align((size_t)(cursor->at - cursor->base), alignment);
    for (uint64_t i = 0; i < count; i++) {
        if (offsets[i] % alignment)
            return error_set(error, ERROR_MODEL,
                             "%s: tensor '%.*s' begins at %llu, which is no multiple of %llu", cursor->name,
                             SHOWN(tensors[i].name), (unsigned long long)offsets[i],
                             (unsigned long long)alignment);
        if (start > total || !range_fits(offsets[i], tensors[i].size, total - start))
            return error_set(error, ERROR_MODEL,
                             "%s ends before the data of tensor '%.*s' does; is the file complete?",
                             cursor->name, SHOWN(tensors[i].name));
        tensors[i].bytes = cursor->base + start + offsets[i];
    }
    gguf->tensor_count += (size_t)count;
    return true;
}

/* A file's keys are the model's where `keep` says so; those of a later part say nothing new. */
static bool read_values(struct gguf *gguf, struct cursor *cursor, uint64_t count, bool keep,
                        uint64_t *ret_alignment, struct error *error) {
    if (keep && !grow((void **)&gguf->values, 0, count, sizeof *gguf->values))
        return out_of_memory(cursor->name, error);

    uint64_t alignment = 32;
    for (uint64_t i = 0; i < count; i++) {
        struct gguf_value value;
        if (!cursor_value(cursor, &value, error))
            return false;
        if (gguf_text_is(value.key, "general.alignment"))
            alignment = value.type == GGUF_U32 ? value.integer : 0;
        if (keep)
            gguf->values[gguf->value_count++] = value;
    }

    if (alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)))
        return error_set(error, ERROR_MODEL, "%s: general.alignment is no power of two from 8 on",
                         cursor->name);
    *ret_alignment = alignment;
    return true;
}

static bool read_part(struct gguf *gguf, const char *name, const uint8_t *bytes, size_t size, bool first,
                      struct error *error) {
    struct cursor cursor = {name, bytes, bytes, bytes + size};
    struct gguf_head head = {0};
    uint64_t alignment = 0;

    return read_head(&cursor, &head, error) &&
           read_values(gguf, &cursor, head.value_count, first, &alignment, error) &&
           (!first || gguf_sort_values(gguf, error)) &&
           read_tensors(gguf, &cursor, head.tensor_count, alignment, error);
}

static int compare_tensors(const void *a, const void *b) {
    return gguf_text_compare(((const struct gguf_tensor *)a)->name, ((const struct gguf_tensor *)b)->name);
}

static bool sort_tensors(struct gguf *gguf, struct error *error) {
    if (gguf->tensor_count)
        qsort(gguf->tensors, gguf->tensor_count, sizeof *gguf->tensors, compare_tensors);
    for (size_t i = 1; i < gguf->tensor_count; i++)
        if (compare_tensors(&gguf->tensors[i - 1], &gguf->tensors[i]) == 0)
            return error_set(error, ERROR_MODEL, "%s: the tensor '%.*s' comes twice", gguf->name,
                             SHOWN(gguf->tensors[i].name));
    return true;
}

/* --- Files ---------------------------------------------------------------------------------------------- */

static bool open_part(struct gguf *gguf, const char *path, bool first, struct error *error) {
    struct file_map map;
    if (!grow((void **)&gguf->maps, gguf->map_count, 1, sizeof *gguf->maps))
        return out_of_memory(path, error);
    if (!file_map_open(path, LIMIT_GGUF_BYTES, &map, error))
        return false;

    gguf->maps[gguf->map_count++] = map;
    return read_part(gguf, path, map.bytes, map.size, first, error);
}

/* "…-00001-of-00003.gguf": the length of "…"; 0 where the name has no such ending. */
static size_t split_stem(const char *path, int64_t count) {
    char ending[40];
    size_t length = strlen(path), size;

    snprintf(ending, sizeof ending, "-00001-of-%05lld.gguf", (long long)count);
    size = strlen(ending);
    return length > size && strcmp(path + length - size, ending) == 0 ? length - size : 0;
}

static bool open_other_parts(struct gguf *gguf, const char *path, struct error *error) {
    int64_t count = 1, number = 0, tensors = (int64_t)gguf->tensor_count;
    if (!gguf_integer(gguf, "split.count", 0, LIMIT_GGUF_PARTS, &count, error) ||
        !gguf_integer(gguf, "split.no", 0, LIMIT_GGUF_PARTS, &number, error) ||
        !gguf_integer(gguf, "split.tensors.count", 0, INT64_MAX, &tensors, error))
        return false;
    if (count < 2)
        return true;

    size_t stem = split_stem(path, count);
    if (number != 0 || !stem)
        return error_set(error, ERROR_MODEL,
                         "%s is one of %lld files of a model: name the first, …-00001-of-%05lld.gguf", path,
                         (long long)count, (long long)count);

    for (int64_t i = 2; i <= count; i++) {
        cleanup(freep) char *part = NULL;
        if (asprintf(&part, "%.*s-%05lld-of-%05lld.gguf", (int)stem, path, (long long)i, (long long)count) <
            0) {
            part = NULL;
            return out_of_memory(path, error);
        }
        if (!open_part(gguf, part, false, error))
            return false;
    }

    if (tensors != (int64_t)gguf->tensor_count && gguf_find(gguf, "split.tensors.count"))
        return error_set(error, ERROR_MODEL, "%s and the other parts have %zu tensors, but should have %lld",
                         path, gguf->tensor_count, (long long)tensors);
    return true;
}

static struct gguf *create(const char *name, struct error *error) {
    struct gguf *gguf = calloc(1, sizeof *gguf);
    if (gguf)
        gguf->name = strdup(name);
    if (gguf && gguf->name)
        return gguf;

    out_of_memory(name, error);
    free(gguf);
    return NULL;
}

struct gguf *gguf_open(const char *path, struct error *error) {
    struct gguf *gguf = create(path, error);
    if (gguf && open_part(gguf, path, true, error) && open_other_parts(gguf, path, error) &&
        sort_tensors(gguf, error))
        return gguf;

    gguf_free(gguf);
    return NULL;
}

struct gguf *gguf_open_memory(const char *name, const uint8_t *bytes, size_t size, struct error *error) {
    struct gguf *gguf = create(name, error);
    if (gguf && read_part(gguf, name, bytes, size, true, error) && sort_tensors(gguf, error))
        return gguf;

    gguf_free(gguf);
    return NULL;
}

void gguf_free(struct gguf *gguf) {
    if (!gguf)
        return;

    for (size_t i = 0; i < gguf->map_count; i++)
        file_map_close(&gguf->maps[i]);
    free(gguf->maps);
    free(gguf->values);
    free(gguf->tensors);
    free(gguf->name);
    free(gguf);
}

void gguf_replace(struct gguf *gguf, const struct gguf_tensor *tensor, enum block_type type,
                  const void *bytes) {
    struct gguf_tensor *own = &gguf->tensors[tensor - gguf->tensors];
    size_t row = 0, rows = 1;
    if (!block_row_bytes(type, own->dims[0], &row))
        return;

    for (int i = 1; i < own->rank; i++)
        rows *= own->dims[i];
    own->type = type;
    own->bytes = bytes;
    own->size = row * rows;
}

const char *gguf_name(const struct gguf *gguf) {
    return gguf->name;
}

size_t gguf_tensor_count(const struct gguf *gguf) {
    return gguf->tensor_count;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, size_t index) {
    return &gguf->tensors[index];
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name) {
    struct gguf_tensor wanted = {.name = {name, strlen(name)}};
    return gguf->tensor_count
               ? bsearch(&wanted, gguf->tensors, gguf->tensor_count, sizeof wanted, compare_tensors)
               : NULL;
}
