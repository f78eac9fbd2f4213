/* passes/simplify.c and what it calls: what they rewrite still computes the same, and what they must leave
 * alone stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rewriting.h"

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
    y = quantized(add("Clip", VALUES(y, number(0), number(100))), 0.5f, 0);

    expect_same(y, SHAPE(1, 3, 8, 8), passes_dequantize, 0);
    assert_int_equal(count_of(graph, "QuantizeLinear"), 3); /* the rounding is what the file says */
    assert_int_equal(count_of(graph, "DequantizeLinear"), 3);
    assert_non_null(graph->first->next->next->inputs[1]->constant); /* the weights are floats */
}

static void weights_far_from_their_zero_point_are_no_bytes(void **state) {
    struct error error;
    for (int zero = 0; zero < 256; zero++) {
        finish(state);
        start(state);
        uint8_t weight[3] = {40, 200, 100}, zero_point = (uint8_t)zero;
        struct value *x = quantized(input_of(SHAPE(1, 3, 8, 8)), 1 / 127.0f, 128);
        struct value *w =
            add("DequantizeLinear", VALUES(bytes_of(DTYPE_U8, SHAPE(1, 3, 1, 1), weight), number(0.1f),
                                           bytes_of(DTYPE_U8, (struct shape){0}, &zero_point)));
        struct value *y = add("Conv", VALUES(x, w));
        assert_true(graph_add_output(graph, y));
        assert_true(operators_bind(graph, &error));
        assert_int_equal(passes_integers_are_exact(graph), zero >= 200 - 127 && zero <= 40 + 128);
    }
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
        test(weights_far_from_their_zero_point_are_no_bytes),
        test(quantized_operators_are_written_out),
    };
    return cmocka_run_group_tests_name("simplify", tests, NULL, NULL);
}
