/* Merging neighbours until no rule applies: the core of byte pair encoding and of SentencePiece's. One thread
 * for each merge. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Symbols of a text, in its order; those merged into their left neighbour have size 0. */
struct symbol {
    uint32_t start, size;
    int32_t previous, next; /* among those that are left; -1 at the ends */
};

/* May text[0, left) and text[left, size) be merged? The lowest cost comes first, of equal ones the leftmost.
 */
typedef bool (*merge_rule)(const void *context, const char *text, size_t left, size_t size, float *ret_cost);

/* Merge symbols[0, count), which lie side by side in `text`; previous and next need not be set. The time is
 * O(count log count). False when memory is out. */
bool symbols_merge(struct symbol *symbols, int32_t count, const char *text, merge_rule rule,
                   const void *context);
