/* The gradient of every operator that has one, against finite differences of its reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "interpreter.h"
#include "passes/passes.h"
#include "train/differentiate.h"

enum { INPUTS = 5 };
#define STEP 0.004f /* of the finite differences: the largest power of error between cut-off and rounding */
#define TOLERANCE 1e-3

/* An attribute: a number where `count` is 0 (a float where `real`), else a list, or a text. */
struct given {
    const char *name;
    int64_t ints[8];
    int count;
    float real;
    const char *text;
};

/* A node of `op_type`. Float inputs are wanted, but from `constants` on; whole numbers are constants. */
struct gradient_case {
    const char *op_type;
    int64_t shapes[INPUTS][5]; /* [0]: the rank, -1: a list of as many integers as `ints` has */
    struct given attributes[5];
    int64_t ints[4][9]; /* [0]: how many; of inputs from 1 on */
    int constants, outputs;
    float low, high; /* of the inputs; 0, 0: -1 to 1 */
    const char *domain;
    int opset;
};

#define SHAPE(rank, ...) \
    { rank, __VA_ARGS__ }
#define LIST \
    { -1 }

static const struct gradient_case cases[] = {
    {"Relu", {SHAPE(2, 3, 5)}},
    {"LeakyRelu", {SHAPE(2, 3, 5)}},
    {"Sigmoid", {SHAPE(2, 3, 5)}, .low = -4, .high = 4},
    {"Tanh", {SHAPE(2, 3, 5)}, .low = -2, .high = 2},
    {"HardSigmoid", {SHAPE(2, 3, 5)}, .low = -4, .high = 4},
    {"HardSwish", {SHAPE(2, 3, 5)}, .low = -4, .high = 4, .opset = 14},
    {"Elu", {SHAPE(2, 3, 5)}},
    {"Softplus", {SHAPE(2, 3, 5)}, .low = -3, .high = 3},
    {"Erf", {SHAPE(2, 3, 5)}},
    {"Exp", {SHAPE(2, 3, 5)}},
    {"Log", {SHAPE(2, 3, 5)}, .low = 0.5f, .high = 2},
    {"Sqrt", {SHAPE(2, 3, 5)}, .low = 0.5f, .high = 2},
    {"Reciprocal", {SHAPE(2, 3, 5)}, .low = 0.5f, .high = 2},
    {"Abs", {SHAPE(2, 3, 5)}},
    {"Neg", {SHAPE(2, 3, 5)}},
    {"Sin", {SHAPE(2, 3, 5)}},
    {"Cos", {SHAPE(2, 3, 5)}},
    {"Gelu", {SHAPE(2, 3, 5)}, .low = -3, .high = 3, .opset = 20},
    {"Gelu", {SHAPE(2, 3, 5)}, {{"approximate", .text = "tanh"}}, .low = -3, .high = 3, .opset = 20},
    {"QuickGelu", {SHAPE(2, 3, 5)}, .low = -3, .high = 3, .domain = "com.microsoft", .opset = 1},
    {"Clip", {SHAPE(2, 4, 5)}, {{"min", .real = -0.5f}, {"max", .real = 0.4f}}, .opset = 6},
    {"Identity", {SHAPE(2, 3, 5)}},
    {"Add", {SHAPE(3, 2, 3, 4), SHAPE(2, 3, 1)}},
    {"Sub", {SHAPE(2, 3, 4), SHAPE(3, 2, 1, 4)}},
    {"Mul", {SHAPE(3, 2, 3, 4), SHAPE(1, 4)}},
    {"Div", {SHAPE(3, 2, 3, 4), SHAPE(2, 3, 1)}, .low = 0.5f, .high = 2},
    {"Pow", {SHAPE(2, 3, 4), SHAPE(1, 1)}, .constants = 1, .low = 0.5f, .high = 2},
    {"Sum", {SHAPE(2, 3, 4), SHAPE(1, 4), SHAPE(2, 3, 1)}},
    {"MatMul", {SHAPE(3, 2, 3, 4), SHAPE(2, 4, 5)}},
    {"MatMul", {SHAPE(3, 2, 3, 4), SHAPE(3, 2, 4, 5)}},
    {"MatMul", {SHAPE(2, 3, 4), SHAPE(3, 2, 4, 5)}},
    {"Gemm", {SHAPE(2, 3, 4), SHAPE(2, 4, 5), SHAPE(1, 5)}},
    {"Gemm", {SHAPE(2, 3, 4), SHAPE(2, 5, 4), SHAPE(1, 5)}, {{"transB", {1}}, {"alpha", .real = 0.5f}}},
    {"Gemm", {SHAPE(2, 4, 3), SHAPE(2, 4, 5), SHAPE(2, 3, 1)}, {{"transA", {1}}, {"beta", .real = 2}}},
    {"Gemm", {SHAPE(2, 4, 3), SHAPE(2, 5, 4)}, {{"transA", {1}}, {"transB", {1}}}},
    {"Conv", {SHAPE(4, 2, 3, 5, 6), SHAPE(4, 4, 3, 3, 3), SHAPE(1, 4)}, {{"pads", {1, 1, 1, 1}, 4}}},
    {"Conv",
     {SHAPE(4, 2, 3, 7, 6), SHAPE(4, 4, 3, 3, 3)},
     {{"strides", {2, 2}, 2}, {"pads", {1, 0, 0, 1}, 4}}},
    {"Conv", {SHAPE(4, 2, 4, 8, 8), SHAPE(4, 4, 4, 1, 1)}, {{"strides", {2, 2}, 2}}},
    {"Conv",
     {SHAPE(4, 2, 4, 6, 6), SHAPE(4, 4, 1, 3, 3), SHAPE(1, 4)},
     {{"group", {4}}, {"pads", {1, 1, 1, 1}, 4}, {"strides", {2, 2}, 2}}},
    {"Conv",
     {SHAPE(4, 1, 4, 7, 7), SHAPE(4, 6, 2, 3, 3)},
     {{"group", {2}}, {"dilations", {2, 2}, 2}, {"auto_pad", .text = "SAME_UPPER"}}},
    {"MaxPool",
     {SHAPE(4, 2, 2, 6, 7)},
     {{"kernel_shape", {3, 3}, 2}, {"strides", {2, 2}, 2}, {"pads", {1, 1, 1, 1}, 4}}},
    {"AveragePool", {SHAPE(4, 2, 2, 6, 7)}, {{"kernel_shape", {2, 3}, 2}, {"strides", {2, 2}, 2}}},
    {"AveragePool",
     {SHAPE(4, 1, 2, 6, 6)},
     {{"kernel_shape", {3, 3}, 2}, {"pads", {1, 1, 1, 1}, 4}, {"count_include_pad", {1}}}},
    {"AveragePool", {SHAPE(4, 1, 2, 6, 6)}, {{"kernel_shape", {3, 3}, 2}, {"pads", {1, 1, 1, 1}, 4}}},
    {"GlobalAveragePool", {SHAPE(4, 2, 3, 4, 5)}},
    {"ReduceMean", {SHAPE(3, 2, 3, 4)}, {{"axes", {1, 2}, 2}, {"keepdims", {0}}}},
    {"ReduceSum", {SHAPE(3, 2, 3, 4), LIST}, .ints = {{1, 1}}},
    {"Softmax", {SHAPE(2, 3, 5)}, {{"axis", {-1}}}},
    {"Softmax", {SHAPE(3, 2, 3, 5)}, {{"axis", {1}}}},
    {"LogSoftmax", {SHAPE(2, 3, 5)}, {{"axis", {-1}}}},
    {"LayerNormalization", {SHAPE(3, 2, 3, 8), SHAPE(1, 8), SHAPE(1, 8)}, .opset = 17},
    {"BatchNormalization",
     {SHAPE(4, 2, 3, 4, 4), SHAPE(1, 3), SHAPE(1, 3), SHAPE(1, 3), SHAPE(1, 3)},
     .constants = 3,
     .low = 0.5f,
     .high = 2},
    {"Reshape", {SHAPE(3, 2, 3, 4), LIST}, .ints = {{2, 6, -1}}},
    {"Flatten", {SHAPE(3, 2, 3, 4)}},
    {"Transpose", {SHAPE(3, 2, 3, 4)}, {{"perm", {2, 0, 1}, 3}}},
    {"Concat", {SHAPE(2, 3, 2), SHAPE(2, 3, 4), SHAPE(2, 3, 1)}, {{"axis", {1}}}},
    {"Split", {SHAPE(2, 3, 6), LIST}, {{"axis", {1}}}, .ints = {{2, 2, 4}}, .outputs = 2},
    {"Slice",
     {SHAPE(2, 4, 6), LIST, LIST, LIST, LIST},
     .ints = {{2, 1, 1}, {2, 3, -1}, {2, 0, 1}, {2, 1, 1}}},
    {"Slice", {SHAPE(2, 4, 6), LIST, LIST, LIST, LIST}, .ints = {{1, -1}, {1, INT64_MIN}, {1, 1}, {1, -1}}},
    {"Slice", {SHAPE(2, 4, 6), LIST, LIST, LIST, LIST}, .ints = {{1, 4}, {1, 1}, {1, 1}, {1, -1}}},
    {"Pad", {SHAPE(2, 3, 4), LIST}, .ints = {{4, 1, 0, 0, 2}}},
    {"Expand", {SHAPE(2, 3, 1), LIST}, .ints = {{3, 2, 3, 4}}},
    {"Gather", {SHAPE(2, 4, 3), LIST}, .ints = {{3, 2, 0, 2}}},
    {"Gather", {SHAPE(2, 4, 3), LIST}, {{"axis", {1}}}, .ints = {{2, 2, -1}}},
    {"Cast", {SHAPE(2, 3, 4)}, {{"to", {1}}}},
};

