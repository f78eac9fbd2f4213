/* passes/: what they rewrite still computes the same, and what they must leave alone stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "passes/passes.h"
#include "subject.h"

#define SHAPE(...) ((struct shape){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})
#define VALUES(...) \
    ((struct value *[]){__VA_ARGS__}), (int)(sizeof((struct value *[]){__VA_ARGS__}) / sizeof(void *))

static struct graph *graph;
static uint32_t seed;

static struct value *input_of(struct shape shape) {
    struct value *value = graph_add_value(graph, "x");
    value->dtype = DTYPE_F32;
    value->shape = shape;
    graph_add_input(graph, value);
    return value;
}

static int start(void **state) {
    graph = graph_create();
    graph_add_import(graph, "", 13);
    seed = 1;
    return 0;
}

static int finish(void **state) {
    graph_free(graph);
    return 0;
}

static struct value *floats(struct shape shape) {
    float *data = graph_own_memory(graph, (size_t)shape_elements(&shape) * sizeof *data);
    fill_floats(data, shape_elements(&shape), seed++);
    return graph_add_constant(graph, "", DTYPE_F32, &shape, data);
}

/* As floats, but away from zero: variances and divisors. */
static struct value *positive(struct shape shape) {
    struct value *value = floats(shape);
    float *data = value->constant->data;

    for (int64_t i = 0; i < shape_elements(&shape); i++)
        data[i] = data[i] * 0.4f + 1;
    return value;
}

static struct value *number(float f) {
    struct value *value = floats((struct shape){0});
    *(float *)value->constant->data = f;
    return value;
}

static struct value *integers(const int64_t *list, int count) {
    int64_t *data = graph_own_memory(graph, (size_t)count * sizeof *data);

    memcpy(data, list, (size_t)count * sizeof *data);
    return graph_add_constant(graph, "", DTYPE_I64, &SHAPE(count), data);
}

static struct value *bytes_of(enum dtype dtype, struct shape shape, const void *bytes) {
    struct tensor tensor = {dtype, shape, NULL};
    void *data = graph_own_memory(graph, tensor_bytes(&tensor));

    memcpy(data, bytes, tensor_bytes(&tensor));
    return graph_add_constant(graph, "", dtype, &shape, data);
}

static struct value *add(const char *op_type, struct value **inputs, int count) {
    struct value *output = graph_add_value(graph, "");
    assert_non_null(graph_add_node(graph, NULL, "", op_type, NULL, inputs, count, &output, 1));
    return output;
}

static int count_of(const struct graph *g, const char *op_type) {
    int count = 0;
    for (const struct node *node = g->first; node; node = node->next)
        count += node_is(node, op_type);
    return count;
}

static struct tensor x_of(struct shape shape) {
    struct tensor x = {DTYPE_F32, shape, malloc((size_t)shape_elements(&shape) * 4)};
    fill_floats(x.data, shape_elements(&shape), 99);
    return x;
}

static bool simplify(struct graph *g, struct error *error) {
    return passes_simplify(g, error);
}

/* Runs the graph, rewrites it, runs it again: the same to within `tolerance`. */
static void expect_same(struct value *output, struct shape shape,
                        bool (*rewrite)(struct graph *, struct error *), double tolerance) {
    struct error error = {0};

    graph_add_output(graph, output);
    char *name = strdup(output->name);
    if (!operators_bind(graph, &error))
        fail_msg("%s", error.message);

    struct tensor x = x_of(shape);
    struct graph *before = interpret(graph, &x, &error);
    if (!before)
        fail_msg("before: %s", error.message);

    struct tensor expected = *before->outputs[0]->constant;
    void *copy = malloc(tensor_bytes(&expected) + 1);
    expected.data = memcpy(copy, expected.data, tensor_bytes(&expected));
    graph_free(before); /* the pass may change its constants in place */

    if (!rewrite(graph, &error))
        fail_msg("%s", error.message);
    assert_string_equal(graph->outputs[0]->name, name);

    struct graph *after = interpret(graph, &x, &error);
    if (!after)
        fail_msg("after: %s", error.message);

    double distance = tensor_distance(&expected, after->outputs[0]->constant);
    if (!(distance <= tolerance))
        fail_msg("differs by %g", distance);

    graph_free(after);
    free(copy);
    free(x.data);
    free(name);
}

