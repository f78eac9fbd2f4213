/* Monotonic time, for measuring and for deadlines. Any thread. */
#pragma once
#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Milliseconds, with a fraction. */
static inline double clock_ms(void) {
    return (double)clock_ns() / 1e6;
}
