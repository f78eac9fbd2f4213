/* oneDNN 3.x: primitive descriptors made directly, memory descriptors as handles, scales and zero points at
 * execution. */
#include "plan/dnnl_api.h"

#include <stdlib.h>
#include <string.h>

const bool quantization_at_execution = true;

bool primitive_bias_before_scales(void) {
    return false;
}

/* The handle that a call filled in. By address: the call is another argument, and may be evaluated later. */
static md_handle md_keep(dnnl_status_t status, const dnnl_memory_desc_t *md) {
    return status == dnnl_success ? *md : NULL;
}

md_handle md_create_strided(int rank, const int64_t *dims, dnnl_data_type_t dtype, const int64_t *strides) {
    dnnl_memory_desc_t md = NULL;
    return md_keep(dnnl_memory_desc_create_with_strides(&md, rank, dims, dtype, strides), &md);
}

md_handle md_create_any(int rank, const int64_t *dims, dnnl_data_type_t dtype) {
    return md_create_tagged(rank, dims, dtype, dnnl_format_tag_any);
}

md_handle md_create_tagged(int rank, const int64_t *dims, dnnl_data_type_t dtype, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md = NULL;
    return md_keep(dnnl_memory_desc_create_with_tag(&md, rank, dims, dtype, tag), &md);
}

md_handle md_copy(md_const md) {
    dnnl_memory_desc_t copy = NULL;
    return md_keep(dnnl_memory_desc_clone(&copy, md), &copy);
}

md_handle md_permute(md_const md, const int *permutation) {
    dnnl_memory_desc_t permuted = NULL;
    return md_keep(dnnl_memory_desc_permute_axes(&permuted, md, permutation), &permuted);
}

md_handle md_reshape(md_const md, int rank, const int64_t *dims) {
    dnnl_memory_desc_t reshaped = NULL;
    return md_keep(dnnl_memory_desc_reshape(&reshaped, md, rank, dims), &reshaped);
}

void md_destroy(md_handle md) {
    if (md)
        dnnl_memory_desc_destroy(md);
}

bool md_blocks(md_const md, struct md_blocks *ret) {
    dnnl_format_kind_t kind = dnnl_format_kind_undef;
    dnnl_data_type_t dtype = dnnl_data_type_undef;
    const dnnl_dims_t *dims, *padded, *strides, *sizes, *axes;
    int rank = 0, blocks = 0;

    if (dnnl_memory_desc_query(md, dnnl_query_format_kind, &kind) != dnnl_success || kind != dnnl_blocked ||
        dnnl_memory_desc_query(md, dnnl_query_ndims_s32, &rank) != dnnl_success ||
        dnnl_memory_desc_query(md, dnnl_query_dims, &dims) != dnnl_success ||
        dnnl_memory_desc_query(md, dnnl_query_padded_dims, &padded) != dnnl_success ||
        dnnl_memory_desc_query(md, dnnl_query_strides, &strides) != dnnl_success ||
        dnnl_memory_desc_query(md, dnnl_query_inner_nblks_s32, &blocks) != dnnl_success ||
        dnnl_memory_desc_query(md, dnnl_query_data_type, &dtype) != dnnl_success)
        return false;

    ret->rank = rank;
    ret->block_count = blocks;
    memcpy(ret->dims, *dims, sizeof ret->dims);
    memcpy(ret->padded_dims, *padded, sizeof ret->padded_dims);
    memcpy(ret->strides, *strides, sizeof ret->strides);
    if (blocks && dnnl_memory_desc_query(md, dnnl_query_inner_blks, &sizes) == dnnl_success &&
        dnnl_memory_desc_query(md, dnnl_query_inner_idxs, &axes) == dnnl_success) {
        memcpy(ret->block_sizes, *sizes, sizeof ret->block_sizes);
        memcpy(ret->block_axes, *axes, sizeof ret->block_axes);
    }

    size_t elements = dnnl_data_type_size(dtype);
    for (int i = 0; i < rank; i++)
        elements *= (size_t)ret->padded_dims[i];
    ret->has_extra = blocks && dnnl_memory_desc_get_size(md) > elements;
    return true;
}

bool md_get_extra(md_const md, struct md_extra *ret) {
    struct md_blocks blocks;

    *ret = (struct md_extra){0};
    return md_blocks(md, &blocks) && !blocks.has_extra;
}

bool md_set_extra(md_handle md, const struct md_extra *extra) {
    (void)md;
    return !extra->flags;
}