static struct value *batch_norm(struct value *x, int64_t channels) {
    return add("BatchNormalization", VALUES(x, positive(SHAPE(channels)), floats(SHAPE(channels)),
                                            floats(SHAPE(channels)), positive(SHAPE(channels))));
}

static void batch_norm_goes_into_convolutions(void **state) {
    struct value *x = input_of(SHAPE(2, 8, 6, 6));
    struct value *y = batch_norm(add("Conv", VALUES(x, floats(SHAPE(32, 8, 3, 3)))), 32);

    y = add("Relu", VALUES(y));
    struct value *grouped = add("Conv", VALUES(y, floats(SHAPE(64, 8, 3, 3)), floats(SHAPE(64))));
    node_set_int(graph, grouped->producer, "group", 4);
    y = add("Relu", VALUES(batch_norm(grouped, 64)));
    y = batch_norm(add("Conv", VALUES(y, floats(SHAPE(16, 64, 1, 1)))),
                   16); /* large enough to change in place */

    expect_same(y, SHAPE(2, 8, 6, 6), simplify, 1e-5);
    assert_int_equal(count_of(graph, "BatchNormalization"), 0);
    assert_int_equal(graph->node_count, 5);
    assert_int_equal(graph->first->input_count, 3);
}

static void batch_norm_goes_into_transposed_convolutions(void **state) {
    struct value *x = input_of(SHAPE(1, 4, 5, 5));
    struct value *y = add("ConvTranspose", VALUES(x, floats(SHAPE(4, 3, 2, 2)), floats(SHAPE(6))));
    node_set_int(graph, y->producer, "group", 2);

    expect_same(batch_norm(y, 6), SHAPE(1, 4, 5, 5), simplify, 1e-5);
    assert_int_equal(graph->node_count, 1);
}

static void batch_norm_that_must_stay_stays(void **state) {
    struct value *x = input_of(SHAPE(1, 4, 5, 5));
    struct value *first = batch_norm(x, 4);
    struct value *shared = add("Conv", VALUES(first, floats(SHAPE(4, 4, 1, 1))));
    struct value *y = add("Add", VALUES(batch_norm(shared, 4), shared)); /* the raw result is asked for too */

    expect_same(y, SHAPE(1, 4, 5, 5), simplify, 1e-6);
    assert_int_equal(count_of(graph, "BatchNormalization"), 2);
}

static void shared_weights_are_not_changed_under_others(void **state) {
    struct value *x = input_of(SHAPE(1, 64, 3, 3)), *weight = floats(SHAPE(64, 64, 1, 1));
    struct value *left = batch_norm(add("Conv", VALUES(x, weight)), 64),
                 *right = add("Conv", VALUES(x, weight));

    expect_same(add("Add", VALUES(left, right)), SHAPE(1, 64, 3, 3), simplify, 1e-5);
    assert_int_equal(count_of(graph, "BatchNormalization"), 0);
}

static void arithmetic_goes_into_weights(void **state) {
    struct value *x = input_of(SHAPE(1, 3, 5, 5));
    struct value *y = add("Conv", VALUES(x, floats(SHAPE(4, 3, 3, 3))));
    y = add("Mul", VALUES(y, floats(SHAPE(1, 4, 1, 1))));
    y = add("Add", VALUES(floats(SHAPE(4, 1, 1)), y));
    y = add("Sub", VALUES(y, number(0.25f)));
    y = add("Sub", VALUES(floats(SHAPE(1, 4, 1, 1)), y));
    y = add("Div", VALUES(y, positive(SHAPE(4, 1, 1))));

    expect_same(y, SHAPE(1, 3, 5, 5), simplify, 1e-5);
    assert_int_equal(graph->node_count, 1);
}

static void arithmetic_goes_into_products(void **state) {
    for (int transposed = 0; transposed < 2; transposed++) {
        struct value *x = input_of(SHAPE(3, 5));
        struct value *y =
            add("Gemm", VALUES(x, transposed ? floats(SHAPE(4, 5)) : floats(SHAPE(5, 4)), floats(SHAPE(4))));

        node_set_int(graph, y->producer, "transB", transposed);
        node_set_float(graph, y->producer, "alpha", 0.5f);
        node_set_float(graph, y->producer, "beta", 2.0f);
        y = add("Mul", VALUES(y, floats(SHAPE(4))));
        y = add("Add", VALUES(y, floats(SHAPE(1, 4))));

        y = add("Relu", VALUES(y));
        y = add("Mul", VALUES(number(3), add("MatMul", VALUES(y, floats(SHAPE(4, 2))))));

        expect_same(y, SHAPE(3, 5), simplify, 1e-5);
        assert_int_equal(graph->node_count, 3);
        graph_free(graph);
        start(NULL);
    }
}

