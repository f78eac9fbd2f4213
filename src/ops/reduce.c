/* Reductions over axes: ReduceSum and its family, ArgMax and ArgMin. Sums are kept in double or int64.
 * https://onnx.ai/onnx/operators/onnx__ReduceSum.html and its neighbours. */
#include <math.h>
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

enum reduction { SUM, MEAN, MAX, MIN, PROD, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP };

static enum reduction reduction_of(const struct node *node) {
    return *(const enum reduction *)node->op->family;
}

/* Axes are an input from opset 18 on (ReduceSum: 13), and none means all unless noop_with_empty_axes says
 * none. */
static bool reduce_axes(const struct node *node, int rank, bool *ret_axes, struct error *error) {
    bool given, as_input = node->op->plan_inputs != 0;
    if (!node_read_axes(node, as_input ? 1 : -1, rank, ret_axes, &given, error))
        return false;

    bool all = !given && !(as_input && node_int(node, "noop_with_empty_axes", 0));
    for (int i = 0; i < rank && all; i++)
        ret_axes[i] = true;

    return true;
}

#define REDUCE_TYPES (TYPES_NUMERIC & ~TYPE(U64))

static bool reduce_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    bool axes[LIMIT_TENSOR_RANK], keep = node_int(node, "keepdims", 1) != 0;
    enum reduction reduction = reduction_of(node);
    uint32_t types = reduction == MAX || reduction == MIN ? REDUCE_TYPES | TYPE(BOOL) : REDUCE_TYPES;
    if (!node_want_types(node, 0, types, error) || !reduce_axes(node, input->rank, axes, error))
        return false;

    struct shape shape = {0};
    for (int i = 0; i < input->rank; i++)
        if (!axes[i] || keep)
            shape.dims[shape.rank++] = axes[i] ? 1 : input->dims[i];

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* The input's dimensions sorted into kept and reduced ones; neighbours of a kind are merged. */
struct reduce_plan {
    int kept_rank, reduced_rank;
    int64_t kept[LIMIT_TENSOR_RANK], kept_strides[LIMIT_TENSOR_RANK];
    int64_t reduced[LIMIT_TENSOR_RANK], reduced_strides[LIMIT_TENSOR_RANK];
    int64_t kept_count, reduced_count;
    bool copies; /* no axis is reduced, and noop_with_empty_axes says that this copies */
};

static void reduce_plan_make(const struct shape *shape, const bool *axes, struct reduce_plan *ret) {
    *ret = (struct reduce_plan){.kept_count = 1, .reduced_count = 1};
    int64_t strides[LIMIT_TENSOR_RANK];
    shape_strides(shape, strides);

    int before = -1;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] == 1)
            continue;
        int *rank = axes[i] ? &ret->reduced_rank : &ret->kept_rank;
        int64_t *dims = axes[i] ? ret->reduced : ret->kept;
        int64_t *own = axes[i] ? ret->reduced_strides : ret->kept_strides;
        bool merge = before == axes[i];

        *rank += !merge;
        dims[*rank - 1] = merge ? dims[*rank - 1] * shape->dims[i] : shape->dims[i];
        own[*rank - 1] = strides[i];
        *(axes[i] ? &ret->reduced_count : &ret->kept_count) *= shape->dims[i];
        before = axes[i];
    }
}

static int64_t offset_of(int64_t number, int rank, const int64_t *dims, const int64_t *strides) {
    int64_t offset = 0;
    for (int i = rank - 1; i >= 0; i--) {
        offset += number % dims[i] * strides[i];
        number /= dims[i];
    }
    return offset;
}

/* Add `count` values to one total (wide 0) or to a total each (wide 1). LOG_SUM_EXP subtracts `base` first.
 */
