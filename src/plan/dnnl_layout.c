/* Layouts over oneDNN's memory descriptors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "plan/dnnl_pool.h"

dnnl_data_type_t dnnl_dtype(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F32:
        return dnnl_f32;
    case DTYPE_BF16:
        return dnnl_bf16;
    case DTYPE_F16:
        return dnnl_f16;
    case DTYPE_I32:
        return dnnl_s32;
    case DTYPE_I8:
        return dnnl_s8;
    case DTYPE_U8:
        return dnnl_u8;
    default:
        return dnnl_data_type_undef;
    }
}

static enum dtype dtype_of(md_const md) {
#if DNNL_VERSION_MAJOR >= 3
    dnnl_data_type_t type = dnnl_data_type_undef;
    dnnl_memory_desc_query(md, dnnl_query_data_type, &type);
#else
    dnnl_data_type_t type = md->data_type;
#endif
    static const enum dtype all[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I32, DTYPE_I8, DTYPE_U8};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (dnnl_dtype(all[i]) == type)
            return all[i];
    return DTYPE_UNKNOWN;
}

md_const layout_md(const struct layout *layout) {
    return layout ? layout->md : NULL;
}

const struct layout *layout_keep(struct primitive_pool *pool, md_handle md) {
    struct layout *layout = md ? calloc(1, sizeof *layout) : NULL;
    if (!layout) {
        md_destroy(md);
        return NULL;
    }

    struct md_blocks blocks;
    layout->shape.rank = -1;
    if (md_blocks(md, &blocks) && blocks.rank <= LIMIT_TENSOR_RANK) {
        layout->shape.rank = blocks.rank;
        memcpy(layout->shape.dims, blocks.dims, (size_t)blocks.rank * sizeof blocks.dims[0]);
    }

    layout->md = md;
    layout->dtype = dtype_of(md);
    layout->next = pool->layouts;
    pool->layouts = layout;
    return layout;
}

static const struct layout *layout_exactly(struct primitive_pool *pool, enum dtype dtype,
                                           const struct shape *shape, const int64_t *strides) {
    dnnl_dims_t dims = {0}, steps = {0};
    if (shape->rank < 1 || dnnl_dtype(dtype) == dnnl_data_type_undef)
        return NULL;

    memcpy(dims, shape->dims, (size_t)shape->rank * sizeof dims[0]);
    memcpy(steps, strides, (size_t)shape->rank * sizeof steps[0]);
    return layout_keep(pool, md_create_strided(shape->rank, dims, dnnl_dtype(dtype), steps));
}

/* An axis of 1 may have any stride. oneDNN's broadcasting reads the order of the axes from the strides, and
 * leaves elements out where such an axis has the stride of its former position: give it one that fits the
 * axes after it. */
static void settle_unit_axes(const struct shape *shape, int64_t *strides) {
    int64_t outer = 1;

    for (int i = shape->rank - 1; i >= 0; i--) {
        if (shape->dims[i] == 1)
            strides[i] = outer;
        else if (strides[i] * shape->dims[i] > outer)
            outer = strides[i] * shape->dims[i];
    }
}

const struct layout *layout_strided(struct primitive_pool *pool, enum dtype dtype, const struct shape *shape,
                                    const int64_t *strides) {
    int64_t settled[LIMIT_TENSOR_RANK] = {0};

    for (int i = 0; i < shape->rank; i++)
        settled[i] = strides[i];
    settle_unit_axes(shape, settled);
    return layout_exactly(pool, dtype, shape, settled);
}

const struct layout *layout_plain(struct primitive_pool *pool, enum dtype dtype, const struct shape *shape) {
    int64_t strides[LIMIT_TENSOR_RANK], step = 1;

    for (int i = shape->rank - 1; i >= 0; i--) {
        strides[i] = step;
        step *= shape->dims[i];
    }
    return layout_exactly(pool, dtype, shape, strides);
}