static void arithmetic_that_is_not_by_channel_stays(void **state) {
    struct value *x = input_of(SHAPE(1, 3, 4, 4));
    struct value *one = add("Conv", VALUES(x, floats(SHAPE(1, 3, 1, 1))));
    struct value *wide = add("Mul", VALUES(one, floats(SHAPE(1, 4, 1, 1)))); /* makes four channels of one */
    struct value *y = add("Conv", VALUES(wide, floats(SHAPE(4, 4, 1, 1))));
    y = add("Mul", VALUES(y, floats(SHAPE(4)))); /* along the width, not the channels */
    y = add("Conv", VALUES(y, floats(SHAPE(4, 4, 1, 1))));
    y = add("Add", VALUES(y, floats(SHAPE(1, 1, 1, 1, 1)))); /* adds an axis */
    y = add("Div", VALUES(number(1), y));

    expect_same(y, SHAPE(1, 3, 4, 4), simplify, 1e-6);
    assert_int_equal(graph->node_count, 7);
}

static void zero_pads_become_padding(void **state) {
    struct value *x = input_of(SHAPE(1, 2, 6, 5));

    struct value *y = add("Pad", VALUES(x, integers((int64_t[]){0, 0, 1, 2, 0, 0, 0, 1}, 8)));
    y = add("Conv", VALUES(y, floats(SHAPE(2, 2, 3, 3))));
    node_set_ints(graph, y->producer, "pads", (int64_t[]){1, 0, 0, 1}, 4);
    y = add("Pad", VALUES(y, integers((int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}, 8), number(0)));
    y = add("AveragePool", VALUES(y));
    node_set_ints(graph, y->producer, "kernel_shape", (int64_t[]){3, 3}, 2);

    expect_same(y, SHAPE(1, 2, 6, 5), simplify, 1e-6);
    assert_int_equal(count_of(graph, "Pad"), 0);
}

static void other_pads_stay(void **state) {
    struct value *x = input_of(SHAPE(1, 2, 6, 5));
    struct value *y = add("Pad", VALUES(x, integers((int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}, 8), number(0.5f)));
    y = add("Conv", VALUES(y, floats(SHAPE(2, 2, 3, 3))));
    y = add("Pad", VALUES(y, integers((int64_t[]){0, 0, -1, 1, 0, 0, 1, 1}, 8)));
    y = add("Conv", VALUES(y, floats(SHAPE(2, 2, 1, 1))));
    y = add("Pad", VALUES(y, integers((int64_t[]){0, 1, 0, 0, 0, 0, 0, 0}, 8)));
    y = add("Conv", VALUES(y, floats(SHAPE(2, 3, 1, 1))));
    y = add("Pad", VALUES(y, integers((int64_t[]){0, 0, 1, 1, 0, 0, 1, 1}, 8)));
    y = add("AveragePool", VALUES(y)); /* its own pads don't count, the zeros do */
    node_set_ints(graph, y->producer, "kernel_shape", (int64_t[]){3, 3}, 2);
    node_set_ints(graph, y->producer, "pads", (int64_t[]){1, 1, 1, 1}, 4);

    expect_same(y, SHAPE(1, 2, 6, 5), simplify, 1e-6);
    assert_int_equal(count_of(graph, "Pad"), 4);
}

static void constants_are_folded_and_idle_nodes_go(void **state) {
    uint16_t halves[4] = {0x3c00, 0xc000, 0x3800, 0};
    struct value *x = input_of(SHAPE(2, 4));

    struct value *weight = add("Cast", VALUES(bytes_of(DTYPE_F16, SHAPE(4), halves)));
    node_set_int(graph, weight->producer, "to", 1);
    weight = add("Mul", VALUES(weight, number(2)));

    struct value *y = add("Identity", VALUES(x));
    y = add("Dropout", VALUES(y));
    y = add("Cast", VALUES(y));
    node_set_int(graph, y->producer, "to", 1);
    y = add("Mul", VALUES(y, weight));
    y = add("Identity", VALUES(add("Concat", VALUES(y))));
    node_set_int(graph, y->producer->inputs[0]->producer, "axis", 0);

    expect_same(y, SHAPE(2, 4), simplify, 0);
    assert_int_equal(graph->node_count, 1);
    assert_true(graph->outputs[0]->producer == graph->first);
}

