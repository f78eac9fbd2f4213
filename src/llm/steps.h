/* The steps between matrix products. Each is called by every thread of an OpenMP team, which shares the rows,
 * and returns when all are done. Sums are float32. Used inside llm/ only. */
#pragma once
#include "llm/config.h"
#include "llm/kv_cache.h"

/* y = x / rms(x) * scale for each row (Zhang and Sennrich 2019). x, y: [rows, columns], may be the same;
 * scale: [columns]. */
void step_rms_norm(const float *x, int64_t rows, int64_t columns, const float *scale, float epsilon,
                   float *y);
/* x += y. [count] */
void step_add(float *x, const float *y, int64_t count);
/* gate = act(gate) * up. [count]; SiLU, or the tanh form of GELU. */
void step_gate(float *gate, const float *up, int64_t count, bool gelu);

/* Cosines and sines of a row's angles: [rows, rope_size / 2] each. */
struct turning {
    const float *cosines, *sines;
    int size;
    bool halves;
};
/* Turn the first components of each head (RoPE, Su et al. 2021). x: [rows, heads, head_size]. */
void step_turn(float *x, int64_t rows, int heads, int head_size, const struct turning *turning);

/* One row's place in its sequence. */
struct row_place {
    const int32_t *pages;
    int64_t position;
};
/* Write the rows' keys [rows, kv_heads, key_size] and values [rows, kv_heads, value_size] to the cache. */
void step_remember(struct kv_cache *cache, const struct llm_config *config, int layer,
                   const struct row_place *places, int64_t rows, const float *keys, const float *values);
/* out = softmax(q k' scale) v over the positions up to the row's own, or the last `window` of them (0: all).
 * q: [rows, heads, key_size]; out: [rows, heads, value_size]; scratch: the calling thread's own, [longest
 * position + 1]. */
void step_attend(const struct kv_cache *cache, const struct llm_config *config, int layer, int64_t window,
                 const struct row_place *places, int64_t rows, const float *q, float *out, float *scratch);
