/* What both generations of oneDNN share: pools, primitives, executions. */
#include "plan/dnnl_api.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/dnnl_pool.h"

static dnnl_engine_t processor;
static pthread_once_t processor_once = PTHREAD_ONCE_INIT;

static void processor_create(void) {
    if (dnnl_engine_create(&processor, dnnl_cpu, 0) != dnnl_success)
        processor = NULL;
}

dnnl_engine_t dnnl_processor(void) {
    pthread_once(&processor_once, processor_create);
    return processor;
}

struct primitive_pool *primitive_pool_create(struct error *error) {
    struct primitive_pool *pool = calloc(1, sizeof *pool);
    if (!pool || !dnnl_processor()) {
        free(pool);
        error_set(error, ERROR_MEMORY, "oneDNN cannot be started");
        return NULL;
    }
    return pool;
}

static void primitive_free(struct primitive *primitive) {
    if (primitive->handle)
        dnnl_primitive_destroy(primitive->handle);
    if (primitive->description)
        dnnl_primitive_desc_destroy(primitive->description);
    free(primitive->scales);
    free(primitive);
}

void primitive_pool_free(struct primitive_pool *pool) {
    if (!pool)
        return;
    while (pool->primitives) {
        struct primitive *next = pool->primitives->next;
        primitive_free(pool->primitives);
        pool->primitives = next;
    }
    while (pool->layouts) {
        struct layout *next = pool->layouts->next;
        md_destroy(pool->layouts->md);
        free(pool->layouts);
        pool->layouts = next;
    }
    free(pool);
}

static dnnl_alg_kind_t eltwise_kind(enum primitive_post_kind kind) {
    switch (kind) {
    case PRIMITIVE_POST_RELU:
        return dnnl_eltwise_relu;
    case PRIMITIVE_POST_CLIP:
        return dnnl_eltwise_clip;
    case PRIMITIVE_POST_SIGMOID:
        return dnnl_eltwise_logistic;
    case PRIMITIVE_POST_TANH:
        return dnnl_eltwise_tanh;
    case PRIMITIVE_POST_ELU:
        return dnnl_eltwise_elu;
    case PRIMITIVE_POST_HARDSWISH:
        return dnnl_eltwise_hardswish;
    case PRIMITIVE_POST_SWISH:
        return dnnl_eltwise_swish;
    case PRIMITIVE_POST_GELU_ERF:
        return dnnl_eltwise_gelu_erf;
    case PRIMITIVE_POST_GELU_TANH:
        return dnnl_eltwise_gelu_tanh;
    case PRIMITIVE_POST_EXP:
        return dnnl_eltwise_exp;
    case PRIMITIVE_POST_SQRT:
        return dnnl_eltwise_sqrt;
    case PRIMITIVE_POST_ABS:
        return dnnl_eltwise_abs;
    default:
        return dnnl_eltwise_linear;
    }
}

/* Generation 3's hardswish takes its constants as arguments, generation 2's has them inside and ignores
 * these. */
static void eltwise_arguments(const struct primitive_post *post, float *alpha, float *beta) {
    *alpha = post->kind == PRIMITIVE_POST_HARDSWISH ? 1.0f / 6 : post->alpha;
    *beta = post->kind == PRIMITIVE_POST_HARDSWISH ? 0.5f : post->beta;
}

static dnnl_status_t post_append(dnnl_post_ops_t posts, const struct primitive_post *post) {
    float alpha, beta;
    switch (post->kind) {
    case PRIMITIVE_POST_SUM:
        return posts_append_sum(posts, post->alpha, post->zero_point, dnnl_dtype(post->sum_dtype));
    case PRIMITIVE_POST_ADD:
    case PRIMITIVE_POST_MULTIPLY:
        return dnnl_post_ops_append_binary(
            posts, post->kind == PRIMITIVE_POST_ADD ? dnnl_binary_add : dnnl_binary_mul, post->operand->md);
    default:
        eltwise_arguments(post, &alpha, &beta);
        return posts_append_eltwise(posts, eltwise_kind(post->kind), alpha, beta);
    }
}

