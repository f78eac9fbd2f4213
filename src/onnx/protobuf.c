#include "onnx/protobuf.h"

#include <string.h>

#include "base/limits.h"

static int damaged(const struct protobuf *message, const char *what, struct error *error) {
    error_set(error, ERROR_MODEL, "damaged at byte %zu: %s", (size_t)(message->at - message->base), what);
    return -1;
}

static bool read_varint(struct protobuf *message, uint64_t *ret) {
    uint64_t value = 0;
    const uint8_t *at = message->at;
    for (int shift = 0; shift < 70 && at < message->end; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1)
            return false;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            message->at = at;
            *ret = value;
            return true;
        }
    }

    return false;
}

static bool read_fixed(struct protobuf *message, size_t size, uint64_t *ret) {
    if ((size_t)(message->end - message->at) < size)
        return false;

    *ret = 0;
    memcpy(ret, message->at, size); /* little-endian, as every machine that we run on */
    message->at += size;

    return true;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's numbers are little-endian");

static bool read_number(struct protobuf *message, enum wire wire, uint64_t *ret) {
    if (wire == WIRE_VARINT)
        return read_varint(message, ret);
    return read_fixed(message, wire == WIRE_FIXED32 ? 4 : 8, ret);
}

int protobuf_next(struct protobuf *message, struct protobuf_field *ret, struct error *error) {
    if (message->at == message->end)
        return 0;
    if (message->depth > LIMIT_PROTOBUF_DEPTH)
        return damaged(message, "messages nested too deep", error);

    uint64_t tag, length;
    if (!read_varint(message, &tag) || tag >> 3 == 0 || tag >> 3 > (1u << 29) - 1)
        return damaged(message, "no field starts here", error);

    struct protobuf_field field = {.number = (uint32_t)(tag >> 3), .wire = (enum wire)(tag & 7)};
    switch (tag & 7) {

    case WIRE_VARINT:
    case WIRE_FIXED32:
    case WIRE_FIXED64:
        if (!read_number(message, field.wire, &field.scalar))
            return damaged(message, "a number is cut short", error);
        break;
    case WIRE_BYTES:
        if (!read_varint(message, &length))
            return damaged(message, "a length is cut short", error);
        if (length > (uint64_t)(message->end - message->at))
            return damaged(message, "a length runs past the end of its message", error);
        field.bytes = (struct protobuf){message->base, message->at, message->at + length, message->depth + 1};
        message->at += length;
        break;
    default:
        return damaged(message, "a field of an unknown kind", error);
    }
    *ret = field;

    return 1;
}

/* Read the numbers of a repeated field; store the first `room` of them, `size` bytes each. Returns how many
 * there are. */
static int64_t walk_numbers(struct protobuf message, uint32_t number, enum wire wire, void *destination,
                            size_t size, int64_t room, struct error *error) {
    struct protobuf_field field;
    int64_t count = 0;
    int step;

    while ((step = protobuf_next(&message, &field, error)) > 0) {
        if (field.number != number)
            continue;

        if (field.wire == wire) {
            if (count < room)
                memcpy((char *)destination + (size_t)count * size, &field.scalar, size);
            count++;
        } else if (field.wire == WIRE_BYTES) {
            while (field.bytes.at < field.bytes.end) {
                uint64_t value;
                if (!read_number(&field.bytes, wire, &value))
                    return damaged(&field.bytes, "a packed number is cut short", error);
                if (count < room)
                    memcpy((char *)destination + (size_t)count * size, &value, size);
                count++;
            }
        } else {
            return damaged(&message, "a number of the wrong kind", error);
        }
    }

    return step < 0 ? -1 : count;
}

int64_t protobuf_count(struct protobuf message, uint32_t number, enum wire wire, struct error *error) {
    return walk_numbers(message, number, wire, NULL, 0, 0, error);
}

bool protobuf_numbers(struct protobuf message, uint32_t number, enum wire wire, uint64_t *destination,
                      int64_t count, struct error *error) {
    return walk_numbers(message, number, wire, destination, sizeof *destination, count, error) >= 0;
}

bool protobuf_narrow_numbers(struct protobuf message, uint32_t number, enum wire wire, void *destination,
                             size_t size, int64_t count, struct error *error) {
    return walk_numbers(message, number, wire, destination, size, count, error) >= 0;
}

void protobuf_put_varint(struct buffer *buffer, uint64_t value) {
    uint8_t bytes[10];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[size++] = (uint8_t)(value | 0x80);

    bytes[size++] = (uint8_t)value;
    buffer_append(buffer, bytes, size);
}

static void put_tag(struct buffer *buffer, uint32_t number, enum wire wire) {
    protobuf_put_varint(buffer, (uint64_t)number << 3 | wire);
}

void protobuf_put_int(struct buffer *buffer, uint32_t number, int64_t value) {
    put_tag(buffer, number, WIRE_VARINT);
    protobuf_put_varint(buffer, (uint64_t)value);
}

void protobuf_put_float(struct buffer *buffer, uint32_t number, float value) {
    put_tag(buffer, number, WIRE_FIXED32);
    buffer_append(buffer, &value, sizeof value);
}

void protobuf_put_length(struct buffer *buffer, uint32_t number, uint64_t size) {
    put_tag(buffer, number, WIRE_BYTES);
    protobuf_put_varint(buffer, size);
}

void protobuf_put_bytes(struct buffer *buffer, uint32_t number, const void *bytes, size_t size) {
    protobuf_put_length(buffer, number, size);
    buffer_append(buffer, bytes, size);
}

void protobuf_put_string(struct buffer *buffer, uint32_t number, const char *text) {
    protobuf_put_bytes(buffer, number, text, strlen(text));
}
