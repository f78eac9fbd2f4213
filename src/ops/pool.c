/* Pools over windows and over whole images: MaxPool, AveragePool, LpPool, Global*Pool.
 * https://onnx.ai/onnx/operators/onnx__MaxPool.html and its neighbours. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ops/window.h"
#include "ops/gradient.h"

enum pool { POOL_MEAN, POOL_MAX, POOL_NORM };

/* A window that lies wholly in the padding would have nothing to pool. */
static bool pool_read(const struct node *node, const struct shape *input, struct window *ret,
                      struct error *error) {
    if (input->rank < 3)
        return node_error(node, error, "the input has rank %d, but must have at least 3", input->rank);
    if (!window_read(node, input, NULL, ret, error))
        return false;

    for (int i = 0; i < WINDOW_DIMS; i++)
        if (ret->pad[i] > (ret->kernel[i] - 1) * ret->dilation[i] ||
            ret->pad_end[i] > (ret->kernel[i] - 1) * ret->dilation[i])
            return node_error(node, error, "the padding is not smaller than the kernel");

    return true;
}

static bool pool_infer_types(struct node *node, uint32_t types, struct error *error) {
    struct window window;
    const struct shape *input = node_shape(node, 0);
    if (!node_want_types(node, 0, types, error) || !pool_read(node, input, &window, error))
        return false;

    struct shape shape = window_output_shape(&window, input->dims[0], input->dims[1]);
    return infer_output(node, 0, node_dtype(node, 0), &shape, error) &&
           infer_output(node, 1, DTYPE_I64, &shape, error);
}

static bool average_infer(struct node *node, struct error *error) {
    return pool_infer_types(node, TYPES_FLOAT, error);
}

static bool max_infer(struct node *node, struct error *error) {
    return pool_infer_types(node, TYPES_FLOAT | TYPES_BYTE, error);
}

/* The part of the kernel within the input, for the output at `position` in dimension i. */
struct kernel_span {
    int64_t first, last; /* kernel steps [first, last) */
    int64_t start;       /* position in the input of step 0 */
};

static struct kernel_span span_at(const struct window *w, int i, int64_t position) {
    struct kernel_span span = {.last = w->kernel[i], .start = position * w->stride[i] - w->pad[i]};
    int64_t step = w->dilation[i];
    if (span.start < 0)
        span.first = (-span.start + step - 1) / step;

    int64_t room = w->input[i] - span.start; /* steps below room / step, rounded up, are within the input */
    if (room <= 0)
        span.last = 0;
    else if ((room + step - 1) / step < span.last)
        span.last = (room + step - 1) / step;

    if (span.first > span.last)
        span.first = span.last;

    return span;
}

/* Loops over the outputs of a plane (`position` is the index) and, within, over the inputs that its window
 * sees (`from` is the index into the plane). */
#define FOR_EACH_OUTPUT(w, spans, position)                                                          \
    for (int64_t position = 0, od = 0; od < (w)->output[0]; od++)                                    \
        for (int64_t oh = 0; oh < (w)->output[1]; oh++)                                              \
            for (int64_t ow = 0;                                                                     \
                 ow < (w)->output[2] && (spans[0] = span_at(w, 0, od), spans[1] = span_at(w, 1, oh), \
                                        spans[2] = span_at(w, 2, ow), true);                         \
                 ow++, position++)
#define FOR_EACH_INPUT(w, spans, from)                                                                       \
    for (int64_t kd = spans[0].first; kd < spans[0].last; kd++)                                              \
        for (int64_t kh = spans[1].first; kh < spans[1].last; kh++)                                          \
            for (int64_t kw = spans[2].first,                                                                \
                         line = ((spans[0].start + kd * (w)->dilation[0]) * (w)->input[1] + spans[1].start + \
                                 kh * (w)->dilation[1]) *                                                    \
                                    (w)->input[2] +                                                          \
                                spans[2].start,                                                              \
                         from = line + kw * (w)->dilation[2];                                                \
                 kw < spans[2].last; kw++, from += (w)->dilation[2])