/* A case as a graph: the node's outputs, each multiplied by random numbers, summed to one. */
struct built {
    struct graph *graph;
    struct tensor inputs[INPUTS];
    int input_count;
    struct value *loss;
};

static struct value *constant_ints(struct graph *graph, const int64_t *list) {
    struct shape shape = {.rank = 1, .dims = {list[0]}};
    int64_t *data = graph_own_memory(graph, 9 * sizeof *data);
    memcpy(data, list + 1, 8 * sizeof *data);
    return graph_add_constant(graph, "ints", DTYPE_I64, &shape, data);
}

static void set_attributes(struct graph *graph, struct node *node, const struct gradient_case *test) {
    for (const struct given *given = test->attributes; given->name && given < test->attributes + 5; given++) {
        if (given->text) {
            node_set_int(graph, node, given->name, 0);
            struct attribute *last = (struct attribute *)node_attribute(node, given->name);
            last->kind = ATTRIBUTE_STRING;
            last->s = given->text;
        } else if (given->real) {
            node_set_float(graph, node, given->name, given->real);
        } else if (given->count) {
            node_set_ints(graph, node, given->name, given->ints, (size_t)given->count);
        } else {
            node_set_int(graph, node, given->name, given->ints[0]);
        }
    }
}

static struct value *float_input(struct built *built, const struct gradient_case *test, int input) {
    struct graph *graph = built->graph;
    const int64_t *shape = test->shapes[input];
    struct tensor tensor = make_input((int)shape[0], shape + 1, (uint32_t)input + 5);
    float low = test->low, high = test->high, *data = tensor.data;
    /* In steps that are wider than the differences: none crosses 0, or another element of a pool. */
    for (int64_t i = 0; i < shape_elements(&tensor.shape); i++)
        data[i] = low || high ? low + (high - low) * (data[i] + 1) / 2
                              : (float)((i * 37 + 13 * input) % 101) / 50 - 0.995f;

