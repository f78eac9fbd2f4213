/* UTF-8 as RFC 3629 has it. Pure functions: any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that bytes[0, size) start with, size > 0; 0: they start with none; -1: with a part
 * of one. */
static inline int utf8_length(const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    uint8_t first = at[0];
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;

    int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size)
            return -1;
        /* No overlong forms, no surrogates, nothing beyond U+10FFFF. */
        uint8_t least = i > 1 ? 0x80 : first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t most = i > 1 ? 0xbf : first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (at[i] < least || at[i] > most)
            return 0;
    }
    return length;
}

/* Bytes at the end of bytes[0, size) that are the beginning of a character. */
static inline size_t utf8_unfinished(const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    for (size_t back = 1; back <= 3 && back <= size; back++)
        if (at[size - back] < 0x80 || at[size - back] >= 0xc0)
            return utf8_length(at + size - back, back) < 0 ? back : 0;
    return 0;
}