static void an_output_that_is_an_input_keeps_its_identity(void **state) {
    struct value *x = input_of(SHAPE(3));
    struct value *y = add("Identity", VALUES(x));
    expect_same(y, SHAPE(3), simplify, 0);
    assert_int_equal(graph->node_count, 1);
}

static void huge_constants_are_not_made_ahead(void **state) {
    struct value *x = input_of(SHAPE(1));
    struct value *huge = add("ConstantOfShape", VALUES(integers((int64_t[]){1 << 13, 1 << 13}, 2)));
    graph_add_output(graph, add("Add", VALUES(x, huge)));

    struct error error = {0};
    assert_true(operators_bind(graph, &error));
    assert_true(passes_simplify(graph, &error));
    assert_int_equal(count_of(graph, "ConstantOfShape"), 1);
    assert_int_equal(graph->owned_count, 1);
}

static void many_large_constants_have_a_budget(void **state) {
    struct value *y = input_of(SHAPE(1));
    for (int i = 0; i < 20; i++) { /* 16 MiB each, from eight bytes */
        struct value *large = add("ConstantOfShape", VALUES(integers((int64_t[]){1 << 22}, 1)));
        y = add("Add", VALUES(y, large));
    }

    graph_add_output(graph, y);
    struct error error = {0};
    assert_true(operators_bind(graph, &error));
    assert_true(passes_simplify(graph, &error));
    assert_int_equal(count_of(graph, "ConstantOfShape"), 16);
}

static void equal_constants_become_one(void **state) {
    struct value *x = input_of(SHAPE(3)), *y = x;
    for (int i = 0; i < 10; i++)
        y = add("Max", VALUES(y, number(0.5f)));

    expect_same(y, SHAPE(3), simplify, 0);
    assert_ptr_equal(graph->first->inputs[1], graph->last->inputs[1]);
}

static struct value *quantized(struct value *x, float scale, uint8_t zero) {
    struct value *scale_value = number(scale), *zero_value = bytes_of(DTYPE_U8, (struct shape){0}, &zero);
    return add("DequantizeLinear",
               VALUES(add("QuantizeLinear", VALUES(x, scale_value, zero_value)), scale_value, zero_value));
}

static void a_quantized_graph_becomes_a_float_one(void **state) {
    int8_t weight[8 * 3];
    for (int i = 0; i < 24; i++)
        weight[i] = (int8_t)(i * 37 % 251 - 125);

    struct value *x = quantized(input_of(SHAPE(1, 3, 8, 8)), 1 / 127.0f, 128);
    struct value *w =
        add("DequantizeLinear", VALUES(bytes_of(DTYPE_I8, SHAPE(8, 3, 1, 1), weight), positive(SHAPE(8)),
                                       bytes_of(DTYPE_I8, SHAPE(8), (int8_t[8]){0})));
    node_set_int(graph, w->producer, "axis", 0);

    struct value *y = add("Conv", VALUES(x, w));
    y = quantized(y, 0.5f, 0); /* saturates at zero: a Relu in disguise */
    y = quantized(add("Clip", VALUES(y, number(0), number(100))), 0.5f, 0); /* says nothing new */

    expect_same(y, SHAPE(1, 3, 8, 8), passes_dequantize, 0.02);
    assert_int_equal(count_of(graph, "DequantizeLinear") + count_of(graph, "QuantizeLinear"), 0);
    assert_int_equal(count_of(graph, "Clip"), 3); /* input, convolution, and the one that was there */
}

