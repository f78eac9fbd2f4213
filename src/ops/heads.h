/* Attention over heads, and turning them by their positions: what the attention operators share. Internal to
 * ops/; float32. Any thread. */
#pragma once
#include "ops/family.h"

/* Rows of numbers, head by head: element (b, h, s, i) at data[b * batch + h * head + s * row + i]. */
struct heads {
    const float *data;
    int64_t batch, head, row;
};

/* A value for each pair of a query and a key, broadcast by strides of 0. */
struct pair_view {
    const void *data; /* NULL: none */
    int64_t batch, head, query, key;
};

struct attend {
    struct heads query, key, value;
    int64_t batches, heads, key_heads; /* key_heads divides heads */
    int64_t queries, keys;
    int64_t size, value_size; /* of a head */
    float scale, softcap;     /* softcap, before the bias; 0: none */
    struct pair_view bias;    /* floats: added */
    struct pair_view allowed; /* bools: false hides the key */
    const int64_t *lengths;   /* [batches]: keys from there on are hidden; NULL: none */
    bool causal;              /* query i of batch b sees keys up to i + offset */
    const int64_t *offsets;   /* [batches]; NULL: 0 for all */
    int64_t window;           /* … and this many of the last; 0: all */
    float hidden;             /* added to what is hidden: -INFINITY, or as an attribute says */
};

/* output [batches, queries, heads, value_size], or [batches, heads, queries, value_size] where `by_head`. A
 * query that sees nothing gives zeros where `hidden` is infinite. False where memory is out. */
bool attend_run(const struct attend *attend, bool by_head, float *output);

/* How rows are turned: pairs of elements of the first 2 * half of each head. */
struct rotary {
    int64_t half;
    bool interleaved; /* pairs (2i, 2i + 1), else (i, half + i) */
};
/* One head's row. `cosines`, `sines`: [half]. `to` may be `from`. */
void rotary_turn(const struct rotary *rotary, const float *from, const float *cosines, const float *sines,
                 int64_t size, float *to);

/* One of query, key and value as a node has it: rank 4 is [batch, heads, rows, size], rank 3 [batch, rows,
 * heads * size]. */
struct head_layout {
    int64_t batches, heads, rows, size;
    bool by_head;
};
/* `heads` is for rank 3. Refuses other ranks, and what does not divide. */
bool head_layout_read(const struct node *node, const struct shape *shape, int64_t heads,
                      struct head_layout *ret, struct error *error);
/* Where its elements are. */
struct heads head_layout_view(const struct head_layout *layout, const float *data);
/* The same for a tensor [batch, heads, rows, size]. */
struct heads heads_by_head(const float *data, int64_t heads, int64_t rows, int64_t size);

/* The rows of `now` behind those of past [batch, heads, past_rows, size] (may be NULL where past_rows is 0).
 * *ret is a view of `now` where there is neither past nor `to`; else of `to` [batch, heads, past_rows +
 * now_rows, size], or where that is NULL of *ret_copy, the caller's to free. False where memory is out. */
bool heads_with_past(const float *past, int64_t past_rows, const struct heads *now,
                     const struct head_layout *layout, float *to, struct heads *ret, float **ret_copy);
/* Strides over a tensor that broadcasts to [batches, heads, queries, keys]; false where it does not. */
bool pair_view_make(const struct shape *shape, const void *data, const int64_t dims[4],
                    struct pair_view *ret);