/* Blocked layouts are made from tags alone: find the one of activations that describes the layout. */
static dnnl_format_tag_t tag_of(md_const md, const struct md_blocks *blocks) {
    static const dnnl_format_tag_t tags[6][7] = {
        [3] = {dnnl_abc, dnnl_acb, dnnl_aBc4b, dnnl_aBc8b, dnnl_aBc16b, dnnl_aBc32b},
        [4] = {dnnl_abcd, dnnl_acdb, dnnl_aBcd4b, dnnl_aBcd8b, dnnl_aBcd16b, dnnl_aBcd32b},
        [5] = {dnnl_abcde, dnnl_acdeb, dnnl_aBcde4b, dnnl_aBcde8b, dnnl_aBcde16b, dnnl_aBcde32b},
    };
    dnnl_data_type_t dtype = dnnl_data_type_undef;

    dnnl_memory_desc_query(md, dnnl_query_data_type, &dtype);
    for (int i = 0; blocks->rank >= 3 && blocks->rank <= 5 && tags[blocks->rank][i]; i++) {
        dnnl_memory_desc_t candidate = NULL;
        if (dnnl_memory_desc_create_with_tag(&candidate, blocks->rank, blocks->dims, dtype,
                                             tags[blocks->rank][i]) != dnnl_success)
            continue;
        bool same = dnnl_memory_desc_equal(candidate, md);
        dnnl_memory_desc_destroy(candidate);
        if (same)
            return tags[blocks->rank][i];
    }

    return dnnl_format_tag_undef;
}

md_handle md_retype(md_const md, dnnl_data_type_t dtype) {
    struct md_blocks blocks;
    if (!md_blocks(md, &blocks))
        return NULL;
    if (!blocks.block_count)
        return md_create_strided(blocks.rank, blocks.dims, dtype, blocks.strides);

    dnnl_format_tag_t tag = tag_of(md, &blocks);
    dnnl_memory_desc_t made = NULL;

    if (tag == dnnl_format_tag_undef)
        return NULL;

    return md_keep(dnnl_memory_desc_create_with_tag(&made, blocks.rank, blocks.dims, dtype, tag), &made);
}

md_handle md_resize(md_const like, const int64_t *dims) {
    struct md_blocks blocks;
    dnnl_data_type_t dtype = dnnl_data_type_undef;
    dnnl_memory_desc_t made = NULL;

    if (!md_blocks(like, &blocks) || blocks.has_extra ||
        dnnl_memory_desc_query(like, dnnl_query_data_type, &dtype) != dnnl_success)
        return NULL;

    dnnl_format_tag_t tag = tag_of(like, &blocks);
    if (tag == dnnl_format_tag_undef)
        return NULL;

    return md_keep(dnnl_memory_desc_create_with_tag(&made, blocks.rank, dims, dtype, tag), &made);
}

dnnl_status_t attr_set_scales(dnnl_primitive_attr_t attr, const float *scales, int64_t count,
                              int channel_axis, int weights_mask) {
    (void)scales; /* given at execution */
    (void)channel_axis;
    return dnnl_primitive_attr_set_scales_mask(attr, DNNL_ARG_WEIGHTS, count > 1 ? weights_mask : 0);
}

dnnl_status_t attr_set_zero_point(dnnl_primitive_attr_t attr, int32_t zero_point) {
    (void)zero_point;
    return dnnl_primitive_attr_set_zero_points_mask(attr, DNNL_ARG_SRC, 0);
}

dnnl_status_t posts_append_eltwise(dnnl_post_ops_t posts, dnnl_alg_kind_t kind, float alpha, float beta) {
    return dnnl_post_ops_append_eltwise(posts, kind, alpha, beta);
}

dnnl_status_t posts_append_round(dnnl_post_ops_t posts, float scale) {
    dnnl_status_t status = dnnl_post_ops_append_eltwise(posts, dnnl_eltwise_round, 0, 0);
    return status != dnnl_success || scale == 1
               ? status
               : dnnl_post_ops_append_eltwise(posts, dnnl_eltwise_linear, scale, 0);
}

dnnl_status_t posts_append_sum(dnnl_post_ops_t posts, float scale, int32_t zero_point,
                               dnnl_data_type_t dtype) {
    return dnnl_post_ops_append_sum(posts, scale, zero_point, dtype);
}

static bool is_avoided(const_dnnl_primitive_desc_t pd, const char *const *avoid) {
    const char *name = "";

    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    for (; avoid && *avoid; avoid++)
        if (strstr(name, *avoid))
            return true;
    return false;
}

/* From the first implementation (made with `status`) to the first that is not avoided. */
static dnnl_status_t pd_settle(dnnl_primitive_desc_t *pd, dnnl_status_t status, const char *const *avoid) {
    if (status != dnnl_success)
        return status;

    while (is_avoided(*pd, avoid) && status == dnnl_success)
        status = dnnl_primitive_desc_next_impl(*pd);
    if (status != dnnl_success) {
        dnnl_primitive_desc_destroy(*pd);
        *pd = NULL;
    }

    return status;
}

