/* Attention over keys and values that are kept in pages, and the element-wise steps of a decoder. Queries do
 * not depend on one another. Functions of different arguments: any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ATTENTION_PAGE = 32 /* positions of a page */, ATTENTION_QUERIES = 16 /* of a call, at most */ };

/* How keys and values are kept. F16: what is larger than its largest number becomes that. Q8_0: 8 bits, and a
 * float16 scale for each 32. */
enum attention_type { ATTENTION_F32, ATTENTION_F16, ATTENTION_BF16, ATTENTION_Q8_0 };

/* Of one head. */
struct attention_shape {
    enum attention_type type;
    int key_size, value_size;
    float scale, cap; /* of scores; cap 0: none */
};

/* Bytes of one page's keys or values, `size` numbers for each position. A multiple of 64. */
size_t attention_page_bytes(enum attention_type type, int size);
/* Keep the key and the value of position `slot` of a page: [key_size], [value_size]. */
void attention_store(const struct attention_shape *shape, void *keys, void *values, int slot,
                     const float *key, const float *value);

/* The pages of a sequence and one head: of positions [32 i, 32 i + 32) the keys are at memory + pages[i] *
 * page_bytes + keys_at, and the values likewise. */
struct attention_pages {
    const char *memory;
    const int32_t *pages;
    size_t page_bytes, keys_at, values_at;
};

/* out = softmax(q k' scale) v over positions [first, last]. */
struct attention_query {
    const float *q;      /* [key_size] */
    float *out;          /* [value_size] */
    int64_t first, last; /* both included */
};
/* scratch: [attention_scratch] floats, aligned to 64 bytes. Sums are float32; exponentials within 2e-7 of
 * their size. */
void attention_run(const struct attention_shape *shape, const struct attention_pages *pages,
                   const struct attention_query *queries, int count, float *scratch);
size_t attention_scratch(const struct attention_shape *shape);

/* y = x / rms(x) * scale (Zhang and Sennrich 2019). x, y, scale: [count]; x and y may be the same. */
void row_rms_norm(const float *x, int64_t count, const float *scale, float epsilon, float *y);
/* gate = act(gate) * up: [count]; SiLU, or the tanh form of GELU. */
void row_gate(float *gate, const float *up, int64_t count, bool gelu);
