/* The steps of quantized networks, in integers. */
#include "step_case.h"

#include "plan/primitive.h"

/* A random scale and zero point of a tensor within [-reach, reach]. */
static struct value *quantized(struct value *x, float reach, float *ret_step) {
    bool is_signed = random_chance(50);
    int zero = random_chance(50) ? is_signed ? 0 : 128 : (int)random_between(-20, 20) + (is_signed ? 0 : 128);

    *ret_step = reach / 100;
    return network_qdq(graph, x, is_signed ? DTYPE_I8 : DTYPE_U8, *ret_step, zero);
}

/* As finish, in integers: sums are exact, and each result within a step of what the floats round to. More
 * `steps` are allowed where the weights had to be rounded anew. */
static void finish_quantized(struct value *output, float step, int steps) {
    const struct engine_options options = {.precision = PRECISION_INT8, .threads = case_threads()};
    struct graph *expected = reference_of(output);
    const struct tensor *tensor = expected->outputs[0]->constant;
    double largest = 1e-30;
    for (int64_t i = 0; i < shape_elements(&tensor->shape); i++)
        largest = fmax(largest, fabs(tensor_get_f64(tensor, i)));

    case_seal();
    double distance = run_engine(expected, &options) * largest / (double)step;
    case_check();
    graph_free(expected);
    graph_free(graph);
    if (!(distance <= steps + 0.01))
        case_fail("off by %.3g steps of the result, and %d are allowed", distance, steps);
}

static void step_quantized_conv(void) {
    for (int i = 0; primitive_has_native_int8() && i < case_count(CASES); i++) {
        int64_t groups = random_chance(70) ? 1 : random_extent(16);
        int64_t inputs = groups * random_extent(groups > 1 ? 3 : 65);
        int64_t outputs = groups * random_extent(groups > 1 ? 3 : 65);
        const int64_t dims[4] = {random_between(1, 2), inputs, 1 + random_extent(17), 1 + random_extent(17)};
        float step;
        struct value *x = quantized(begin("QuantizedConv", 4, dims), 1, &step);
        bool per_channel = random_chance(70);
        struct value *y =
            network_quantized_conv(graph, x, (int)inputs, (int)outputs, random_chance(50) ? 1 : 3,
                                   (int)groups, per_channel ? DTYPE_I8 : DTYPE_U8, per_channel ? 0 : 121);

        if (random_chance(40))
            y = network_node(graph, "Relu", y, NULL);
        float reach = 0.3f * sqrtf((float)(inputs / groups)) + 0.5f;
        y = quantized(y, reach, &step);
        finish_quantized(y, step, per_channel ? 1 : 3); /* uint8 beside 121 does not fit int8 */
    }
}

static void step_quantized_matmul(void) {
    for (int i = 0; primitive_has_native_int8() && i < case_count(3 * CASES); i++) {
        int64_t depth = random_chance(20) ? random_between(124, 128) : random_extent(257);
        bool residual = random_chance(60);
        int64_t columns = residual ? depth : random_extent(65);
        const int64_t dims[3] = {random_between(1, 2), random_extent(random_chance(50) ? 8 : 65), depth};
        float step, reach = 0.2f * sqrtf((float)depth) + 0.5f;
        struct value *x = quantized(begin("QuantizedMatMul", 3, dims), 1, &step);
        struct value *y = network_quantized_matmul(graph, x, (int)depth, (int)columns);

        if (!residual || random_chance(50))
            y = quantized(y, reach, &step);
        if (residual) {
            struct value *other = quantized(network_node(graph, "Tanh", x, NULL), 1, &step);
            y = quantized(network_node(graph, "Add", y, other, NULL), reach + 1, &step);
        }
        finish_quantized(y, step, residual ? 2 : 1); /* two roundings */
    }
}

static void step_quantized_add(void) {
    for (int i = 0; primitive_has_native_int8() && i < case_count(CASES); i++) {
        const int64_t dims[4] = {random_between(1, 2), random_extent(33), random_extent(17),
                                 random_extent(17)};
        float step;
        struct value *x = begin("QuantizedAdd", 4, dims);
        struct value *a = quantized(x, 1, &step);
        struct value *b = quantized(network_node(graph, "Tanh", x, NULL), 1, &step);
        struct value *y = network_node(graph, "Add", a, b, NULL);

        if (random_chance(40))
            y = network_node(graph, "Relu", y, NULL);
        y = quantized(y, 2, &step);
        finish_quantized(y, step, 1);
    }
}

const struct kernel_test quantized_step_tests[] = {
    {"step_quantized_conv", step_quantized_conv},
    {"step_quantized_matmul", step_quantized_matmul},
    {"step_quantized_add", step_quantized_add},
    {NULL, NULL},
};
