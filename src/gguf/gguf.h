/* GGUF files: keys and tensors of a language model, read over a memory map.
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * A hostile file costs an error, never a crash: a cursor knows what remains, counts are compared with it
 * before memory is taken, sizes are multiplied with overflow checks, limits are those of limits.h. A file
 * that is one of several (NAME-00001-of-00003.gguf) is read with the others. Strings and tensors stay in the
 * map: pointers are good until gguf_free. Immutable after opening: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "linear/block_type.h"

enum gguf_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
    GGUF_TYPES
};

/* Not NUL-terminated; may hold any byte. */
struct gguf_text {
    const char *bytes;
    size_t size;
};

struct gguf_array {
    enum gguf_type type; /* of its elements; never GGUF_ARRAY */
    size_t count;
    const uint8_t *bytes; /* the first element; all of them are within the file */
};

struct gguf_value {
    struct gguf_text key;
    enum gguf_type type;
    union {
        uint64_t integer; /* of GGUF_U…, GGUF_I… (as two's complement) and GGUF_BOOL */
        double real;      /* of GGUF_F32, GGUF_F64 */
        struct gguf_text text;
        struct gguf_array array;
    };
};

struct gguf_tensor {
    struct gguf_text name;
    int rank;             /* 1 … 4 */
    uint64_t dims[4];     /* innermost first: [columns, rows, …]; 1 beyond the rank */
    enum block_type type; /* one that linear/ knows */
    const uint8_t *bytes; /* [size], aligned to the file's alignment, at least 8 */
    size_t size;
};

struct gguf;

/* Open a file, with the others it was split into. ERROR_MODEL names the file and what is wrong: "model.gguf:
 * tensor 'blk.0.attn_q.weight' has the type IQ2_XXS, which is not supported". */
struct gguf *gguf_open(const char *path, struct error *error);
/* One file from memory, which must outlive it; `name` is for messages. */
struct gguf *gguf_open_memory(const char *name, const uint8_t *bytes, size_t size, struct error *error);
void gguf_free(struct gguf *gguf);
/* Have other weights in place of a tensor's, which must outlive it, [block_row_bytes of its dimensions]. Not
 * while others read. */
void gguf_replace(struct gguf *gguf, const struct gguf_tensor *tensor, enum block_type type,
                  const void *bytes);

/* The name or path that it was opened by. */
const char *gguf_name(const struct gguf *gguf);

size_t gguf_value_count(const struct gguf *gguf);
const struct gguf_value *gguf_value(const struct gguf *gguf,
                                    size_t index); /* in the order of their keys' bytes */
/* NULL: there is no such key. */
const struct gguf_value *gguf_find(const struct gguf *gguf, const char *key);

/* A key of one of several types, any of which will do. True, with *ret as it was, where the key is missing;
 * ERROR_MODEL where it is of another kind, or beyond [least, most]. */
bool gguf_integer(const struct gguf *gguf, const char *key, int64_t least, int64_t most, int64_t *ret,
                  struct error *error);
bool gguf_real(const struct gguf *gguf, const char *key, double *ret, struct error *error);
bool gguf_bool(const struct gguf *gguf, const char *key, bool *ret, struct error *error);
bool gguf_text(const struct gguf *gguf, const char *key, struct gguf_text *ret, struct error *error);
/* Element type as asked; GGUF_I32 also takes GGUF_U32. A missing key gives count 0. */
bool gguf_array(const struct gguf *gguf, const char *key, enum gguf_type type, struct gguf_array *ret,
                struct error *error);

/* The elements of an array of strings one after the other: *at begins at array->bytes; called `count` times
 * at most. */
struct gguf_text gguf_next_text(const uint8_t **at);
/* Element `index` of an array of numbers. */
double gguf_array_real(const struct gguf_array *array, size_t index);
int64_t gguf_array_integer(const struct gguf_array *array, size_t index);

bool gguf_text_is(struct gguf_text text, const char *other);

size_t gguf_tensor_count(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf,
                                      size_t index); /* in the order of their names' bytes */
/* NULL: there is none of that name. */
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);
