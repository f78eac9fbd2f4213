/* Primitives with weights, over either generation of oneDNN: convolutions, matmuls, inner products, in floats
 * and in 8-bit integers. */
#include <stdlib.h>
#include <string.h>

#include "plan/dnnl_pool.h"

#define AVOIDED_MOST 10 /* kernels of one operation */
#define AVOIDED_LATER 3 /* of them that are found out by trying */

/* A primitive with weights in the making, and what lives only that long. */
struct weighted {
    const char *what;
    md_handle source, weights, bias, destination;
    bool has_bias;
    const struct primitive_post *posts;
    int post_count;
    const float *scales;
    int64_t scale_count;
    int32_t zero_point;          /* of the source */
    int channel_axis;            /* of the destination */
    int weights_mask;            /* axes of the weights that have a scale for each element */
    const char *const *avoid;    /* see struct pd_operands */
    struct pd_operands operands; /* filled in by weighted_begin */
};

static bool attr_set_quantization(dnnl_primitive_attr_t attr, const struct weighted *weighted) {
    if (weighted->scales && attr_set_scales(attr, weighted->scales, weighted->scale_count,
                                            weighted->channel_axis, weighted->weights_mask) != dnnl_success)
        return false;
    return !weighted->zero_point || attr_set_zero_point(attr, weighted->zero_point) == dnnl_success;
}

/* False where something could not be made: weighted_end says so. */
static bool weighted_begin(struct weighted *weighted, struct creation *creation) {
    *creation = creation_begin(weighted->what, weighted->posts, weighted->post_count);
    if (!creation->attr || !weighted->source || !weighted->weights || !weighted->destination ||
        (weighted->has_bias && !weighted->bias) || !attr_set_quantization(creation->attr, weighted))
        return false;

    weighted->operands = (struct pd_operands){.source = weighted->source,
                                              .weights = weighted->weights,
                                              .bias = weighted->bias,
                                              .destination = weighted->destination,
                                              .attr = creation->attr,
                                              .avoid = weighted->avoid};
    return true;
}

/* Generation 3 takes scales and zero points as memory at execution: keep them with the primitive. */
static bool primitive_keep_quantization(struct primitive *primitive, const struct weighted *weighted,
                                        struct error *error) {
    size_t bytes = (size_t)weighted->scale_count * sizeof *weighted->scales;

    primitive->zero_point = weighted->zero_point;
    if (!weighted->scales || !quantization_at_execution)
        return true;

    primitive->scales = malloc(bytes);
    if (!primitive->scales)
        return error_set(error, ERROR_MEMORY, "not enough memory for scales");

    memcpy(primitive->scales, weighted->scales, bytes);
    primitive->scale_count = weighted->scale_count;
    return true;
}

static const struct primitive *weighted_end(struct weighted *weighted, struct creation *creation,
                                            struct primitive_pool *pool, struct error *error) {
    struct primitive *primitive = creation_end(creation, pool, error);

    md_destroy(weighted->source);
    md_destroy(weighted->destination);
    md_destroy(weighted->weights);
    md_destroy(weighted->bias);
    if (!primitive)
        return NULL;
    if (!primitive_keep_quantization(primitive, weighted, error)) {
        creation->kernel[0] = 0;
        return NULL;
    }

    if (!creation_layout(pool, primitive->description, dnnl_query_weights_md, 0,
                         &primitive->layouts[ARGUMENT_WEIGHTS]) ||
        (weighted->has_bias && !creation_layout(pool, primitive->description, dnnl_query_weights_md, 1,
                                                &primitive->layouts[ARGUMENT_BIAS]))) {
        creation->kernel[0] = 0;
        error_set(error, ERROR_MEMORY, "not enough memory for a %s", weighted->what);
        return NULL;
    }
    return primitive;
}

static md_handle md_wanted(const struct layout *wanted, const struct shape *shape, enum dtype dtype) {
    return wanted ? md_copy(layout_md(wanted)) : md_create_any(shape->rank, shape->dims, dnnl_dtype(dtype));
}

static md_handle md_vector(int64_t count, int rank, enum dtype dtype) {
    dnnl_dims_t dims = {1, 1, 1, 1, 1, 1, 1, 1}, strides;

    dims[rank - 1] = count;
    for (int i = 0; i < rank; i++)
        strides[i] = i == rank - 1 ? 1 : count;
    return md_create_strided(rank, dims, dnnl_dtype(dtype), strides);
}

/* --- Convolutions --- */

/* oneDNN's axes for weights: with groups [g, o / g, i / g, kernel…], else [o, i, kernel…]. Returns the rank.
 */