static void accumulate(enum reduction reduction, const double *x, int64_t count, int64_t wide,
                       const double *base, double *total) {
#define EACH(statement)                         \
    for (int64_t i = 0; i < count; i++) {       \
        double *t = &total[i * wide], v = x[i]; \
        statement;                              \
    }                                           \
    break
    switch (reduction) {
    case SUM:
    case MEAN:
    case LOG_SUM:
        EACH(*t += v);
    case MAX:
        EACH(*t = v > *t || isnan(v) ? v : *t);
    case MIN:
        EACH(*t = v < *t || isnan(v) ? v : *t);
    case PROD:
        EACH(*t *= v);
    case L1:
        EACH(*t += fabs(v));
    case L2:
    case SUM_SQUARE:
        EACH(*t += v * v);
    case LOG_SUM_EXP:
        EACH(*t += exp(v - base[i * wide]));
    }
#undef EACH
}

/* The same for integers, exactly. */
static void accumulate_integers(enum reduction reduction, const int64_t *x, int64_t count, int64_t wide,
                                int64_t *total) {
    for (int64_t i = 0; i < count; i++) {
        int64_t *t = &total[i * wide], v = x[i];
        if (reduction == MAX)
            *t = v > *t ? v : *t;
        else if (reduction == MIN)
            *t = v < *t ? v : *t;
        else if (reduction == PROD)
            *t = (int64_t)((uint64_t)*t * (uint64_t)v);
        else if (reduction == L1)
            *t = (int64_t)((uint64_t)*t + (v < 0 ? 0 - (uint64_t)v : (uint64_t)v));
        else if (reduction == L2 || reduction == SUM_SQUARE)
            *t = (int64_t)((uint64_t)*t + (uint64_t)v * (uint64_t)v);
        else
            *t = (int64_t)((uint64_t)*t + (uint64_t)v);
    }
}

static double start_value(enum reduction reduction) {
    return reduction == MAX ? -INFINITY : reduction == MIN ? INFINITY : reduction == PROD ? 1 : 0;
}

static double finish(enum reduction reduction, double total, double base, int64_t count) {
    switch (reduction) {

    case MEAN:
        return total / (double)count;
    case L2:
        return sqrt(total);
    case LOG_SUM:
        return log(total);
    case LOG_SUM_EXP:
        return log(total) + base;
    default:
        return total;
    }
}

#define STRIPE 256 /* results made at once */

/* `count` results whose first inputs start at `offset`. `across`: neighbouring inputs belong to neighbouring
 * results; else to the same one. */
static void reduce_floats(enum reduction reduction, const struct tensor *input,
                          const struct reduce_plan *plan, int64_t offset, int64_t count, bool across,
                          double *ret) {
    double base[STRIPE], values[STRIPE];
    size_t size = dtype_size(input->dtype);
    if (reduction == LOG_SUM_EXP) {
        reduce_floats(MAX, input, plan, offset, count, across, base);
        for (int64_t i = 0; i < count; i++)
            base[i] = isfinite(base[i]) ? base[i] : 0;
    }

    for (int64_t i = 0; i < count; i++)
        ret[i] = start_value(reduction);

    if (across) { /* neighbours in memory belong to different results */
        for (int64_t r = 0; r < plan->reduced_count; r++) {
            int64_t from = offset + offset_of(r, plan->reduced_rank, plan->reduced, plan->reduced_strides);
            elements_convert(input->dtype, (const char *)input->data + (size_t)from * size, DTYPE_F64, values,
                             count);
            accumulate(reduction, values, count, 1, base, ret);
        }
    } else { /* neighbours belong to the same result: whole lines of the last reduced dimension */
        int last = plan->reduced_rank - 1;
        int64_t line = last < 0 ? 1 : plan->reduced[last], lines = line ? plan->reduced_count / line : 0;
        for (int64_t r = 0; r < lines; r++) {
            int64_t from = offset + offset_of(r, last < 0 ? 0 : last, plan->reduced, plan->reduced_strides);
            for (int64_t at = 0; at < line; at += STRIPE) {
                int64_t part = line - at < STRIPE ? line - at : STRIPE;
                elements_convert(input->dtype, (const char *)input->data + (size_t)(from + at) * size,
                                 DTYPE_F64, values, part);
                accumulate(reduction, values, part, 0, base, ret);
            }
        }
    }

    for (int64_t i = 0; i < count && reduction != MAX; i++)
        ret[i] = finish(reduction, ret[i], reduction == LOG_SUM_EXP ? base[i] : 0, plan->reduced_count);
}

