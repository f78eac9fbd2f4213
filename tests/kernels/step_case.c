#include "step_case.h"

#include <stdio.h>

#include "plan/primitive.h"

#define LEAST_SCALE \
    0.1 /* a result as small as that is what is left of products of inputs up to 1, with their rounding */

struct graph *graph;
struct tensor input;

struct value *floats(float size, int rank, const int64_t *dims) {
    struct shape shape = {.rank = rank};
    memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(graph, (size_t)count * sizeof *data);
    char name[32];

    random_fill(DTYPE_F32, data, count, size);
    snprintf(name, sizeof name, "constant%d", graph->value_count);
    return graph_add_constant(graph, name, DTYPE_F32, &shape, data);
}

struct value *vector(float size, int64_t count) {
    return floats(size, 1, &count);
}

struct value *ints(int count, const int64_t *values) {
    struct shape shape = {.rank = 1, .dims = {count}};
    int64_t *data = graph_own_memory(graph, (size_t)count * sizeof *data + 8);
    char name[32];

    memcpy(data, values, (size_t)count * sizeof *data);
    snprintf(name, sizeof name, "ints%d", graph->value_count);
    return graph_add_constant(graph, name, DTYPE_I64, &shape, data);
}

struct value *pointwise(struct value *x, int64_t channels, int64_t outputs) {
    const int64_t dims[4] = {outputs, channels, 1, 1};
    return network_node(graph, "Conv", x, floats(1.7f / sqrtf((float)channels), 4, dims),
                        vector(0.3f, outputs), NULL);
}

struct value *begin(const char *name, int rank, const int64_t *dims) {
    char text[SHAPE_TEXT];
    struct value *x;

    input = (struct tensor){.dtype = DTYPE_F32, .shape = {.rank = rank}};
    memcpy(input.shape.dims, dims, (size_t)rank * sizeof *dims);
    case_begin("%s of %s", name, shape_format(&input.shape, text, sizeof text));
    input.data = input_take(tensor_bytes(&input), sizeof(float));
    random_fill(DTYPE_F32, input.data, shape_elements(&input.shape), 1);

    graph = graph_create();
    graph_add_import(graph, "", 18);
    x = graph_add_value(graph, "input");
    x->dtype = DTYPE_F32;
    x->shape = input.shape;
    graph_add_input(graph, x);
    return x;
}

struct value *begin_picture(const char *name, int64_t channels, int64_t height, int64_t width) {
    const int64_t dims[4] = {random_between(1, 2), channels, height, width};
    struct value *x = begin(name, 4, dims);
    return random_chance(50) ? pointwise(x, channels, channels) : x;
}

struct value *followed(struct value *x) {
    static const char *const activations[] = {"Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu", "Elu"};

    if (random_chance(40))
        x = network_node(graph, activations[random_between(0, 5)], x, NULL);
    if (random_chance(20))
        x = network_node(graph, "Add", x, network_scalar(graph, 0.5f), NULL);
    return x;
}

double run_engine(struct graph *expected, const struct engine_options *options) {
    struct error error;
    struct tensor output;
    struct graph *copy = graph_clone(graph);
    if (!operators_bind(copy, &error))
        case_fail("%s", error.message);

    struct engine *engine = engine_load_graph(copy, options, &error);
    struct engine_context *context = engine ? engine_context_create(engine, &error) : NULL;
    if (!context || !engine_run(context, &input, 1, &output, 1, &error))
        case_fail("%s", error.message);

    double distance = tensor_distance_above(expected->outputs[0]->constant, &output, LEAST_SCALE);

    engine_context_free(context);
    engine_free(engine);
    return distance;
}

struct graph *reference_of(struct value *output) {
    struct error error;
    graph_add_output(graph, output);
    if (!operators_bind(graph, &error))
        case_fail("%s", error.message);
    struct graph *expected = interpret(graph, &input, &error);
    if (!expected)
        case_fail("the reference: %s", error.message);
    return expected;
}

void finish(struct value *output, double f32_distance, double bf16_distance) {
    struct graph *expected = reference_of(output);
    bool half = bf16_distance > 0 && primitive_has_native_bf16() && random_chance(30);
    const struct engine_options options = {.precision = half ? PRECISION_BF16 : PRECISION_F32,
                                           .threads = case_threads()};

    case_seal();
    double distance = run_engine(expected, &options), allowed = half ? bf16_distance : f32_distance;
    case_check();
    graph_free(expected);
    graph_free(graph);
    if (!(distance <= allowed))
        case_fail("%s: off by %.3g of the largest element, and %.3g is allowed", half ? "bf16" : "f32",
                  distance, allowed); /* 1e9: the shapes differ */
}

void finish_usual(struct value *output) {
    finish(output, F32_DISTANCE, BF16_DISTANCE);
}
