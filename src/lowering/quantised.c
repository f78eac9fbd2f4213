/* 8-bit tensors: products in integers, additions, and the ways in and out. See passes/fuse_quantised.c for
 * the nodes. */
#include <math.h>
#include <string.h>

#include "lowering/lowering.h"
#include "plan/kernels.h"

static bool is_byte(enum dtype dtype) {
    return dtype == DTYPE_U8 || dtype == DTYPE_I8;
}

/* --- Ways in and out, and addition: element by element, in whatever order the elements lie
 * ------------------------- */

static bool quantize_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_quantisation *p = step->parameters;
    kernel_quantize(p, pointers[0], pointers[1]);
    return true;
}

static bool dequantize_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_quantisation *p = step->parameters;
    kernel_dequantize(p, pointers[0], pointers[1]);
    return true;
}

static bool quantized_add_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_quantised_addition *p = step->parameters;
    kernel_quantised_add(p, pointers[0], pointers[1], pointers[2]);
    return true;
}

static bool emit_kernel(struct lowering *lowering, struct node *node, step_kernel kernel, const char *name,
                        void *parameters, struct plan_tensor **tensors, int inputs, struct error *error) {
    struct step *step =
        tensors[inputs] && parameters
            ? plan_add_step(lowering->plan, STEP_KERNEL, node->name, node->op_type, tensors, NULL, inputs + 1)
            : NULL;
    if (!step)
        return lower_no_memory(error);
    step->kernel = kernel;
    step->kernel_name = name;
    step->parameters = parameters;
    step->input_count = inputs;
    lower_define(lowering, node->outputs[0], tensors[inputs]);
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
    struct kernel_quantisation *parameters = arena_allocate(plan->arena, sizeof *parameters);
    tensors[1] = plan_add_tensor(plan, made, &output->shape, layout);
    if (parameters)
        *parameters = (struct kernel_quantisation){
            into ? tensors[0]->dtype : made, into ? made : input->dtype, scale,
            zero ? (int32_t)tensor_get_i64(zero->constant, 0) : 0, shape_elements(&output->shape)};
    *ret_done = true;
    return emit_kernel(lowering, node, into ? quantize_run : dequantize_run, "guichet:quantise", parameters,
                       tensors, 1, error);
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
    struct kernel_quantised_addition *p = arena_allocate(plan->arena, sizeof *p);
    tensors[2] = plan_add_tensor(plan, output->dtype, &output->shape,
                                 layout_retype(plan->pool, tensors[0]->layout, output->dtype));
    if (p) {
        float y_scale = node_float(node, "y_scale", 1);
        int64_t a_zero = node_int(node, "a_zero_point", 0), b_zero = node_int(node, "b_zero_point", 0);
        p->a_dtype = node->inputs[0]->dtype;
        p->b_dtype = node->inputs[1]->dtype;
        p->y_dtype = output->dtype;
        p->a_factor = node_float(node, "a_scale", 1) / y_scale;
        p->b_factor = node_float(node, "b_scale", 1) / y_scale;
        p->offset = -(float)a_zero * p->a_factor - (float)b_zero * p->b_factor;
        p->y_zero_point = (int32_t)node_int(node, "y_zero_point", 0);
        p->relu = node->post_op_count > 0;
        p->count = shape_elements(&output->shape);
    }
    *ret_done = true;
    return emit_kernel(lowering, node, quantized_add_run, "guichet:quantised_add", p, tensors, 2, error);
}

/* --- Products
 * -------------------------------------------------------------------------------------------------------- */

/* What the product's numbers go through. In units of the result's step where everything after the product
 * allows it. */
struct requantisation {
    bool to_bytes;
    float y_scale;
    int32_t y_zero_point, lowest, highest;
    float unit; /* one of the accumulated result's units, in real numbers: y_scale, or 1 */
};

static bool is_homogeneous(const struct node *node) {
    for (int i = 0; i < node->post_op_count; i++)
        if (node->post_ops[i].kind != POST_RELU && node->post_ops[i].kind != POST_CLIP &&
            node->post_ops[i].kind != POST_ADD)
            return false;
    return true;
}

static struct requantisation requantisation_of(const struct node *node) {
    struct requantisation q = {.unit = 1};
    enum dtype dtype = node->outputs[0]->dtype;
    q.to_bytes = is_byte(dtype);
    if (!q.to_bytes)
        return q;
    q.y_scale = node_float(node, "y_scale", 1);
    q.y_zero_point = (int32_t)node_int(node, "y_zero_point", 0);
    q.lowest = dtype == DTYPE_I8 ? -128 : 0;
    q.highest = dtype == DTYPE_I8 ? 127 : 255;
    if (is_homogeneous(node))
        q.unit = q.y_scale;
    return q;
}

