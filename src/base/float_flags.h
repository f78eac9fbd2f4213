/* What a thread's floating-point unit has noticed: each thread has flags of its own, which stay raised until
 * they are cleared. Comparing and choosing the larger or smaller of two numbers notices NaN; adding and
 * multiplying does not. */
#pragma once
#include <stdbool.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <stdint.h>
#endif

/* Raise one in the calling thread: 0 / 0 is an invalid operation. */
static inline void float_flags_raise(void) {
    volatile float zero = 0;
    zero = zero / zero;
}

/* Whether the calling thread met a NaN where it had to choose, or made a NaN or an infinity of finite numbers
 * (invalid operation, division by zero, overflow), since the last call. Clears the flags. On other processors
 * always false. */
static inline bool float_flags_take(void) {
#if defined(__x86_64__)
    unsigned control = _mm_getcsr();
    if (control & 0x3f)
        _mm_setcsr(control & ~0x3fu);
    return (control & 0x0d) != 0;
#elif defined(__aarch64__)
    uint64_t status;
    __asm__ volatile("mrs %0, fpsr" : "=r"(status));
    if (status & 0x9f)
        __asm__ volatile("msr fpsr, %0" : : "r"(status & ~(uint64_t)0x9f));
    return (status & 0x07) != 0;
#else
    return false;
#endif
}