static void quantized_operators_are_written_out(void **state) {
    int8_t weight[6] = {-100, 50, 25, 127, -3, 60}, other[4] = {1, 2, 3, 4};
    int32_t bias[2] = {300, -500};
    uint8_t zero = 128, low = 0;
    int8_t none = 0;

    graph_add_import(graph, "com.microsoft", 1);
    struct value *s = number(1 / 100.0f), *z = bytes_of(DTYPE_U8, (struct shape){0}, &zero);
    struct value *ws = number(0.01f), *wz = bytes_of(DTYPE_I8, (struct shape){0}, &none);
    struct value *ys = number(0.02f), *yz = bytes_of(DTYPE_U8, (struct shape){0}, &low);

    struct value *x = add("QuantizeLinear", VALUES(input_of(SHAPE(1, 3, 2, 2)), s, z));
    struct value *conv = add("QLinearConv", VALUES(x, s, z, bytes_of(DTYPE_I8, SHAPE(2, 3, 1, 1), weight), ws,
                                                   wz, ys, yz, bytes_of(DTYPE_I32, SHAPE(2), bias)));
    struct value *product =
        add("QLinearMatMul", VALUES(conv, ys, yz, bytes_of(DTYPE_I8, SHAPE(2, 2), other), ws, wz, s, yz));

    struct value *sum = graph_add_value(graph, "sum");
    graph_add_node(graph, NULL, "com.microsoft", "QLinearAdd", NULL,
                   VALUES(product, s, yz, conv, ys, yz, ys, yz), &sum, 1);

    struct value *joined = graph_add_value(graph, "joined");
    graph_add_node(graph, NULL, "com.microsoft", "QLinearConcat", NULL,
                   VALUES(ys, yz, sum, ys, yz, conv, ys, yz), &joined, 1);
    node_set_int(graph, joined->producer, "axis", 1);
    graph_add_output(graph, add("DequantizeLinear", VALUES(joined, ys, yz)));

    struct error error = {0};
    if (!passes_expand_qoperators(graph, &error) || !operators_bind(graph, &error))
        fail_msg("%s", error.message);

    assert_int_equal(count_of(graph, "Conv"), 1);

    struct tensor input = x_of(SHAPE(1, 3, 2, 2));
    cleanup(graph_freep) struct graph *run = interpret(graph, &input, &error);
    if (!run)
        fail_msg("%s", error.message);

    /* By hand: the first output of the convolution, then of the sum, at pixel 0. */
    const float *in = input.data;
    double conv_at[4];
    for (int p = 0; p < 4; p++) {
        double acc = 300;
        for (int c = 0; c < 3; c++)
            acc += fmin(fmax(nearbyint(in[c * 4 + p] * 100.0), -128), 127) * weight[c];
        conv_at[p] = fmin(fmax(nearbyint(acc * 1e-4 / 0.02), 0), 255) * 0.02;
    }

    double first = conv_at[0] * 0.01 * 1 + conv_at[1] * 0.01 * 3;
    double expected = nearbyint((nearbyint(first / 0.01) * 0.01 + conv_at[0]) / 0.02) * 0.02;

    const float *out = run->outputs[0]->constant->data;
    assert_true(fabs(out[0] - expected) <= 0.0201);
    assert_true(fabs(out[8] - conv_at[0]) <= 0.0201);
    free(input.data);
}

/* Reshape(x, Concat(Gather(Shape(x), 0), -1)): what exporters write for flatten. */
static void reshape_by_its_own_shape(struct value *x) {
    struct value *batch = add("Gather", VALUES(add("Shape", VALUES(x)), integers((int64_t[]){0}, 1)));
    node_set_int(graph, batch->producer, "axis", 0);
    struct value *shape = add("Concat", VALUES(batch, integers((int64_t[]){-1}, 1)));
    node_set_int(graph, shape->producer, "axis", 0);
    graph_add_output(graph, add("Reshape", VALUES(x, shape)));
}

