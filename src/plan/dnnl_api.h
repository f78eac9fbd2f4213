/* What the two generations of oneDNN do differently, under one set of names. For plan/dnnl*.c alone; threads
 * as in plan/primitive.h.
 *
 * Generation 2 (Debian 12, Ubuntu 22.04) has operation descriptors and memory descriptors by value;
 * generation 3 (Debian 13, Ubuntu 24.04) makes primitive descriptors directly, memory descriptors are
 * handles, scales come at execution. */
#pragma once
#include <dnnl.h>

#include "plan/primitive.h"

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_handle;
typedef const_dnnl_memory_desc_t md_const;
#else
typedef dnnl_memory_desc_t *md_handle;
typedef const dnnl_memory_desc_t *md_const;
#endif

#define MD_RANK 12

/* Memory descriptors, to be destroyed by the caller; NULL on failure. */
md_handle md_create_strided(int rank, const int64_t *dims, dnnl_data_type_t dtype, const int64_t *strides);
md_handle md_create_any(int rank, const int64_t *dims, dnnl_data_type_t dtype);
md_handle md_create_tagged(int rank, const int64_t *dims, dnnl_data_type_t dtype, dnnl_format_tag_t tag);
md_handle md_copy(md_const md);
md_handle md_permute(md_const md, const int *permutation);
md_handle md_reshape(md_const md, int rank, const int64_t *dims);
md_handle md_retype(md_const md, dnnl_data_type_t dtype);
/* Blocks as `like` has them, with the outer axes in the same order, dense, for other dimensions. */
md_handle md_resize(md_const like, const int64_t *dims);
void md_destroy(md_handle md);
/* What lies inside: outermost strides, inner blocks. False where the layout is not of strided blocks. */
struct md_blocks {
    int rank, block_count;
    dnnl_dims_t dims, padded_dims, strides, block_sizes, block_axes;
    bool has_extra; /* compensation data after the elements */
};
bool md_blocks(md_const md, struct md_blocks *ret);

/* Sums that oneDNN keeps behind int8 weights (generation 2's int8 convolutions, among others). */
struct md_extra {
    uint32_t flags; /* 0: none */
    uint32_t compensation_mask, zero_point_mask;
    float scale_adjust;
};
/* False where there are some and they cannot be told (generation 3). */
bool md_get_extra(md_const md, struct md_extra *ret);
/* False where there are no such sums, or `extra` is none. */
bool md_set_extra(md_handle md, const struct md_extra *extra);

/* Attributes. A scale for each output channel where count > 1: axis `channel_axis` of the destination, the
 * axes of `weights_mask` of the weights. */
dnnl_status_t attr_set_scales(dnnl_primitive_attr_t attr, const float *scales, int64_t count,
                              int channel_axis, int weights_mask);
/* Of the source. */
dnnl_status_t attr_set_zero_point(dnnl_primitive_attr_t attr, int32_t zero_point);
/* Scales and zero points are attributes (generation 2), or arguments of the execution (3). */
extern const bool quantization_at_execution;
dnnl_status_t posts_append_eltwise(dnnl_post_ops_t posts, dnnl_alg_kind_t kind, float alpha, float beta);
/* scale * the nearest whole number */
dnnl_status_t posts_append_round(dnnl_post_ops_t posts, float scale);
dnnl_status_t posts_append_sum(dnnl_post_ops_t posts, float scale, int32_t zero_point,
                               dnnl_data_type_t dtype);

/* The one processor engine of the process (dnnl.c). */
dnnl_engine_t dnnl_processor(void);

/* Primitive descriptors, inference only. *ret is to be destroyed by the caller. */

/* What a convolution, a matmul or an inner product is made from. */
struct pd_operands {
    md_const source, weights, bias, destination; /* bias NULL: none */
    const_dnnl_primitive_attr_t attr;
    /* Implementations to pass over: any whose name contains one of these strings. The list ends with NULL;
     * NULL: none. */
    const char *const *avoid;
};

/* Of each spatial axis; oneDNN counts dilations from 0. */
struct pd_window {
    const int64_t *kernel, *strides, *dilations, *pads_begin, *pads_end;
};

enum pd_convolution_kind { PD_CONVOLUTION_DIRECT, PD_CONVOLUTION_WINOGRAD, PD_CONVOLUTION_TRANSPOSED };

dnnl_status_t pd_convolution(dnnl_primitive_desc_t *ret, enum pd_convolution_kind kind,
                             const struct pd_operands *operands, const struct pd_window *window);
/* The gradient by the weights: operands->destination is the gradient by the result, operands->weights that by
 * the weights; no bias. */
dnnl_status_t pd_convolution_gradient(dnnl_primitive_desc_t *ret, const struct pd_operands *operands,
                                      const struct pd_window *window);
dnnl_status_t pd_matmul(dnnl_primitive_desc_t *ret, const struct pd_operands *operands);
dnnl_status_t pd_inner_product(dnnl_primitive_desc_t *ret, const struct pd_operands *operands);
dnnl_status_t pd_pooling(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const source,
                         md_const destination, const struct pd_window *window,
                         const_dnnl_primitive_attr_t attr);

/* An elementwise function with its two parameters. */
struct pd_eltwise {
    dnnl_alg_kind_t kind;
    float alpha, beta;
};
dnnl_status_t pd_eltwise(dnnl_primitive_desc_t *ret, const struct pd_eltwise *function, md_const layout,
                         const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_binary(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const a, md_const b,
                        md_const destination, const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_softmax(dnnl_primitive_desc_t *ret, md_const layout, int axis,
                         const_dnnl_primitive_attr_t attr);

/* Local response normalisation across channels (LRN-13). */
struct pd_lrn {
    int64_t size;
    float alpha, beta, k;
};
dnnl_status_t pd_lrn(dnnl_primitive_desc_t *ret, const struct pd_lrn *norm, md_const layout,
                     const_dnnl_primitive_attr_t attr);
