/* oneDNN 2.x: operation descriptors first, memory descriptors by value. */
#include "plan/dnnl_api.h"

#include <stdlib.h>
#include <string.h>

const bool quantization_at_execution = false;

bool primitive_bias_before_scales(void) {
    return true;
}

static md_handle md_keep(dnnl_status_t status, const dnnl_memory_desc_t *md) {
    md_handle kept = status == dnnl_success ? malloc(sizeof *kept) : NULL;
    if (kept)
        *kept = *md;
    return kept;
}

md_handle md_create_strided(int rank, const int64_t *dims, dnnl_data_type_t dtype, const int64_t *strides) {
    dnnl_memory_desc_t md;
    return md_keep(dnnl_memory_desc_init_by_strides(&md, rank, dims, dtype, strides), &md);
}

md_handle md_create_any(int rank, const int64_t *dims, dnnl_data_type_t dtype) {
    return md_create_tagged(rank, dims, dtype, dnnl_format_tag_any);
}

md_handle md_create_tagged(int rank, const int64_t *dims, dnnl_data_type_t dtype, dnnl_format_tag_t tag) {
    dnnl_memory_desc_t md;
    return md_keep(dnnl_memory_desc_init_by_tag(&md, rank, dims, dtype, tag), &md);
}

md_handle md_copy(md_const md) {
    return md_keep(dnnl_success, md);
}

md_handle md_permute(md_const md, const int *permutation) {
    dnnl_memory_desc_t permuted;
    return md_keep(dnnl_memory_desc_permute_axes(&permuted, md, permutation), &permuted);
}

md_handle md_reshape(md_const md, int rank, const int64_t *dims) {
    dnnl_memory_desc_t reshaped;
    return md_keep(dnnl_memory_desc_reshape(&reshaped, md, rank, dims), &reshaped);
}

md_handle md_retype(md_const md, dnnl_data_type_t dtype) {
    md_handle copy = md_copy(md);

    if (copy) {
        copy->data_type = dtype;
        memset(&copy->extra, 0, sizeof copy->extra);
    }
    return copy;
}

/* Of the axes that are not placed yet, the one with the smallest stride; of equals, the last. One is left. */
static int innermost_axis(const struct md_blocks *blocks, const bool *placed) {
    int axis = 0;

    while (placed[axis])
        axis++;
    for (int i = axis + 1; i < blocks->rank; i++)
        if (!placed[i] && blocks->strides[i] <= blocks->strides[axis])
            axis = i;
    return axis;
}

md_handle md_resize(md_const like, const int64_t *dims) {
    struct md_blocks blocks;
    if (!md_blocks(like, &blocks) || blocks.has_extra)
        return NULL;
    md_handle md = md_copy(like);
    if (!md)
        return NULL;

    dnnl_dim_t block[DNNL_MAX_NDIMS], step = 1;
    for (int i = 0; i < DNNL_MAX_NDIMS; i++)
        block[i] = 1;
    for (int i = 0; i < blocks.block_count; i++) {
        block[blocks.block_axes[i]] *= blocks.block_sizes[i];
        step *= blocks.block_sizes[i];
    }

    for (int i = 0; i < blocks.rank; i++) {
        md->dims[i] = dims[i];
        md->padded_dims[i] = (dims[i] + block[i] - 1) / block[i] * block[i];
    }

    bool placed[DNNL_MAX_NDIMS] = {false};
    for (int i = 0; i < blocks.rank; i++) {
        int axis = innermost_axis(&blocks, placed);
        placed[axis] = true;
        md->format_desc.blocking.strides[axis] = step;
        step *= md->padded_dims[axis] / block[axis];
    }

    return md;
}

void md_destroy(md_handle md) {
    free(md);
}

#define EXTRA_FLAGS                                                                        \
    (dnnl_memory_extra_flag_compensation_conv_s8s8 | dnnl_memory_extra_flag_scale_adjust | \
     dnnl_memory_extra_flag_compensation_conv_asymmetric_src)

bool md_get_extra(md_const md, struct md_extra *ret) {
    const dnnl_memory_extra_desc_t *extra = &md->extra;

    *ret = (struct md_extra){.flags = (uint32_t)extra->flags};
    if (extra->flags & dnnl_memory_extra_flag_compensation_conv_s8s8)
        ret->compensation_mask = (uint32_t)extra->compensation_mask;
    if (extra->flags & dnnl_memory_extra_flag_compensation_conv_asymmetric_src)
        ret->zero_point_mask = (uint32_t)extra->asymm_compensation_mask;
    if (extra->flags & dnnl_memory_extra_flag_scale_adjust)
        ret->scale_adjust = extra->scale_adjust;
    return !(extra->flags & ~(uint64_t)EXTRA_FLAGS);
}