static void shapes_become_constants_in_a_clone(void **state) {
    struct error error = {0};
    struct value *x = input_of(SHAPE(-1, 3, -1, -1));
    struct value *weight = floats(SHAPE(4, 3, 1, 1));
    reshape_by_its_own_shape(add("Conv", VALUES(x, weight)));

    assert_true(operators_bind(graph, &error) && passes_simplify(graph, &error));

    bool needed[1];
    passes_plan_inputs(graph, needed);
    assert_false(needed[0]);

    for (int64_t batch = 1; batch < 4; batch++) {
        cleanup(graph_freep) struct graph *plan = graph_clone(graph);
        struct tensor input = {DTYPE_F32, SHAPE(batch, 3, 2, 5), NULL};
        if (!passes_specialize(plan, &input, 1, &error))
            fail_msg("%s", error.message);
        assert_int_equal(plan->node_count, 2);
        assert_true(shape_equal(&plan->outputs[0]->shape, &SHAPE(batch, 40)));
        assert_int_equal(plan->outputs[0]->dtype, DTYPE_F32);
        assert_ptr_equal(plan->first->inputs[1]->constant->data, weight->constant->data);
        assert_int_equal(tensor_get_i64(plan->last->inputs[1]->constant, 0), batch);
    }

    assert_int_equal(graph->inputs[0]->shape.dims[0], -1);
    assert_true(graph->node_count > 2); /* the clones' folding is theirs alone */
}

static void wrong_inputs_are_refused_by_name(void **state) {
    struct error error = {0};
    graph_add_output(graph, add("Relu", VALUES(input_of(SHAPE(-1, 3)))));
    assert_true(operators_bind(graph, &error));

    struct tensor wrong[] = {{DTYPE_F32, SHAPE(1, 4), NULL},
                             {DTYPE_F32, SHAPE(1, 3, 1), NULL},
                             {DTYPE_U8, SHAPE(1, 3), NULL},
                             {DTYPE_F32, SHAPE(-1, 3), NULL},
                             {DTYPE_F32, SHAPE(1ll << 40, 3), NULL}};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cleanup(graph_freep) struct graph *plan = graph_clone(graph);
        assert_false(passes_specialize(plan, &wrong[i], 1, &error));
        assert_int_equal(error.code, ERROR_INVALID);
        assert_non_null(strstr(error.message, "input 'x'"));
    }

    cleanup(graph_freep) struct graph *plan = graph_clone(graph);
    assert_false(passes_specialize(plan, wrong, 0, &error));
}

static void inputs_that_decide_shapes_are_found(void **state) {
    struct error error = {0};
    struct value *x = input_of(SHAPE(2, 3));

    struct value *shape = graph_add_value(graph, "shape");
    shape->dtype = DTYPE_I64;
    shape->shape = SHAPE(1);
    graph_add_input(graph, shape);
    graph_add_output(graph, add("Reshape", VALUES(x, add("Abs", VALUES(shape)))));
    assert_true(operators_bind(graph, &error));

    bool needed[2];
    passes_plan_inputs(graph, needed);
    assert_true(!needed[0] && needed[1]);

    int64_t six = -6;
    struct tensor inputs[] = {{DTYPE_F32, SHAPE(2, 3), NULL}, {DTYPE_I64, SHAPE(1), &six}};
    cleanup(graph_freep) struct graph *plan = graph_clone(graph);
    if (!passes_specialize(plan, inputs, 2, &error))
        fail_msg("%s", error.message);
    assert_true(shape_equal(&plan->outputs[0]->shape, &SHAPE(6)));

    inputs[1].data = NULL;
    cleanup(graph_freep) struct graph *unknown = graph_clone(graph);
    assert_false(passes_specialize(unknown, inputs, 2, &error));
    assert_non_null(strstr(error.message, "Reshape"));
    assert_non_null(strstr(error.message, "decides a shape"));
}

static void shape_takes_a_part(void **state) {
    struct error error = {0};
    graph_add_import(graph, "", 15);

    struct value *x = input_of(SHAPE(-1, 3, -1, 7));
    struct value *part = add("Shape", VALUES(x)), *size = add("Size", VALUES(x));
    node_set_int(graph, part->producer, "start", 1);
    node_set_int(graph, part->producer, "end", -1);
    graph_add_output(graph, part);
    graph_add_output(graph, size);
    assert_true(operators_bind(graph, &error));

    struct tensor input = {DTYPE_F32, SHAPE(2, 3, 5, 7), NULL};
    assert_true(passes_specialize(graph, &input, 1, &error));

    assert_int_equal(graph->node_count, 0);
    assert_true(shape_equal(&graph->outputs[0]->shape, &SHAPE(2)));
    assert_int_equal(tensor_get_i64(graph->outputs[0]->constant, 1), 5);
    assert_int_equal(tensor_get_i64(graph->outputs[1]->constant, 0), 210);
}

