/* 8-bit tensors: convolutions, matmuls and additions in integers, and the conversions to and from 8 bits.
 * passes/fuse_quantized.c makes the nodes. */
#include <math.h>
#include <string.h>

#include "lowering/lowering.h"
#include "plan/kernels.h"

static bool is_byte(enum dtype dtype) {
    return dtype == DTYPE_U8 || dtype == DTYPE_I8;
}

/* --- To and from 8 bits, and addition: element by element, in any layout without padding --- */

static bool quantize_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_quantization *p = step->parameters;
    kernel_quantize(p, pointers[0], pointers[1]);
    return true;
}

static bool dequantize_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_quantization *p = step->parameters;
    kernel_dequantize(p, pointers[0], pointers[1]);
    return true;
}

static bool quantized_add_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_quantized_addition *p = step->parameters;
    kernel_quantized_add(p, pointers[0], pointers[1], pointers[2]);
    return true;
}

/* QuantizeLinear and DequantizeLinear with one scale for the whole tensor. */
bool lower_quantize(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *output = node->outputs[0];
    bool into = node_is(node, "QuantizeLinear");
    float scale;
    const struct value *zero = node_input(node, 2);

    if (!value_scalar(node->inputs[1], &scale) || !(scale > 0) ||
        (zero && (!zero->constant || shape_elements(&zero->constant->shape) != 1)) ||
        !is_byte(into ? output->dtype : input->dtype) || (into ? input->dtype : output->dtype) != DTYPE_F32 ||
        shape_elements(&output->shape) <= 0 || output->shape.rank < 1 || input->constant)
        return true;

    struct plan_tensor *tensors[2] = {lower_dense(lowering, input, error)};
    if (tensors[0] && tensors[0]->layout &&
        layout_is_padded(tensors[0]->layout)) /* the padding must stay zero */
        tensors[0] = lower_plain(lowering, input, tensors[0]->dtype, error);
    if (!tensors[0])
        return false;

    enum dtype made = into ? output->dtype : lowering->compute;
    const struct layout *layout =
        tensors[0]->layout ? layout_retype(plan->pool, tensors[0]->layout, made) : NULL;
    if (!layout || (into && tensors[0]->dtype != DTYPE_F32 && tensors[0]->dtype != DTYPE_BF16))
        return true;

    struct kernel_quantization *parameters = arena_allocate(plan->arena, sizeof *parameters);
    tensors[1] = plan_add_tensor(plan, made, &output->shape, layout);
    if (parameters)
        *parameters = (struct kernel_quantization){
            into ? tensors[0]->dtype : made, into ? made : input->dtype, scale,
            zero ? (int32_t)tensor_get_i64(zero->constant, 0) : 0, shape_elements(&output->shape)};

    *ret_done = true;
    return lower_kernel(lowering, node,
                        &(struct step){.kernel = into ? quantize_run : dequantize_run,
                                       .kernel_name = "guichet:quantize",
                                       .parameters = parameters,
                                       .arguments = tensors,
                                       .input_count = 1},
                        error);
}

static bool steps_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_steps *p = step->parameters;
    kernel_round_to_steps(p, pointers[0], pointers[1]);
    return true;
}

bool lower_rounding(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct value *input = node->inputs[0];
    struct plan_tensor *tensors[2] = {lower_dense(lowering, input, error)};
    struct post_op post;
    if (!tensors[0])
        return false;
    if (!tensors[0]->layout || (tensors[0]->dtype != DTYPE_F32 && tensors[0]->dtype != DTYPE_BF16) ||
        !node_post_op(node, &post))
        return true;

    struct kernel_steps *parameters = arena_allocate(lowering->plan->arena, sizeof *parameters);
    tensors[1] = lower_result_like(lowering, node, input, tensors[0], error);
    if (!tensors[1])
        return false;
    if (parameters)
        *parameters = (struct kernel_steps){
            tensors[0]->dtype, post.alpha, post.beta,
            (int64_t)(layout_bytes(tensors[0]->layout) / dtype_size(tensors[0]->dtype))};

    *ret_done = true;
    return lower_kernel(lowering, node,
                        &(struct step){.kernel = steps_run,
                                       .kernel_name = "guichet:steps",
                                       .parameters = parameters,
                                       .arguments = tensors,
                                       .input_count = 1},
                        error);
}