static dnnl_primitive_attr_t attr_create(const struct primitive_post *posts, int count) {
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t list;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return NULL;
    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (count && status == dnnl_success && (status = dnnl_post_ops_create(&list)) == dnnl_success) {
        for (int i = 0; i < count && status == dnnl_success; i++)
            status = post_append(list, &posts[i]);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(attr, list);
        dnnl_post_ops_destroy(list);
    }
    if (status == dnnl_success)
        return attr;
    dnnl_primitive_attr_destroy(attr);
    return NULL;
}

static const struct layout *query_layout(struct primitive_pool *pool, const_dnnl_primitive_desc_t description,
                                         dnnl_query_t what, int index) {
    md_const md = dnnl_primitive_desc_query_md(description, what, index);
    return md ? layout_keep(pool, md_copy(md)) : NULL;
}

/* Take a made description (its status in `status`) into the pool, or say what was refused. */
static struct primitive *primitive_keep(struct primitive_pool *pool, dnnl_status_t status,
                                        dnnl_primitive_desc_t description, const struct primitive_post *posts,
                                        int post_count, const char *what, struct error *error) {
    struct primitive *primitive = status == dnnl_success ? calloc(1, sizeof *primitive) : NULL;
    if (!primitive || dnnl_primitive_create(&primitive->handle, description) != dnnl_success) {
        if (status == dnnl_success)
            dnnl_primitive_desc_destroy(description);
        free(primitive);
        error_set(error, ERROR_MODEL, "oneDNN has no %s for these shapes and types (status %d)", what,
                  (int)status);
        return NULL;
    }
    primitive->description = description;
    primitive->next = pool->primitives;
    pool->primitives = primitive;
    const char *kernel = "";
    dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &kernel);
    snprintf(primitive->kernel, sizeof primitive->kernel, "%s", kernel);
    primitive->layouts[ARGUMENT_SOURCE] = query_layout(pool, description, dnnl_query_src_md, 0);
    primitive->layouts[ARGUMENT_DESTINATION] = query_layout(pool, description, dnnl_query_dst_md, 0);
    primitive->layouts[ARGUMENT_SCRATCHPAD] = query_layout(pool, description, dnnl_query_scratchpad_md, 0);
    for (int i = 0; i < post_count; i++)
        primitive->layouts[ARGUMENT_OPERAND + i] = posts[i].operand;
    return primitive;
}

static void primitive_keep_weights(struct primitive_pool *pool, struct primitive *primitive, bool has_bias) {
    primitive->layouts[ARGUMENT_WEIGHTS] =
        query_layout(pool, primitive->description, dnnl_query_weights_md, 0);
    if (has_bias)
        primitive->layouts[ARGUMENT_BIAS] =
            query_layout(pool, primitive->description, dnnl_query_weights_md, 1);
}

/* Generation 3 takes scales and zero points as memory at execution: keep them with the primitive. */
static bool primitive_keep_quantisation(struct primitive *primitive, const float *scales, int64_t scale_count,
                                        const int32_t zero_points[3], struct error *error) {
    memcpy(primitive->zero_points, zero_points, sizeof primitive->zero_points);
    if (!scales || !scales_at_execution)
        return true;
    primitive->scales = malloc((size_t)scale_count * sizeof *scales);
    if (!primitive->scales)
        return error_set(error, ERROR_MEMORY, "no memory for scales");
    memcpy(primitive->scales, scales, (size_t)scale_count * sizeof *scales);
    primitive->scale_count = scale_count;
    return true;
}

static bool attr_quantise(dnnl_primitive_attr_t attr, const float *scales, int64_t count, int channel_axis,
                          int weights_mask, const int32_t zero_points[3]) {
    static const int arguments[3] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST};
    bool done = !scales || attr_set_scales(attr, scales, count, channel_axis, weights_mask) == dnnl_success;
    for (int i = 0; i < 3; i++)
        if (zero_points[i])
            done = done && attr_set_zero_point(attr, arguments[i], zero_points[i]) == dnnl_success;
    return done;
}

/* oneDNN's axes for weights: with groups [g, o / g, i / g, kernel…], else [o, i, kernel…]. */
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

