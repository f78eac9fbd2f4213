/* What both generations of oneDNN share: the engine, pools, and primitives without weights. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
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

/* --- Pools --- */

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

/* --- Attributes --- */

static dnnl_alg_kind_t eltwise_kind(enum post_op_kind kind) {
    static const dnnl_alg_kind_t kinds[POST_KIND_COUNT] = {
        [POST_RELU] = dnnl_eltwise_relu,
        [POST_CLIP] = dnnl_eltwise_clip,
        [POST_SIGMOID] = dnnl_eltwise_logistic,
        [POST_TANH] = dnnl_eltwise_tanh,
        [POST_ELU] = dnnl_eltwise_elu,
        [POST_HARDSWISH] = dnnl_eltwise_hardswish,
        [POST_SWISH] = dnnl_eltwise_swish,
        [POST_GELU_ERF] = dnnl_eltwise_gelu_erf,
        [POST_GELU_TANH] = dnnl_eltwise_gelu_tanh,
        [POST_LINEAR] = dnnl_eltwise_linear,
        [POST_EXP] = dnnl_eltwise_exp,
        [POST_SQRT] = dnnl_eltwise_sqrt,
        [POST_ABS] = dnnl_eltwise_abs,
        [POST_ROUND] = dnnl_eltwise_round,
    };
    return kinds[kind];
}

/* Generation 3's hardswish takes its constants as arguments, generation 2's has them inside and ignores
 * these. */
static struct pd_eltwise eltwise_of(const struct primitive_post *post) {
    struct pd_eltwise function = {eltwise_kind(post->kind), post->alpha, post->beta};

    if (post->kind == POST_HARDSWISH) {
        function.alpha = 1.0f / 6;
        function.beta = 0.5f;
    }
    return function;
}

static dnnl_status_t post_append(dnnl_post_ops_t posts, const struct primitive_post *post) {
    struct pd_eltwise function;

    switch (post->kind) {
    case POST_SUM:
        return posts_append_sum(posts, post->alpha, post->zero_point, dnnl_dtype(post->sum_dtype));
    case POST_ADD:
        return dnnl_post_ops_append_binary(posts, dnnl_binary_add, layout_md(post->operand));
    case POST_MULTIPLY:
        return dnnl_post_ops_append_binary(posts, dnnl_binary_mul, layout_md(post->operand));
    case POST_ROUND:
        return posts_append_round(posts, post->alpha != 0 ? post->alpha : 1);
    default:
        function = eltwise_of(post);
        return posts_append_eltwise(posts, function.kind, function.alpha, function.beta);
    }
}

static dnnl_status_t attr_set_posts(dnnl_primitive_attr_t attr, const struct primitive_post *posts,
                                    int count) {
    dnnl_post_ops_t list;
    dnnl_status_t status = dnnl_post_ops_create(&list);
    if (status != dnnl_success)
        return status;

    for (int i = 0; i < count && status == dnnl_success; i++)
        status = post_append(list, &posts[i]);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_post_ops(attr, list);
    dnnl_post_ops_destroy(list);
    return status;
}

static dnnl_primitive_attr_t attr_create(const struct primitive_post *posts, int count) {
    dnnl_primitive_attr_t attr;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return NULL;

    dnnl_status_t status = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (count && status == dnnl_success)
        status = attr_set_posts(attr, posts, count);
    if (status == dnnl_success)
        return attr;

    dnnl_primitive_attr_destroy(attr);
    return NULL;
}

/* --- Making primitives --- */

struct creation creation_begin(const char *what, const struct primitive_post *posts, int post_count) {
    return (struct creation){.what = what,
                             .posts = posts,
                             .post_count = post_count,
                             .attr = post_count <= PRIMITIVE_POSTS ? attr_create(posts, post_count) : NULL,
                             .status = dnnl_out_of_memory};
}

bool creation_layout(struct primitive_pool *pool, const_dnnl_primitive_desc_t description, dnnl_query_t what,
                     int index, const struct layout **ret) {
    md_const md = dnnl_primitive_desc_query_md(description, what, index);
    *ret = md ? layout_keep(pool, md_copy(md)) : NULL;
    return !md || *ret;
}

/* Memory of ours is out: that is no reason to try another implementation. */
static struct primitive *keep_nothing(struct creation *creation) {
    creation->kernel[0] = 0;
    creation->status = dnnl_out_of_memory;
    return NULL;
}

/* Takes the description over, also on failure. */
static struct primitive *primitive_keep(struct creation *creation, struct primitive_pool *pool) {
    struct primitive *primitive = calloc(1, sizeof *primitive);
    dnnl_primitive_desc_t description = creation->description;
    const char *kernel = "";

    dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &kernel);
    snprintf(creation->kernel, sizeof creation->kernel, "%s", kernel);
    if (!primitive || dnnl_primitive_create(&primitive->handle, description) != dnnl_success) {
        bool made = primitive;
        dnnl_primitive_desc_destroy(description);
        free(primitive);
        return made ? NULL : keep_nothing(creation);
    }

    primitive->description = description;
    primitive->next = pool->primitives;
    pool->primitives = primitive;

    memcpy(primitive->kernel, creation->kernel, sizeof primitive->kernel);
    if (!creation_layout(pool, description, dnnl_query_src_md, 0, &primitive->layouts[ARGUMENT_SOURCE]) ||
        !creation_layout(pool, description, dnnl_query_dst_md, 0,
                         &primitive->layouts[ARGUMENT_DESTINATION]) ||
        !creation_layout(pool, description, dnnl_query_scratchpad_md, 0,
                         &primitive->layouts[ARGUMENT_SCRATCHPAD]))
        return keep_nothing(creation); /* the pool ends the primitive */

    for (int i = 0; i < creation->post_count; i++)
        primitive->layouts[ARGUMENT_OPERAND + i] = creation->posts[i].operand;
    return primitive;
}

/* Why there is no primitive. Only what oneDNN says it has not is the model's fault. */
static void creation_explain(const struct creation *creation, struct error *error) {
    if (creation->status == dnnl_success || creation->status == dnnl_out_of_memory)
        error_set(error, ERROR_MEMORY, "not enough memory for oneDNN's %s", creation->what);
    else
        error_set(error, creation->status == dnnl_unimplemented ? ERROR_MODEL : ERROR_INTERNAL,
                  "oneDNN has no %s for these shapes and types (status %d)", creation->what,
                  (int)creation->status);
}

struct primitive *creation_end(struct creation *creation, struct primitive_pool *pool, struct error *error) {
    struct primitive *primitive = NULL;

    if (creation->attr)
        dnnl_primitive_attr_destroy(creation->attr);
    if (creation->status == dnnl_success)
        primitive = primitive_keep(creation, pool);
    if (!primitive)
        creation_explain(creation, error);

    return primitive;
}

const struct primitive *primitive_pooling(struct primitive_pool *pool, const struct pooling_spec *spec,
                                          struct error *error) {
    static const dnnl_alg_kind_t kinds[] = {
        [POOLING_MAX] = dnnl_pooling_max,
        [POOLING_AVERAGE_INCLUDE_PAD] = dnnl_pooling_avg_include_padding,
        [POOLING_AVERAGE_EXCLUDE_PAD] = dnnl_pooling_avg_exclude_padding,
    };
    dnnl_dims_t dilations = {0};
    const struct pd_window window = {.kernel = spec->kernel,
                                     .strides = spec->strides,
                                     .dilations = dilations,
                                     .pads_begin = spec->pads_begin,
                                     .pads_end = spec->pads_end};

    for (int i = 0; i < spec->source.rank - 2; i++)
        dilations[i] = spec->dilations[i] - 1;

    md_handle destination =
        md_create_any(spec->destination.rank, spec->destination.dims, dnnl_dtype(spec->dtype));
    struct creation creation = creation_begin("pooling", NULL, 0);
    if (creation.attr && destination)
        creation.status = pd_pooling(&creation.description, kinds[spec->kind], layout_md(spec->source_layout),
                                     destination, &window, creation.attr);

    md_destroy(destination);
    return creation_end(&creation, pool, error);
}

const struct primitive *primitive_elementwise(struct primitive_pool *pool, const struct layout *layout,
                                              const struct primitive_post *posts, int post_count,
                                              struct error *error) {
    struct pd_eltwise function = eltwise_of(&posts[0]);
    struct creation creation = creation_begin("elementwise operation", posts + 1, post_count - 1);

    if (creation.attr)
        creation.status = pd_eltwise(&creation.description, &function, layout_md(layout), creation.attr);
    return creation_end(&creation, pool, error);
}

const struct primitive *primitive_reorder(struct primitive_pool *pool, const struct layout *from,
                                          const struct layout *to, struct error *error) {
    struct creation creation = creation_begin("reorder", NULL, 0);

    if (creation.attr)
        creation.status =
            dnnl_reorder_primitive_desc_create(&creation.description, layout_md(from), dnnl_processor(),
                                               layout_md(to), dnnl_processor(), creation.attr);
    return creation_end(&creation, pool, error);
}

const struct primitive *primitive_softmax(struct primitive_pool *pool, const struct layout *layout, int axis,
                                          struct error *error) {
    struct creation creation = creation_begin("softmax", NULL, 0);

    if (creation.attr)
        creation.status = pd_softmax(&creation.description, layout_md(layout), axis, creation.attr);
    return creation_end(&creation, pool, error);
}

const struct primitive *primitive_lrn(struct primitive_pool *pool, const struct lrn_spec *spec,
                                      struct error *error) {
    const struct pd_lrn norm = {spec->size, spec->alpha, spec->beta, spec->k};
    struct creation creation = creation_begin("local response normalization", NULL, 0);

    if (creation.attr)
        creation.status = pd_lrn(&creation.description, &norm, layout_md(spec->layout), creation.attr);
    return creation_end(&creation, pool, error);
}

/* --- Binary operations --- */