#define MAX_PLANE(suffix, type, least, better)                                              \
    static void max_plane_##suffix(const struct window *w, const type *input, type *output, \
                                   int64_t *positions) {                                    \
        struct kernel_span spans[WINDOW_DIMS];                                              \
        FOR_EACH_OUTPUT(w, spans, position) {                                               \
            type best = least;                                                              \
            int64_t best_from = -1;                                                         \
            FOR_EACH_INPUT(w, spans, from) {                                                \
                type x = input[from];                                                       \
                if (best_from < 0 || (better)) {                                            \
                    best = x;                                                               \
                    best_from = from;                                                       \
                }                                                                           \
            }                                                                               \
            output[position] = best;                                                        \
            if (positions)                                                                  \
                positions[position] = best_from;                                            \
        }                                                                                   \
    }

MAX_PLANE(f32, float, -INFINITY, x > best || (isnan(x) && !isnan(best)))
MAX_PLANE(f64, double, -INFINITY, x > best || (isnan(x) && !isnan(best)))
MAX_PLANE(i8, int8_t, INT8_MIN, x > best)
MAX_PLANE(u8, uint8_t, 0, x > best)

static void max_plane(const struct window *w, enum dtype dtype, const void *from, void *to,
                      int64_t *positions) {
    if (dtype == DTYPE_F32)
        max_plane_f32(w, from, to, positions);
    else if (dtype == DTYPE_F64)
        max_plane_f64(w, from, to, positions);
    else if (dtype == DTYPE_I8)
        max_plane_i8(w, from, to, positions);
    else
        max_plane_u8(w, from, to, positions);
}

/* Positions within a plane to ONNX's Indices into the whole tensor; storage_order 1 counts a plane's columns
 * first. */
static void indices_finish(const struct window *w, int64_t *positions, int64_t plane, bool columns_first) {
    int64_t size = window_input_size(w);
    for (int64_t i = 0, count = window_output_size(w); i < count; i++) {
        int64_t position = positions[i];
        if (position >= 0 && columns_first) {
            int64_t d = position / (w->input[1] * w->input[2]), h = position / w->input[2] % w->input[1];
            int64_t x = position % w->input[2];
            position = w->spatial == 1 ? x : (x * w->input[1] + h) * w->input[0] + d;
        }
        positions[i] = position < 0 ? -1 : plane * size + position;
    }
}

static bool max_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                     struct error *error) {
    struct window w;
    if (!pool_read(node, &inputs[0].shape, &w, error))
        return false;

    int64_t planes = shape_product(&inputs[0].shape, 0, 2), read = window_input_size(&w);
    int64_t written = window_output_size(&w);
    bool columns_first = node_int(node, "storage_order", 0) != 0;
    int64_t *positions = node->output_count > 1 ? outputs[1].data : NULL;
    size_t size = dtype_size(inputs[0].dtype);

#pragma omp parallel for schedule(static) if (planes * written > PARALLEL_ELEMENTS / 8)
    for (int64_t plane = 0; plane < planes; plane++) {
        const void *from = (const char *)inputs[0].data + (size_t)(plane * read) * size;
        void *to = (char *)outputs[0].data + (size_t)(plane * written) * size;
        int64_t *indices = positions ? positions + plane * written : NULL;

        max_plane(&w, inputs[0].dtype, from, to, indices);
        if (indices)
            indices_finish(&w, indices, plane, columns_first);
    }

    return true;
}

static bool max_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    return compute_widened(node, inputs, outputs, error, max_wide);
}

/* --- Averages and norms: order 0 is the mean, else the norm of that order --- */

/* How many elements of the kernel lie within the input and its padding (with ceil_mode, windows reach
 * beyond). */
static double padded_count(const struct window *w, const struct kernel_span spans[WINDOW_DIMS]) {
    double count = 1;
    for (int i = 0; i < WINDOW_DIMS; i++) {
        int64_t room = w->input[i] + w->pad_end[i] - spans[i].start;
        int64_t steps = (room + w->dilation[i] - 1) / w->dilation[i];
        count *= (double)(steps < w->kernel[i] ? steps : w->kernel[i]);
    }

    return count;
}

