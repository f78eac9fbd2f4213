/* A byte buffer that grows up to a stated maximum. Bytes are always followed by a NUL that does not count.
 * One thread at a time for each buffer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    char *bytes; /* NULL while empty */
    size_t size, capacity;
    size_t limit; /* 0: none but memory */
    bool failed;  /* an append did not fit; set once, and later appends do nothing */
};

/* Appends return false (and set `failed`) over the limit or out of memory. A zeroed struct is an empty
 * buffer. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t size);
bool buffer_append_string(struct buffer *buffer, const char *text);
bool buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Give the memory back; the struct is an empty buffer again, its limit kept. */
void buffer_release(struct buffer *buffer);