static md_handle md_wanted(const struct layout *wanted, const struct shape *shape, enum dtype dtype) {
    return wanted ? md_copy(wanted->md) : md_create_any(shape->rank, shape->dims, dnnl_dtype(dtype));
}

static md_handle md_vector(int64_t count, int rank, enum dtype dtype) {
    dnnl_dims_t dims = {1, 1, 1, 1, 1, 1, 1, 1}, strides;
    dims[rank - 1] = count;
    for (int i = 0; i < rank; i++)
        strides[i] = i == rank - 1 ? 1 : count;
    return md_create_strided(rank, dims, dnnl_dtype(dtype), strides);
}

/* What convolutions and matrix products are made from, and what lives only that long. */
struct product {
    const char *name;
    bool has_bias;
    md_handle source, weights, bias, destination;
    dnnl_primitive_attr_t attr;
    const struct primitive_post *posts;
    int post_count;
    const float *scales;
    int64_t scale_count;
    int32_t zero_points[3]; /* source, weights, destination */
};

/* The attributes; false where something could not be made. */
static bool product_begin(struct product *product, int channel_axis, int weights_mask) {
    product->attr = attr_create(product->posts, product->post_count);
    return product->attr && product->source && product->weights && product->destination &&
           (product->bias || !product->has_bias) &&
           attr_quantise(product->attr, product->scales, product->scale_count, channel_axis, weights_mask,
                         product->zero_points);
}

static const struct primitive *product_end(struct primitive_pool *pool, struct product *product,
                                           dnnl_status_t status, dnnl_primitive_desc_t description,
                                           struct error *error) {
    struct primitive *primitive =
        primitive_keep(pool, status, description, product->posts, product->post_count, product->name, error);
    if (primitive)
        primitive_keep_weights(pool, primitive, product->has_bias);
    if (primitive && !primitive_keep_quantisation(primitive, product->scales, product->scale_count,
                                                  product->zero_points, error))
        primitive = NULL;
    md_destroy(product->source);
    md_destroy(product->destination);
    md_destroy(product->weights);
    md_destroy(product->bias);
    if (product->attr)
        dnnl_primitive_attr_destroy(product->attr);
    return primitive;
}

const struct primitive *primitive_convolution(struct primitive_pool *pool,
                                              const struct convolution_spec *spec, struct error *error) {
    dnnl_dims_t dims, strides, dilations;
    int rank = weights_dims(spec, dims, strides), spatial = spec->source.rank - 2;
    for (int i = 0; i < spatial; i++)
        dilations[i] = spec->dilations[i] - 1; /* oneDNN counts the gaps */
    struct product product = {
        .name = "convolution",
        .has_bias = spec->has_bias,
        .source = md_wanted(spec->source_layout, &spec->source, spec->source_dtype),
        .weights = spec->weights_layout ? md_copy(spec->weights_layout->md)
                                        : md_create_any(rank, dims, dnnl_dtype(spec->weights_dtype)),
        .bias = spec->has_bias ? md_vector(spec->destination.dims[1], 1, spec->bias_dtype) : NULL,
        .destination = md_wanted(spec->destination_layout, &spec->destination, spec->destination_dtype),
        .posts = spec->posts,
        .post_count = spec->post_count,
        .scales = spec->scales,
        .scale_count = spec->scale_count,
        .zero_points = {spec->source_zero_point, 0, spec->destination_zero_point},
    };
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (product_begin(&product, 1, spec->groups > 1 ? 3 : 1))
        status = pd_convolution(&description, spec->transposed, spec->winograd, product.source,
                                product.weights, product.bias, product.destination, spec->strides, dilations,
                                spec->pads_begin, spec->pads_end, product.attr);
    return product_end(pool, &product, status, description, error);
}