#define MEAN_PLANE(suffix, type)                                                                            \
    static void mean_plane_##suffix(const struct window *w, const type *input, type *output, int64_t order, \
                                    bool with_padding) {                                                    \
        struct kernel_span spans[WINDOW_DIMS];                                                              \
        FOR_EACH_OUTPUT(w, spans, position) {                                                               \
            double sum = 0, count = 0;                                                                      \
            FOR_EACH_INPUT(w, spans, from) {                                                                \
                double x = (double)input[from];                                                             \
                sum += order == 0   ? x                                                                     \
                       : order == 1 ? fabs(x)                                                               \
                       : order == 2 ? x * x                                                                 \
                                    : pow(fabs(x), (double)order);                                          \
                count++;                                                                                    \
            }                                                                                               \
            if (order)                                                                                      \
                output[position] = (type)(order == 1   ? sum                                                \
                                          : order == 2 ? sqrt(sum)                                          \
                                                       : pow(sum, 1 / (double)order));                      \
            else                                                                                            \
                output[position] =                                                                          \
                    (type)(count ? sum / (with_padding ? padded_count(w, spans) : count) : 0);              \
        }                                                                                                   \
    }

MEAN_PLANE(f32, float)
MEAN_PLANE(f64, double)

static int64_t pool_order(const struct node *node) {
    return *(const enum pool *)node->op->family == POOL_NORM ? node_int(node, "p", 2) : 0;
}

static void mean_run(const struct node *node, const struct window *w, const struct tensor *input,
                     const struct tensor *output) {
    int64_t planes = shape_product(&input->shape, 0, 2), read = window_input_size(w),
            written = window_output_size(w);
    bool with_padding = node_int(node, "count_include_pad", 0) != 0;
    int64_t order = pool_order(node);

#pragma omp parallel for schedule(static) if (planes * read > PARALLEL_ELEMENTS)
    for (int64_t plane = 0; plane < planes; plane++) {
        if (input->dtype == DTYPE_F32)
            mean_plane_f32(w, (const float *)input->data + plane * read,
                           (float *)output->data + plane * written, order, with_padding);
        else
            mean_plane_f64(w, (const double *)input->data + plane * read,
                           (double *)output->data + plane * written, order, with_padding);
    }
}

static bool mean_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                      struct error *error) {
    struct window window;
    if (!pool_read(node, &inputs[0].shape, &window, error))
        return false;

    mean_run(node, &window, &inputs[0], &outputs[0]);
    return true;
}

static bool mean_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    return compute_widened(node, inputs, outputs, error, mean_wide);
}

static bool order_check(const struct node *node, struct error *error) {
    return pool_order(node) >= 1 || node_error(node, error, "attribute p is not positive");
}

/* --- Whole images --- */

static bool global_infer(struct node *node, struct error *error) {
    if (!node_want_types(node, 0, TYPES_FLOAT, error) ||
        !node_want_rank(node, 0, 3, LIMIT_TENSOR_RANK, error))
        return false;

    struct shape shape = *node_shape(node, 0);
    for (int i = 2; i < shape.rank; i++) {
        if (!shape.dims[i])
            return node_error(node, error, "the input is empty");
        shape.dims[i] = 1;
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* One window as large as the image, its dimensions taken as one. */
static struct window global_window(const struct shape *shape) {
    int64_t size = shape_product(shape, 2, shape->rank);
    return (struct window){.spatial = 1,
                           .input = {1, 1, size},
                           .output = {1, 1, 1},
                           .kernel = {1, 1, size},
                           .stride = {1, 1, 1},
                           .dilation = {1, 1, 1}};
}

static bool global_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    struct window w = global_window(&inputs[0].shape);
    if (*(const enum pool *)node->op->family != POOL_MAX) {
        mean_run(node, &w, &inputs[0], &outputs[0]);
        return true;
    }

    int64_t planes = shape_product(&inputs[0].shape, 0, 2), size = window_input_size(&w);
    size_t bytes = dtype_size(inputs[0].dtype);
    for (int64_t i = 0; i < planes; i++)
        max_plane(&w, inputs[0].dtype, (const char *)inputs[0].data + (size_t)(i * size) * bytes,
                  (char *)outputs[0].data + (size_t)i * bytes, NULL);

    return true;
}

static bool global_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, global_wide);
}

/* --- MaxUnpool: values go back to the places that MaxPool named --- */

/* The shape that MaxPool's input had, by its strides and kernel; indices count within it. */
static bool unpool_source(const struct node *node, const struct shape *x, struct shape *ret,
                          struct error *error) {
    struct window w;
    if (!window_read_steps(node, x, NULL, &w, error) || !window_read_pads(node, &w, error))
        return false;

    *ret = *x;
    for (int i = 2; i < x->rank; i++) {
        int at = WINDOW_DIMS - w.spatial + i - 2;
        int64_t length = x->dims[i] ? x->dims[i] - 1 : 0;
        if (!extent_multiply(&length, w.stride[at]))
            return node_error(node, error, "the result is too large");
        ret->dims[i] = length + w.kernel[at] - w.pad[at] - w.pad_end[at];
    }

    return shape_elements(ret) >= 0 ||
           node_error(node, error, "the result is too large, or has a negative size");
}

