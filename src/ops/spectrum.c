/* DFT, STFT, MelWeightMatrix and windows. https://onnx.ai/onnx/operators/onnx__DFT.html. The transform is by
 * definition where its length has no factor of two left, and halves before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/family.h"

static void store(const struct tensor *to, int64_t index, double value) {
    elements_convert(DTYPE_F64, &value, to->dtype, (char *)to->data + (size_t)index * dtype_size(to->dtype),
                     1);
}

/* --- The transform --- */

/* Powers of the root of unity for a length: turns[2 i], turns[2 i + 1] are cosine and sine. */
static void turns_fill(double *turns, int64_t length, double sign) {
    for (int64_t i = 0; i < length; i++) {
        double angle = 2 * M_PI * (double)i / (double)length;
        turns[2 * i] = cos(angle);
        turns[2 * i + 1] = sign * sin(angle);
    }
}

/* x, `stride` complex numbers apart, to y [length]. `turns` are of the whole length, `step` as long as this
 * part's. scratch: [length] complex numbers. */
static void transform(const double *x, int64_t stride, double *y, int64_t length, const double *turns,
                      int64_t step, double *scratch) {
    if (length % 2 == 0) {
        int64_t half = length / 2;
        transform(x, stride * 2, scratch, half, turns, step * 2, y);
        transform(x + stride * 2, stride * 2, scratch + length, half, turns, step * 2, y);
        for (int64_t k = 0; k < half; k++) {
            const double *turn = turns + 2 * k * step, *even = scratch + 2 * k,
                         *odd = scratch + length + 2 * k;
            double re = odd[0] * turn[0] - odd[1] * turn[1], im = odd[0] * turn[1] + odd[1] * turn[0];
            y[2 * k] = even[0] + re;
            y[2 * k + 1] = even[1] + im;
            y[2 * (k + half)] = even[0] - re;
            y[2 * (k + half) + 1] = even[1] - im;
        }
        return;
    }

    for (int64_t k = 0; k < length; k++) {
        double re = 0, im = 0;
        for (int64_t i = 0; i < length; i++) {
            const double *value = x + 2 * i * stride, *turn = turns + 2 * (i * k % length) * step;
            re += value[0] * turn[0] - value[1] * turn[1];
            im += value[0] * turn[1] + value[1] * turn[0];
        }
        y[2 * k] = re;
        y[2 * k + 1] = im;
    }
}

struct transform_memory {
    double *turns, *x, *y, *scratch; /* [length] complex numbers each */
    double *memory;
};

static bool transform_prepare(struct transform_memory *ret, int64_t length, bool inverse) {
    size_t size = (size_t)length * 2 + 2;
    double *memory = malloc(size * 4 * sizeof *memory);
    if (!memory)
        return false;
    *ret = (struct transform_memory){memory, memory + size, memory + 2 * size, memory + 3 * size, memory};
    turns_fill(ret->turns, length, inverse ? 1 : -1);
    return true;
}

/* The largest length that is computed by definition, a second of time at most. */
#define LONGEST_ODD 32768

static bool length_check(const struct node *node, int64_t length, struct error *error) {
    int64_t odd = length;
    while (odd > 1 && odd % 2 == 0)
        odd /= 2;
    return (length > 0 && length <= LIMIT_TENSOR_ELEMENTS / 8 && odd <= LONGEST_ODD) ||
           node_error(node, error, "a transform of %lld numbers is not supported", (long long)length);
}

/* --- DFT --- */

struct dft {
    int axis;
    int64_t length; /* of the transform: the signal is cut to it, or zeros follow */
    bool inverse, onesided;
};

