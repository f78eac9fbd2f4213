/* Tensor primitives over oneDNN 2 or 3: layouts, primitives, and executions bound to memory.
 *
 * This header knows nothing of graphs. dnnl.c, dnnl_layout.c, dnnl_weighted.c and dnnl_execution.c hold what
 * both generations share, dnnl2.c and dnnl3.c what differs; no other file includes dnnl.h. One thread uses a
 * pool while a plan is made; afterwards layouts and primitives are immutable, and any thread may read them.
 * An execution is one thread's. What returns a pointer returns NULL on failure, and what it returns belongs
 * to the pool. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "tensor/post_op.h"
#include "tensor/tensor.h"

/* Owns layouts and primitives; they live as long as it does. */
struct primitive_pool;
struct primitive_pool *primitive_pool_create(struct error *error);
void primitive_pool_free(struct primitive_pool *pool);

struct primitive;
/* How a tensor lies in memory: element type, shape, and an order, maybe blocked and padded. */
struct layout;

/* NULL where oneDNN has no such layout (the rank, strides that overlap, a view that needs a copy), or memory
 * is out. Row-major and contiguous: */
const struct layout *layout_plain(struct primitive_pool *pool, enum dtype dtype, const struct shape *shape);
/* [n, c, spatial…] with the channels innermost. */
const struct layout *layout_channels_last(struct primitive_pool *pool, enum dtype dtype,
                                          const struct shape *shape);
/* [n, c / block, spatial…, block], for rank 4 and blocks of 16 (one AVX-512 register of float32). */
const struct layout *layout_blocked(struct primitive_pool *pool, enum dtype dtype, const struct shape *shape);
/* Elements of a larger tensor, or in another order: strides in elements. */
const struct layout *layout_strided(struct primitive_pool *pool, enum dtype dtype, const struct shape *shape,
                                    const int64_t *strides);
/* Views of the same bytes: axis i of the result is axis permutation[i] of the layout; or another shape. */
const struct layout *layout_permute(struct primitive_pool *pool, const struct layout *layout,
                                    const int *permutation);
const struct layout *layout_reshape(struct primitive_pool *pool, const struct layout *layout,
                                    const struct shape *shape);
/* The same order, of another element type. */
const struct layout *layout_retype(struct primitive_pool *pool, const struct layout *layout,
                                   enum dtype dtype);
/* The same order and blocks for another shape of the same rank; only for layouts of dense blocks. */
const struct layout *layout_for_shape(struct primitive_pool *pool, const struct layout *layout,
                                      const struct shape *shape);
/* A copy in another pool. */
const struct layout *layout_copy(struct primitive_pool *pool, const struct layout *layout);

/* A layout as a baked file has it: right for one version of oneDNN only. */
struct layout_record {
    uint32_t dtype, rank;
    uint32_t tag; /* oneDNN's number of an order with blocks; 0: strides */
    uint32_t extra_flags, compensation_mask, zero_point_mask; /* oneDNN 2's sums behind int8 weights */
    float scale_adjust;
    uint32_t reserved;
    int64_t dims[LIMIT_TENSOR_RANK], strides[LIMIT_TENSOR_RANK];
};
/* False where the layout could not be made anew from a record: Winograd's weights, for one. */
bool layout_record(const struct layout *layout, struct layout_record *ret);
/* The record may hold anything; NULL where it describes no layout. */
const struct layout *layout_from_record(struct primitive_pool *pool, const struct layout_record *record);