static bool unpool_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    int64_t dims[LIMIT_TENSOR_RANK];
    int count;
    struct shape shape;

    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_types(node, 1, TYPE(I64), error) ||
        !node_want_rank(node, 0, 3, WINDOW_DIMS + 2, error) ||
        !node_read_ints(node, 2, LIMIT_TENSOR_RANK, dims, &count, error) ||
        !unpool_source(node, x, &shape, error))
        return false;
    if (!shape_equal(x, node_shape(node, 1)))
        return node_error(node, error, "the indices and the input have different shapes");
    if (count >= 0 && count != x->rank)
        return node_error(node, error, "the output shape has %d dimensions", count);

    for (int i = 0; i < count; i++) {
        if (dims[i] < shape.dims[i])
            return node_error(node, error, "the output shape is smaller than what was pooled");
        shape.dims[i] = dims[i];
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool unpool_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    struct shape source;
    if (!unpool_source(node, &inputs[0].shape, &source, error))
        return false;

    int64_t count = shape_elements(&inputs[0].shape), positions = shape_elements(&source),
            strides[LIMIT_TENSOR_RANK];
    size_t size = dtype_size(inputs[0].dtype);
    shape_strides(&outputs[0].shape, strides);
    memset(outputs[0].data, 0, tensor_bytes(&outputs[0]));

    for (int64_t i = 0; i < count; i++) {
        int64_t index = ((const int64_t *)inputs[1].data)[i], to = 0;
        if (index < 0 || index >= positions)
            return node_error(node, error, "index %lld is outside the output", (long long)index);

        for (int d = source.rank - 1; d >= 0; d--) {
            to += index % source.dims[d] * strides[d];
            index /= source.dims[d];
        }

        memcpy((char *)outputs[0].data + (size_t)to * size, (const char *)inputs[0].data + (size_t)i * size,
               size);
    }

    return true;
}

const struct op_def pool_operators[] = {
    {.op_type = "MaxPool",
     .differentiate = gradient_pool,
     .since = 1,
     .inputs = {1, 1},
     .outputs = {1, 2},
     .traits = OP_KEEPS_VALUES | OP_SAMPLEWISE | OP_HEAVY,
     .types = NAMES_FLOAT ", int8, uint8",
     FUNCTIONS(max)},
    {.op_type = "AveragePool",
     .differentiate = gradient_pool,
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_KEEPS_RANGE | OP_SAMPLEWISE | OP_HEAVY,
     .types = NAMES_FLOAT,
     .family = &(const enum pool){POOL_MEAN},
     .infer = average_infer,
     .compute = mean_compute},
    {.op_type = "LpPool",
     .since = 2,
     .inputs = {1, 1},
     .traits = OP_SAMPLEWISE | OP_HEAVY,
     .types = NAMES_FLOAT,
     .check = order_check,
     .family = &(const enum pool){POOL_NORM},
     .infer = average_infer,
     .compute = mean_compute},
    {.op_type = "GlobalMaxPool",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_KEEPS_VALUES | OP_SAMPLEWISE,
     .types = NAMES_FLOAT,
     .family = &(const enum pool){POOL_MAX},
     FUNCTIONS(global)},
    {.op_type = "GlobalAveragePool",
     .differentiate = gradient_global_pool,
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_KEEPS_RANGE | OP_SAMPLEWISE,
     .types = NAMES_FLOAT,
     .family = &(const enum pool){POOL_MEAN},
     FUNCTIONS(global)},
    {.op_type = "GlobalLpPool",
     .since = 2,
     .inputs = {1, 1},
     .traits = OP_SAMPLEWISE,
     .types = NAMES_FLOAT,
     .check = order_check,
     .family = &(const enum pool){POOL_NORM},
     FUNCTIONS(global)},
    {.op_type = "MaxUnpool",
     .since = 9,
     .inputs = {2, 3},
     .plan_inputs = 1u << 2,
     .types = NAMES_FLOAT,
     FUNCTIONS(unpool)},
    {0},
};
