/* Copies of strings into arrays. Pure functions: any thread. */
#pragma once
#include <string.h>

/* `text`, cut where it does not fit into `size` bytes with its NUL. `size` is at least 1. */
static inline void text_copy(char *ret, size_t size, const char *text) {
    size_t length = strlen(text);
    if (length >= size)
        length = size - 1;

    memcpy(ret, text, length);
    ret[length] = 0;
}