static int64_t reduce_integers(enum reduction reduction, const struct tensor *input,
                               const struct reduce_plan *plan, int64_t offset) {
    int64_t total = reduction == MAX ? INT64_MIN : reduction == MIN ? INT64_MAX : reduction == PROD, value;
    size_t size = dtype_size(input->dtype);

    for (int64_t r = 0; r < plan->reduced_count; r++) {
        int64_t from = offset + offset_of(r, plan->reduced_rank, plan->reduced, plan->reduced_strides);
        elements_convert(input->dtype, (const char *)input->data + (size_t)from * size, DTYPE_I64, &value, 1);
        accumulate_integers(reduction, &value, 1, 0, &total);
    }

    if (reduction == MEAN)
        return plan->reduced_count ? total / plan->reduced_count : 0;
    if (reduction == L2 || reduction >= LOG_SUM)
        return (int64_t)finish(reduction, (double)total, 0, plan->reduced_count);

    return total;
}

static void reduce_stripe(enum reduction reduction, const struct tensor *input, const struct tensor *output,
                          const struct reduce_plan *plan, int64_t first, int64_t count, bool across) {
    size_t size = dtype_size(output->dtype);
    char *to = (char *)output->data + (size_t)first * size;
    int64_t offset = offset_of(first, plan->kept_rank, plan->kept, plan->kept_strides);

    if (dtype_is_float(input->dtype)) {
        double results[STRIPE];
        reduce_floats(reduction, input, plan, offset, count, across, results);
        elements_convert(DTYPE_F64, results, output->dtype, to, count);
        return;
    }

    for (int64_t i = 0; i < count; i++) {
        int64_t result = reduce_integers(reduction, input, plan, offset + i);
        elements_convert(DTYPE_I64, &result, output->dtype, to + (size_t)i * size, 1);
    }
}

static bool reduce_prepare(struct node *node, struct arena *arena, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    bool axes[LIMIT_TENSOR_RANK], none = true;
    struct reduce_plan *plan = arena_allocate(arena, sizeof *plan);
    if (!plan)
        return node_memory_error(node, error);
    if (!reduce_axes(node, input->rank, axes, error))
        return false;

    for (int i = 0; i < input->rank; i++)
        none &= !axes[i];

    reduce_plan_make(input, axes, plan);
    plan->copies = none && node->opset >= 13 && node_int(node, "noop_with_empty_axes", 0);
    node->parameters = plan;

    return true;
}

/* A logarithm of sums of integers is done in floats. */
static bool reduce_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct reduce_plan *plan = node->parameters;
    enum reduction reduction = reduction_of(node);
    if (plan->copies) {
        memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&inputs[0]));
        return true;
    }

    int last = plan->kept_rank - 1;
    bool across = last >= 0 && plan->kept_strides[last] == 1;
    int64_t run = across ? plan->kept[last] : 1, stripes = (run + STRIPE - 1) / STRIPE;
    int64_t tasks = run ? plan->kept_count / run * stripes : 0;

#pragma omp parallel for schedule(static) if (plan->kept_count * plan->reduced_count > PARALLEL_ELEMENTS)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t start = task % stripes * STRIPE, count = run - start < STRIPE ? run - start : STRIPE;
        reduce_stripe(reduction, &inputs[0], &outputs[0], plan, task / stripes * run + start, count, across);
    }

    return true;
}

/* An axis that is not reduced. */
static int reduce_axis_kept(const struct node *node, int axis) {
    bool axes[LIMIT_TENSOR_RANK], keep = node_int(node, "keepdims", 1) != 0;
    struct error ignored;
    int place = 0;
    if (!reduce_axes(node, node_shape(node, 0)->rank, axes, &ignored) || axes[axis])
        return -1;

    for (int i = 0; i < axis; i++)
        place += !axes[i] || keep;
    return place;
}