static bool is_separable(struct graph *network, int64_t batch, struct shape shape) {
    struct error error = {0};
    cleanup(graph_freep) struct graph *plan = network;

    shape.dims[0] = batch;
    struct tensor input = {DTYPE_F32, shape, NULL};
    if (!passes_specialize(plan, &input, 1, &error))
        fail_msg("%s", error.message);
    return passes_batch_is_separable(plan, batch);
}

/* One node over [n, 6, 4]. */
static struct graph *network_single(const char *op_type, int64_t axis) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    x = network_node(g, op_type, network_node(g, "Relu", x, NULL), NULL);
    node_set_int(g, x->producer, "axis", axis);
    return network_end(g, x);
}

static struct graph *network_of_two(const char *op_type, struct value *(*operand)(struct graph *)) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    return network_end(g, network_node(g, op_type, x, operand(g), NULL));
}

static struct value *same_for_every_row(struct graph *g) {
    return network_floats(g, 1, 1, 3, 1, 6, 4);
}

static struct value *one_for_each_of_four_rows(struct graph *g) {
    return network_floats(g, 1, 1, 3, 4, 6, 4);
}

static struct value *rows_in_pairs(struct graph *g) {
    return network_ints(g, 3, -1, 12, 4);
}

static struct value *rows_by_themselves(struct graph *g) {
    return network_ints(g, 3, 0, 4, 6);
}

static void rows_are_apart_only_where_nothing_joins_them(void **state) {
    struct shape row = SHAPE(1, 6, 4);
    assert_true(is_separable(network_convolutional(), 4, SHAPE(1, 3, 16, 16)));
    assert_true(is_separable(network_single("Softmax", 1), 4, row));
    assert_false(is_separable(network_single("Softmax", 0), 4, row));
    assert_false(is_separable(network_single("Softmax", -3), 4, row));
    assert_true(is_separable(network_of_two("Add", same_for_every_row), 4, row));
    assert_false(is_separable(network_of_two("Add", one_for_each_of_four_rows), 4, row));
    assert_true(is_separable(network_of_two("Reshape", rows_by_themselves), 4, row));
    assert_false(is_separable(network_of_two("Reshape", rows_in_pairs), 4, row));
    assert_false(is_separable(network_transformer(), 4, SHAPE(1, 8, 8, 32))); /* windows */
}

/* passes_specialize for the shape that the input states, then passes_fuse. */
static bool fuse(struct graph *g, struct error *error) {
    struct tensor x = {DTYPE_F32, g->inputs[0]->shape, NULL};

    return passes_specialize(g, &x, 1, error) && passes_fuse(g, error);
}

static struct value *transpose(struct value *x, int64_t a, int64_t b, int64_t c, int64_t d) {
    struct value *y = add("Transpose", VALUES(x));
    node_set_ints(graph, y->producer, "perm", (int64_t[]){a, b, c, d}, d < 0 ? 3 : 4);
    return y;
}

/* [n, c, h, w] to [n, h, w, c], and back. */
static struct value *last(struct value *x) {
    return transpose(x, 0, 2, 3, 1);
}

static struct value *first(struct value *x) {
    return transpose(x, 0, 3, 1, 2);
}

/* [n, t, c] to [n, c, t], and back. */
static struct value *turned(struct value *x) {
    return transpose(x, 0, 2, 1, -1);
}

/* One by one: x turned, the operator (with what is constant of it, or a vector of channels), turned back. */
static void transposes_pass_every_elementwise_operator(void **state) {
    int count, tried = 0;
    const struct op_def *entries = operator_table(&count);
    struct shape shape = SHAPE(2, 4, 6, 5);

    for (int i = 0; i < count; i++) {
        const struct op_def *entry = &entries[i];
        struct subject subject;
        if (!(entry->traits & OP_ELEMENTWISE) || !subject_init(&subject, entry, shape) ||
            subject.dtype != DTYPE_F32 || subject.data > 2)
            continue;

        graph_free(graph);
        graph = graph_create();
        graph_add_import(graph, entry->domain, entry->until);
        graph_add_import(graph, "", *entry->domain ? 13 : entry->until);
        struct value *inputs[INPUTS] = {last(add("Erf", VALUES(input_of(shape)))), positive(SHAPE(4))},
                     *y = graph_add_value(graph, "y");
        int used = subject.data;
        for (; used < INPUTS && subject.recipe->inputs[used]; used++)
            inputs[used] = parameter_add(graph, subject.recipe->inputs[used]);
        struct node *node =
            graph_add_node(graph, NULL, entry->domain, entry->op_type, NULL, inputs, used, &y, 1);
        attributes_add(graph, node, subject.recipe->attributes);
        expect_same(first(y), shape, fuse, 1e-6);
        if (count_of(graph, "Transpose") != 0)
            fail_msg("a Transpose stops before %s", entry->op_type);
        tried++;
    }
    assert_true(tried > 50);
}

