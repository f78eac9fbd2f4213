/* What remains of a GGUF file's head, read front to back. Used inside gguf/ only. */
#pragma once
#include <string.h>

#include "gguf/gguf.h"

struct cursor {
    const char *name; /* of the file, for messages */
    const uint8_t *base, *at, *end;
};

/* `size` bytes; NULL and an error where the file ends before. */
const uint8_t *cursor_take(struct cursor *cursor, uint64_t size, struct error *error);
bool cursor_u32(struct cursor *cursor, uint32_t *ret, struct error *error);
bool cursor_u64(struct cursor *cursor, uint64_t *ret, struct error *error);
bool cursor_text(struct cursor *cursor, struct gguf_text *ret, struct error *error);
/* A key with its value. */
bool cursor_value(struct cursor *cursor, struct gguf_value *ret, struct error *error);
/* Bytes of a number; 0 for strings, arrays and what is no type. */
size_t gguf_number_size(uint32_t type);