static void describe_addition(const struct node *node, struct kernel_quantized_addition *ret) {
    int64_t a_zero = node_int(node, "a_zero_point", 0), b_zero = node_int(node, "b_zero_point", 0);
    float y_scale = node_float(node, "y_scale", 1);

    ret->a_dtype = node->inputs[0]->dtype;
    ret->b_dtype = node->inputs[1]->dtype;
    ret->y_dtype = node->outputs[0]->dtype;
    ret->a_factor = node_float(node, "a_scale", 1) / y_scale;
    ret->b_factor = node_float(node, "b_scale", 1) / y_scale;
    ret->offset = -(float)a_zero * ret->a_factor - (float)b_zero * ret->b_factor;
    ret->y_zero_point = (int32_t)node_int(node, "y_zero_point", 0);
    ret->relu = node->post_op_count > 0;
    ret->count = shape_elements(&node->outputs[0]->shape);
}

bool lower_quantized_add(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *output = node->outputs[0];
    struct plan_tensor *tensors[3] = {lower_dense(lowering, node->inputs[0], error)};
    if (tensors[0] && layout_is_padded(tensors[0]->layout))
        tensors[0] = lower_plain(lowering, node->inputs[0], DTYPE_UNKNOWN, error);
    const struct layout *layout =
        tensors[0] ? layout_retype(plan->pool, tensors[0]->layout, node->inputs[1]->dtype) : NULL;
    if (!layout || !(tensors[1] = lower_in_layout(lowering, node->inputs[1], layout, error)))
        return layout ? false : lower_no_memory(error);

    struct kernel_quantized_addition *parameters = arena_allocate(plan->arena, sizeof *parameters);
    tensors[2] = plan_add_tensor(plan, output->dtype, &output->shape,
                                 layout_retype(plan->pool, tensors[0]->layout, output->dtype));
    if (parameters)
        describe_addition(node, parameters);

    *ret_done = true;
    return lower_kernel(lowering, node,
                        &(struct step){.kernel = quantized_add_run,
                                       .kernel_name = "guichet:quantized_add",
                                       .parameters = parameters,
                                       .arguments = tensors,
                                       .input_count = 2},
                        error);
}

/* --- Convolutions and matmuls --- */

/* How the accumulator becomes the result. In units of the result's step where all that follows allows it. */
struct requantization {
    bool to_bytes;
    float y_scale;
    int32_t y_zero_point, lowest, highest;
    float
        unit; /* one of the accumulated result's units, in real values: y_scale, or POST_STEPS' step, or 1 */
};

static bool is_homogeneous(const struct node *node) {
    for (int i = 0; i < node->post_op_count; i++)
        if (node->post_ops[i].kind != POST_RELU && node->post_ops[i].kind != POST_CLIP &&
            node->post_ops[i].kind != POST_ADD && node->post_ops[i].kind != POST_STEPS)
            return false;
    return true;
}

static struct requantization requantization_of(const struct node *node) {
    struct requantization q = {.unit = 1};
    enum dtype dtype = node->outputs[0]->dtype;
    bool steps = node->post_op_count && node->post_ops[0].kind == POST_STEPS;
    q.to_bytes = is_byte(dtype);
    if (steps)
        q.unit = node->post_ops[0].beta;
    if (!q.to_bytes)
        return q;

    q.y_scale = node_float(node, "y_scale", 1);
    q.y_zero_point = (int32_t)node_int(node, "y_zero_point", 0);
    q.lowest = dtype == DTYPE_I8 ? -128 : 0;
    q.highest = dtype == DTYPE_I8 ? 127 : 255;
    if (is_homogeneous(node) && !steps)
        q.unit = q.y_scale;

    return q;
}

/* Saturation does it anyway, where it is the last thing that happens. */
static bool saturation_covers(const struct post_op *post, const struct requantization *q) {
    float low = post->kind == POST_RELU && post->alpha == 0 ? 0 : post->alpha / q->unit;
    float high = post->kind == POST_RELU ? INFINITY : post->beta / q->unit;
    return (post->kind == POST_CLIP || (post->kind == POST_RELU && post->alpha == 0)) &&
           low <= (float)(q->lowest - q->y_zero_point) + 0.01f &&
           high >= (float)(q->highest - q->y_zero_point) - 0.01f;
}