static bool dft_read(const struct node *node, struct dft *ret, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    int64_t length = -1, axis = node->opset < 20 ? node_int(node, "axis", 1) : -2;
    int count;
    if (!node_read_ints(node, 1, 1, &length, &count, error))
        return false;
    if (node->opset >= 20 && node_has_input(node, 2) && !node_read_ints(node, 2, 1, &axis, &count, error))
        return false;

    *ret = (struct dft){.inverse = node_int(node, "inverse", 0) != 0,
                        .onesided = node_int(node, "onesided", 0) != 0};
    if (!node_axis(node, axis, x->rank, &ret->axis, error))
        return false;
    if (ret->axis == x->rank - 1)
        return node_error(node, error, "axis %d holds the parts of complex numbers", ret->axis);
    ret->length = length >= 0 ? length : x->dims[ret->axis];
    if (ret->onesided && (ret->inverse || x->dims[x->rank - 1] == 2))
        return node_error(node, error, "onesided of complex numbers is not supported");
    return length_check(node, ret->length, error);
}

static bool dft_infer(struct node *node, struct error *error) {
    struct dft dft;
    struct shape shape = *node_shape(node, 0);
    if (!node_want_types(node, 0, TYPES_FLOAT, error) ||
        !node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error))
        return false;
    if (shape.dims[shape.rank - 1] != 1 && shape.dims[shape.rank - 1] != 2)
        return node_error(node, error, "the last axis is neither 1 nor 2 long");
    if (!dft_read(node, &dft, error))
        return false;

    shape.dims[dft.axis] = dft.onesided ? dft.length / 2 + 1 : dft.length;
    shape.dims[shape.rank - 1] = 2;
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool dft_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    struct dft dft;
    struct transform_memory m;
    if (!dft_read(node, &dft, error))
        return false;
    if (!transform_prepare(&m, dft.length, dft.inverse))
        return node_memory_error(node, error);

    const struct shape *x = &inputs[0].shape, *y = &outputs[0].shape;
    int64_t parts = x->dims[x->rank - 1], inner = shape_product(x, dft.axis + 1, x->rank - 1);
    int64_t lines = shape_product(x, 0, dft.axis) * inner, from = x->dims[dft.axis], to = y->dims[dft.axis];
    for (int64_t line = 0; line < lines; line++) {
        int64_t first = line / inner * from * inner + line % inner;
        int64_t result = line / inner * to * inner + line % inner;
        for (int64_t i = 0; i < dft.length; i++) {
            m.x[2 * i] = i < from ? tensor_get_f64(&inputs[0], (first + i * inner) * parts) : 0;
            m.x[2 * i + 1] =
                i < from && parts == 2 ? tensor_get_f64(&inputs[0], (first + i * inner) * parts + 1) : 0;
        }
        transform(m.x, 1, m.y, dft.length, m.turns, 1, m.scratch);
        for (int64_t k = 0; k < 2 * to; k++)
            store(&outputs[0], (result + k / 2 * inner) * 2 + k % 2,
                  m.y[k] / (dft.inverse ? (double)dft.length : 1));
    }

    free(m.memory);
    return true;
}

/* --- STFT: frames of the signal, each times the window, transformed --- */

struct stft {
    int64_t step, length, frames, bins;
};

static bool stft_read(const struct node *node, struct stft *ret, struct error *error) {
    const struct shape *x = node_shape(node, 0), *window = node_shape(node, 2);
    int64_t step = 0, length = -1;
    int count;
    if (!node_read_ints(node, 1, 1, &step, &count, error) ||
        !node_read_ints(node, 3, 1, &length, &count, error))
        return false;
    if (length < 0 && window && window->rank == 1)
        length = window->dims[0];
    if (x->rank < 2 || step < 1 || length < 1 || length > x->dims[1] ||
        (window && (window->rank != 1 || window->dims[0] != length)))
        return node_error(node, error, "frames of %lld, %lld apart, do not fit the signal and the window",
                          (long long)length, (long long)step);

    bool onesided = node_int(node, "onesided", 1) != 0;
    *ret = (struct stft){step, length, (x->dims[1] - length) / step + 1, onesided ? length / 2 + 1 : length};
    return length_check(node, length, error);
}

