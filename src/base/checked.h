/* Size arithmetic that notices overflow: false, with *ret untouched, where the result does not fit. Pure
 * functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool size_multiply(size_t a, size_t b, size_t *ret) {
    size_t result;
    if (__builtin_mul_overflow(a, b, &result))
        return false;
    *ret = result;
    return true;
}

static inline bool size_add(size_t a, size_t b, size_t *ret) {
    size_t result;
    if (__builtin_add_overflow(a, b, &result))
        return false;
    *ret = result;
    return true;
}

/* Whether [start, start + length) is within [0, total). */
static inline bool range_fits(uint64_t start, uint64_t length, uint64_t total) {
    return start <= total && length <= total - start;
}

/* Round up to a multiple of `alignment`, a power of two. The result must fit. */
static inline size_t size_align(size_t size, size_t alignment) {
    return (size + alignment - 1) & ~(alignment - 1);
}