static void transposes_of_both_operands_become_one(void **state) {
    struct value *x = input_of(SHAPE(2, 6, 4));
    struct value *a = turned(add("Erf", VALUES(x))), *b = turned(add("Neg", VALUES(x)));

    expect_same(turned(add("Sub", VALUES(add("Max", VALUES(a, b)), floats(SHAPE(4, 1))))), SHAPE(2, 6, 4),
                fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 0);
}

static void a_value_that_is_used_twice_is_turned_once(void **state) {
    struct value *t = last(input_of(SHAPE(2, 4, 3, 5)));
    expect_same(first(add("Mul", VALUES(t, t))), SHAPE(2, 4, 3, 5), fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 0);
}

/* In a channels-last network, what is added comes in the other order: it gets a Transpose, for the one after.
 */
static void the_way_back_to_channels_first_is_sunk_past_additions(void **state) {
    struct value *x = input_of(SHAPE(2, 3, 5, 4));
    struct value *y = first(add("Erf", VALUES(x))), *other = add("Neg", VALUES(first(x)));

    y = last(add("Softplus", VALUES(add("Add", VALUES(y, other)))));
    expect_same(y, SHAPE(2, 3, 5, 4), fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 0);
}

/* [0, 2, 1] is its own inverse: what is put before the other operand must not come back. */
static void residuals_around_a_turn_end(void **state) {
    struct value *x = input_of(SHAPE(2, 6, 4));

    for (int i = 0; i < 3; i++) {
        struct value *mixed = add("MatMul", VALUES(turned(add("Erf", VALUES(x))), floats(SHAPE(6, 6))));
        x = add("Softplus", VALUES(add("Add", VALUES(x, turned(mixed)))));
    }

    expect_same(x, SHAPE(2, 6, 4), fuse, 1e-5);
}

static void an_operand_that_must_not_turn_stops_a_transpose(void **state) {
    struct value *x = input_of(SHAPE(2, 4, 4, 4));
    struct value *y = add("Mul", VALUES(last(x), floats(SHAPE(4, 4)))); /* varies along two axes */
    expect_same(first(y), SHAPE(2, 4, 4, 4), fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 2);
}

#define test(name) cmocka_unit_test_setup_teardown(name, start, finish)

int main(void) {
    const struct CMUnitTest tests[] = {
        test(batch_norm_goes_into_convolutions),
        test(batch_norm_goes_into_transposed_convolutions),
        test(batch_norm_that_must_stay_stays),
        test(shared_weights_are_not_changed_under_others),
        test(arithmetic_goes_into_weights),
        test(arithmetic_goes_into_products),
        test(arithmetic_that_is_not_by_channel_stays),
        test(zero_pads_become_padding),
        test(other_pads_stay),
        test(constants_are_folded_and_idle_nodes_go),
        test(an_output_that_is_an_input_keeps_its_identity),
        test(huge_constants_are_not_made_ahead),
        test(many_large_constants_have_a_budget),
        test(equal_constants_become_one),
        test(a_quantized_graph_becomes_a_float_one),
        test(quantized_operators_are_written_out),
        test(shapes_become_constants_in_a_clone),
        test(wrong_inputs_are_refused_by_name),
        test(inputs_that_decide_shapes_are_found),
        test(rows_are_apart_only_where_nothing_joins_them),
        test(shape_takes_a_part),
        test(transposes_pass_every_elementwise_operator),
        test(transposes_of_both_operands_become_one),
        test(a_value_that_is_used_twice_is_turned_once),
        test(the_way_back_to_channels_first_is_sunk_past_additions),
        test(residuals_around_a_turn_end),
        test(an_operand_that_must_not_turn_stops_a_transpose),
    };
    return cmocka_run_group_tests_name("passes", tests, NULL, NULL);
}
