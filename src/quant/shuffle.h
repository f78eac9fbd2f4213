/* The order in which photos or texts are split among choosing and judging. */
#pragma once
#include <stdint.h>

/* A permutation of [0, count) by a seed (xorshift*, Vigna 2016). */
static inline void shuffle(int *order, int count, uint64_t seed) {
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
    for (int i = 0; i < count; i++)
        order[i] = i;
    for (int i = count - 1; i > 0; i--) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        int other = (int)((state * 0x2545f4914f6cdd1du >> 33) % (uint64_t)(i + 1)), held = order[i];
        order[i] = order[other];
        order[other] = held;
    }
}
