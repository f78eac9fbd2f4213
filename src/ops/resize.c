/* Resize and Upsample: https://onnx.ai/onnx/operators/onnx__Resize.html. Axis after axis, each with its own
 * taps. */
#include <math.h>
#include <string.h>

#include "ops/resize_axis.h"

/* What the inputs ask for, for each axis of x. */
struct resize {
    struct shape to;
    float scales[LIMIT_TENSOR_RANK], starts[LIMIT_TENSOR_RANK], ends[LIMIT_TENSOR_RANK];
};

/* The input with the scales: Upsample 7 has an attribute (-1), Upsample 9 and Resize 10 input 1, later ones
 * input 2, after the region. */
static int scales_input(const struct node *node) {
    return *(const int *)node->op->family;
}

static bool takes_region(const struct resize_options *options) {
    return strcmp(options->coordinates, "tf_crop_and_resize") == 0;
}

static bool is_empty(const struct value *value) {
    return !value || shape_elements(&value->shape) == 0;
}

/* The axes of the lists: all, or those of the attribute (opset 18). */
static bool resize_axes(const struct node *node, int rank, int *ret, int *ret_count, struct error *error) {
    int64_t axes[LIMIT_TENSOR_RANK];
    int count;
    bool seen[LIMIT_TENSOR_RANK] = {false};
    if (!node_attribute_ints(node, "axes", LIMIT_TENSOR_RANK, axes, &count, error))
        return false;

    *ret_count = count < 0 ? rank : count;
    for (int i = 0; i < *ret_count; i++) {
        ret[i] = i;
        if (count >= 0 && !node_axis(node, axes[i], rank, &ret[i], error))
            return false;
        if (seen[ret[i]])
            return node_error(node, error, "axis %d is given twice", ret[i]);
        seen[ret[i]] = true;
    }

    return true;
}

static bool scales_apply(const struct node *node, const float *scales, const int *axes, int count,
                         struct resize *ret, struct error *error) {
    for (int i = 0; i < count; i++) {
        double length = floor((double)ret->to.dims[axes[i]] * (double)scales[i]);
        if (!(scales[i] > 0) || !(length <= (double)LIMIT_TENSOR_ELEMENTS))
            return node_error(node, error, "axis %d cannot be scaled by %g", axes[i], (double)scales[i]);
        ret->to.dims[axes[i]] = (int64_t)length;
        ret->scales[axes[i]] = scales[i];
    }
    return true;
}

static bool scales_read(const struct node *node, const int *axes, int count, struct resize *ret,
                        struct error *error) {
    float scales[LIMIT_TENSOR_RANK];
    int input = scales_input(node);
    if (input < 0) {
        const struct attribute *attribute = node_attribute(node, "scales");
        if (!attribute || attribute->kind != ATTRIBUTE_FLOATS || attribute->count != (size_t)count)
            return node_error(node, error, "attribute scales is not one number for each axis");
        return scales_apply(node, attribute->floats, axes, count, ret, error);
    }

    const struct value *value = node_input(node, input);
    if (!value->constant || value->dtype != DTYPE_F32 || shape_elements(&value->shape) != count)
        return node_error(node, error, "input %d (scales) is not one constant float32 for each axis", input);

    elements_convert(DTYPE_F32, value->constant->data, DTYPE_F32, scales, count);

    return scales_apply(node, scales, axes, count, ret, error);
}