/* The same bytes hold the same elements: the strides of axes of 1 do not count. */
bool layout_equal(const struct layout *a, const struct layout *b);
/* They do count: oneDNN's kernels read from them where the elements of a post-op's operand lie. */
bool layout_identical(const struct layout *a, const struct layout *b);
bool layout_is_plain(const struct layout *layout);         /* row-major, contiguous */
bool layout_is_channels_last(const struct layout *layout); /* rank >= 3, channels innermost, contiguous */
/* Strides in elements of a layout without blocks; false for others. */
bool layout_strides(const struct layout *layout, int64_t *ret_strides);
bool layout_is_blocked(const struct layout *layout); /* as layout_blocked */
/* No padding, and no gaps between elements. */
bool layout_is_dense(const struct layout *layout);
/* Dense [n, c / block, spatial…, block]. */
bool layout_has_channel_blocks(const struct layout *layout);
bool layout_is_padded(const struct layout *layout); /* holds more elements than the shape has */
size_t layout_bytes(const struct layout *layout);
enum dtype layout_dtype(const struct layout *layout);
const struct shape *layout_shape(const struct layout *layout);
/* "plain", "channels last", "blocks of 16b", … for people. Returns `text`. */
const char *layout_describe(const struct layout *layout, char *text, size_t size);

/* Post-ops of one primitive at most. */
#define PRIMITIVE_POSTS 14

enum primitive_argument {
    ARGUMENT_SOURCE,
    ARGUMENT_SOURCE_1, /* matmul and binary: the second operand */
    ARGUMENT_WEIGHTS,
    ARGUMENT_BIAS,
    ARGUMENT_DESTINATION,
    ARGUMENT_SCRATCHPAD,
    ARGUMENT_OPERAND, /* + i: operand of post-op i */
    ARGUMENT_COUNT = ARGUMENT_OPERAND + PRIMITIVE_POSTS
};

/* One of a primitive's post-ops. POST_HARDSIGMOID and POST_STEPS are not among them: they are a POST_LINEAR
 * and a POST_CLIP; a POST_LINEAR, a POST_CLIP and a POST_ROUND. */
struct primitive_post {
    enum post_op_kind kind;
    float alpha, beta; /* POST_ROUND: the result is alpha times the whole number; 0 stands for 1 */
    int32_t zero_point;
    enum dtype sum_dtype;         /* SUM: how to read the destination; DTYPE_UNKNOWN: as its own type */
    const struct layout *operand; /* ADD, MULTIPLY */
};

/* A layout left NULL is the primitive's to choose: ask primitive_layout afterwards. */
struct convolution_spec {
    struct shape source; /* [n, c, spatial…] */
    struct shape weights; /* [o, i / groups, kernel…]; of a transposed convolution [i, o / groups, kernel…] */
    struct shape destination; /* [n, o, spatial…] */
    int64_t groups, strides[3], dilations[3], pads_begin[3], pads_end[3];
    bool has_bias, transposed;
    bool winograd; /* Lavin and Gray, 2016: 3x3 in a third of the multiplications, with weights four times as
                      large; float32 only */
    enum dtype source_dtype, weights_dtype, destination_dtype, bias_dtype;
    const struct layout *source_layout, *weights_layout, *destination_layout;
    const struct primitive_post *posts;
    int post_count;
    /* int8: result = scale[o] * (sum over (source - source_zero_point) * weights) + bias, then post-ops. */
    const float *scales; /* [scale_count]: 1 or o; NULL: none */
    int64_t scale_count;
    int32_t source_zero_point;
};
/* ONNX's row-major weights seen in the axes that oneDNN gives them: the layout to pack from. */
const struct layout *primitive_convolution_weights(struct primitive_pool *pool,
                                                   const struct convolution_spec *spec);
const struct primitive *primitive_convolution(struct primitive_pool *pool,
                                              const struct convolution_spec *spec, struct error *error);

/* The gradient by the weights, from the source and (ARGUMENT_SOURCE_1) the gradient by the destination; it
 * comes out (ARGUMENT_DESTINATION) in the axes of primitive_convolution_weights. Float32, without bias, posts
 * and scales, and not transposed. */
const struct primitive *primitive_convolution_gradient(struct primitive_pool *pool,
                                                       const struct convolution_spec *spec,
                                                       struct error *error);

/* destination [batch…, m, n] = source [batch…, m, k] x weights [batch… or 1…, k, n] (+ bias [n]) */
struct matmul_spec {
    struct shape source, weights, destination;
    bool has_bias;
    enum dtype source_dtype, weights_dtype, destination_dtype, bias_dtype;
    const struct layout *source_layout, *weights_layout, *destination_layout;
    const struct primitive_post *posts;
    int post_count;
    const float *scales;
    int64_t scale_count;
    int32_t source_zero_point;
};
const struct primitive *primitive_matmul(struct primitive_pool *pool, const struct matmul_spec *spec,
                                         struct error *error);