const struct layout *layout_channels_last(struct primitive_pool *pool, enum dtype dtype,
                                          const struct shape *shape) {
    if (shape->rank < 3)
        return NULL;

    int64_t strides[LIMIT_TENSOR_RANK], step = shape->dims[1];
    for (int i = shape->rank - 1; i >= 2; i--) {
        strides[i] = step;
        step *= shape->dims[i];
    }

    strides[1] = 1;
    strides[0] = step;
    return layout_exactly(pool, dtype, shape, strides);
}

const struct layout *layout_blocked(struct primitive_pool *pool, enum dtype dtype,
                                    const struct shape *shape) {
    if (shape->rank != 4)
        return NULL;
    return layout_keep(pool, md_create_tagged(4, shape->dims, dnnl_dtype(dtype), dnnl_aBcd16b));
}

bool layout_is_blocked(const struct layout *layout) {
    struct md_blocks blocks;
    return layout && layout->shape.rank == 4 && md_blocks(layout->md, &blocks) && blocks.block_count == 1 &&
           blocks.block_axes[0] == 1 && blocks.block_sizes[0] == 16;
}

const struct layout *layout_permute(struct primitive_pool *pool, const struct layout *layout,
                                    const int *permutation) {
    int inverse[LIMIT_TENSOR_RANK]; /* oneDNN: axis i of the source becomes axis permutation[i] */
    int64_t strides[LIMIT_TENSOR_RANK];

    if (!layout || layout->shape.rank <= 0)
        return NULL;
    for (int i = 0; i < layout->shape.rank; i++)
        inverse[permutation[i]] = i;

    const struct layout *permuted = layout_keep(pool, md_permute(layout->md, inverse));
    if (!permuted || !layout_strides(permuted, strides))
        return permuted;
    return layout_strided(pool, permuted->dtype, &permuted->shape, strides);
}

const struct layout *layout_reshape(struct primitive_pool *pool, const struct layout *layout,
                                    const struct shape *shape) {
    if (!layout || shape->rank < 1)
        return NULL;
    if (layout_is_plain(layout))
        return layout_plain(pool, layout->dtype, shape);

    dnnl_dims_t dims = {0};
    memcpy(dims, shape->dims, (size_t)shape->rank * sizeof dims[0]);
    return layout_keep(pool, md_reshape(layout->md, shape->rank, dims));
}

const struct layout *layout_retype(struct primitive_pool *pool, const struct layout *layout,
                                   enum dtype dtype) {
    if (!layout)
        return NULL;
    return dtype == layout->dtype ? layout_keep(pool, md_copy(layout->md))
                                  : layout_keep(pool, md_retype(layout->md, dnnl_dtype(dtype)));
}

const struct layout *layout_for_shape(struct primitive_pool *pool, const struct layout *layout,
                                      const struct shape *shape) {
    if (!layout || shape->rank != layout->shape.rank)
        return NULL;
    return layout_keep(pool, md_resize(layout->md, shape->dims));
}

const struct layout *layout_copy(struct primitive_pool *pool, const struct layout *layout) {
    return layout ? layout_keep(pool, md_copy(layout->md)) : NULL;
}

bool layout_equal(const struct layout *a, const struct layout *b) {
    return a == b || (a && b && dnnl_memory_desc_equal(a->md, b->md));
}

bool layout_identical(const struct layout *a, const struct layout *b) {
    struct md_blocks first, second;
    if (!layout_equal(a, b))
        return false;
    if (a == b || !md_blocks(a->md, &first) || !md_blocks(b->md, &second))
        return true;
    return memcmp(first.strides, second.strides, (size_t)first.rank * sizeof first.strides[0]) == 0;
}

/* The axes in the order `order` (outermost first) lie contiguously, without blocks or padding; axes of 1 lie
 * anywhere. */
static bool layout_has_order(const struct layout *layout, const int *order) {
    struct md_blocks blocks;
    if (!layout || !md_blocks(layout->md, &blocks) || blocks.block_count || blocks.has_extra)
        return false;

    int64_t step = 1;
    for (int i = blocks.rank - 1; i >= 0; i--) {
        int axis = order[i];
        if (blocks.padded_dims[axis] != blocks.dims[axis])
            return false;
        if (blocks.dims[axis] != 1 && blocks.strides[axis] != step)
            return false;
        step *= blocks.dims[axis];
    }

    return true;
}