static bool sizes_read(const struct node *node, const int *axes, int count, struct resize *ret,
                       struct error *error) {
    int64_t sizes[LIMIT_TENSOR_RANK];
    int given;
    if (!node_read_ints(node, 3, LIMIT_TENSOR_RANK, sizes, &given, error))
        return false;

    const char *policy = node_string(node, "keep_aspect_ratio_policy", "stretch");
    bool larger = strcmp(policy, "not_smaller") == 0, smaller = strcmp(policy, "not_larger") == 0;
    double common = larger ? 0 : INFINITY;

    if (given != count || (!larger && !smaller && strcmp(policy, "stretch") != 0))
        return node_error(node, error,
                          "%d sizes do not fit %d axes, or keep_aspect_ratio_policy '%.20s' is unknown",
                          given, count, policy);

    for (int i = 0; i < count; i++) {
        int64_t from = ret->to.dims[axes[i]];
        if (sizes[i] < 0 || sizes[i] > LIMIT_TENSOR_ELEMENTS || (!from && sizes[i]))
            return node_error(node, error, "axis %d of %lld cannot be resized to %lld", axes[i],
                              (long long)from, (long long)sizes[i]);

        double scale = from ? (double)sizes[i] / (double)from : 1;
        common = larger ? fmax(common, scale) : fmin(common, scale);
        ret->scales[axes[i]] = (float)scale;
    }

    for (int i = 0; i < count; i++) {
        if (larger || smaller) {
            double length = floor(common * (double)ret->to.dims[axes[i]] + 0.5);
            if (!(length <= (double)LIMIT_TENSOR_ELEMENTS))
                return node_error(node, error, "axis %d would become too long", axes[i]);
            sizes[i] = (int64_t)length;
            ret->scales[axes[i]] = (float)common;
        }
        ret->to.dims[axes[i]] = sizes[i];
    }

    return true;
}

static bool resize_read(const struct node *node, const struct shape *x, struct resize *ret,
                        struct error *error) {
    int axes[LIMIT_TENSOR_RANK], count;
    *ret = (struct resize){.to = *x};
    for (int i = 0; i < x->rank; i++) {
        ret->scales[i] = 1;
        ret->ends[i] = 1;
    }

    if (!resize_axes(node, x->rank, axes, &count, error))
        return false;
    bool by_scales = scales_input(node) < 0 || !is_empty(node_input(node, scales_input(node)));
    bool by_sizes = scales_input(node) == 2 && !is_empty(node_input(node, 3));
    if (by_scales == by_sizes && !(by_scales && x->rank == 0))
        return node_error(node, error, "it must have either scales or sizes");

    return by_scales ? scales_read(node, axes, count, ret, error) : sizes_read(node, axes, count, ret, error);
}

static bool resize_infer(struct node *node, struct error *error) {
    struct resize resize;
    struct resize_options options;
    const struct shape *x = node_shape(node, 0);
    if (!resize_options_read(node, &options, error) || !resize_read(node, x, &resize, error) ||
        !node_want_types(node, 0, options.mode == RESIZE_NEAREST ? TYPES_ALL : TYPES_F32 | TYPES_BYTE, error))
        return false;

    for (int i = 0; i < x->rank; i++)
        if (!x->dims[i] && resize.to.dims[i])
            return node_error(node, error, "axis %d is empty", i);

    if (takes_region(&options) &&
        (is_empty(node_input(node, 1)) || !(TYPES_FLOAT >> node_dtype(node, 1) & 1)))
        return node_error(node, error, "input 1 (roi) is missing, or not of floats");
    return infer_output(node, 0, node_dtype(node, 0), &resize.to, error);
}

static bool region_read(const struct node *node, const struct tensor *roi, struct resize *resize,
                        struct error *error) {
    int axes[LIMIT_TENSOR_RANK], count;
    if (!resize_axes(node, resize->to.rank, axes, &count, error))
        return false;
    if (shape_elements(&roi->shape) != 2 * count)
        return node_error(node, error, "the region has %lld values, which do not fit %d axes",
                          (long long)shape_elements(&roi->shape), count);

    for (int i = 0; i < count; i++) {
        resize->starts[axes[i]] = (float)tensor_get_f64(roi, i);
        resize->ends[axes[i]] = (float)tensor_get_f64(roi, count + i);
    }

    return true;
}