bool md_set_extra(md_handle md, const struct md_extra *extra) {
    if (extra->flags & ~(uint32_t)EXTRA_FLAGS || (extra->flags && md->data_type != dnnl_s8))
        return false;

    md->extra = (dnnl_memory_extra_desc_t){.flags = extra->flags,
                                           .compensation_mask = (int)extra->compensation_mask,
                                           .scale_adjust = extra->scale_adjust,
                                           .asymm_compensation_mask = (int)extra->zero_point_mask};
    return true;
}

bool md_blocks(md_const md, struct md_blocks *ret) {
    if (md->format_kind != dnnl_blocked)
        return false;

    const dnnl_blocking_desc_t *blocking = &md->format_desc.blocking;
    ret->rank = md->ndims;
    ret->block_count = blocking->inner_nblks;
    memcpy(ret->dims, md->dims, sizeof ret->dims);
    memcpy(ret->padded_dims, md->padded_dims, sizeof ret->padded_dims);
    memcpy(ret->strides, blocking->strides, sizeof ret->strides);
    memcpy(ret->block_sizes, blocking->inner_blks, sizeof ret->block_sizes);
    memcpy(ret->block_axes, blocking->inner_idxs, sizeof ret->block_axes);
    ret->has_extra = md->extra.flags != 0;

    return true;
}

dnnl_status_t attr_set_scales(dnnl_primitive_attr_t attr, const float *scales, int64_t count,
                              int channel_axis, int weights_mask) {
    (void)weights_mask;
    return dnnl_primitive_attr_set_output_scales(attr, count, count > 1 ? 1 << channel_axis : 0, scales);
}

dnnl_status_t attr_set_zero_point(dnnl_primitive_attr_t attr, int32_t zero_point) {
    return dnnl_primitive_attr_set_zero_points(attr, DNNL_ARG_SRC, 1, 0, &zero_point);
}

dnnl_status_t posts_append_eltwise(dnnl_post_ops_t posts, dnnl_alg_kind_t kind, float alpha, float beta) {
    return dnnl_post_ops_append_eltwise(posts, 1.0f, kind, alpha, beta);
}

dnnl_status_t posts_append_round(dnnl_post_ops_t posts, float scale) {
    return dnnl_post_ops_append_eltwise(posts, scale, dnnl_eltwise_round, 0, 0);
}

dnnl_status_t posts_append_sum(dnnl_post_ops_t posts, float scale, int32_t zero_point,
                               dnnl_data_type_t dtype) {
    if (zero_point)
        return dnnl_post_ops_append_sum_v3(posts, scale, zero_point, dtype);
    return dnnl_post_ops_append_sum_v2(posts, scale, dtype);
}

static bool is_avoided(const_dnnl_primitive_desc_t pd, const char *const *avoid) {
    const char *name = "";

    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name);
    for (; *avoid; avoid++)
        if (strstr(name, *avoid))
            return true;
    return false;
}

/* The first implementation of an operation that is not avoided. `status`: of the operation's description. */
static dnnl_status_t pd_create(dnnl_primitive_desc_t *ret, dnnl_status_t status,
                               const_dnnl_op_desc_t operation, const_dnnl_primitive_attr_t attr,
                               const char *const *avoid) {
    dnnl_primitive_desc_iterator_t iterator;

    if (status != dnnl_success)
        return status;
    if (!avoid)
        return dnnl_primitive_desc_create(ret, operation, attr, dnnl_processor(), NULL);

    status = dnnl_primitive_desc_iterator_create(&iterator, operation, attr, dnnl_processor(), NULL);
    if (status != dnnl_success)
        return status;

    dnnl_primitive_desc_t pd = dnnl_primitive_desc_iterator_fetch(iterator);
    while (pd && is_avoided(pd, avoid)) {
        dnnl_primitive_desc_destroy(pd);
        status = dnnl_primitive_desc_iterator_next(iterator);
        pd = status == dnnl_success ? dnnl_primitive_desc_iterator_fetch(iterator) : NULL;
    }
    dnnl_primitive_desc_iterator_destroy(iterator);

    if (!pd)
        return status == dnnl_success ? dnnl_out_of_memory : status;
    *ret = pd;
    return dnnl_success;
}

