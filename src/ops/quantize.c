/* Between floats and 8-bit integers: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear.
 * https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html. q = saturate(round(x / scale) + zero_point),
 * halves to even. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

#define TYPES_QUANTIZED (TYPES_BYTE | TYPE(I16) | TYPE(U16))

/* The tensor as outer x channels x inner, one scale a channel; one channel where the scale is a scalar. */
struct scale_channels {
    int64_t outer, count, inner;
};

static bool channels_of(const struct node *node, const struct shape *x, const struct shape *scale,
                        struct scale_channels *ret, struct error *error) {
    *ret = (struct scale_channels){1, 1, shape_elements(x)};
    if (shape_elements(scale) == 1 && scale->rank <= 1)
        return true;

    int axis;
    if (!node_axis(node, node_int(node, "axis", 1), x->rank, &axis, error))
        return false;
    if (scale->rank != 1 || scale->dims[0] != x->dims[axis])
        return node_error(node, error, "the scale is neither a scalar nor one for each of %lld channels",
                          (long long)x->dims[axis]);

    *ret = (struct scale_channels){shape_product(x, 0, axis), x->dims[axis],
                                   shape_product(x, axis + 1, x->rank)};

    return true;
}

static bool linear_check(const struct node *node, struct error *error) {
    return node_int(node, "block_size", 0) >= 0 || node_error(node, error, "block_size is negative");
}

/* Blocks along an axis, each with a scale: the scale has the tensor's shape, but for the axis. */
struct scale_blocks {
    int64_t outer, length, inner; /* the tensor is outer x length x inner */
    int64_t block, count;         /* elements of a block, blocks along the axis; block 0: there are none */
};

static bool blocks_of(const struct node *node, const struct shape *x, const struct shape *scale,
                      struct scale_blocks *ret, struct error *error) {
    int64_t block = node_int(node, "block_size", 0);
    int axis;
    *ret = (struct scale_blocks){.block = 0};
    if (!block)
        return true;
    if (!node_axis(node, node_int(node, "axis", 1), x->rank, &axis, error))
        return false;

    bool fits = scale->rank == x->rank;
    for (int d = 0; fits && d < x->rank; d++)
        fits = scale->dims[d] == (d == axis ? x->dims[d] / block + (x->dims[d] % block != 0) : x->dims[d]);
    if (!fits)
        return node_error(node, error, "the scale has not one number for each block of %lld",
                          (long long)block);

    *ret = (struct scale_blocks){shape_product(x, 0, axis), x->dims[axis],
                                 shape_product(x, axis + 1, x->rank), block, scale->dims[axis]};
    return true;
}

/* The zero point is left out, or has the scale's shape. */
static bool linear_operands(const struct node *node, struct error *error) {
    struct scale_blocks blocks;
    const struct shape *scale = node_shape(node, 1), *zero = node_shape(node, 2);
    struct scale_channels channels;
    if (zero && shape_elements(zero) != shape_elements(scale))
        return node_error(node, error, "scale and zero point have different shapes");
    if (!blocks_of(node, node_shape(node, 0), scale, &blocks, error))
        return false;
    if (blocks.block)
        return node_want_types(node, 1, TYPES_F32, error);

    return node_want_types(node, 1, TYPES_F32, error) &&
           channels_of(node, node_shape(node, 0), scale, &channels, error);
}

static bool quantize_infer(struct node *node, struct error *error) {
    enum dtype type =
        node_has_input(node, 2) ? node_dtype(node, 2) : dtype_from_onnx(node_int(node, "output_dtype", 2));
    if (type == DTYPE_UNKNOWN || !(TYPES_QUANTIZED >> type & 1))
        return node_error(node, error, "the zero point's type %s is not supported", dtype_name(type));
    return node_want_types(node, 0, TYPES_F32 | TYPE(I32), error) && linear_operands(node, error) &&
           infer_output(node, 0, type, node_shape(node, 0), error);
}

static void saturation(enum dtype dtype, float *least, float *most) {
    *least = dtype == DTYPE_I8 ? -128 : dtype == DTYPE_I16 ? -32768 : 0;
    *most = dtype == DTYPE_I8 ? 127 : dtype == DTYPE_U8 ? 255 : dtype == DTYPE_I16 ? 32767 : 65535;
}