/* x [outer, axis->from, inner] to y [outer, axis->to, inner] */
static void resize_pass(const struct resize_axis *axis, int64_t outer, int64_t inner, const float *x,
                        float *y) {
#pragma omp parallel for schedule(static) if (outer * axis->to * inner * axis->taps > PARALLEL_ELEMENTS)
    for (int64_t line = 0; line < outer * axis->to; line++) {
        const float *from = x + line / axis->to * axis->from * inner;
        const int64_t *positions = axis->positions + line % axis->to * axis->taps;
        const float *weights = axis->weights + line % axis->to * axis->taps;
        float *to = y + line * inner;

        for (int64_t i = 0; i < inner; i++)
            to[i] = 0;

        for (int t = 0; t < axis->taps; t++)
            for (int64_t i = 0; i < inner; i++)
                to[i] += weights[t] * from[positions[t] * inner + i];
    }
}

/* One axis after the other; *data, malloc'ed, of `shape` is replaced each time. */
static bool resize_weighted(const struct resize_axis *axes, struct shape *shape, float **data) {
    for (int i = shape->rank - 1; i >= 0; i--) {
        if (axes[i].taps == 0)
            continue;
        int64_t outer = shape_product(shape, 0, i), inner = shape_product(shape, i + 1, shape->rank);
        float *next = malloc((size_t)(outer * axes[i].to * inner) * sizeof *next + 1);
        if (!next)
            return false;

        resize_pass(&axes[i], outer, inner, *data, next);
        free(*data);
        *data = next;
        shape->dims[i] = axes[i].to;
    }

    return true;
}

/* The input's offset for a result element, by the first tap of each axis, and whether it is outside the
 * region. */
static int64_t source_offset(const struct resize_axis *axes, const struct shape *to, const int64_t *strides,
                             int64_t number, bool *ret_outside) {
    int64_t position = 0;
    *ret_outside = false;
    for (int i = to->rank - 1; i >= 0; i--) {
        int64_t at = number % to->dims[i];
        number /= to->dims[i];
        position += (axes[i].taps ? axes[i].positions[at * axes[i].taps] : at) * strides[i];
        *ret_outside |= axes[i].outside && axes[i].outside[at];
    }

    return position;
}

static void resize_nearest(const struct resize_axis *axes, const struct tensor *x, const struct tensor *y) {
    int64_t strides[LIMIT_TENSOR_RANK], total = shape_elements(&y->shape);
    size_t size = dtype_size(x->dtype);
    shape_strides(&x->shape, strides);

#pragma omp parallel for schedule(static) if (total > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < total; i++) {
        bool outside;
        int64_t from = source_offset(axes, &y->shape, strides, i, &outside);
        memcpy((char *)y->data + (size_t)i * size, (const char *)x->data + (size_t)from * size, size);
    }
}

static void resize_extrapolate(const struct node *node, const struct resize_axis *axes,
                               const struct tensor *y) {
    int64_t strides[LIMIT_TENSOR_RANK] = {0}, total = shape_elements(&y->shape);
    size_t size = dtype_size(y->dtype);
    float value = node_float(node, "extrapolation_value", 0);

    for (int64_t i = 0; i < total; i++) {
        bool outside;
        source_offset(axes, &y->shape, strides, i, &outside);
        if (outside)
            elements_convert(DTYPE_F32, &value, y->dtype, (char *)y->data + (size_t)i * size, 1);
    }
}

/* What a run needs, from resize_prepare. */
struct resize_plan {
    struct resize_options options;
    bool has_region;
    struct resize_axis axes[LIMIT_TENSOR_RANK]; /* without taps where the axis stays as it is */
};