/* The same with constant weights given as [n, k]: destination [m, n]. For few rows (m), where matmul is
 * slower. */
const struct primitive *primitive_inner_product(struct primitive_pool *pool, const struct matmul_spec *spec,
                                                struct error *error);

enum pooling_kind { POOLING_MAX, POOLING_AVERAGE_INCLUDE_PAD, POOLING_AVERAGE_EXCLUDE_PAD };
struct pooling_spec {
    enum pooling_kind kind;
    struct shape source, destination;
    enum dtype dtype;
    int64_t kernel[3], strides[3], dilations[3], pads_begin[3], pads_end[3];
    const struct layout *source_layout;
};
/* In a layout of the primitive's choice. */
const struct primitive *primitive_pooling(struct primitive_pool *pool, const struct pooling_spec *spec,
                                          struct error *error);

/* posts(source), in any order of elements; the destination has the source's layout. */
const struct primitive *primitive_elementwise(struct primitive_pool *pool, const struct layout *layout,
                                              const struct primitive_post *posts, int post_count,
                                              struct error *error);
/* destination = a OP b, then post-ops; b and the operands are broadcast to a. */
struct binary_spec {
    enum post_op_kind kind; /* POST_ADD or POST_MULTIPLY */
    const struct layout *a, *b, *destination;
    const struct primitive_post *posts;
    int post_count;
};
const struct primitive *primitive_binary(struct primitive_pool *pool, const struct binary_spec *spec,
                                         struct error *error);
/* From one layout (and element type) to another. */
const struct primitive *primitive_reorder(struct primitive_pool *pool, const struct layout *from,
                                          const struct layout *to, struct error *error);
/* Over one axis; the destination has the source's layout. */
const struct primitive *primitive_softmax(struct primitive_pool *pool, const struct layout *layout, int axis,
                                          struct error *error);
/* Local response normalisation across channels (LRN-13); the destination has the source's layout. */
struct lrn_spec {
    const struct layout *layout;
    int64_t size;
    float alpha, beta, k;
};
const struct primitive *primitive_lrn(struct primitive_pool *pool, const struct lrn_spec *spec,
                                      struct error *error);

const struct layout *primitive_layout(const struct primitive *primitive, enum primitive_argument argument);
size_t primitive_scratchpad_bytes(const struct primitive *primitive);
/* oneDNN's name for the chosen implementation, e.g. "jit:avx512_core". */
const char *primitive_kernel(const struct primitive *primitive);
/* The implementation is oneDNN's plain reference, or goes through im2col: another layout would be faster. */
bool primitive_is_slow(const struct primitive *primitive);
/* True (generation 2): where there are scales, the bias is added before them, and is given divided by them.
 */
bool primitive_bias_before_scales(void);

/* A primitive bound to memory; pointers may be changed between runs. NULL when memory is out. */
struct execution;
struct execution *execution_create(const struct primitive *primitive, struct error *error);
void execution_free(struct execution *execution);
void execution_set(struct execution *execution, enum primitive_argument argument, const void *pointer);
/* Runs on the calling thread's OpenMP team, and is done when it returns. */
bool execution_run(struct execution *execution, struct error *error);

/* Copy `from` (in from_layout) to `to` now, on this thread: packing weights. */
bool primitive_reorder_now(const struct layout *from_layout, const void *from, const struct layout *to_layout,
                           void *to, struct error *error);

/* A number that changes with oneDNN's version and the processor's instruction set: packed weights are right
 * for one such number only. */
uint64_t primitive_signature(void);
/* What the processor has, and oneDNN may use: instructions for products of bfloat16 and of int8; AVX-512. */
bool primitive_has_native_bf16(void);
bool primitive_has_avx512(void);
bool primitive_has_native_int8(void);