static void quantize_run(const struct tensor *x, const struct tensor *y, int64_t start, int64_t count,
                         float scale, float zero) {
    float least, most, piece[256];
    int16_t wide[256];
    saturation(y->dtype, &least, &most);

    size_t from = dtype_size(x->dtype), to = dtype_size(y->dtype);
    for (int64_t i = start; i < start + count; i += 256) {
        int64_t part = start + count - i < 256 ? start + count - i : 256;
        elements_convert(x->dtype, (const char *)x->data + (size_t)i * from, DTYPE_F32, piece, part);
        for (int64_t j = 0; j < part; j++) {
            float value = rintf(piece[j] / scale) + zero;
            piece[j] =
                value > least ? (value > most ? most : value) : least; /* NaN, too, as ONNX Runtime does */
        }

        if (to == 1) {
            for (int64_t j = 0; j < part; j++)
                wide[j] = (int16_t)piece[j];
            elements_convert(DTYPE_I16, wide, y->dtype, (char *)y->data + i, part);
        } else {
            elements_convert(DTYPE_F32, piece, y->dtype, (char *)y->data + (size_t)i * to, part);
        }
    }
}

/* The first scale of row `row` of outer x length. */
static int64_t block_scale(const struct scale_blocks *blocks, int64_t row) {
    return (row / blocks->length * blocks->count + row % blocks->length / blocks->block) * blocks->inner;
}

static void quantize_blocks(const struct scale_blocks *blocks, const struct tensor *inputs, bool with_zero,
                            const struct tensor *y) {
    for (int64_t row = 0; row < blocks->outer * blocks->length; row++) {
        int64_t scale_at = block_scale(blocks, row);
        for (int64_t i = 0; i < blocks->inner; i++)
            quantize_run(&inputs[0], y, row * blocks->inner + i, 1,
                         (float)tensor_get_f64(&inputs[1], scale_at + i),
                         with_zero ? (float)tensor_get_f64(&inputs[2], scale_at + i) : 0);
    }
}

static bool quantize_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    struct scale_blocks blocks;
    if (!blocks_of(node, &inputs[0].shape, &inputs[1].shape, &blocks, error))
        return false;
    if (blocks.block) {
        quantize_blocks(&blocks, inputs, node->input_count > 2 && inputs[2].data, &outputs[0]);
        return true;
    }

    struct scale_channels c;
    if (!channels_of(node, &inputs[0].shape, &inputs[1].shape, &c, error))
        return false;

    bool with_zero = node->input_count > 2 && inputs[2].data;
#pragma omp parallel for schedule(static) if (c.outer * c.count * c.inner > PARALLEL_ELEMENTS && \
                                              c.outer * c.count > 1)
    for (int64_t run = 0; run < c.outer * c.count; run++)
        quantize_run(&inputs[0], &outputs[0], run * c.inner, c.inner,
                     (float)tensor_get_f64(&inputs[1], run % c.count),
                     with_zero ? (float)tensor_get_f64(&inputs[2], run % c.count) : 0);

    return true;
}

static bool dequantize_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_QUANTIZED | TYPE(I32), error) &&
           node_want_same_type(node, 2, 0, error) && linear_operands(node, error) &&
           infer_output(node, 0, node_dtype(node, 1), node_shape(node, 0), error);
}

static void dequantize_blocks(const struct scale_blocks *blocks, const struct tensor *inputs, bool with_zero,
                              float *to) {
    for (int64_t row = 0; row < blocks->outer * blocks->length; row++) {
        int64_t scale_at = block_scale(blocks, row);
        for (int64_t i = 0; i < blocks->inner; i++) {
            int64_t zero = with_zero ? tensor_get_i64(&inputs[2], scale_at + i) : 0;
            int64_t value = tensor_get_i64(&inputs[0], row * blocks->inner + i);
            to[row * blocks->inner + i] =
                (float)(value - zero) * (float)tensor_get_f64(&inputs[1], scale_at + i);
        }
    }
}

