/* Protocol buffers' wire format, read with a cursor that knows what remains of its message and never leaves
 * it. https://protobuf.dev/programming-guides/encoding/ */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

/* The rest of a message: [at, end). `base` is the start of the file, for error messages. */
struct protobuf {
    const uint8_t *base, *at, *end;
    int depth; /* messages around this one */
};

struct protobuf_field {
    uint32_t number;
    enum wire wire;
    uint64_t scalar;       /* of a varint, fixed32 or fixed64 */
    struct protobuf bytes; /* of WIRE_BYTES: a message, a string, packed numbers */
};

/* The next field: 1 and *ret, 0 at the end, -1 and an error (ERROR_MODEL naming the byte) if the message is
 * damaged or nested deeper than LIMIT_PROTOBUF_DEPTH. */
int protobuf_next(struct protobuf *message, struct protobuf_field *ret, struct error *error);

/* How many numbers a repeated field has, packed or not, mixed as protobuf allows; `wire` is the form of one
 * number. Counting comes first, so that memory is allocated only for what the file really holds. -1 if the
 * message is damaged. */
int64_t protobuf_count(struct protobuf message, uint32_t number, enum wire wire, struct error *error);
/* Each as its raw 64 bits into destination[i], at most `count`. */
bool protobuf_numbers(struct protobuf message, uint32_t number, enum wire wire, uint64_t *destination,
                      int64_t count, struct error *error);
/* The same, narrowed to `size` bytes each (1, 2, 4, 8), little-endian truncation. */
bool protobuf_narrow_numbers(struct protobuf message, uint32_t number, enum wire wire, void *destination,
                             size_t size, int64_t count, struct error *error);

/* Writing appends to a buffer; its `failed` says afterwards whether memory was out. */
void protobuf_put_varint(struct buffer *buffer, uint64_t value);
void protobuf_put_int(struct buffer *buffer, uint32_t number, int64_t value);
void protobuf_put_float(struct buffer *buffer, uint32_t number, float value);
void protobuf_put_bytes(struct buffer *buffer, uint32_t number, const void *bytes, size_t size);
void protobuf_put_string(struct buffer *buffer, uint32_t number, const char *text);
/* Tag and length only; the caller appends the bytes. */
void protobuf_put_length(struct buffer *buffer, uint32_t number, uint64_t size);
