/* quant/: integers come in where they should, layers are equalised, biases corrected, old opsets raised. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "quant/weights.h"
#include "small_network.h"

static void integers_come_in_where_they_should(void **state) {
    struct photo_set set;
    struct scheme scheme;
    struct observations observations;
    struct error error = {0};

    make_photos(12, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);
    prepare(graph, &set, &scheme, &observations);

    cleanup(graph_freep) struct graph *made = scheme_write(&scheme, &error);
    assert_non_null(made);

    /* The input, relu, pool, two_relu, three, sum_relu, mean, flat: each once, however many read it. */
    assert_int_equal(count_nodes(made, "QuantizeLinear"), 8);
    assert_int_equal(count_nodes(made, "DequantizeLinear"), 8 + 4 * 2);
    assert_true(node_is(find_node(made, "relu")->inputs[0]->producer, "Conv"));
    assert_true(node_is(find_node(made, "sum_relu")->inputs[0]->producer, "Add"));
    assert_true(node_is(find_node(made, "one")->inputs[1]->producer, "DequantizeLinear"));
    assert_int_equal(node_int(find_node(made, "logits")->inputs[1]->producer, "axis", -9), 1);
    assert_true(find_node(made, "logits")->outputs[0]->is_output);

    const struct quant_parameters *parameters = scheme.parameters;
    int in = find_node(graph, "pool")->inputs[0]->id, out = find_node(graph, "pool")->outputs[0]->id;
    assert_true(parameters[in].scale == parameters[out].scale && parameters[in].zero == parameters[out].zero);
    assert_int_equal(parameters[in].zero, 0);

    /* The bias is in steps of input scale times weight scale. */
    const struct node *weights = find_node(made, "two")->inputs[1]->producer,
                      *bias = find_node(made, "two")->inputs[2]->producer;
    float step = ((const float *)weights->inputs[1]->constant->data)[3] * parameters[out].scale;
    assert_true(((const float *)bias->inputs[1]->constant->data)[3] == step);
    assert_int_equal(bias->inputs[0]->dtype, DTYPE_I32);

    scheme_release(&scheme);
    observations_release(&observations);
    photo_set_release(&set);
}

static void predictions_stay_near(void **state) {
    struct photo_set set;
    struct scheme scheme;
    struct observations observations;
    struct error error = {0};

    make_photos(24, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);
    prepare(graph, &set, &scheme, &observations);

    assert_true(correct_bias(&scheme, &observations, &error));
    scheme.correct_bias = true;
    cleanup(freep) float *before = run_all(graph_clone(graph), &set);
    cleanup(freep) float *after = run_all(scheme_write(&scheme, &error), &set);

    double square = 0, difference = 0;
    for (int i = 0; i < set.count * CLASSES; i++) {
        square += (double)before[i] * before[i];
        difference += ((double)before[i] - after[i]) * ((double)before[i] - after[i]);
    }

    assert_true(difference > 0); /* something was rounded */
    assert_true(sqrt(difference / square) < 0.03);

    scheme_release(&scheme);
    observations_release(&observations);
    photo_set_release(&set);
}

static void what_is_excluded_reads_floats(void **state) {
    struct photo_set set;
    struct scheme scheme;
    struct observations observations;
    struct error error = {0};

    make_photos(6, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);
    prepare(graph, &set, &scheme, &observations);
    find_unit(&scheme, "two")->excluded = true;
    scheme_settle(&scheme);

    cleanup(graph_freep) struct graph *made = scheme_write(&scheme, &error);
    assert_true(node_is(find_node(made, "two")->inputs[0]->producer, "MaxPool"));
    assert_non_null(find_node(made, "two")->inputs[1]->constant);
    assert_true(node_is(find_node(made, "three")->inputs[0]->producer, "DequantizeLinear"));

    /* With all layers in float nothing is left to round. */
    for (int i = 0; i < scheme.count; i++)
        scheme.units[i].excluded = true;
    scheme_settle(&scheme);
    cleanup(graph_freep) struct graph *plain = scheme_write(&scheme, &error);
    assert_int_equal(count_nodes(plain, "QuantizeLinear"), 0);
    assert_int_equal(plain->node_count, graph->node_count);

    scheme_release(&scheme);
    observations_release(&observations);
    photo_set_release(&set);
}

