/* A bump allocator: many small things with one lifetime. Not safe for use from two threads at once. */
#pragma once
#include <stddef.h>

struct arena;

/* Never fails by crashing: NULL when memory is out. */
struct arena *arena_create(void);
/* Frees everything that came from the arena. NULL is welcome. */
void arena_free(struct arena *arena);

/* Zeroed memory, aligned to 64 bytes for 64 bytes and more, else to 16. NULL when memory is out. */
void *arena_allocate(struct arena *arena, size_t size);
/* Zeroed array of count elements; NULL on overflow too. */
void *arena_allocate_array(struct arena *arena, size_t count, size_t size);
/* A NUL-terminated copy of the first `length` bytes. */
char *arena_copy_string(struct arena *arena, const char *text, size_t length);
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