/* From x of shape `from` to `to`; `region` NULL: there is none. What is allocated lives in the arena. */
static bool plan_make(const struct node *node, const struct shape *from, const struct shape *to,
                      const struct tensor *region, struct arena *arena, struct resize_plan *ret,
                      struct error *error) {
    struct resize resize;
    *ret = (struct resize_plan){.has_region = region != NULL};
    if (!resize_options_read(node, &ret->options, error) || !resize_read(node, from, &resize, error) ||
        (region && !region_read(node, region, &resize, error)))
        return false;

    for (int i = 0; i < from->rank && shape_elements(to) > 0; i++) {
        struct resize_axis *axis = &ret->axes[i];
        *axis = (struct resize_axis){.from = from->dims[i],
                                     .to = to->dims[i],
                                     .scale = resize.scales[i],
                                     .start = resize.starts[i],
                                     .end = resize.ends[i]};

        bool stays =
            axis->from == axis->to && axis->scale == 1 && !(region && (axis->start != 0 || axis->end != 1));
        if (!stays && !resize_axis_make(&ret->options, arena, axis))
            return node_memory_error(node, error);
    }

    return true;
}

/* A region that is not constant is read at each run. */
static bool resize_prepare(struct node *node, struct arena *arena, struct error *error) {
    struct resize_options options;
    if (!resize_options_read(node, &options, error))
        return false;

    const struct value *region = takes_region(&options) ? node_input(node, 1) : NULL;
    if (region && !region->constant)
        return true;

    struct resize_plan *plan = arena_allocate(arena, sizeof *plan);
    if (!plan)
        return node_memory_error(node, error);

    node->parameters = plan;

    return plan_make(node, node_shape(node, 0), &node->outputs[0]->shape, region ? region->constant : NULL,
                     arena, plan, error);
}

static bool resize_run(const struct node *node, const struct resize_plan *plan, const struct tensor *x,
                       const struct tensor *y, struct error *error) {
    if (plan->options.mode == RESIZE_NEAREST) {
        resize_nearest(plan->axes, x, y);
        return true;
    }

    int64_t count = shape_elements(&x->shape);
    struct shape shape = x->shape;
    float *data = malloc((size_t)count * sizeof *data + 1);
    if (!data)
        return node_memory_error(node, error);

    elements_convert(x->dtype, x->data, DTYPE_F32, data, count);
    bool done = resize_weighted(plan->axes, &shape, &data);
    if (done)
        elements_convert(DTYPE_F32, data, y->dtype, y->data, shape_elements(&y->shape));
    free(data);

    return done || node_memory_error(node, error);
}

static bool resize_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct tensor *x = &inputs[0], *y = &outputs[0];
    const struct resize_plan *plan = node->parameters;
    cleanup(arena_freep) struct arena *arena = NULL;
    struct resize_plan planned;

    if (!plan) {
        arena = arena_create();
        if (!arena)
            return node_memory_error(node, error);
        struct tensor region = inputs[1];
        if (!plan_make(node, &x->shape, &y->shape, &region, arena, &planned, error))
            return false;
        plan = &planned;
    }

    if (!shape_elements(&y->shape))
        return true;

    if (!resize_run(node, plan, x, y, error))
        return false;

    if (plan->has_region)
        resize_extrapolate(node, plan->axes, y);

    return true;
}

#define RESIZE_NAMES "nearest: " NAMES_ALL "; linear, cubic: " NAMES_F32 ", int8, uint8"

const struct op_def resize_operators[] = {
    {.op_type = "Resize",
     .since = 10,
     .until = 10,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .types = RESIZE_NAMES,
     .family = &(const int){1},
     .prepare = resize_prepare,
     FUNCTIONS(resize)},
    {.op_type = "Resize",
     .since = 11,
     .inputs = {1, 4},
     .plan_inputs = 1u << 2 | 1u << 3,
     .types = RESIZE_NAMES,
     .family = &(const int){2},
     .prepare = resize_prepare,
     FUNCTIONS(resize)},
    {.op_type = "Upsample",
     .since = 7,
     .until = 8,
     .inputs = {1, 1},
     .types = RESIZE_NAMES,
     .family = &(const int){-1},
     .prepare = resize_prepare,
     FUNCTIONS(resize)},
    {.op_type = "Upsample",
     .since = 9,
     .until = 9,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .types = RESIZE_NAMES,
     .family = &(const int){1},
     .prepare = resize_prepare,
     FUNCTIONS(resize)},
    {0},
};