static bool stft_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    struct stft stft;
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_types(node, 2, TYPES_FLOAT, error) ||
        !node_want_rank(node, 0, 2, 3, error) || !stft_read(node, &stft, error))
        return false;
    if (x->rank == 3 && x->dims[2] != 1 && x->dims[2] != 2)
        return node_error(node, error, "the last axis is neither 1 nor 2 long");

    struct shape shape = {4, {x->dims[0], stft.frames, stft.bins, 2}};
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool stft_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    struct stft stft;
    struct transform_memory m;
    if (!stft_read(node, &stft, error))
        return false;
    if (!transform_prepare(&m, stft.length, false))
        return node_memory_error(node, error);

    const struct shape *x = &inputs[0].shape;
    int64_t parts = x->rank == 3 ? x->dims[2] : 1;
    bool windowed = node->input_count > 2 && inputs[2].data;
    for (int64_t f = 0; f < x->dims[0] * stft.frames; f++) {
        int64_t first = f / stft.frames * x->dims[1] + f % stft.frames * stft.step;
        for (int64_t i = 0; i < stft.length; i++) {
            double weight = windowed ? tensor_get_f64(&inputs[2], i) : 1;
            m.x[2 * i] = weight * tensor_get_f64(&inputs[0], (first + i) * parts);
            m.x[2 * i + 1] = parts == 2 ? weight * tensor_get_f64(&inputs[0], (first + i) * parts + 1) : 0;
        }
        transform(m.x, 1, m.y, stft.length, m.turns, 1, m.scratch);
        for (int64_t k = 0; k < 2 * stft.bins; k++)
            store(&outputs[0], f * stft.bins * 2 + k, m.y[k]);
    }

    free(m.memory);
    return true;
}

/* --- Windows: a sum of three cosines --- */

static enum dtype datatype_of(const struct node *node) {
    return dtype_from_onnx(node_int(node, "output_datatype", 1));
}

static bool window_infer(struct node *node, struct error *error) {
    int64_t size = 0;
    int count;
    if (!node_read_ints(node, 0, 1, &size, &count, error))
        return false;
    if (count != 1 || size < 0 || size > LIMIT_TENSOR_ELEMENTS || !dtype_size(datatype_of(node)))
        return node_error(node, error, "its size or output_datatype is out of range");
    return infer_output(node, 0, datatype_of(node), &(struct shape){1, {size}}, error);
}

static bool window_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const double *c = node->op->family;
    int64_t size = outputs[0].shape.dims[0], period = node_int(node, "periodic", 1) ? size : size - 1;
    (void)inputs, (void)error;

    for (int64_t i = 0; i < size; i++) {
        double angle = period ? 2 * M_PI * (double)i / (double)period : 0;
        store(&outputs[0], i, c[0] - c[1] * cos(angle) + c[2] * cos(2 * angle));
    }
    return true;
}

/* --- MelWeightMatrix --- */

static bool mel_read(const struct node *node, int64_t *ret_bands, int64_t *ret_bins, double *ret_rate,
                     double *ret_edges, struct error *error) {
    int64_t numbers[3] = {0};
    int count;
    for (int i = 0; i < 3; i++)
        if (!node_read_ints(node, i, 1, &numbers[i], &count, error))
            return false;
    for (int i = 0; i < 2; i++) {
        const struct tensor *edge = node_constant(node, 3 + i, error);
        if (!edge)
            return false;
        if (shape_elements(&edge->shape) != 1 || !dtype_is_float(edge->dtype))
            return node_error(node, error, "its edges are not one number each");
        ret_edges[i] = tensor_get_f64(edge, 0);
    }

    if (numbers[0] < 1 || numbers[1] < 1 || numbers[2] < 1 || numbers[0] > LIMIT_TENSOR_ELEMENTS ||
        numbers[1] > LIMIT_TENSOR_ELEMENTS || !(ret_edges[0] >= 0) || !(ret_edges[1] > ret_edges[0]) ||
        !(ret_edges[1] < 1e9))
        return node_error(node, error, "its bands, length, rate or edges are out of range");
    *ret_bands = numbers[0];
    *ret_bins = numbers[1] / 2 + 1;
    *ret_rate = (double)numbers[2];
    return true;
}

