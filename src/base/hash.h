/* A 64-bit fingerprint (FNV-1a over words), to notice changes; it does not resist forgery. Pure functions:
 * any thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HASH_START 0xcbf29ce484222325ull

static inline uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t size) {
    const uint8_t *at = bytes;

    for (; size >= 8; at += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        hash = (hash ^ word) * 0x100000001b3ull;
        hash ^= hash >> 29;
    }

    for (; size; at++, size--)
        hash = (hash ^ *at) * 0x100000001b3ull;

    return hash;
}