static const struct primitive *matrix_product(struct primitive_pool *pool, const struct matmul_spec *spec,
                                              bool inner, struct error *error) {
    int rank = spec->destination.rank;
    int64_t columns = spec->destination.dims[rank - 1];
    struct product product = {
        .name = inner ? "inner product" : "matrix product",
        .has_bias = spec->has_bias,
        .source = md_wanted(spec->source_layout, &spec->source, spec->source_dtype),
        .weights = md_wanted(spec->weights_layout, &spec->weights, spec->weights_dtype),
        .bias = spec->has_bias ? md_vector(columns, inner ? 1 : rank, spec->bias_dtype) : NULL,
        .destination = md_wanted(spec->destination_layout, &spec->destination, spec->destination_dtype),
        .posts = spec->posts,
        .post_count = spec->post_count,
        .scales = spec->scales,
        .scale_count = spec->scale_count,
        .zero_points = {spec->source_zero_point, spec->weights_zero_point, spec->destination_zero_point},
    };
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (product_begin(&product, rank - 1, inner ? 1 : 1 << (rank - 1))) {
        md_const source = product.source, weights = product.weights, bias = product.bias;
        status =
            inner ? pd_inner_product(&description, source, weights, bias, product.destination, product.attr)
                  : pd_matmul(&description, source, weights, bias, product.destination, product.attr);
    }
    return product_end(pool, &product, status, description, error);
}

const struct primitive *primitive_matmul(struct primitive_pool *pool, const struct matmul_spec *spec,
                                         struct error *error) {
    return matrix_product(pool, spec, false, error);
}

const struct primitive *primitive_inner_product(struct primitive_pool *pool, const struct matmul_spec *spec,
                                                struct error *error) {
    return matrix_product(pool, spec, true, error);
}

const struct primitive *primitive_pooling(struct primitive_pool *pool, const struct pooling_spec *spec,
                                          struct error *error) {
    static const dnnl_alg_kind_t kinds[] = {
        [POOLING_MAX] = dnnl_pooling_max,
        [POOLING_AVERAGE_INCLUDE_PAD] = dnnl_pooling_avg_include_padding,
        [POOLING_AVERAGE_EXCLUDE_PAD] = dnnl_pooling_avg_exclude_padding,
    };
    dnnl_dims_t dilations;
    for (int i = 0; i < spec->source.rank - 2; i++)
        dilations[i] = spec->dilations[i] - 1;
    md_handle destination = md_wanted(spec->destination_layout, &spec->destination, spec->dtype);
    dnnl_primitive_attr_t attr = attr_create(NULL, 0);
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (attr && destination)
        status = pd_pooling(&description, kinds[spec->kind], spec->source_layout->md, destination,
                            spec->strides, spec->kernel, dilations, spec->pads_begin, spec->pads_end, attr);
    const struct primitive *primitive = primitive_keep(pool, status, description, NULL, 0, "pooling", error);
    md_destroy(destination);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return primitive;
}

const struct primitive *primitive_elementwise(struct primitive_pool *pool, const struct layout *source,
                                              const struct layout *destination,
                                              const struct primitive_post *posts, int post_count,
                                              struct error *error) {
    float alpha, beta;
    eltwise_arguments(&posts[0], &alpha, &beta);
    dnnl_primitive_attr_t attr = attr_create(posts + 1, post_count - 1);
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (attr)
        status = pd_eltwise(&description, eltwise_kind(posts[0].kind), source->md, destination->md, alpha,
                            beta, attr);
    const struct primitive *primitive =
        primitive_keep(pool, status, description, posts + 1, post_count - 1, "elementwise operation", error);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return primitive;
}

const struct primitive *primitive_binary(struct primitive_pool *pool, enum primitive_post_kind kind,
                                         const struct layout *a, const struct layout *b,
                                         const struct layout *destination, const struct primitive_post *posts,
                                         int post_count, struct error *error) {
    dnnl_primitive_attr_t attr = attr_create(posts, post_count);
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (attr)
        status = pd_binary(&description, kind == PRIMITIVE_POST_ADD ? dnnl_binary_add : dnnl_binary_mul,
                           a->md, b->md, destination->md, attr);
    struct primitive *primitive =
        primitive_keep(pool, status, description, posts, post_count, "binary operation", error);
    if (primitive)
        primitive->layouts[ARGUMENT_SOURCE_1] = b;
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return primitive;
}

