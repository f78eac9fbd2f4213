#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define BLOCK_BYTES (64u << 10)

struct block {
    struct block *next;
    size_t size, used;
    _Alignas(64) unsigned char bytes[];
};

struct arena {
    struct block *blocks; /* the first one is being filled */
};

static struct block *block_create(size_t size) {
    size_t total;
    if (!size_add(size, sizeof(struct block), &total) || total > SIZE_MAX - 64)
        return NULL;

    struct block *block = aligned_alloc(64, size_align(total, 64));

    if (block) {
        block->next = NULL;
        block->size = size;
        block->used = 0;
    }

    return block;
}

struct arena *arena_create(void) {
    return calloc(1, sizeof(struct arena));
}

static void blocks_free(struct block *block) {
    while (block) {
        struct block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_free(struct arena *arena) {
    if (!arena)
        return;
    blocks_free(arena->blocks);
    free(arena);
}

void *arena_allocate(struct arena *arena, size_t size) {
    size_t alignment = size >= 64 ? 64 : 16;
    struct block *block = arena->blocks;
    size_t start = block ? size_align(block->used, alignment) : 0;

    if (!block || start > block->size || size > block->size - start) {
        struct block *fresh = block_create(size > BLOCK_BYTES ? size : BLOCK_BYTES);
        if (!fresh)
            return NULL;

        if (block && size > BLOCK_BYTES) {
            /* A large allocation gets a block of its own; the open one stays open. */
            fresh->next = block->next;
            block->next = fresh;
        } else {
            fresh->next = block;
            arena->blocks = fresh;
        }

        block = fresh;
        start = 0;
    }

    block->used = start + size;
    return memset(block->bytes + start, 0, size);
}

void *arena_allocate_array(struct arena *arena, size_t count, size_t size) {
    size_t total;
    return size_multiply(count, size, &total) ? arena_allocate(arena, total) : NULL;
}

char *arena_copy_string(struct arena *arena, const char *text, size_t length) {
    char *copy = length < SIZE_MAX ? arena_allocate(arena, length + 1) : NULL;
    if (copy && length)
        memcpy(copy, text, length);

    return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...) {
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);

    char *text = length >= 0 ? arena_allocate(arena, (size_t)length + 1) : NULL;
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);

    return text;
}