dnnl_status_t pd_convolution(dnnl_primitive_desc_t *ret, enum pd_convolution_kind kind,
                             const struct pd_operands *operands, const struct pd_window *window) {
    dnnl_convolution_desc_t operation; /* and dnnl_deconvolution_desc_t */
    dnnl_status_t status;

    if (kind == PD_CONVOLUTION_TRANSPOSED)
        status = dnnl_dilated_deconvolution_forward_desc_init(
            &operation, dnnl_forward_inference, dnnl_deconvolution_direct, operands->source,
            operands->weights, operands->bias, operands->destination, window->strides, window->dilations,
            window->pads_begin, window->pads_end);
    else
        status = dnnl_dilated_convolution_forward_desc_init(
            &operation, dnnl_forward_inference,
            kind == PD_CONVOLUTION_WINOGRAD ? dnnl_convolution_winograd : dnnl_convolution_direct,
            operands->source, operands->weights, operands->bias, operands->destination, window->strides,
            window->dilations, window->pads_begin, window->pads_end);
    return pd_create(ret, status, &operation, operands->attr, operands->avoid);
}

dnnl_status_t pd_convolution_gradient(dnnl_primitive_desc_t *ret, const struct pd_operands *operands,
                                      const struct pd_window *window) {
    dnnl_convolution_desc_t forward, backward;
    dnnl_primitive_desc_t hint;
    dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &forward, dnnl_forward_training, dnnl_convolution_direct, operands->source, operands->weights, NULL,
        operands->destination, window->strides, window->dilations, window->pads_begin, window->pads_end);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(&hint, &forward, operands->attr, dnnl_processor(), NULL);
    if (status != dnnl_success)
        return status;

    status = dnnl_dilated_convolution_backward_weights_desc_init(
        &backward, dnnl_convolution_direct, operands->source, operands->weights, NULL, operands->destination,
        window->strides, window->dilations, window->pads_begin, window->pads_end);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(ret, &backward, operands->attr, dnnl_processor(), hint);
    dnnl_primitive_desc_destroy(hint);
    return status;
}

dnnl_status_t pd_matmul(dnnl_primitive_desc_t *ret, const struct pd_operands *operands) {
    dnnl_matmul_desc_t operation;
    dnnl_status_t status = dnnl_matmul_desc_init(&operation, operands->source, operands->weights,
                                                 operands->bias, operands->destination);
    return pd_create(ret, status, &operation, operands->attr, operands->avoid);
}

dnnl_status_t pd_inner_product(dnnl_primitive_desc_t *ret, const struct pd_operands *operands) {
    dnnl_inner_product_desc_t operation;
    dnnl_status_t status =
        dnnl_inner_product_forward_desc_init(&operation, dnnl_forward_inference, operands->source,
                                             operands->weights, operands->bias, operands->destination);
    return pd_create(ret, status, &operation, operands->attr, operands->avoid);
}

dnnl_status_t pd_pooling(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const source,
                         md_const destination, const struct pd_window *window,
                         const_dnnl_primitive_attr_t attr) {
    dnnl_pooling_v2_desc_t operation;
    dnnl_status_t status = dnnl_pooling_v2_forward_desc_init(
        &operation, dnnl_forward_inference, kind, source, destination, window->strides, window->kernel,
        window->dilations, window->pads_begin, window->pads_end);
    return pd_create(ret, status, &operation, attr, NULL);
}

dnnl_status_t pd_eltwise(dnnl_primitive_desc_t *ret, const struct pd_eltwise *function, md_const layout,
                         const_dnnl_primitive_attr_t attr) {
    dnnl_eltwise_desc_t operation;
    dnnl_status_t status = dnnl_eltwise_forward_desc_init(&operation, dnnl_forward_inference, function->kind,
                                                          layout, function->alpha, function->beta);
    return pd_create(ret, status, &operation, attr, NULL);
}

dnnl_status_t pd_binary(dnnl_primitive_desc_t *ret, dnnl_alg_kind_t kind, md_const a, md_const b,
                        md_const destination, const_dnnl_primitive_attr_t attr) {
    dnnl_binary_desc_t operation;
    dnnl_status_t status = dnnl_binary_desc_init(&operation, kind, a, b, destination);
    return pd_create(ret, status, &operation, attr, NULL);
}

dnnl_status_t pd_softmax(dnnl_primitive_desc_t *ret, md_const layout, int axis,
                         const_dnnl_primitive_attr_t attr) {
    dnnl_softmax_v2_desc_t operation;
    dnnl_status_t status = dnnl_softmax_v2_forward_desc_init(&operation, dnnl_forward_inference,
                                                             dnnl_softmax_accurate, layout, layout, axis);
    return pd_create(ret, status, &operation, attr, NULL);
}

dnnl_status_t pd_lrn(dnnl_primitive_desc_t *ret, const struct pd_lrn *norm, md_const layout,
                     const_dnnl_primitive_attr_t attr) {
    dnnl_lrn_desc_t operation;
    dnnl_status_t status =
        dnnl_lrn_forward_desc_init(&operation, dnnl_forward_inference, dnnl_lrn_across_channels, layout,
                                   norm->size, norm->alpha, norm->beta, norm->k);
    return pd_create(ret, status, &operation, attr, NULL);
}