static void equalization_changes_no_prediction(void **state) {
    struct photo_set set;
    struct scheme scheme;
    struct observations observations;
    struct error error = {0};
    int pairs;

    make_photos(12, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);

    /* Channels of very different sizes: what equalisation is for. */
    float *weights = find_node(graph, "two")->inputs[1]->constant->data,
          *bias = find_node(graph, "two")->inputs[2]->constant->data;
    for (int c = 0; c < CHANNELS; c++) {
        bias[c] = (fabsf(bias[c]) + 0.3f) * powf(3, (float)-c); /* none is dead */
        for (int i = 0; i < 9; i++)
            weights[c * 9 + i] *= powf(3, (float)-c);
    }

    prepare(graph, &set, &scheme, &observations);
    assert_true(has_depthwise(graph));

    struct graph *equal = graph_clone(graph);
    assert_true(equalize_layers(equal, &observations, &pairs, &error));
    assert_int_equal(pairs, 1); /* two -> relu -> three; nothing else is a chain */

    const float *now = find_node(equal, "two")->inputs[1]->constant->data;
    float least = INFINITY, most = 0;
    for (int c = 0; c < CHANNELS; c++) {
        float top = 0;
        for (int i = 0; i < 9; i++)
            top = fmaxf(top, fabsf(now[c * 9 + i]));
        least = fminf(least, top);
        most = fmaxf(most, top);
    }

    assert_true(most / least < 300); /* was 2187 between the channels alone */
    cleanup(freep) float *before = run_all(graph_clone(graph), &set);
    cleanup(freep) float *after = run_all(equal, &set);
    for (int i = 0; i < set.count * CLASSES; i++)
        assert_float_equal(before[i], after[i], 1e-4);

    scheme_release(&scheme);
    observations_release(&observations);
    photo_set_release(&set);
}

static void a_shift_of_the_mean_is_corrected(void **state) {
    struct photo_set set;
    struct scheme scheme;
    struct observations observations;
    struct error error = {0};

    make_photos(4, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);
    prepare(graph, &set, &scheme, &observations);
    assert_true(correct_bias(&scheme, &observations, &error));

    /* Gemm: (rounded - weights)^T * mean, by hand for one class. */
    const struct unit *unit = find_unit(&scheme, "logits");
    const struct observation *seen = observations_find(&observations, unit->node->inputs[0]->id);
    const float *weights = unit->node->inputs[1]->constant->data;

    float top = 0;
    for (int i = 0; i < CHANNELS; i++)
        top = fmaxf(top, fabsf(weights[i * CLASSES + 2]));
    double expected = 0;
    for (int i = 0; i < CHANNELS; i++) {
        float scale = top / 127;
        expected += ((double)rintf(weights[i * CLASSES + 2] / scale) * scale - weights[i * CLASSES + 2]) *
                    observation_mean(seen, i);
    }

    assert_float_equal(unit->correction[2], expected, 1e-6);
    scheme_release(&scheme);
    observations_release(&observations);
    photo_set_release(&set);
}

static void older_opsets_are_raised(void **state) {
    struct error error = {0};
    cleanup(graph_freep) struct graph *graph = graph_create();

    assert_true(graph_add_import(graph, "", 9));
    struct value *x = graph_add_value(graph, "x");
    x->dtype = DTYPE_F32;
    x->shape = (struct shape){2, {1, 4}};
    assert_true(graph_add_input(graph, x));

    struct value *clip = add(graph, "Clip", "clip", &x, 1);
    assert_true(node_set_float(graph, clip->producer, "min", 0) &&
                node_set_float(graph, clip->producer, "max", 6));
    struct value *wide = add(graph, "Unsqueeze", "wide", &clip, 1);
    assert_true(node_set_ints(graph, wide->producer, "axes", (const int64_t[]){0}, 1));
    assert_true(graph_add_output(graph, wide));
    assert_true(operators_bind(graph, &error));

    assert_true(quant_raise_opset(graph, &error));
    float high;
    assert_int_equal(graph_opset(graph, ""), QUANT_OPSET);
    assert_true(value_scalar(node_input(clip->producer, 2), &high) && high == 6);
    assert_null(node_attribute(clip->producer, "max"));
    assert_int_equal(tensor_get_i64(node_input(wide->producer, 1)->constant, 0), 0);
    assert_int_equal(clip->producer->opset, QUANT_OPSET);

    /* A softmax over several axes means something else later: said, not guessed. */
    cleanup(graph_freep) struct graph *other = graph_create();
    assert_true(graph_add_import(other, "", 9));
    struct value *y = graph_add_value(other, "y");
    y->dtype = DTYPE_F32;
    y->shape = (struct shape){4, {1, 4, 2, 2}};
    assert_true(graph_add_input(other, y));
    assert_true(graph_add_output(other, add(other, "Softmax", "several", &y, 1)));

    assert_true(operators_bind(other, &error));
    assert_false(quant_raise_opset(other, &error));
    assert_non_null(strstr(error.message, "several"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_come_in_where_they_should),
        cmocka_unit_test(predictions_stay_near),
        cmocka_unit_test(what_is_excluded_reads_floats),
        cmocka_unit_test(equalization_changes_no_prediction),
        cmocka_unit_test(a_shift_of_the_mean_is_corrected),
        cmocka_unit_test(older_opsets_are_raised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