static int weights_dims(const struct convolution_spec *spec, dnnl_dims_t dims, dnnl_dims_t strides) {
    const struct shape *shape = &spec->weights;
    int spatial = shape->rank - 2, rank = 0;
    int64_t kernel = 1, groups = spec->groups;
    for (int i = 0; i < spatial; i++)
        kernel *= shape->dims[2 + i];

    int64_t outputs = spec->transposed ? shape->dims[1] : shape->dims[0] / groups;
    int64_t inputs = spec->transposed ? shape->dims[0] / groups : shape->dims[1];

    if (groups > 1) {
        dims[rank] = groups;
        strides[rank++] = outputs * inputs * kernel;
    }

    dims[rank] = outputs;
    strides[rank++] = spec->transposed ? kernel : inputs * kernel;
    dims[rank] = inputs;
    strides[rank++] = spec->transposed ? outputs * kernel : kernel;
    for (int i = 0; i < spatial; i++) {
        kernel /= shape->dims[2 + i];
        dims[rank] = shape->dims[2 + i];
        strides[rank++] = kernel;
    }

    return rank;
}

const struct layout *primitive_convolution_weights(struct primitive_pool *pool,
                                                   const struct convolution_spec *spec) {
    dnnl_dims_t dims, strides;
    int rank = weights_dims(spec, dims, strides);
    return layout_keep(pool, md_create_strided(rank, dims, dnnl_dtype(DTYPE_F32), strides));
}

/* Results of so few positions are less than the four tiles of oneDNN 2's 8-bit kernel for 1x1: it writes past
 * the end of the tensor, into the next sample (seen from 27 to 48 positions). */
#define TILES_POSITIONS 64

static bool is_small(const struct shape *shape) {
    int64_t positions = 1;
    for (int i = 2; i < shape->rank; i++)
        positions *= shape->dims[i];
    return positions < TILES_POSITIONS;
}

static bool has_large_operand(const struct convolution_spec *spec) {
    for (int i = 0; i < spec->post_count; i++)
        if (spec->posts[i].operand && shape_equal(layout_shape(spec->posts[i].operand), &spec->destination))
            return true;
    return false;
}

/* A result of one column, whose kernel moves on by more than one: oneDNN 3.7's brgemm kernels take wrong
 * elements, of any element type. */
static bool is_one_strided_column(const struct convolution_spec *spec) {
    int last = spec->destination.rank - 1;
    return spec->destination.dims[last] == 1 && spec->strides[last - 2] > 1;
}

/* A post-op's operand [1, c, 1 …]: oneDNN takes it for one element a channel, also where that is the whole
 * result. */
static bool has_channel_operand(const struct convolution_spec *spec) {
    for (int i = 0; i < spec->post_count; i++)
        if (spec->posts[i].operand &&
            shape_elements(layout_shape(spec->posts[i].operand)) == spec->destination.dims[1] &&
            layout_shape(spec->posts[i].operand)->dims[1] == spec->destination.dims[1])
            return true;
    return false;
}

/* Channels or positions along an axis of 1, where one and the same memory has several layouts. */
static bool has_unit_axis(const struct shape *shape) {
    for (int i = 1; i < shape->rank; i++)
        if (shape->dims[i] == 1)
            return true;
    return false;
}

/* Kernels of oneDNN that give wrong elements for `spec`, ended by NULL. Its versions 2 and 3 name theirs
 * differently, so those of the other one match nothing. */
static void convolution_avoid(const struct convolution_spec *spec, const char *ret[AVOIDED_MOST + 1]) {
    bool large_operand = has_large_operand(spec);
    int count = 0;

    if (dtype_size(spec->source_dtype) == 1 && is_small(&spec->destination))
        ret[count++] = "jit_1x1:avx512_core_amx_int8";
    /* The bfloat16 kernels for 1x1 work on whole tiles of an operand: they read and write past the end of the
     * tensors, and mix channels up. */
    if (large_operand && spec->source_dtype == DTYPE_BF16) {
        ret[count++] = "jit_1x1:avx512_core_amx_bf16";
        ret[count++] = "jit_bf16_1x1";
    }

    if (large_operand && spec->destination.dims[1] == 1)
        ret[count++] = "gemm";
    if (is_one_strided_column(spec))
        ret[count++] = "brg_conv_fwd";
    if (has_channel_operand(spec)) /* oneDNN 2.6's depthwise kernel takes those of other channels */
        ret[count++] = "brdgmm_dw";

    /* oneDNN 3.7 makes 1x1 kernels over plain layouts a matmul, and takes the strides of axes of 1 literally.
     */
    if (has_unit_axis(&spec->source) || has_unit_axis(&spec->destination))
        ret[count++] = "ncsp";
    ret[count] = NULL;
}