static bool mel_infer(struct node *node, struct error *error) {
    int64_t bands, bins;
    double rate, edges[2];
    if (!mel_read(node, &bands, &bins, &rate, edges, error))
        return false;
    if (!dtype_size(datatype_of(node)))
        return node_error(node, error, "output_datatype is not supported");
    return infer_output(node, 0, datatype_of(node), &(struct shape){2, {bins, bands}}, error);
}

/* The bin in which edge `index` of `count` lies, evenly spaced on the mel scale. */
static int64_t mel_bin(int64_t index, int64_t count, const double *edges, int64_t length, double rate) {
    double low = 2595 * log10(1 + edges[0] / 700), high = 2595 * log10(1 + edges[1] / 700);
    double mel = low + (double)index * (high - low) / (double)count;
    return (int64_t)floor((double)(length + 1) * 700 * (pow(10, mel / 2595) - 1) / rate);
}

static bool mel_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    int64_t bands, bins, length = tensor_get_i64(&inputs[1], 0);
    double rate, edges[2];
    if (!mel_read(node, &bands, &bins, &rate, edges, error))
        return false;

    memset(outputs[0].data, 0, tensor_bytes(&outputs[0]));
    for (int64_t band = 0; band < bands; band++) {
        int64_t low = mel_bin(band, bands + 2, edges, length, rate);
        int64_t middle = mel_bin(band + 1, bands + 2, edges, length, rate);
        int64_t high = mel_bin(band + 2, bands + 2, edges, length, rate);
        for (int64_t j = low < 0 ? 0 : low; j <= middle && j < bins; j++)
            if (middle == low ? j == middle : true)
                store(&outputs[0], j * bands + band,
                      middle == low ? 1 : (double)(j - low) / (double)(middle - low));
        for (int64_t j = middle < 0 ? 0 : middle; j < high && j < bins; j++)
            if (high > middle)
                store(&outputs[0], j * bands + band, (double)(high - j) / (double)(high - middle));
    }
    return true;
}

#define WINDOW(name, a, b, c)                                                                           \
    {                                                                                                   \
        .op_type = name, .since = 17, .inputs = {1, 1}, .plan_inputs = 1u << 0, .types = NAMES_NUMERIC, \
        .family = &(const double[]){a, b, c}, FUNCTIONS(window)                                         \
    }

const struct op_def spectrum_operators[] = {
    {.op_type = "DFT",
     .since = 17,
     .until = 19,
     .inputs = {1, 2},
     .plan_inputs = 1u << 1,
     .traits = OP_HEAVY,
     .types = NAMES_FLOAT,
     FUNCTIONS(dft)},
    {.op_type = "DFT",
     .since = 20,
     .inputs = {1, 3},
     .plan_inputs = 1u << 1 | 1u << 2,
     .traits = OP_HEAVY,
     .types = NAMES_FLOAT,
     FUNCTIONS(dft)},
    {.op_type = "STFT",
     .since = 17,
     .inputs = {2, 4},
     .plan_inputs = 1u << 1 | 1u << 3,
     .traits = OP_HEAVY,
     .types = NAMES_FLOAT,
     FUNCTIONS(stft)},
    WINDOW("HannWindow", 0.5, 0.5, 0),
    WINDOW("HammingWindow", 25.0 / 46, 21.0 / 46, 0),
    WINDOW("BlackmanWindow", 0.42, 0.5, 0.08),
    {.op_type = "MelWeightMatrix",
     .since = 17,
     .inputs = {5, 5},
     .plan_inputs = 31,
     .types = NAMES_NUMERIC,
     FUNCTIONS(mel)},
    {0},
};
