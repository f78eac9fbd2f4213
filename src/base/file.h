/* Whole files: mapped, read, and written so that no reader ever sees a partial one. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

/* A file mapped read-only and private. */
struct file_map {
    const uint8_t *bytes;
    size_t size;
};

/* Map a regular file of at most `limit` bytes (more is ERROR_TOO_LARGE). An empty file maps to size 0.
 * ERROR_NOT_FOUND where there is none. */
bool file_map_open(const char *path, uint64_t limit, struct file_map *ret, struct error *error);
void file_map_close(struct file_map *map);
/* Tell the kernel that a part of a mapping is not needed any more, so that it stops counting as this
 * process's memory. Touching it again reads it again. Rounds inwards to whole pages. */
void file_map_discard(const void *bytes, size_t size);
/* The same for a part of this map and the 2 MB around it: when one page is touched, the kernel maps all of a
 * large folio, which brings back what was discarded before. */
void file_map_discard_around(const struct file_map *map, const void *bytes, size_t size);

/* A part of a map: [start, end) from its first byte. */
struct file_range {
    size_t start, end;
};

/* Need the file no more, whatever becomes of it: `kept` (sorted in place by start) becomes private memory
 * with the same contents at the same address, the rest reads as zeros. Readers of what is kept may run
 * meanwhile. False when memory is out: then a part is still the file's. */
bool file_map_detach(const struct file_map *map, struct file_range *kept, size_t count);

/* Read a whole file of at most `limit` bytes, with a NUL after it. Free with free(). Errors are those of
 * file_map_open. */
char *file_read(const char *path, uint64_t limit, size_t *ret_size, struct error *error);

/* Write `path` atomically: into a temporary file in its folder, fsync, rename. A failure leaves nothing. */
bool file_write(const char *path, const void *bytes, size_t size, struct error *error);
/* The same for contents that are not one piece of memory: `produce` writes them, and returns false with errno
 * set where it cannot. */
bool file_write_with(const char *path, bool (*produce)(const void *context, FILE *file), const void *context,
                     struct error *error);
