#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static bool buffer_reserve(struct buffer *buffer, size_t more) {
    size_t needed;
    if (buffer->failed || !size_add(buffer->size, more, &needed) || needed == SIZE_MAX ||
        (buffer->limit && needed > buffer->limit)) {
        buffer->failed = true;
        return false;
    }

    if (needed < buffer->capacity)
        return true;

    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity <= needed)
        capacity = capacity > SIZE_MAX / 2 ? needed + 1 : capacity * 2;

    char *bytes = realloc(buffer->bytes, capacity);
    if (!bytes) {
        buffer->failed = true;
        return false;
    }

    buffer->bytes = bytes;
    buffer->capacity = capacity;
    return true;
}

char *buffer_extend(struct buffer *buffer, size_t size) {
    if (!buffer_reserve(buffer, size))
        return NULL;

    char *more = buffer->bytes + buffer->size;
    buffer->size += size;
    buffer->bytes[buffer->size] = 0;
    return more;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t size) {
    char *more = buffer_extend(buffer, size);
    if (more && size)
        memcpy(more, bytes, size);
    return more != NULL;
}

bool buffer_append_string(struct buffer *buffer, const char *text) {
    return buffer_append(buffer, text, strlen(text));
}

bool buffer_append_number(struct buffer *buffer, uint64_t number) {
    char digits[20], *first = digits + sizeof digits;

    do
        *--first = (char)('0' + number % 10);
    while (number /= 10);
    return buffer_append(buffer, first, (size_t)(digits + sizeof digits - first));
}

bool buffer_printf(struct buffer *buffer, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);

    bool done = length >= 0 && buffer_reserve(buffer, (size_t)length);
    if (done) {
        vsnprintf(buffer->bytes + buffer->size, (size_t)length + 1, format, again);
        buffer->size += (size_t)length;
    }
    va_end(again);

    return done;
}

void buffer_release(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){.limit = buffer->limit};
}