/* One post-op in units of `unit`; returns how many it became. */
static int write_post(const struct node *node, const struct post_op *post, float unit,
                      struct primitive_post *ret) {
    if (post->kind == POST_ADD) {
        enum dtype dtype = node->inputs[post->input]->dtype;
        *ret = (struct primitive_post){.kind = POST_SUM,
                                       .alpha = node_float(node, "r_scale", 1) / unit,
                                       .zero_point = (int32_t)node_int(node, "r_zero_point", 0),
                                       .sum_dtype = is_byte(dtype) ? dtype : DTYPE_UNKNOWN};
        return 1;
    }

    if (post->kind == POST_CLIP) {
        *ret = (struct primitive_post){POST_CLIP, post->alpha / unit, post->beta / unit};
        return 1;
    }

    if (post->kind == POST_STEPS) {
        ret[0] = (struct primitive_post){POST_CLIP, post->alpha, post->alpha + 255};
        ret[1] = (struct primitive_post){.kind = POST_ROUND};
        return 2;
    }

    return lower_activation(post, ret); /* of no unit, or the unit is 1 */
}

/* The post-ops, then the step to the result's unit and zero point where they are not there yet. */
static int describe_posts(const struct node *node, const struct requantization *q,
                          struct primitive_post *posts) {
    int count = 0;
    for (int i = 0; i < node->post_op_count; i++) {
        const struct post_op *post = &node->post_ops[i];
        if (q->to_bytes && i == node->post_op_count - 1 && is_homogeneous(node) && saturation_covers(post, q))
            continue;
        count += write_post(node, post, q->unit, &posts[count]);
    }

    if (q->to_bytes && (q->unit != q->y_scale || q->y_zero_point))
        posts[count++] = (struct primitive_post){POST_LINEAR, q->unit / q->y_scale, (float)q->y_zero_point};
    else if (!q->to_bytes && q->unit != 1)
        posts[count++] = (struct primitive_post){POST_LINEAR, q->unit, 0};
    return count;
}

/* Scales of the accumulator in the result's units, [channels]. */
static float *describe_scales(struct lowering *lowering, const struct node *node, float unit,
                              int64_t channels) {
    const struct value *weights_scales = node->inputs[3];
    float *scales = arena_allocate_array(lowering->plan->arena, (size_t)channels, sizeof *scales);
    float x_scale = node_float(node, "x_scale", 1);
    bool single = shape_elements(&weights_scales->shape) == 1;

    for (int64_t i = 0; scales && i < channels; i++)
        scales[i] = x_scale * (float)tensor_get_f64(weights_scales->constant, single ? 0 : i) / unit;
    return scales;
}

/* What the accumulator's integers and the bias become. */
struct scaling {
    const float *scales; /* [channels] of the accumulator, in units of the result */
    float unit;          /* see struct requantization */
    int64_t channels;
};

/* The bias as the primitive takes it: in accumulator units before the scales, or in the result's after them.
 */
static struct plan_tensor *describe_bias(struct lowering *lowering, const struct node *node,
                                         const struct scaling *scaling, const struct layout *layout) {
    const struct value *bias = node->inputs[2];
    float *values = plan_own_memory(lowering->plan, (size_t)scaling->channels * sizeof *values);
    if (!values)
        return NULL;

    for (int64_t i = 0; i < scaling->channels; i++) {
        double real =
            tensor_get_f64(bias->constant, shape_elements(&bias->shape) == 1 ? 0 : i) / scaling->unit;
        double steps = real / scaling->scales[i], whole = rint(steps);
        /* A quantised file's biases are whole steps: then the sum is exact, as it is in integers. */
        if (fabs(steps - whole) < 0.02)
            steps = whole;
        values[i] = (float)(primitive_bias_before_scales() ? steps : steps * scaling->scales[i]);
    }
    return plan_add_constant(lowering->plan, DTYPE_F32, layout_shape(layout), layout, values);
}