static bool dequantize_wide(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    struct scale_channels c;
    struct scale_blocks blocks;
    const struct tensor *x = &inputs[0];
    if (!blocks_of(node, &x->shape, &inputs[1].shape, &blocks, error))
        return false;
    if (blocks.block) {
        dequantize_blocks(&blocks, inputs, node->input_count > 2 && inputs[2].data, outputs[0].data);
        return true;
    }
    if (!channels_of(node, &x->shape, &inputs[1].shape, &c, error))
        return false;

    bool with_zero = node->input_count > 2 && inputs[2].data;
    size_t size = dtype_size(x->dtype);
#pragma omp parallel for schedule(static) if (c.outer * c.count * c.inner > PARALLEL_ELEMENTS && \
                                              c.outer * c.count > 1)
    for (int64_t run = 0; run < c.outer * c.count; run++) {
        float scale = (float)tensor_get_f64(&inputs[1], run % c.count);
        int64_t zero = with_zero ? tensor_get_i64(&inputs[2], run % c.count) : 0, values[256];
        float *to = (float *)outputs[0].data + run * c.inner;

        for (int64_t i = 0; i < c.inner; i += 256) {
            int64_t part = c.inner - i < 256 ? c.inner - i : 256;
            elements_convert(x->dtype, (const char *)x->data + (size_t)(run * c.inner + i) * size, DTYPE_I64,
                             values, part);
            for (int64_t j = 0; j < part; j++)
                to[i + j] = (float)(values[j] - zero) * scale;
        }
    }

    return true;
}

static bool dequantize_compute(const struct node *node, const struct tensor *inputs,
                               const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, dequantize_wide);
}

/* One scale for the whole tensor. */
static int linear_axis_kept(const struct node *node, int axis) {
    return node_shape(node, 1)->rank == 0 && !node_int(node, "block_size", 0) ? axis : -1;
}

/* --- DynamicQuantizeLinear: scale and zero point from the tensor's own range, which always holds zero --- */

static bool dynamic_infer(struct node *node, struct error *error) {
    struct shape scalar = {0};
    return node_want_types(node, 0, TYPE(F32), error) &&
           infer_output(node, 0, DTYPE_U8, node_shape(node, 0), error) &&
           infer_output(node, 1, DTYPE_F32, &scalar, error) &&
           infer_output(node, 2, DTYPE_U8, &scalar, error);
}

static bool dynamic_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    int64_t count = shape_elements(&inputs[0].shape);
    const float *x = inputs[0].data;
    float least = 0, most = 0;

    for (int64_t i = 0; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }

    float scale = (most - least) / 255;
    float zero = scale > 0 ? rintf(fminf(fmaxf(-least / scale, 0), 255)) : 0;
    if (!(scale > 0) || !isfinite(zero)) {
        scale = 1;
        zero = 0;
    }

    quantize_run(&inputs[0], &outputs[0], 0, count, scale, zero);
    *(float *)outputs[1].data = scale;
    *(uint8_t *)outputs[2].data = (uint8_t)zero;

    return true;
}

#define NAMES_QUANTIZED "int8, uint8, int16, uint16"

/* ONNX's and Microsoft's operators are the same. */
#define LINEAR .inputs = {2, 3}, .axis_kept = linear_axis_kept, .traits = OP_QUANTIZED, .check = linear_check
#define QUANTIZE(...)                                                                          \
    {                                                                                          \
        .op_type = "QuantizeLinear", .types = NAMES_F32 ", int32 to " NAMES_QUANTIZED, LINEAR, \
        FUNCTIONS(quantize), __VA_ARGS__                                                       \
    }
#define DEQUANTIZE(...)                                                                                  \
    {                                                                                                    \
        .op_type = "DequantizeLinear", .types = "int4, uint4, " NAMES_QUANTIZED ", int32 to " NAMES_F32, \
        LINEAR, FUNCTIONS(dequantize), __VA_ARGS__                                                       \
    }

const struct op_def quantize_operators[] = {
    QUANTIZE(.since = 10),
    DEQUANTIZE(.since = 10),
    QUANTIZE(.since = 1, .domain = MICROSOFT),
    DEQUANTIZE(.since = 1, .domain = MICROSOFT),
    {.op_type = "DynamicQuantizeLinear",
     .since = 11,
     .inputs = {1, 1},
     .outputs = {3, 3},
     .traits = OP_QUANTIZED,
     .types = "float32",
     FUNCTIONS(dynamic)},
    {0},
};