bool layout_is_plain(const struct layout *layout) {
    int order[MD_RANK];
    for (int i = 0; i < MD_RANK; i++)
        order[i] = i;
    return layout && layout->shape.rank >= 0 && layout_has_order(layout, order);
}

bool layout_is_channels_last(const struct layout *layout) {
    int order[MD_RANK], rank = layout ? layout->shape.rank : 0;
    if (rank < 3)
        return false;

    order[0] = 0;
    for (int i = 1; i < rank - 1; i++)
        order[i] = i + 1;
    order[rank - 1] = 1;
    return layout_has_order(layout, order);
}

bool layout_has_channel_blocks(const struct layout *layout) {
    struct md_blocks blocks;
    if (!layout || !md_blocks(layout->md, &blocks) || blocks.has_extra || blocks.block_count != 1 ||
        blocks.block_axes[0] != 1)
        return false;

    int64_t step = blocks.block_sizes[0];
    for (int i = blocks.rank - 1; i >= 0; i--) {
        int64_t outer = blocks.padded_dims[i] / (i == 1 ? blocks.block_sizes[0] : 1);
        if (outer != 1 && blocks.strides[i] != step)
            return false;
        step *= outer;
    }
    return true;
}

bool layout_is_padded(const struct layout *layout) {
    struct md_blocks blocks;
    if (!layout || !md_blocks(layout->md, &blocks))
        return true;

    for (int i = 0; i < blocks.rank; i++)
        if (blocks.padded_dims[i] != blocks.dims[i])
            return true;
    return false;
}

bool layout_can_broadcast(const struct layout *layout) {
    struct md_blocks blocks;
    return layout && md_blocks(layout->md, &blocks) && !layout_is_padded(layout) &&
           (blocks.block_count == 0 || (blocks.block_count == 1 && blocks.block_axes[0] == 1));
}

int64_t layout_block_size(const struct layout *layout) {
    struct md_blocks blocks;
    return layout && md_blocks(layout->md, &blocks) && blocks.block_count ? blocks.block_sizes[0] : 0;
}

bool layout_strides(const struct layout *layout, int64_t *ret_strides) {
    struct md_blocks blocks;
    if (!layout || layout->shape.rank < 0 || !md_blocks(layout->md, &blocks) || blocks.block_count ||
        blocks.has_extra)
        return false;
    memcpy(ret_strides, blocks.strides, (size_t)blocks.rank * sizeof *ret_strides);
    return true;
}

bool layout_is_dense(const struct layout *layout) {
    int64_t elements = layout ? shape_elements(&layout->shape) : -1;
    return elements >= 0 && !layout_is_padded(layout) &&
           layout_bytes(layout) == (size_t)elements * dtype_size(layout->dtype);
}

size_t layout_bytes(const struct layout *layout) {
    return layout ? dnnl_memory_desc_get_size(layout->md) : 0;
}

enum dtype layout_dtype(const struct layout *layout) {
    return layout ? layout->dtype : DTYPE_UNKNOWN;
}

const struct shape *layout_shape(const struct layout *layout) {
    static const struct shape unknown = {.rank = -1};
    return layout ? &layout->shape : &unknown;
}

const char *layout_describe(const struct layout *layout, char *text, size_t size) {
    struct md_blocks blocks;

    if (layout_is_plain(layout))
        snprintf(text, size, "plain");
    else if (layout_is_channels_last(layout))
        snprintf(text, size, "channels last");
    else if (!md_blocks(layout->md, &blocks))
        snprintf(text, size, "packed");
    else if (!blocks.block_count)
        snprintf(text, size, "strided");
    else {
        int length = snprintf(text, size, "blocks of");
        for (int i = 0; i < blocks.block_count && length >= 0 && (size_t)length < size; i++)
            length += snprintf(text + length, size - (size_t)length, " %lld%c",
                               (long long)blocks.block_sizes[i], (char)('a' + blocks.block_axes[i]));
    }

    return text;
}