/* The residual where the result will lie: the operand's own bytes if nothing reads them later, else a copy.
 * `rows`: the result is made as a matrix. */
static struct plan_tensor *residual_destination(struct lowering *lowering, struct node *node,
                                                const struct layout *layout, bool rows, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *value = node->inputs[4];
    enum dtype dtype = is_byte(value->dtype) ? value->dtype : layout_dtype(layout);
    const struct layout *wanted =
        rows ? layout_plain(plan->pool, dtype, &value->shape) : layout_retype(plan->pool, layout, dtype);
    struct plan_tensor *operand = wanted ? lower_to_overwrite(lowering, node, value, wanted, error) : NULL;
    if (!operand)
        return NULL;

    struct plan_tensor *view = plan_add_view(plan, operand, layout_shape(layout), layout);
    if (view)
        view->dtype = layout_dtype(layout);
    return view;
}

/* A convolution or matmul that is to be emitted. */
struct quantized_step {
    const struct primitive *primitive;
    const struct layout *weights_from; /* see lower_weights */
    const char *role;
    struct scaling scaling;
    const struct shape *rows; /* a matmul: the source seen as a matrix; NULL: a convolution */
    double flops;
};

static struct plan_tensor *lower_source(struct lowering *lowering, struct node *node,
                                        const struct quantized_step *given, struct error *error) {
    const struct layout *layout = primitive_layout(given->primitive, ARGUMENT_SOURCE);
    if (!given->rows)
        return lower_in_layout(lowering, node->inputs[0], layout, error);

    struct plan_tensor *source = lower_plain(lowering, node->inputs[0], DTYPE_UNKNOWN, error);
    return source ? plan_add_view(lowering->plan, source, given->rows, layout) : NULL;
}

static bool emit_weighted(struct lowering *lowering, struct node *node, const struct quantized_step *given,
                          struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *output = node->outputs[0];
    const struct layout *layout = primitive_layout(given->primitive, ARGUMENT_DESTINATION);
    struct primitive_step step = {.action = lower_action(lowering, node),
                                  .primitive = given->primitive,
                                  .source = lower_source(lowering, node, given, error),
                                  .flops = given->flops};

    if (!step.source)
        return false;

    step.weights = lower_weights(lowering, node->inputs[1], given->weights_from,
                                 primitive_layout(given->primitive, ARGUMENT_WEIGHTS), given->role, error);
    if (!step.weights)
        return false;

    if (node->inputs[2]) {
        step.bias =
            describe_bias(lowering, node, &given->scaling, primitive_layout(given->primitive, ARGUMENT_BIAS));
        if (!step.bias)
            return lower_no_memory(error);
    }

    if (node->input_count > 4)
        step.destination = residual_destination(lowering, node, layout, given->rows != NULL, error);
    else
        step.destination = plan_add_tensor(plan, layout_dtype(layout), &output->shape, layout);

    if (!step.destination)
        return lower_no_memory(error);
    if (!lower_primitive(lowering, node, &step, error))
        return false;

    struct plan_tensor *result = step.destination;
    if (given->rows)
        result = plan_add_view(plan, result, &output->shape,
                               layout_plain(plan->pool, layout_dtype(layout), &output->shape));
    if (!result)
        return lower_no_memory(error);

    lower_define(lowering, output, result);
    return true;
}

bool lower_quantized_convolution(struct lowering *lowering, struct node *node, bool *ret_done,
                                 struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    struct value *source = node->inputs[0], *weights = node->inputs[1], *output = node->outputs[0];
    struct requantization q = requantization_of(node);
    int64_t channels = output->shape.dims[1];
    struct primitive_post posts[LOWER_POSTS + 2];
    float *scales = describe_scales(lowering, node, q.unit, channels);
    if (!scales)
        return lower_no_memory(error);

    struct convolution_spec spec = {
        .source = source->shape,
        .weights = weights->shape,
        .destination = output->shape,
        .groups = node_int(node, "group", 1),
        .has_bias = node->inputs[2] != NULL,
        .source_dtype = source->dtype,
        .weights_dtype = DTYPE_I8,
        .destination_dtype = q.to_bytes ? output->dtype : lowering->compute,
        .bias_dtype = DTYPE_F32,
        .posts = posts,
        .post_count = describe_posts(node, &q, posts),
        .scales = scales,
        .scale_count = channels,
        .source_zero_point = (int32_t)node_int(node, "x_zero_point", 0),
    };
    lower_window(node, &spec);
    const struct primitive *primitive = primitive_convolution(pool, &spec, error);
    if (!primitive)
        return error_prefix(error, "node %s", node->name);

    const struct layout *from = primitive_convolution_weights(pool, &spec);
    double flops = 2.0 * (double)shape_elements(&weights->shape) / (double)weights->shape.dims[0] *
                   (double)shape_elements(&output->shape);
    *ret_done = true;

    return emit_weighted(lowering, node,
                         &(struct quantized_step){.primitive = primitive,
                                                  .weights_from = layout_retype(pool, from, DTYPE_I8),
                                                  .role = "int8",
                                                  .scaling = {scales, q.unit, channels},
                                                  .flops = flops},
                         error);
}

