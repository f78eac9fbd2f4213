/* Numbers below the smallest normal one cost some hundred cycles each in an x86 processor's arithmetic. */
#pragma once
#if defined(__x86_64__)
#include <xmmintrin.h>
#elif defined(__aarch64__)
#include <stdint.h>
#endif

/* From now on, the calling thread takes such numbers for zero, as operands and as results. A thread that it
 * creates does so, too. */
static inline void denormals_flush(void) {
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040); /* flush to zero, denormals are zero */
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (uint64_t)1 << 24));
#endif
}