/* `avoided`: see struct pd_operands. `ret_kernel`: the name of the implementation that was tried, if any. */
static const struct primitive *try_convolution(struct primitive_pool *pool,
                                               const struct convolution_spec *spec,
                                               const char *const *avoided, char ret_kernel[KERNEL_NAME],
                                               struct error *error) {
    dnnl_dims_t dims, strides, dilations;
    int rank = weights_dims(spec, dims, strides), spatial = spec->source.rank - 2;
    for (int i = 0; i < spatial; i++)
        dilations[i] = spec->dilations[i] - 1; /* oneDNN counts the gaps */

    struct weighted weighted = {
        .what = "convolution",
        .has_bias = spec->has_bias,
        .source = md_wanted(spec->source_layout, &spec->source, spec->source_dtype),
        .weights = spec->weights_layout ? md_copy(layout_md(spec->weights_layout))
                                        : md_create_any(rank, dims, dnnl_dtype(spec->weights_dtype)),
        .bias = spec->has_bias ? md_vector(spec->destination.dims[1], 1, spec->bias_dtype) : NULL,
        .destination = md_wanted(spec->destination_layout, &spec->destination, spec->destination_dtype),
        .posts = spec->posts,
        .post_count = spec->post_count,
        .scales = spec->scales,
        .scale_count = spec->scale_count,
        .zero_point = spec->source_zero_point,
        .channel_axis = 1,
        .weights_mask = spec->groups > 1 ? 3 : 1,
        .avoid = avoided,
    };
    const struct pd_window window = {.strides = spec->strides,
                                     .dilations = dilations,
                                     .pads_begin = spec->pads_begin,
                                     .pads_end = spec->pads_end};
    enum pd_convolution_kind kind = spec->transposed ? PD_CONVOLUTION_TRANSPOSED
                                    : spec->winograd ? PD_CONVOLUTION_WINOGRAD
                                                     : PD_CONVOLUTION_DIRECT;
    struct creation creation;

    if (weighted_begin(&weighted, &creation))
        creation.status = pd_convolution(&creation.description, kind, &weighted.operands, &window);
    const struct primitive *primitive = weighted_end(&weighted, &creation, pool, error);
    memcpy(ret_kernel, creation.kernel, KERNEL_NAME);

    return primitive;
}

/* An implementation that is offered may still fail when it is made (oneDNN 2.6's bfloat16 kernel for groups
 * of few channels, with a Sigmoid): then another one is taken, unless it was our memory that ran out. */
const struct primitive *primitive_convolution(struct primitive_pool *pool,
                                              const struct convolution_spec *spec, struct error *error) {
    const char *avoided[AVOIDED_MOST + 1];
    char failed[AVOIDED_LATER][KERNEL_NAME];
    int count = 0;

    convolution_avoid(spec, avoided);
    while (avoided[count])
        count++;
    for (int i = 0; i < AVOIDED_LATER; i++) {
        const struct primitive *primitive = try_convolution(pool, spec, avoided, failed[i], error);
        if (primitive || !*failed[i])
            return primitive;
        avoided[count++] = failed[i];
        avoided[count] = NULL;
    }

    return NULL;
}

const struct primitive *primitive_convolution_gradient(struct primitive_pool *pool,
                                                       const struct convolution_spec *spec,
                                                       struct error *error) {
    dnnl_dims_t dims, strides, dilations;
    int rank = weights_dims(spec, dims, strides);
    for (int i = 0; i < spec->source.rank - 2; i++)
        dilations[i] = spec->dilations[i] - 1;

    md_handle source = md_wanted(spec->source_layout, &spec->source, DTYPE_F32);
    md_handle weights = md_create_any(rank, dims, dnnl_dtype(DTYPE_F32));
    md_handle destination = md_wanted(spec->destination_layout, &spec->destination, DTYPE_F32);
    const struct pd_window window = {.strides = spec->strides,
                                     .dilations = dilations,
                                     .pads_begin = spec->pads_begin,
                                     .pads_end = spec->pads_end};
    struct creation creation = creation_begin("gradient of a convolution", NULL, 0);
    const struct pd_operands operands = {
        .source = source, .weights = weights, .destination = destination, .attr = creation.attr};
    if (creation.attr && source && weights && destination)
        creation.status = pd_convolution_gradient(&creation.description, &operands, &window);

    struct primitive *primitive = creation_end(&creation, pool, error);
    md_destroy(source);
    md_destroy(weights);
    md_destroy(destination);
    if (!primitive)
        return NULL;

    primitive->is_gradient = true;
    if (!creation_layout(pool, primitive->description, dnnl_query_diff_dst_md, 0,
                         &primitive->layouts[ARGUMENT_SOURCE_1]) ||
        !creation_layout(pool, primitive->description, dnnl_query_diff_weights_md, 0,
                         &primitive->layouts[ARGUMENT_DESTINATION])) {
        error_set(error, ERROR_MEMORY, "not enough memory for the gradient of a convolution");
        return NULL;
    }
    return primitive;
}