dnnl_status_t pd_convolution(dnnl_primitive_desc_t *ret, enum pd_convolution_kind kind,
                             const struct pd_operands *operands, const struct pd_window *window) {
    dnnl_status_t status;

    if (kind == PD_CONVOLUTION_TRANSPOSED)
        status = dnnl_deconvolution_forward_primitive_desc_create(
            ret, dnnl_processor(), dnnl_forward_inference, dnnl_deconvolution_direct, operands->source,
            operands->weights, operands->bias, operands->destination, window->strides, window->dilations,
            window->pads_begin, window->pads_end, operands->attr);
    else
        status = dnnl_convolution_forward_primitive_desc_create(
            ret, dnnl_processor(), dnnl_forward_inference,
            kind == PD_CONVOLUTION_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct,
            operands->source, operands->weights, operands->bias, operands->destination, window->strides,
            window->dilations, window->pads_begin, window->pads_end, operands->attr);
    return pd_settle(ret, status, operands->avoid);
}

dnnl_status_t pd_convolution_gradient(dnnl_primitive_desc_t *ret, const struct pd_operands *operands,
                                      const struct pd_window *window) {
    dnnl_primitive_desc_t hint;
    dnnl_status_t status = dnnl_convolution_forward_primitive_desc_create(
        &hint, dnnl_processor(), dnnl_forward_training, dnnl_convolution_direct, operands->source,
        operands->weights, NULL, operands->destination, window->strides, window->dilations,
        window->pads_begin, window->pads_end, operands->attr);
    if (status != dnnl_success)
        return status;

    status = dnnl_convolution_backward_weights_primitive_desc_create(
        ret, dnnl_processor(), dnnl_convolution_direct, operands->source, operands->weights, NULL,
        operands->destination, window->strides, window->dilations, window->pads_begin, window->pads_end, hint,
        operands->attr);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

dnnl_status_t pd_matmul(dnnl_primitive_desc_t *ret, const struct pd_operands *operands) {
    dnnl_status_t status =
        dnnl_matmul_primitive_desc_create(ret, dnnl_processor(), operands->source, operands->weights,
                                          operands->bias, operands->destination, operands->attr);
    return pd_settle(ret, status, operands->avoid);
}

dnnl_status_t pd_inner_product(dnnl_primitive_desc_t *ret, const struct pd_operands *operands) {
    dnnl_status_t status = dnnl_inner_product_forward_primitive_desc_create(
        ret, dnnl_processor(), dnnl_forward_inference, operands->source, operands->weights, operands->bias,
        operands->destination, operands->attr);
    return pd_settle(ret, status, operands->avoid);
}

dnnl_status_t pd_pooling(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const source,
                         md_const destination, const struct pd_window *window,
                         const_dnnl_primitive_attr_t attr) {
    return dnnl_pooling_forward_primitive_desc_create(
        ret, dnnl_processor(), dnnl_forward_inference, kind, source, destination, window->strides,
        window->kernel, window->dilations, window->pads_begin, window->pads_end, attr);
}

dnnl_status_t pd_eltwise(dnnl_primitive_desc_t *ret, const struct pd_eltwise *function, md_const layout,
                         const_dnnl_primitive_attr_t attr) {
    return dnnl_eltwise_forward_primitive_desc_create(ret, dnnl_processor(), dnnl_forward_inference,
                                                      function->kind, layout, layout, function->alpha,
                                                      function->beta, attr);
}

dnnl_status_t pd_binary(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const a, md_const b,
                        md_const destination, const_dnnl_primitive_attr_t attr) {
    return dnnl_binary_primitive_desc_create(ret, dnnl_processor(), kind, a, b, destination, attr);
}

dnnl_status_t pd_softmax(dnnl_primitive_desc_t *ret, md_const layout, int axis,
                         const_dnnl_primitive_attr_t attr) {
    return dnnl_softmax_forward_primitive_desc_create(ret, dnnl_processor(), dnnl_forward_inference,
                                                      dnnl_softmax_accurate, layout, layout, axis, attr);
}

dnnl_status_t pd_lrn(dnnl_primitive_desc_t *ret, const struct pd_lrn *norm, md_const layout,
                     const_dnnl_primitive_attr_t attr) {
    return dnnl_lrn_forward_primitive_desc_create(ret, dnnl_processor(), dnnl_forward_inference,
                                                  dnnl_lrn_across_channels, layout, layout, norm->size,
                                                  norm->alpha, norm->beta, norm->k, attr);
}
