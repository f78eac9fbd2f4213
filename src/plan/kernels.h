/* Our own kernels, for what oneDNN has no primitive, or no fast one.
 *
 * Data is float32 or bfloat16 unless a kernel says otherwise; sums are float32. Each kernel uses the calling
 * thread's OpenMP team, keeps no state, and allocates nothing: scratch comes from the caller. Any number of
 * threads may run them at once, on outputs of their own. Pointers are aligned for their element type, no
 * more. Inputs and outputs do not overlap, except where a kernel allows it. tests/kernels compares each of
 * them with a reference. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/tensor.h"

/* `count` elements of `dtype`, `stride` elements apart, as float32; and float32 as `count` neighbours. */
void kernel_load_row(enum dtype dtype, const void *from, int64_t stride, float *to, int64_t count);
void kernel_store_row(enum dtype dtype, const float *from, void *to, int64_t count);

/* y = (x - mean) / sqrt(variance + epsilon) * scale + shift over each row (LayerNormalization-17, axis -1; Ba
 * et al. 2016). x, y: [rows, columns] of `dtype`; scale, shift: [columns] float32; shift may be NULL. */
struct kernel_layer_norm {
    enum dtype dtype;
    int64_t rows, columns;
    float epsilon;
};
void kernel_layer_norm(const struct kernel_layer_norm *norm, const void *x, const float *scale,
                       const float *shift, void *y);

/* Raises a floating-point flag (base/float_flags.h) in the calling thread where any of `count` elements is
 * the lowest finite number. */
struct kernel_lowest {
    enum dtype dtype; /* float32 or bfloat16 */
    int64_t count;
};
void kernel_watch_lowest(const struct kernel_lowest *lowest, const void *x);

/* Rows of `bytes` bytes: row i of `to` is row sources[i] of `from`; zeros where sources[i] is negative. */
void kernel_gather_rows(const void *from, const int32_t *sources, int64_t rows, size_t bytes, void *to);

/* Each of `rows` rows of `to` is the rows of the inputs one after the other; a row of input i has bytes[i]
 * bytes. */
void kernel_concat_rows(const void *const *inputs, const size_t *bytes, int input_count, int64_t rows,
                        void *to);

/* out = softmax(q k' * scale + addends) v for each batch and head (scaled dot-product attention, Vaswani et
 * al. 2017). q: [batches, heads, queries, depth]; k: [batches, heads, keys, depth]; v: [batches, heads, keys,
 * value_depth]; out: [batches, heads, queries, value_depth], its features contiguous (stride 1). */
struct kernel_attention {
    enum dtype dtype; /* of q, k, v and out */
    int64_t batches, heads, queries, keys, depth, value_depth;
    float scale;
    /* strides in elements: batch, head, token, feature */
    int64_t q_strides[4], k_strides[4], v_strides[4], out_strides[4];
    int addend_count;
    struct kernel_attention_addend {
        const float *data;
        const int64_t *starts;             /* [batches * heads]: where each [queries, keys] matrix begins */
        int64_t row_stride, column_stride; /* 0: the same for all */
    } addends[3];
};
/* Bytes of scratch (aligned to 64 bytes) for kernel_attention with `threads` threads. */
size_t kernel_attention_scratch(const struct kernel_attention *attention, int threads);
void kernel_attention(const struct kernel_attention *attention, const void *q, const void *k, const void *v,
                      void *out, void *scratch, int threads);

/* y = saturate(round(x / scale) + zero_point), halves to even, NaN to the lowest (QuantizeLinear-13), and x =
 * (y - zero_point) * scale (DequantizeLinear-13). `count` elements in any order. */
struct kernel_quantization {
    enum dtype float_dtype; /* float32 or bfloat16 */
    enum dtype byte_dtype;  /* uint8 or int8 */
    float scale;
    int32_t zero_point;
    int64_t count;
};
void kernel_quantize(const struct kernel_quantization *quantization, const void *x, void *y);
void kernel_dequantize(const struct kernel_quantization *quantization, const void *y, void *x);

/* y = step * round(saturate(x / step)), saturated to [lowest, lowest + 255], halves to even, NaN to the
 * lowest: what QuantizeLinear and then DequantizeLinear make of x. `count` elements in any order; y may be x.
 */
struct kernel_steps {
    enum dtype dtype; /* float32 or bfloat16 */
    float lowest, step;
    int64_t count;
};
void kernel_round_to_steps(const struct kernel_steps *steps, const void *x, void *y);

/* y = saturate(round(sum) + y_zero_point), halves to even, where sum = a * a_factor + b * b_factor + offset,
 * at least 0 with `relu`. Types: uint8 or int8. */
struct kernel_quantized_addition {
    enum dtype a_dtype, b_dtype, y_dtype;
    float a_factor, b_factor, offset;
    int32_t y_zero_point;
    bool relu;
    int64_t count;
};
void kernel_quantized_add(const struct kernel_quantized_addition *addition, const void *a, const void *b,
                          void *y);
