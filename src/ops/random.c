/* Random numbers: RandomNormal, RandomUniform and their …Like forms, Bernoulli, Multinomial. With attribute
 * seed every run gives the same numbers; without, another run gives others. ONNX does not say which numbers
 * these are, so they are no other runtime's. https://onnx.ai/onnx/operators/onnx__RandomNormal.html */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "ops/family.h"

/* splitmix64: a state that counts, and a mixing of it. */
static uint64_t random_next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* In [0, 1). */
static double random_unit(uint64_t *state) {
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

static double random_normal(uint64_t *state) {
    double u = 1 - random_unit(state), v = random_unit(state);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* Where a node's numbers start. */
static uint64_t random_start(const struct node *node) {
    static _Atomic uint64_t runs;
    const struct attribute *seed = node_attribute(node, "seed");
    uint64_t start = 0;
    if (seed) {
        float value = node_float(node, "seed", 0);
        memcpy(&start, &value, sizeof value);
        return start;
    }
    if (getrandom(&start, sizeof start, 0) != sizeof start)
        start = (uintptr_t)node;
    return start + (atomic_fetch_add(&runs, 1) << 32);
}

/* The type that attribute dtype asks for, else that of input 0 or float32. */
static enum dtype type_of(const struct node *node) {
    int64_t number = node_int(node, "dtype", 0);
    if (number)
        return dtype_from_onnx(number);
    return node->input_count ? node_dtype(node, 0) : DTYPE_F32;
}

static bool type_infer(struct node *node, uint32_t types, const struct shape *shape, struct error *error) {
    enum dtype type = type_of(node);
    if (type == DTYPE_UNKNOWN || !(types >> type & 1))
        return node_error(node, error, "random numbers of type %s are not supported", dtype_name(type));
    return infer_output(node, 0, type, shape, error);
}

/* --- Normal and uniform --- */

static bool draw_infer(struct node *node, struct error *error) {
    if (node->input_count)
        return type_infer(node, TYPES_FLOAT, node_shape(node, 0), error);

    struct shape shape = {0};
    int rank;
    if (!node_attribute_ints(node, "shape", LIMIT_TENSOR_RANK, shape.dims, &rank, error))
        return false;
    shape.rank = rank < 0 ? 0 : rank;
    for (int i = 0; i < shape.rank; i++)
        if (shape.dims[i] < 0)
            return node_error(node, error, "attribute shape has the value %lld", (long long)shape.dims[i]);
    return type_infer(node, TYPES_FLOAT, &shape, error);
}

static bool draw_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    bool normal = *(const bool *)node->op->family;
    double mean = (double)node_float(node, "mean", 0), scale = (double)node_float(node, "scale", 1);
    double low = (double)node_float(node, "low", 0), high = (double)node_float(node, "high", 1);
    uint64_t state = random_start(node);
    size_t size = dtype_size(outputs[0].dtype);

    for (int64_t i = 0; i < shape_elements(&outputs[0].shape); i++) {
        double value =
            normal ? mean + scale * random_normal(&state) : low + (high - low) * random_unit(&state);
        elements_convert(DTYPE_F64, &value, outputs[0].dtype, (char *)outputs[0].data + (size_t)i * size, 1);
    }
    return true;
}

/* --- Bernoulli: 1 with the probability that the input says --- */

static bool bernoulli_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_FLOAT, error) &&
           type_infer(node, TYPES_ALL, node_shape(node, 0), error);
}

static bool bernoulli_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    uint64_t state = random_start(node);
    size_t size = dtype_size(outputs[0].dtype);
    for (int64_t i = 0; i < shape_elements(&outputs[0].shape); i++) {
        uint8_t value = random_unit(&state) < tensor_get_f64(&inputs[0], i);
        elements_convert(DTYPE_BOOL, &value, outputs[0].dtype, (char *)outputs[0].data + (size_t)i * size, 1);
    }
    return true;
}

/* --- Multinomial: from rows of unnormalised log-probabilities, sample_size classes each --- */

static bool multinomial_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    int64_t count = node_int(node, "sample_size", 1), type = node_int(node, "dtype", 6);
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_rank(node, 0, 2, 2, error))
        return false;
    if (count < 1 || x->dims[1] < 1 || (type != 6 && type != 7))
        return node_error(node, error, "sample_size, dtype or the number of classes is not supported");
    return infer_output(node, 0, dtype_from_onnx(type), &(struct shape){2, {x->dims[0], count}}, error);
}

/* A class of row `row`, whose weights add up to `sum`. */
static int64_t pick(const struct tensor *x, int64_t row, double most, double sum, uint64_t *state) {
    int64_t classes = x->shape.dims[1];
    double left = random_unit(state) * sum;
    for (int64_t c = 0; c < classes; c++) {
        left -= exp(tensor_get_f64(x, row * classes + c) - most);
        if (left < 0)
            return c;
    }
    return classes - 1;
}

static bool multinomial_compute(const struct node *node, const struct tensor *inputs,
                                const struct tensor *outputs, struct error *error) {
    int64_t classes = inputs[0].shape.dims[1], count = outputs[0].shape.dims[1];
    uint64_t state = random_start(node);
    for (int64_t row = 0; row < inputs[0].shape.dims[0]; row++) {
        double most = -INFINITY, sum = 0;
        for (int64_t c = 0; c < classes; c++)
            most = fmax(most, tensor_get_f64(&inputs[0], row * classes + c));
        for (int64_t c = 0; c < classes; c++)
            sum += exp(tensor_get_f64(&inputs[0], row * classes + c) - most);

        for (int64_t i = row * count; i < (row + 1) * count; i++) {
            int64_t picked = pick(&inputs[0], row, most, sum, &state);
            if (outputs[0].dtype == DTYPE_I32)
                ((int32_t *)outputs[0].data)[i] = (int32_t)picked;
            else
                ((int64_t *)outputs[0].data)[i] = picked;
        }
    }
    return true;
}

#define DRAW(name, count, is_normal)                                                                      \
    {                                                                                                     \
        .op_type = name, .since = 1, .inputs = {count, count}, .types = NAMES_FLOAT, .traits = OP_RANDOM, \
        .family = &(const bool){is_normal}, FUNCTIONS(draw)                                               \
    }

const struct op_def random_operators[] = {
    DRAW("RandomNormal", 0, true),
    DRAW("RandomUniform", 0, false),
    DRAW("RandomNormalLike", 1, true),
    DRAW("RandomUniformLike", 1, false),
    {.op_type = "Bernoulli",
     .since = 15,
     .inputs = {1, 1},
     .types = NAMES_FLOAT,
     .traits = OP_RANDOM,
     FUNCTIONS(bernoulli)},
    {.op_type = "Multinomial",
     .since = 7,
     .inputs = {1, 1},
     .types = NAMES_FLOAT,
     .traits = OP_RANDOM,
     FUNCTIONS(multinomial)},
    {0},
};
