#include "llm/steps.h"

#include <math.h>
#include <string.h>

#include "base/multiversion.h"

enum { LANES = 16 };

MULTIVERSION static float dot(const float *a, const float *b, int64_t count) {
    float sums[LANES] = {0};
    int64_t i = 0;

    for (; i + LANES <= count; i += LANES)
        for (int l = 0; l < LANES; l++)
            sums[l] += a[i + l] * b[i + l];
    for (int l = 0; i < count; i++, l++)
        sums[l] += a[i] * b[i];

    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            sums[l] += sums[l + half];
    return sums[0];
}

void step_rms_norm(const float *x, int64_t rows, int64_t columns, const float *scale, float epsilon,
                   float *y) {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        const float *from = x + row * columns;
        float *to = y + row * columns;
        float factor = 1 / sqrtf(dot(from, from, columns) / (float)columns + epsilon);

        for (int64_t i = 0; i < columns; i++)
            to[i] = from[i] * factor * scale[i];
    }
}

void step_add(float *x, const float *y, int64_t count) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i++)
        x[i] += y[i];
}

static float silu(float x) {
    return x / (1 + expf(-x));
}

/* Hendrycks and Gimpel 2016, the approximation by tanh. */
static float gelu_tanh(float x) {
    return 0.5f * x * (1 + tanhf(0.797884560802865f * (x + 0.044715f * x * x * x)));
}

void step_gate(float *gate, const float *up, int64_t count, bool gelu) {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; i++)
        gate[i] = (gelu ? gelu_tanh(gate[i]) : silu(gate[i])) * up[i];
}

static void turn_head(float *head, const float *cosines, const float *sines, int size, bool halves) {
    for (int i = 0; i < size / 2; i++) {
        float *a = halves ? head + i : head + 2 * i, *b = halves ? head + i + size / 2 : head + 2 * i + 1;
        float x = *a, y = *b;

        *a = x * cosines[i] - y * sines[i];
        *b = x * sines[i] + y * cosines[i];
    }
}

void step_turn(float *x, int64_t rows, int heads, int head_size, const struct turning *turning) {
    int half = turning->size / 2;

#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++)
        for (int head = 0; head < heads; head++)
            turn_head(x + (row * heads + head) * head_size, turning->cosines + row * half,
                      turning->sines + row * half, turning->size, turning->halves);
}

void step_remember(struct kv_cache *cache, const struct llm_config *config, int layer,
                   const struct row_place *places, int64_t rows, const float *keys, const float *values) {
    size_t key_size = (size_t)config->key_size, value_size = (size_t)config->value_size;

#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; row++) {
        int32_t page = places[row].pages[places[row].position / KV_PAGE];
        size_t slot = (size_t)(places[row].position % KV_PAGE);

        for (int head = 0; head < config->kv_heads; head++) {
            size_t from = (size_t)row * (size_t)config->kv_heads + (size_t)head;
            memcpy(kv_cache_keys(cache, page, layer, head) + slot * key_size, keys + from * key_size,
                   key_size * sizeof *keys);
            memcpy(kv_cache_values(cache, page, layer, head) + slot * value_size, values + from * value_size,
                   value_size * sizeof *values);
        }
    }
}

/* What one head of queries looks at. */
struct attention {
    const struct kv_cache *cache;
    const struct llm_config *config;
    int layer, kv_head;
    const int32_t *pages;
    int64_t first, last; /* positions, both included */
};

/* Scores of all positions into scores[position - first]; returns the largest. */
static float score(const struct attention *attention, const float *q, float *scores) {
    const struct llm_config *config = attention->config;
    float largest = -INFINITY;

    for (int64_t at = attention->first; at <= attention->last; at++) {
        const float *keys = kv_cache_keys(attention->cache, attention->pages[at / KV_PAGE], attention->layer,
                                          attention->kv_head);
        float value = dot(q, keys + at % KV_PAGE * config->key_size, config->key_size) * config->score_scale;
        if (config->score_cap > 0)
            value = config->score_cap * tanhf(value / config->score_cap);
        scores[at - attention->first] = value;
        largest = fmaxf(largest, value);
    }
    return largest;
}

static void attend(const struct attention *attention, const float *q, float *out, float *scores) {
    int64_t size = attention->config->value_size;
    float largest = score(attention, q, scores), sum = 0;

    for (int64_t i = 0; i <= attention->last - attention->first; i++) {
        scores[i] = expf(scores[i] - largest);
        sum += scores[i];
    }

    memset(out, 0, (size_t)size * sizeof *out);
    for (int64_t at = attention->first; at <= attention->last; at++) {
        const float *values = kv_cache_values(attention->cache, attention->pages[at / KV_PAGE],
                                              attention->layer, attention->kv_head) +
                              at % KV_PAGE * size;
        float weight = scores[at - attention->first] / sum;
        for (int64_t i = 0; i < size; i++)
            out[i] += weight * values[i];
    }
}

void step_attend(const struct kv_cache *cache, const struct llm_config *config, int layer, int64_t window,
                 const struct row_place *places, int64_t rows, const float *q, float *out, float *scratch) {
    int group = config->heads / config->kv_heads;

#pragma omp for schedule(dynamic) collapse(2)
    for (int64_t row = 0; row < rows; row++)
        for (int head = 0; head < config->heads; head++) {
            int64_t position = places[row].position, index = row * config->heads + head;
            struct attention attention = {cache, config, layer, head / group, places[row].pages, 0, position};
            if (window > 0 && position >= window)
                attention.first = position - window + 1;
            attend(&attention, q + index * config->key_size, out + index * config->value_size, scratch);
        }
}