const struct primitive *primitive_reorder(struct primitive_pool *pool, const struct layout *from,
                                          const struct layout *to, struct error *error) {
    dnnl_primitive_attr_t attr = attr_create(NULL, 0);
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (attr)
        status = dnnl_reorder_primitive_desc_create(&description, from->md, dnnl_processor(), to->md,
                                                    dnnl_processor(), attr);
    struct primitive *primitive = primitive_keep(pool, status, description, NULL, 0, "reorder", error);
    if (primitive)
        primitive->is_reorder = true;
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return primitive;
}

const struct primitive *primitive_softmax(struct primitive_pool *pool, const struct layout *source,
                                          const struct layout *destination, int axis, bool logarithm,
                                          struct error *error) {
    dnnl_primitive_attr_t attr = attr_create(NULL, 0);
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (attr)
        status = pd_softmax(&description, logarithm, source->md, destination->md, axis, attr);
    const struct primitive *primitive = primitive_keep(pool, status, description, NULL, 0, "softmax", error);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return primitive;
}

const struct primitive *primitive_lrn(struct primitive_pool *pool, const struct layout *layout, int64_t size,
                                      float alpha, float beta, float k, struct error *error) {
    dnnl_primitive_attr_t attr = attr_create(NULL, 0);
    dnnl_primitive_desc_t description = NULL;
    dnnl_status_t status = dnnl_out_of_memory;
    if (attr)
        status = pd_lrn(&description, layout->md, size, alpha, beta, k, attr);
    const struct primitive *primitive =
        primitive_keep(pool, status, description, NULL, 0, "local response normalisation", error);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    return primitive;
}

const struct layout *primitive_layout(const struct primitive *primitive, enum primitive_argument argument) {
    return primitive->layouts[argument];
}

size_t primitive_scratchpad_bytes(const struct primitive *primitive) {
    const struct layout *layout = primitive->layouts[ARGUMENT_SCRATCHPAD];
    return layout ? layout_bytes(layout) : 0;
}

const char *primitive_kernel(const struct primitive *primitive) {
    return primitive->kernel;
}

bool primitive_is_slow(const struct primitive *primitive) {
    return strstr(primitive->kernel, "ref") || strncmp(primitive->kernel, "gemm", 4) == 0 ||
           strstr(primitive->kernel, "x8s8s32x:") == primitive->kernel;
}

bool primitive_reorder_now(struct primitive_pool *pool, const struct layout *from_layout, const void *from,
                           const struct layout *to_layout, void *to, struct error *error) {
    (void)pool;
    struct primitive_pool *own = primitive_pool_create(error);
    if (!own)
        return false;
    const struct primitive *reorder = primitive_reorder(own, from_layout, to_layout, error);
    struct execution *execution = reorder ? execution_create(reorder, error) : NULL;
    size_t scratch_bytes = reorder ? primitive_scratchpad_bytes(reorder) : 0;
    void *scratch = scratch_bytes ? aligned_alloc(64, (scratch_bytes + 63) & ~(size_t)63) : NULL;
    bool done = false;
    if (execution) {
        execution_set(execution, ARGUMENT_SOURCE, from);
        execution_set(execution, ARGUMENT_DESTINATION, to);
        execution_set(execution, ARGUMENT_SCRATCHPAD, scratch);
        done = execution_run(execution, error);
    }
    execution_free(execution);
    free(scratch);
    primitive_pool_free(own);
    return done;
}

uint64_t primitive_signature(void) {
    const dnnl_version_t *version = dnnl_version();
    uint64_t signature = (uint64_t)dnnl_get_effective_cpu_isa();
    const int parts[3] = {version->major, version->minor, version->patch};
    for (int i = 0; i < 3; i++)
        signature = signature * 1000003u + (uint64_t)parts[i];
    return signature;
}

bool primitive_has_native_bf16(void) {
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

bool primitive_has_avx512(void) {
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core;
}

bool primitive_has_native_int8(void) {
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return (isa & dnnl_cpu_isa_avx512_core_vnni) == dnnl_cpu_isa_avx512_core_vnni ||
           (isa & dnnl_cpu_isa_avx2_vnni) == dnnl_cpu_isa_avx2_vnni;
}
