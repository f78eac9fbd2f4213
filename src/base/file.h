/* Whole files: mapped, read, and written so that nobody ever sees half of one. Any thread. */
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

/* Map a regular file of at most `limit` bytes. An empty file maps to size 0. ERROR_NOT_FOUND where there is
 * none. */
bool file_map_open(const char *path, uint64_t limit, struct file_map *ret, struct error *error);
void file_map_close(struct file_map *map);
/* Tell the kernel that a part of the mapping is not needed any more, so that it stops counting as our memory;
 * touching it again reads it again. Rounds inwards to whole pages. */
void file_map_discard(const void *bytes, size_t size);
/* The same for a part of this map, and for what lies around it in the same 2 MB: with one page that is
 * touched the kernel maps all of a large folio, and so brings back what was discarded before. */
void file_map_discard_around(const struct file_map *map, const void *bytes, size_t size);

/* Read a whole file of at most `limit` bytes into malloc'ed memory, with a NUL behind it. Free with free().
 */
char *file_read(const char *path, uint64_t limit, size_t *ret_size, struct error *error);

/* Write `path` atomically: into a temporary neighbour, fsync, rename. Nothing is left behind on failure. */
bool file_write(const char *path, const void *bytes, size_t size, struct error *error);
/* The same for what is not one piece of memory: `produce` writes it, and returns false, with errno set, where
 * it cannot. */
bool file_write_with(const char *path, bool (*produce)(const void *context, FILE *file), const void *context,
                     struct error *error);
