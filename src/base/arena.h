/* A bump allocator: many small objects with one lifetime. One thread at a time for each arena. */
#pragma once
#include <stddef.h>

struct arena;

/* NULL when out of memory. */
struct arena *arena_create(void);
/* Frees everything that came from the arena. Takes NULL. */
void arena_free(struct arena *arena);

static inline void arena_freep(struct arena **arena) {
    arena_free(*arena);
}

/* Zeroed memory, aligned to 64 bytes for 64 bytes and more, else to 16. NULL when out of memory. */
void *arena_allocate(struct arena *arena, size_t size);
/* A zeroed array of `count` elements; NULL also where its size overflows. */
void *arena_allocate_array(struct arena *arena, size_t count, size_t size);
/* A NUL-terminated copy of the first `length` bytes; NULL when out of memory. */
char *arena_copy_string(struct arena *arena, const char *text, size_t length);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