/* Saturation does it anyway, where it is the last thing that happens. */
static bool saturation_covers(const struct post_op *post, const struct requantisation *q) {
    float low = post->kind == POST_RELU && post->alpha == 0 ? 0 : post->alpha / q->unit;
    float high = post->kind == POST_RELU ? INFINITY : post->beta / q->unit;
    return (post->kind == POST_CLIP || (post->kind == POST_RELU && post->alpha == 0)) &&
           low <= (float)(q->lowest - q->y_zero_point) + 0.01f &&
           high >= (float)(q->highest - q->y_zero_point) - 0.01f;
}

static struct primitive_post post_in_units(const struct node *node, const struct post_op *post, float unit) {
    if (post->kind == POST_ADD) {
        enum dtype dtype = node->inputs[post->input]->dtype;
        return (struct primitive_post){.kind = PRIMITIVE_POST_SUM,
                                       .alpha = node_float(node, "r_scale", 1) / unit,
                                       .zero_point = (int32_t)node_int(node, "r_zero_point", 0),
                                       .sum_dtype = is_byte(dtype) ? dtype : DTYPE_UNKNOWN};
    }
    float step = post->kind == POST_CLIP ? unit : 1; /* the others are of no unit, or the unit is 1 */
    return (struct primitive_post){lower_post_kind(post->kind), post->alpha / step, post->beta / step};
}