/* --- ArgMax and ArgMin --- */

static bool arg_infer(struct node *node, struct error *error) {
    struct shape shape = *node_shape(node, 0);
    int axis;

    if (!node_want_types(node, 0, TYPES_NUMERIC, error) ||
        !node_axis(node, node_int(node, "axis", 0), shape.rank, &axis, error))
        return false;
    if (!shape.dims[axis])
        return node_error(node, error, "axis %d is empty", axis);

    shape.dims[axis] = 1;
    if (!node_int(node, "keepdims", 1)) {
        memmove(shape.dims + axis, shape.dims + axis + 1,
                (size_t)(shape.rank - axis - 1) * sizeof *shape.dims);
        shape.rank--;
    }

    return infer_output(node, 0, DTYPE_I64, &shape, error);
}

static bool arg_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    const struct shape *shape = &inputs[0].shape;
    int axis;
    if (!node_axis(node, node_int(node, "axis", 0), shape->rank, &axis, error))
        return false;

    bool most = *(const bool *)node->op->family, last = node_int(node, "select_last_index", 0) != 0;
    bool integers = !dtype_is_float(inputs[0].dtype);
    int64_t length = shape->dims[axis], inner = shape_product(shape, axis + 1, shape->rank);
    int64_t results = shape_elements(&outputs[0].shape);

    for (int64_t line = 0; line < results; line++) {
        int64_t at = line / inner * length * inner + line % inner, best = 0;
        for (int64_t i = 1; i < length; i++) {
            bool above, below;
            if (integers) {
                int64_t x = tensor_get_i64(&inputs[0], at + i * inner),
                        y = tensor_get_i64(&inputs[0], at + best * inner);
                above = inputs[0].dtype == DTYPE_U64 ? (uint64_t)x > (uint64_t)y : x > y;
                below = !above && x != y;
            } else {
                double x = tensor_get_f64(&inputs[0], at + i * inner),
                       y = tensor_get_f64(&inputs[0], at + best * inner);
                above = x > y;
                below = x < y;
            }

            if ((most ? above : below) || (last && !above && !below))
                best = i;
        }

        ((int64_t *)outputs[0].data)[line] = best;
    }

    return true;
}

#define REDUCE_NAMES "floats, integers but uint64"
/* Axes are an attribute before opset `change`, an input from then on. */
#define REDUCE(name, kind, change)                                                                      \
    {.op_type = name, .since = 1, .until = (change)-1, .inputs = {1, 1}, REDUCE_ALWAYS(kind)}, {        \
        .op_type = name, .since = change, .inputs = {1, 2}, .plan_inputs = 1u << 1, REDUCE_ALWAYS(kind) \
    }
#define REDUCE_ALWAYS(kind)                                                                        \
    .types = REDUCE_NAMES, .family = &(const enum reduction){kind}, .axis_kept = reduce_axis_kept, \
    .prepare = reduce_prepare, .differentiate = gradient_reduce, FUNCTIONS(reduce)
#define ARG(name, most)                                                                                 \
    {                                                                                                   \
        .op_type = name, .since = 1, .inputs = {1, 1}, .types = NAMES_NUMERIC, .traits = OP_ALONG_AXIS, \
        .family = &(const bool){most}, FUNCTIONS(arg)                                                   \
    }

const struct op_def reduce_operators[] = {
    REDUCE("ReduceSum", SUM, 13),
    REDUCE("ReduceMean", MEAN, 18),
    REDUCE("ReduceMax", MAX, 18),
    REDUCE("ReduceMin", MIN, 18),
    REDUCE("ReduceProd", PROD, 18),
    REDUCE("ReduceL1", L1, 18),
    REDUCE("ReduceL2", L2, 18),
    REDUCE("ReduceSumSquare", SUM_SQUARE, 18),
    REDUCE("ReduceLogSum", LOG_SUM, 18),
    REDUCE("ReduceLogSumExp", LOG_SUM_EXP, 18),
    ARG("ArgMax", true),
    ARG("ArgMin", false),
    {0},
};