/* --- Matmuls and inner products --- */

/* Whether the matrices of an operand follow one another in steps of one size. A plain operand has no layout
 * here. */
static bool is_one_batch(const struct layout *layout) {
    int64_t strides[LIMIT_TENSOR_RANK];
    if (!layout || layout_shape(layout)->rank < 4)
        return true;
    if (!layout_strides(layout, strides))
        return false;

    const struct shape *shape = layout_shape(layout);
    for (int i = 0; i + 3 < shape->rank; i++)
        if (strides[i] != strides[i + 1] * shape->dims[i + 1])
            return false;
    return true;
}

static bool is_strided_row(const struct layout *layout) {
    int64_t strides[LIMIT_TENSOR_RANK];
    if (!layout || !layout_strides(layout, strides))
        return false;

    const struct shape *shape = layout_shape(layout);
    return shape->dims[shape->rank - 2] == 1 && strides[shape->rank - 1] != 1;
}

/* Matmuls that oneDNN 3's kernels get wrong or crash at (seen in 3.7.2): they step through all matrices of an
 * operand by one stride, repeat no matrix of an operand with two batch axes, and read a source of one row as
 * if its elements were adjacent. */
static bool is_beyond_brgemm(const struct matmul_spec *spec) {
    bool repeats = false;

    for (int i = 0; i + 2 < spec->destination.rank; i++)
        repeats |= spec->source.dims[i] != spec->weights.dims[i];
    return (repeats && spec->destination.rank > 3) || !is_one_batch(spec->source_layout) ||
           !is_one_batch(spec->weights_layout) || is_strided_row(spec->source_layout);
}

static void matmul_avoid(const struct matmul_spec *spec, const char *ret[AVOIDED_MOST + 1]) {
    int64_t depth = spec->source.dims[spec->source.rank - 1];
    int64_t bytes = depth * (int64_t)dtype_size(spec->source_dtype);
    int count = 0;

    /* oneDNN 2's AMX kernels execute an invalid instruction where a row of the source fills two tiles all but
     * three bytes or fewer, depending on how the result is cut into blocks for the threads. */
    if (bytes > 124 && bytes < 128)
        ret[count++] = "amx";
    if (is_beyond_brgemm(spec))
        ret[count++] = "brg_matmul";
    ret[count] = NULL;
}

static const struct primitive *matmul_or_inner(struct primitive_pool *pool, const struct matmul_spec *spec,
                                               bool inner, struct error *error) {
    int rank = spec->destination.rank;
    int64_t columns = spec->destination.dims[rank - 1];
    const char *avoided[AVOIDED_MOST + 1];
    matmul_avoid(spec, avoided);

    struct weighted weighted = {
        .what = inner ? "inner product" : "matmul",
        .has_bias = spec->has_bias,
        .source = md_wanted(spec->source_layout, &spec->source, spec->source_dtype),
        .weights = md_wanted(spec->weights_layout, &spec->weights, spec->weights_dtype),
        .bias = spec->has_bias ? md_vector(columns, inner ? 1 : rank, spec->bias_dtype) : NULL,
        .destination = md_wanted(spec->destination_layout, &spec->destination, spec->destination_dtype),
        .posts = spec->posts,
        .post_count = spec->post_count,
        .scales = spec->scales,
        .scale_count = spec->scale_count,
        .zero_point = spec->source_zero_point,
        .channel_axis = rank - 1,
        .weights_mask = inner ? 1 : 1 << (rank - 1),
        .avoid = inner ? NULL : avoided,
    };
    struct creation creation;

    if (weighted_begin(&weighted, &creation))
        creation.status = inner ? pd_inner_product(&creation.description, &weighted.operands)
                                : pd_matmul(&creation.description, &weighted.operands);

    return weighted_end(&weighted, &creation, pool, error);
}

const struct primitive *primitive_matmul(struct primitive_pool *pool, const struct matmul_spec *spec,
                                         struct error *error) {
    return matmul_or_inner(pool, spec, false, error);
}

const struct primitive *primitive_inner_product(struct primitive_pool *pool, const struct matmul_spec *spec,
                                                struct error *error) {
    return matmul_or_inner(pool, spec, true, error);
}