/* --- On disk: a description of our own, from which oneDNN makes the layout anew. A descriptor of oneDNN's is
 * never taken from a file: its kernels trust each field of it. --- */

static const enum dtype recorded_types[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_I8, DTYPE_U8, DTYPE_I32};

/* The layout that the record describes; NULL: it describes none. */
static md_handle record_build(const struct layout_record *record) {
    dnnl_data_type_t dtype = dnnl_dtype((enum dtype)record->dtype);
    const struct md_extra extra = {record->extra_flags, record->compensation_mask, record->zero_point_mask,
                                   record->scale_adjust};
    md_handle md =
        record->tag ? md_create_tagged((int)record->rank, record->dims, dtype, (dnnl_format_tag_t)record->tag)
                    : md_create_strided((int)record->rank, record->dims, dtype, record->strides);

    if (md && !md_set_extra(md, &extra)) {
        md_destroy(md);
        return NULL;
    }
    return md;
}

bool layout_record(const struct layout *layout, struct layout_record *ret) {
    struct layout_record record = {0};
    struct md_blocks blocks;
    struct md_extra extra;
    if (!layout || layout->shape.rank < 1 || !md_blocks(layout->md, &blocks) ||
        !md_get_extra(layout->md, &extra))
        return false;

    record.dtype = (uint32_t)layout->dtype;
    record.rank = (uint32_t)blocks.rank;
    record.extra_flags = extra.flags;
    record.compensation_mask = extra.compensation_mask;
    record.zero_point_mask = extra.zero_point_mask;
    record.scale_adjust = extra.scale_adjust;
    for (int i = 0; i < blocks.rank; i++) {
        record.dims[i] = blocks.dims[i];
        record.strides[i] = blocks.block_count ? 0 : blocks.strides[i];
    }

    uint32_t first = blocks.block_count ? dnnl_format_tag_any + 1 : 0;
    uint32_t last = blocks.block_count ? dnnl_format_tag_last - 1 : 0;
    for (record.tag = first; record.tag <= last; record.tag++) {
        md_handle md = record_build(&record);
        bool same = md && dnnl_memory_desc_equal(md, layout->md);
        md_destroy(md);
        if (same) {
            *ret = record;
            return true;
        }
    }
    return false;
}

/* Every element has a place, and all of them are within what a file can hold. */
static bool has_bounds(const struct layout_record *record) {
    int64_t elements = 1, last = 0, reach;

    for (uint32_t i = 0; i < record->rank; i++) {
        int64_t stride = record->strides[i];
        if (record->dims[i] < 1 || stride < (record->tag ? 0 : 1) ||
            __builtin_mul_overflow(elements, record->dims[i], &elements) ||
            __builtin_mul_overflow(record->dims[i] - 1, stride, &reach) ||
            __builtin_add_overflow(last, reach, &last) || elements > (int64_t)LIMIT_MODEL_BYTES ||
            last > (int64_t)LIMIT_MODEL_BYTES)
            return false;
    }
    return true;
}

static bool is_sound(const struct layout_record *record) {
    uint32_t axes = record->rank <= LIMIT_TENSOR_RANK ? (1u << record->rank) - 1 : 0;
    bool known = false;

    for (size_t i = 0; i < sizeof recorded_types / sizeof recorded_types[0]; i++)
        known |= record->dtype == (uint32_t)recorded_types[i];
    return known && record->rank >= 1 && record->rank <= LIMIT_TENSOR_RANK &&
           (record->tag == 0 || record->tag > dnnl_format_tag_any) && record->tag < dnnl_format_tag_last &&
           record->compensation_mask <= axes && record->zero_point_mask <= axes &&
           record->scale_adjust >= 0 && record->scale_adjust <= 1 && has_bounds(record);
}

const struct layout *layout_from_record(struct primitive_pool *pool, const struct layout_record *record) {
    return is_sound(record) ? layout_keep(pool, record_build(record)) : NULL;
}
