/* Our own kernels, for what oneDNN has no (or no fast) primitive. Data is float32 or bfloat16; sums are
 * float32. Each uses the caller's OpenMP team, keeps no state, and allocates nothing: scratch comes from the
 * caller. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "tensor/tensor.h"

/* Rows of `columns` elements of `dtype` as float32, and back. `stride` in elements between neighbours. */
void kernel_load_row(enum dtype dtype, const void *from, int64_t stride, float *to, int64_t count);
void kernel_store_row(enum dtype dtype, const float *from, void *to, int64_t count);

/* y = (x - mean) / sqrt(variance + epsilon) * scale + shift over each row (LayerNormalization-17, axis -1; Ba
 * et al. 2016). x, y: [rows, columns] of `dtype`; scale, shift: [columns] float32, shift may be NULL. Row i
 * of y goes to y + targets[i] * columns where targets are given. */
void kernel_layer_norm(enum dtype dtype, const void *x, const float *scale, const float *shift, float epsilon,
                       int64_t rows, int64_t columns, const int32_t *targets, void *y);

/* out = softmax(q k' * scale + addends) v for each batch and head (scaled dot-product attention, Vaswani et
 * al. 2017). */
struct attention {
    enum dtype dtype;
    int64_t batches, heads, queries, keys, depth, value_depth;
    float scale;
    /* strides in elements: batch, head, token, feature */
    int64_t q_strides[4], k_strides[4], v_strides[4], out_strides[4];
    int addend_count;
    struct attention_addend {
        const float *data;
        const int64_t *starts; /* [batches * heads] where its [queries, keys] matrix begins */
        int64_t row_stride, column_stride;
    } addends[3];
};
/* Bytes of scratch for kernel_attention with `threads` threads. */
size_t kernel_attention_scratch(const struct attention *attention, int threads);
void kernel_attention(const struct attention *attention, const void *q, const void *k, const void *v,
                      void *out, void *scratch, int threads);

/* bytes = saturate(round(x / scale) + zero_point), halves to even (QuantizeLinear-13), and back. `count`
 * elements in any order. */
struct kernel_quantisation {
    enum dtype float_dtype, byte_dtype;
    float scale;
    int32_t zero_point;
    int64_t count;
};
void kernel_quantize(const struct kernel_quantisation *quantisation, const void *x, void *y);
void kernel_dequantize(const struct kernel_quantisation *quantisation, const void *x, void *y);

/* y = saturate(round(max(a * a_factor + b * b_factor + offset, 0 with relu)) + y_zero_point) */
struct kernel_quantised_addition {
    enum dtype a_dtype, b_dtype, y_dtype;
    float a_factor, b_factor, offset;
    int32_t y_zero_point;
    bool relu;
    int64_t count;
};
void kernel_quantised_add(const struct kernel_quantised_addition *addition, const void *a, const void *b,
                          void *y);

/* Rows of `bytes` bytes: row i of `to` is row sources[i] of `from`; zeros where sources[i] is negative. */
void kernel_gather_rows(const void *from, const int32_t *sources, int64_t rows, size_t bytes, void *to);
