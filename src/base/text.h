/* Copies of strings into arrays, and kinds of characters. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <string.h>

/* One of the blanks that JSON has, too. */
static inline bool text_is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* `text`, cut where it does not fit into `size` bytes with its NUL. `size` is at least 1. */
static inline void text_copy(char *ret, size_t size, const char *text) {
    size_t length = strlen(text);
    if (length >= size)
        length = size - 1;

    memcpy(ret, text, length);
    ret[length] = 0;
}
