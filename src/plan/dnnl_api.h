/* What the two generations of oneDNN spell differently, behind one set of names. For plan/dnnl*.c alone.
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
typedef const_dnnl_primitive_desc_t pd_const;
#else
typedef dnnl_memory_desc_t *md_handle;
typedef const dnnl_memory_desc_t *md_const;
typedef const_dnnl_primitive_desc_t pd_const;
#endif

#define MD_RANK 12

/* Memory descriptors: NULL on failure. */
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
size_t md_to_bytes(md_const md, const void **ret);
md_handle md_from_bytes(const void *bytes, size_t size);
/* What lies inside: outermost strides, inner blocks. False where the layout is not of strided blocks. */
struct md_blocks {
    int rank, block_count;
    dnnl_dims_t dims, padded_dims, strides, block_sizes, block_axes;
    bool has_extra; /* compensation data behind the elements */
};
bool md_blocks(md_const md, struct md_blocks *ret);

/* Attributes. A scale per output channel where count > 1 (axis `channel_axis` of the destination;
 * `weights_axis` of the weights). */
dnnl_status_t attr_set_scales(dnnl_primitive_attr_t attr, const float *scales, int64_t count,
                              int channel_axis, int weights_mask);
dnnl_status_t attr_set_zero_point(dnnl_primitive_attr_t attr, int argument, int32_t zero_point);
/* Zero points are inside (generation 2) or an argument of the execution (3). */
extern const bool zero_points_at_execution;
extern const bool scales_at_execution;
dnnl_status_t posts_append_eltwise(dnnl_post_ops_t posts, dnnl_alg_kind_t kind, float alpha, float beta);
dnnl_status_t posts_append_sum(dnnl_post_ops_t posts, float scale, int32_t zero_point,
                               dnnl_data_type_t dtype);

/* The one processor engine of the process (dnnl.c). */
dnnl_engine_t dnnl_processor(void);

/* Primitive descriptors, inference only. */
dnnl_status_t pd_convolution(dnnl_primitive_desc_t *ret, bool transposed, bool winograd, md_const source,
                             md_const weights, md_const bias, md_const destination, const int64_t *strides,
                             const int64_t *dilations, const int64_t *pads_begin, const int64_t *pads_end,
                             const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_matmul(dnnl_primitive_desc_t *ret, md_const source, md_const weights, md_const bias,
                        md_const destination, const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_inner_product(dnnl_primitive_desc_t *ret, md_const source, md_const weights, md_const bias,
                               md_const destination, const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_pooling(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const source,
                         md_const destination, const int64_t *strides, const int64_t *kernel,
                         const int64_t *dilations, const int64_t *pads_begin, const int64_t *pads_end,
                         const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_eltwise(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const source,
                         md_const destination, float alpha, float beta, const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_binary(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const a, md_const b,
                        md_const destination, const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_softmax(dnnl_primitive_desc_t *ret, bool logarithm, md_const source, md_const destination,
                         int axis, const_dnnl_primitive_attr_t attr);
dnnl_status_t pd_lrn(dnnl_primitive_desc_t *ret, md_const layout, int64_t size, float alpha, float beta,
                     float k, const_dnnl_primitive_attr_t attr);