static bool has_trailing_units(const struct shape *shape) {
    bool units = shape->rank > 2;

    for (int i = 2; units && i < shape->rank; i++)
        units = shape->dims[i] == 1;
    return units;
}

/* [n, c, 1 …] seen as [n, c]; false where the layout would have to be copied for that. */
static bool drop_trailing_units(struct primitive_pool *pool, const struct layout **layout) {
    const struct shape *given = layout_shape(*layout);
    const struct shape shape = {.rank = 2, .dims = {given->dims[0], given->dims[1]}};

    *layout = layout_reshape(pool, *layout, &shape);
    return *layout != NULL;
}

static bool is_row_of_columns(const struct layout *operand) {
    if (!operand)
        return false;
    const struct shape *shape = layout_shape(operand);
    return shape->rank == 2 && shape->dims[0] == 1 && shape->dims[1] > 1;
}

/* Blocks are smaller than a vector of the instruction set: with post-ops, oneDNN 2.6 leaves elements of such
 * out and writes past the end. */
static bool has_small_blocks(const struct layout *layout) {
    int64_t size = layout_block_size(layout);
    return size > 0 && size < (primitive_has_avx512() ? 16 : 8);
}

/* oneDNN takes the wrong elements of a post-op's operand [1, c, 1 …] where the result has one element a
 * channel, but the right ones of [1, c] for a row-major [n, c]. `posts` are the spec's, to be changed. False:
 * these layouts would be computed wrongly. */
static bool binary_settle(struct primitive_pool *pool, struct binary_spec *spec,
                          struct primitive_post *posts) {
    if (!layout_can_broadcast(spec->destination))
        return false;

    if (has_trailing_units(layout_shape(spec->destination)) && !layout_is_blocked(spec->destination)) {
        if (!drop_trailing_units(pool, &spec->a) || !drop_trailing_units(pool, &spec->b) ||
            !drop_trailing_units(pool, &spec->destination))
            return false;
        for (int i = 0; i < spec->post_count; i++)
            if (posts[i].operand && !drop_trailing_units(pool, &posts[i].operand))
                return false;
    }

    for (int i = 0; i < spec->post_count; i++)
        if (is_row_of_columns(posts[i].operand) && !layout_is_plain(spec->destination))
            return false;
    return !spec->post_count || !has_small_blocks(spec->destination);
}

const struct primitive *primitive_binary(struct primitive_pool *pool, const struct binary_spec *given,
                                         struct error *error) {
    struct binary_spec spec = *given;
    struct primitive_post posts[PRIMITIVE_POSTS] = {0};
    bool fits = spec.post_count <= PRIMITIVE_POSTS;

    for (int i = 0; fits && i < spec.post_count; i++)
        posts[i] = spec.posts[i];
    if (!fits || !binary_settle(pool, &spec, posts)) {
        error_set(error, ERROR_MODEL, "oneDNN has no binary operation for these layouts");
        return NULL;
    }

    struct creation creation = creation_begin("binary operation", posts, spec.post_count);
    if (creation.attr)
        creation.status =
            pd_binary(&creation.description, spec.kind == POST_ADD ? dnnl_binary_add : dnnl_binary_mul,
                      layout_md(spec.a), layout_md(spec.b), layout_md(spec.destination), creation.attr);

    struct primitive *primitive = creation_end(&creation, pool, error);
    if (primitive)
        primitive->layouts[ARGUMENT_SOURCE_1] = spec.b;

    return primitive;
}

/* --- Asking primitives, and the processor --- */

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

bool primitive_reorder_now(const struct layout *from_layout, const void *from, const struct layout *to_layout,
                           void *to, struct error *error) {
    struct execution *execution = NULL;
    void *scratch = NULL;
    bool done = false;
    struct primitive_pool *pool = primitive_pool_create(error);
    if (!pool)
        return false;

    const struct primitive *reorder = primitive_reorder(pool, from_layout, to_layout, error);
    if (!reorder)
        goto out;

    execution = execution_create(reorder, error);
    if (!execution)
        goto out;

    size_t scratch_bytes = primitive_scratchpad_bytes(reorder);
    scratch = scratch_bytes ? aligned_alloc(64, size_align(scratch_bytes, 64)) : NULL;
    if (scratch_bytes && !scratch) {
        error_set(error, ERROR_MEMORY, "not enough memory to reorder %zu bytes", layout_bytes(to_layout));
        goto out;
    }

    execution_set(execution, ARGUMENT_SOURCE, from);
    execution_set(execution, ARGUMENT_DESTINATION, to);
    execution_set(execution, ARGUMENT_SCRATCHPAD, scratch);
    done = execution_run(execution, error);

out:
    execution_free(execution);
    free(scratch);
    primitive_pool_free(pool);

    return done;
}

uint64_t primitive_signature(void) {
    const dnnl_version_t *version = dnnl_version();
    const int parts[3] = {version->major, version->minor, version->patch};
    uint64_t signature = (uint64_t)dnnl_get_effective_cpu_isa();

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