    if (test->constants && input >= test->constants) {
        float *own = graph_own_memory(graph, tensor_bytes(&tensor));
        memcpy(own, data, tensor_bytes(&tensor));
        free(data);
        return graph_add_constant(graph, "constant", DTYPE_F32, &tensor.shape, own);
    }

    struct value *value = graph_add_value(graph, "input");
    value->dtype = DTYPE_F32;
    value->shape = tensor.shape;
    graph_add_input(graph, value);
    built->inputs[built->input_count++] = tensor;
    return value;
}

static struct value *apply(struct graph *graph, const char *op_type, struct value *a, struct value *b) {
    struct value *inputs[] = {a, b}, *output = graph_add_value(graph, "");
    graph_add_node(graph, NULL, "", op_type, NULL, inputs, b ? 2 : 1, &output, 1);
    return output;
}

/* Without their values, which would be folded. */
static void specialize(const struct built *built) {
    struct tensor shapes[INPUTS];
    struct error error;
    for (int i = 0; i < built->input_count; i++) {
        shapes[i] = built->inputs[i];
        shapes[i].data = NULL;
    }
    if (!operators_bind(built->graph, &error) ||
        !passes_specialize(built->graph, shapes, built->input_count, &error))
        fail_msg("%s", error.message);
}

/* The sum of the node's outputs, each element times a number of its own. */
static void add_loss(struct built *built, struct value **outputs, int count) {
    struct graph *graph = built->graph;
    specialize(built);
    for (int i = 0; i < count; i++) {
        int64_t elements = shape_elements(&outputs[i]->shape);
        float *data = graph_own_memory(graph, (size_t)elements * sizeof *data);
        fill_floats(data, elements, 99 + (uint32_t)i);
        struct value *factors = graph_add_constant(graph, "factors", DTYPE_F32, &outputs[i]->shape, data);
        struct value *part = apply(graph, "ReduceSum", apply(graph, "Mul", outputs[i], factors), NULL);
        struct shape none = {.rank = 1, .dims = {1}};
        int64_t *ones = graph_own_memory(graph, sizeof *ones);
        *ones = -1;
        part = apply(graph, "Reshape", part, graph_add_constant(graph, "", DTYPE_I64, &none, ones));
        built->loss = built->loss ? apply(graph, "Add", built->loss, part) : part;
    }
}