/* As an inner product (`*inner`) where that is asked for and oneDNN has it, else as a matmul: the inner
 * product knows no sum with a residual of another element type than the result's. */
static const struct primitive *choose_product(struct primitive_pool *pool, struct matmul_spec *spec,
                                              bool *inner, struct error *error) {
    const int64_t depth = spec->source.dims[1], channels = spec->destination.dims[1];
    struct error refused;

    spec->weights = (struct shape){.rank = 2, .dims = {channels, depth}};
    const struct primitive *primitive = *inner ? primitive_inner_product(pool, spec, &refused) : NULL;
    if (primitive)
        return primitive;

    *inner = false;
    spec->weights = (struct shape){.rank = 2, .dims = {depth, channels}};
    return primitive_matmul(pool, spec, error);
}

bool lower_quantized_matmul(struct lowering *lowering, struct node *node, bool *ret_done,
                            struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    struct value *source = node->inputs[0], *weights = node->inputs[1], *output = node->outputs[0];
    struct requantization q = requantization_of(node);
    bool transposed = node_int(node, "transB", 0) != 0;
    int64_t depth = weights->shape.dims[transposed ? 1 : 0],
            channels = weights->shape.dims[transposed ? 0 : 1];
    int64_t rows = shape_elements(&source->shape) / depth;
    struct primitive_post posts[LOWER_POSTS + 2];
    float *scales = describe_scales(lowering, node, q.unit, channels);
    if (!scales)
        return lower_no_memory(error);

    enum dtype made = q.to_bytes ? output->dtype : lowering->compute;
    struct shape rows_by_depth = {.rank = 2, .dims = {rows, depth}},
                 result = {.rank = 2, .dims = {rows, channels}};
    int32_t zero_point = (int32_t)node_int(node, "x_zero_point", 0);

    /* The inner product knows no zero points. */
    bool inner = rows <= 16 && !zero_point && !node_int(node, "r_zero_point", 0);
    struct matmul_spec spec = {
        .source = rows_by_depth,
        .destination = result,
        .has_bias = node->inputs[2] != NULL,
        .source_dtype = source->dtype,
        .weights_dtype = DTYPE_I8,
        .destination_dtype = made,
        .bias_dtype = DTYPE_F32,
        .source_layout = layout_plain(pool, source->dtype, &rows_by_depth),
        .destination_layout = layout_plain(pool, made, &result),
        .posts = posts,
        .post_count = describe_posts(node, &q, posts),
        .scales = scales,
        .scale_count = channels,
        .source_zero_point = zero_point,
    };
    const struct primitive *primitive = choose_product(pool, &spec, &inner, error);
    if (!primitive)
        return error_prefix(error, "node %s", node->name);

    const struct layout *from = lower_matrix_view(pool, &weights->shape, inner ? !transposed : transposed);
    *ret_done = true;
    return emit_weighted(
        lowering, node,
        &(struct quantized_step){.primitive = primitive,
                                 .weights_from = layout_retype(pool, from, DTYPE_I8),
                                 .role = inner ? "int8 inner" : "int8",
                                 .scaling = {scales, q.unit, channels},
                                 .rows = &rows_by_depth,
                                 .flops = 2.0 * (double)rows * (double)depth * (double)channels},
        error);
}