/* The post-ops, then the step to the result's unit and zero point where they are not there yet. */
static int describe_posts(const struct node *node, const struct requantisation *q,
                          struct primitive_post *posts) {
    int count = 0;
    for (int i = 0; i < node->post_op_count; i++) {
        const struct post_op *post = &node->post_ops[i];
        if (q->to_bytes && i == node->post_op_count - 1 && is_homogeneous(node) && saturation_covers(post, q))
            continue;
        if (post->kind == POST_HARDSIGMOID) {
            posts[count++] = (struct primitive_post){PRIMITIVE_POST_LINEAR, post->alpha, post->beta};
            posts[count++] = (struct primitive_post){PRIMITIVE_POST_CLIP, 0, 1};
        } else {
            posts[count++] = post_in_units(node, post, q->unit);
        }
    }
    if (q->to_bytes && (q->unit != q->y_scale || q->y_zero_point))
        posts[count++] =
            (struct primitive_post){PRIMITIVE_POST_LINEAR, q->unit / q->y_scale, (float)q->y_zero_point};
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

/* The bias as the primitive takes it: in accumulator units before the scales, or in the result's after them.
 */
static struct plan_tensor *describe_bias(struct lowering *lowering, const struct node *node,
                                         const float *scales, float unit, int64_t channels,
                                         const struct layout *layout) {
    const struct value *bias = node->inputs[2];
    float *numbers = plan_own_memory(lowering->plan, (size_t)channels * sizeof *numbers);
    if (!numbers)
        return NULL;
    for (int64_t i = 0; i < channels; i++) {
        double real = tensor_get_f64(bias->constant, shape_elements(&bias->shape) == 1 ? 0 : i) / unit;
        double steps = real / scales[i], whole = rint(steps);
        /* A quantised file's biases are whole steps: then the sum is exact, as it is in integers. */
        if (fabs(steps - whole) < 0.02)
            steps = whole;
        numbers[i] = (float)(primitive_bias_before_scales() ? steps : steps * scales[i]);
    }
    return plan_add_constant(lowering->plan, DTYPE_F32, layout_shape(layout), layout, numbers);
}

/* The residual where the result will lie: the operand's own bytes if nobody needs them later, else a copy.
 * `rows`: the result is made as a matrix. */
static struct plan_tensor *place_residual(struct lowering *lowering, struct node *node,
                                          const struct layout *layout, bool rows, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *value = node->inputs[4];
    enum dtype dtype = is_byte(value->dtype) ? value->dtype : layout_dtype(layout);
    const struct layout *wanted =
        rows ? layout_plain(plan->pool, dtype, &value->shape) : layout_retype(plan->pool, layout, dtype);
    struct plan_tensor *operand = wanted ? lower_in_layout(lowering, value, wanted, error) : NULL;
    if (!operand)
        return NULL;
    if (!lower_may_overwrite(lowering, node, value, operand)) {
        const struct primitive *copy = primitive_reorder(plan->pool, wanted, wanted, error);
        struct plan_tensor *made = copy ? plan_add_tensor(plan, dtype, &value->shape, wanted) : NULL;
        struct plan_tensor *tensors[2] = {operand, made};
        const enum primitive_argument roles[2] = {ARGUMENT_SOURCE, ARGUMENT_DESTINATION};
        if (!made || !lower_primitive(lowering, node, "copy", copy, tensors, roles, 2, NULL, 0, error))
            return NULL;
        operand = made;
    }
    struct plan_tensor *view = plan_add_view(plan, operand, layout_shape(layout), layout);
    if (view)
        view->dtype = layout_dtype(layout);
    return view;
}

static bool emit_product(struct lowering *lowering, struct node *node, const struct primitive *primitive,
                         const struct layout *weights_from, const char *role, const float *scales, float unit,
                         int64_t channels, const struct shape *inner_shape, double flops,
                         struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *output = node->outputs[0];
    const struct layout *layout = primitive_layout(primitive, ARGUMENT_DESTINATION);
    struct plan_tensor *source, *destination, *bias = NULL;
    if (inner_shape) { /* rows: the source seen as a matrix */
        source = lower_plain(lowering, node->inputs[0], DTYPE_UNKNOWN, error);
        source = source
                     ? plan_add_view(plan, source, inner_shape, primitive_layout(primitive, ARGUMENT_SOURCE))
                     : NULL;
    } else {
        source =
            lower_in_layout(lowering, node->inputs[0], primitive_layout(primitive, ARGUMENT_SOURCE), error);
    }
    struct plan_tensor *weights =
        source ? lower_weights(lowering, node->inputs[1], weights_from,
                               primitive_layout(primitive, ARGUMENT_WEIGHTS), role, error)
               : NULL;
    if (!weights)
        return false;
    if (node->inputs[2] && !(bias = describe_bias(lowering, node, scales, unit, channels,
                                                  primitive_layout(primitive, ARGUMENT_BIAS))))
        return lower_no_memory(error);
    if (node->input_count > 4)
        destination = place_residual(lowering, node, layout, inner_shape != NULL, error);
    else
        destination = plan_add_tensor(plan, layout_dtype(layout), &output->shape, layout);
    if (!destination)
        return lower_no_memory(error);
    struct plan_tensor *tensors[4] = {source, weights, destination, bias};
    const enum primitive_argument roles[4] = {ARGUMENT_SOURCE, ARGUMENT_WEIGHTS, ARGUMENT_DESTINATION,
                                              ARGUMENT_BIAS};
    struct step *step = lower_primitive(lowering, node, lower_action(lowering, node), primitive, tensors,
                                        roles, bias ? 4 : 3, NULL, 0, error);
    if (!step)
        return false;
    step->flops = flops;
    if (inner_shape) {
        destination = plan_add_view(plan, destination, &output->shape,
                                    layout_plain(plan->pool, layout_dtype(layout), &output->shape));
        if (!destination)
            return lower_no_memory(error);
    }
    lower_define(lowering, output, destination);
    return true;
}

bool lower_quantized_convolution(struct lowering *lowering, struct node *node, bool *ret_done,
                                 struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    struct value *source = node->inputs[0], *weights = node->inputs[1], *output = node->outputs[0];
    struct requantisation q = requantisation_of(node);
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
    return emit_product(lowering, node, primitive, layout_retype(pool, from, DTYPE_I8), "int8", scales,
                        q.unit, channels, NULL, flops, error);
}

bool lower_quantized_matmul(struct lowering *lowering, struct node *node, bool *ret_done,
                            struct error *error) {
    struct primitive_pool *pool = lowering->plan->pool;
    struct value *source = node->inputs[0], *weights = node->inputs[1], *output = node->outputs[0];
    struct requantisation q = requantisation_of(node);
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
    bool inner = rows <= 16 && !zero_point; /* the inner product knows no zero points */
    struct matmul_spec spec = {
        .source = rows_by_depth,
        .destination = result,
        .weights = inner ? (struct shape){.rank = 2, .dims = {channels, depth}}
                         : (struct shape){.rank = 2, .dims = {depth, channels}},
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
    const struct primitive *primitive =
        inner ? primitive_inner_product(pool, &spec, error) : primitive_matmul(pool, &spec, error);
    if (!primitive)
        return error_prefix(error, "node %s", node->name);
    const struct layout *from = lower_matrix_view(pool, &weights->shape, inner ? !transposed : transposed);
    *ret_done = true;
    return emit_product(lowering, node, primitive, layout_retype(pool, from, DTYPE_I8),
                        inner ? "int8 inner" : "int8", scales, q.unit, channels, &rows_by_depth,
                        2.0 * (double)rows * (double)depth * (double)channels, error);
}