static struct built build(const struct gradient_case *test, bool differentiated) {
    struct built built = {.graph = graph_create()};
    struct value *inputs[INPUTS], *outputs[2], *gradients[INPUTS];
    struct error error;
    const char *domain = test->domain ? test->domain : "";
    int count = 0;

    graph_add_import(built.graph, "", 13);
    for (; count < INPUTS && test->shapes[count][0]; count++)
        inputs[count] = test->shapes[count][0] < 0 ? constant_ints(built.graph, test->ints[count - 1])
                                                   : float_input(&built, test, count);
    int output_count = test->outputs ? test->outputs : 1;
    for (int i = 0; i < output_count; i++) {
        outputs[i] = graph_add_value(built.graph, "output");
        graph_add_output(built.graph, outputs[i]);
    }
    struct node *node = graph_add_node(built.graph, NULL, domain, test->op_type, test->op_type, inputs, count,
                                       outputs, output_count);
    node->opset = test->opset ? test->opset : 13;
    set_attributes(built.graph, node, test);

    add_loss(&built, outputs, output_count);
    for (int i = 0; i < output_count; i++)
        outputs[i]->is_output = false;
    built.graph->output_count = 0;
    graph_add_output(built.graph, built.loss);
    specialize(&built);
    if (!differentiated)
        return built;

    if (!train_differentiate(built.graph, built.graph->outputs[0], built.graph->inputs,
                             built.graph->input_count, gradients, &error))
        fail_msg("%s", error.message);
    for (int i = 0; i < built.graph->input_count; i++) {
        struct value *output = graph_add_value(built.graph, "gradient");
        struct node *copy =
            operator_add_node(built.graph, NULL, "", "Identity", 13, &gradients[i], 1, output);
        assert_true(operator_infer(copy, &error));
        graph_add_output(built.graph, output);
    }
    return built;
}

static double loss_of(const struct built *built) {
    struct error error;
    struct graph *run = interpret(built->graph, built->inputs, &error);
    if (!run) {
        fail_msg("%s", error.message);
        return 0;
    }
    double loss = tensor_get_f64(run->outputs[0]->constant, 0);
    graph_free(run);
    return loss;
}

/* The gradients as the engine computes them, against differences. */
static void check(const struct gradient_case *test) {
    struct built built = build(test, true), plain = build(test, false);
    const struct engine_options options = {.precision = PRECISION_F32, .threads = 1};
    struct tensor outputs[1 + INPUTS] = {0};
    struct error error;
    struct engine *engine = engine_load_graph(built.graph, &options, &error);
    struct engine_context *context = engine ? engine_context_create(engine, &error) : NULL;
    if (!context ||
        !engine_run(context, plain.inputs, plain.input_count, outputs, 1 + plain.input_count, &error))
        fail_msg("%s: %s", test->op_type, error.message);

    for (int i = 0; i < plain.input_count; i++) {
        float *data = plain.inputs[i].data, largest = 1;
        const float *gradient = outputs[1 + i].data;
        assert_true(shape_equal(&outputs[1 + i].shape, &plain.inputs[i].shape));
        for (int64_t j = 0; j < shape_elements(&plain.inputs[i].shape); j++) {
            float kept = data[j], got = gradient ? gradient[j] : NAN;
            data[j] = kept + STEP;
            double above = loss_of(&plain);
            data[j] = kept - STEP;
            double below = loss_of(&plain);
            data[j] = kept;
            double wanted = (above - below) / (2 * (double)STEP);
            largest = fmaxf(largest, fabsf(got));
            if (!(fabs(wanted - got) <= TOLERANCE * largest))
                fail_msg("%s: input %d, element %d: %g instead of %g", test->op_type, i, (int)j, got, wanted);
        }
    }

    engine_context_free(context);
    engine_free(engine);
    for (int i = 0; i < plain.input_count; i++) {
        free(plain.inputs[i].data);
        free(built.inputs[i].data);
    }
    graph_free(plain.graph);
}

static void gradients_are_those_of_finite_differences(void **state) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check(&cases[i]);
}

static void an_operator_without_a_gradient_is_named(void **state) {
    const struct gradient_case floor = {"Floor", {SHAPE(2, 3, 5)}};
    struct built built = build(&floor, false);
    struct value *gradient;
    struct error error;
    assert_false(
        train_differentiate(built.graph, built.graph->outputs[0], built.graph->inputs, 1, &gradient, &error));
    assert_non_null(strstr(error.message, "(Floor): it has no gradient"));
    free(built.inputs[0].data);
    graph_free(built.graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_finite_differences),
        cmocka_unit_test(an_operator_without_a_gradient_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
