/* A byte buffer that grows up to a limit. A NUL, not counted in `size`, follows the bytes. One thread at a
 * time for each buffer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    char *bytes; /* NULL while empty */
    size_t size, capacity;
    size_t limit; /* bytes; 0: no limit */
    bool failed;  /* an append did not fit; later appends do nothing */
};

/* Appends return false, and set `failed`, over the limit or out of memory. A zeroed struct is an empty
 * buffer. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t size);
bool buffer_append_string(struct buffer *buffer, const char *text);
bool buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* In decimal. */
bool buffer_append_number(struct buffer *buffer, uint64_t number);
/* `size` bytes more, for the caller to fill in at once; NULL where they do not fit. */
char *buffer_extend(struct buffer *buffer, size_t size);
/* Free the memory; the struct is an empty buffer again, with the same limit. */
void buffer_release(struct buffer *buffer);
