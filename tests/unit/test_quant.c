/* quant/: ranges, weights, rewriting, equalisation, photos, and a complete run on a small network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "quant/correct.h"
#include "quant/load.h"
#include "quant/quant.h"
#include "quant/report.h"
#include "quant/weights.h"

enum { SIDE = 16, CHANNELS = 8, CLASSES = 5 };

static uint32_t seed = 1;

/* Roughly normal, deviation about 1. */
static float noise(void) {
    float sum = 0;
    for (int i = 0; i < 6; i++) {
        seed = seed * 1664525u + 1013904223u;
        sum += (float)(seed >> 8) / (1 << 24) - 0.5f;
    }
    return sum * 1.4f;
}

/* --- Ranges
 * ----------------------------------------------------------------------------------------------------- */

static void a_histogram_grows_and_loses_nothing(void **state) {
    struct histogram *histogram = calloc(1, sizeof *histogram);
    float first[] = {0, 1, 2, 3}, later[] = {-100, 50, 2.5f};

    assert_true(histogram_add(histogram, first, 4, 1));
    assert_true(histogram_add(histogram, later, 3, 1));
    assert_true(histogram->low == -100 && histogram->high == 50);
    assert_int_equal(histogram->total, 7);

    uint64_t sum = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++)
        sum += histogram->bins[i];
    assert_int_equal(sum, 7);
    assert_true(histogram_quantile(histogram, 0.1) < -99 && histogram_quantile(histogram, 1) > 49);

    float bad[] = {1, NAN, 2}, endless[] = {INFINITY};
    assert_false(histogram_add(histogram, bad, 3, 1));
    assert_false(histogram_add(histogram, endless, 1, 1));
    assert_int_equal(histogram->total, 7);
    free(histogram);
}

static void constant_values_have_a_range(void **state) {
    struct histogram *histogram = calloc(1, sizeof *histogram);
    float zeros[3] = {0}, fours[3] = {4, 4, 4};

    assert_true(histogram_add(histogram, zeros, 3, 1));
    for (int method = QUANT_MINMAX; method < QUANT_METHODS; method++) {
        struct quant_range range = histogram_range(histogram, (enum quant_method)method);
        assert_true(range.low <= 0 && range.high >= 0 && range.high < 1);
    }

    assert_true(histogram_add(histogram, fours, 3, 1));
    assert_true(histogram_range(histogram, QUANT_MINMAX).high == 4);
    free(histogram);
}

static void methods_differ_on_outliers(void **state) {
    struct histogram *histogram = calloc(1, sizeof *histogram);
    float *values = malloc(100000 * sizeof *values), far = 20;

    for (int i = 0; i < 100000; i++)
        values[i] = noise();
    assert_true(histogram_add(histogram, values, 100000, 1));
    assert_true(histogram_add(histogram, &far, 1, 1));

    struct quant_range all = histogram_range(histogram, QUANT_MINMAX),
                       share = histogram_range(histogram, QUANT_PERCENTILE);
    struct quant_range square = histogram_range(histogram, QUANT_MSE),
                       information = histogram_range(histogram, QUANT_ENTROPY);

    assert_true(all.high == 20 && all.low < -2);
    assert_true(share.high < 6 && share.low > all.low - 1e-3f && share.low < -2);
    assert_true(square.high < 19 && square.high > 3 && square.low < -2);
    assert_true(information.high < 20 && information.high > 2);

    for (int i = 0; i < 100000; i++)
        values[i] = fabsf(values[i]) + 1;
    memset(histogram, 0, sizeof *histogram);
    assert_true(histogram_add(histogram, values, 100000, 1));
    for (int method = QUANT_MINMAX; method < QUANT_METHODS; method++)
        assert_true(histogram_range(histogram, (enum quant_method)method).low == 0);
    free(values);
    free(histogram);
}

static void zero_is_exact(void **state) {
    struct quant_parameters relu = quant_parameters_choose((struct quant_range){0, 6}, DTYPE_U8);
    assert_int_equal(relu.zero, 0);
    assert_float_equal(relu.scale, 6.0 / 255, 1e-7);

    struct quant_parameters both = quant_parameters_choose((struct quant_range){-1, 3}, DTYPE_U8);
    assert_int_equal(both.zero, 64);
    both = quant_parameters_choose((struct quant_range){-1, 3}, DTYPE_I8);
    assert_int_equal(both.zero, -64);

    assert_int_equal(quant_parameters_choose((struct quant_range){2, 3}, DTYPE_U8).zero, 0);
    assert_int_equal(quant_parameters_choose((struct quant_range){-3, -2}, DTYPE_U8).zero, 255);
    assert_true(quant_parameters_choose((struct quant_range){0, 0}, DTYPE_U8).scale > 0);
}

static void names_of_methods(void **state) {
    enum quant_method method;
    assert_true(quant_method_parse("entropy", &method) && method == QUANT_ENTROPY);
    assert_false(quant_method_parse("best", &method));
    assert_string_equal(quant_method_name(QUANT_MSE), "mse");
}

/* --- Weights
 * ---------------------------------------------------------------------------------------------------- */

static void weights_round_by_channel(void **state) {
    float values[] = {1, -2, 0.5f, 10, 20, -40, 0, 0, 0}, scales[3];
    struct tensor weights = {DTYPE_F32, {.rank = 2, .dims = {3, 3}}, values};
    int8_t integers[9];

    assert_int_equal(weights_channels(&weights, 0), 3);
    weights_choose_scales(&weights, 0, NULL, 1, scales);
    assert_float_equal(scales[0], 2.0 / 127, 1e-7);
    assert_float_equal(scales[1], 40.0 / 127, 1e-6);
    assert_true(scales[2] > 0);

    weights_round(&weights, 0, scales, integers);
    assert_int_equal(integers[1], -127);
    assert_int_equal(integers[5], -127);
    assert_int_equal(integers[4], 64);
    assert_int_equal(integers[8], 0);

    weights_choose_scales(&weights, -1, NULL, 1, scales);
    assert_float_equal(scales[0], 40.0 / 127, 1e-6);
    weights_choose_scales(&weights, 1, NULL, 1, scales);
    assert_float_equal(scales[2], 40.0 / 127, 1e-6);
}

static void a_large_bias_widens_the_step(void **state) {
    float values[] = {1e-6f, 1}, scales[2];
    struct tensor weights = {DTYPE_F32, {.rank = 2, .dims = {2, 1}}, values};
    double bias[] = {1000, 1};
    int32_t integers[2];

    weights_choose_scales(&weights, 0, bias, 0.01, scales);
    bias_round(bias, 2, scales, false, 0.01f, integers);
    assert_true(abs(integers[0]) <= QUANT_BIAS_TOP + 1);
    assert_float_equal(integers[0] * (double)(scales[0] * 0.01f), 1000, 0.01);
    assert_float_equal(integers[1] * (double)(scales[1] * 0.01f), 1, 0.001);
}

/* --- A small network
 * -------------------------------------------------------------------------------------------- */

static struct value *random_constant(struct graph *graph, const char *name, struct shape shape,
                                     float spread) {
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(graph, (size_t)count * sizeof *data);

    for (int64_t i = 0; i < count; i++)
        data[i] = noise() * spread;
    return graph_add_constant(graph, name, DTYPE_F32, &shape, data);
}

static struct value *add(struct graph *graph, const char *op_type, const char *name,
                         struct value *const *inputs, int count) {
    struct value *output = graph_add_value(graph, name);
    assert_non_null(graph_add_node(graph, NULL, "", op_type, name, inputs, count, &output, 1));
    return output;
}

static struct value *conv(struct graph *graph, const char *name, struct value *input, int inputs, int outputs,
                          int group) {
    char weights[32], bias[32];

    snprintf(weights, sizeof weights, "%s_w", name);
    snprintf(bias, sizeof bias, "%s_b", name);
    struct value *all[] = {
        input, random_constant(graph, weights, (struct shape){4, {outputs, inputs / group, 3, 3}}, 0.25f),
        random_constant(graph, bias, (struct shape){1, {outputs}}, 0.2f)};

    struct value *output = add(graph, "Conv", name, all, 3);
    assert_true(node_set_ints(graph, output->producer, "pads", (const int64_t[]){1, 1, 1, 1}, 4));
    assert_true(node_set_int(graph, output->producer, "group", group));
    return output;
}

/* conv, relu, maxpool, depthwise conv, clip, conv, + residual, relu, average, flatten, gemm */
static struct graph *small_network(int opset) {
    struct graph *graph = graph_create();
    seed = 7;
    assert_true(graph_add_import(graph, "", opset));

    struct value *x = graph_add_value(graph, "input");
    x->dtype = DTYPE_F32;
    x->shape = (struct shape){4, {-1, 3, SIDE, SIDE}};
    assert_true(graph_add_input(graph, x));

    struct value *one = conv(graph, "one", x, 3, CHANNELS, 1);
    struct value *relu = add(graph, "Relu", "relu", &one, 1);
    struct value *pool = add(graph, "MaxPool", "pool", &relu, 1);
    assert_true(node_set_ints(graph, pool->producer, "kernel_shape", (const int64_t[]){2, 2}, 2));
    assert_true(node_set_ints(graph, pool->producer, "strides", (const int64_t[]){2, 2}, 2));

    struct value *two = conv(graph, "two", pool, CHANNELS, CHANNELS, CHANNELS);
    struct value *two_relu = add(graph, "Relu", "two_relu", &two, 1);
    struct value *three = conv(graph, "three", two_relu, CHANNELS, CHANNELS, 1);
    struct value *sum = add(graph, "Add", "sum", (struct value *[]){three, pool}, 2);
    struct value *sum_relu = add(graph, "Relu", "sum_relu", &sum, 1);

    struct value *mean = add(graph, "GlobalAveragePool", "mean", &sum_relu, 1);
    struct value *flat = add(graph, "Flatten", "flat", &mean, 1);
    struct value *dense[] = {flat, random_constant(graph, "fc_w", (struct shape){2, {CHANNELS, CLASSES}}, 1),
                             random_constant(graph, "fc_b", (struct shape){1, {CLASSES}}, 0.3f)};

    struct value *logits = add(graph, "Gemm", "logits", dense, 3);
    logits->dtype = DTYPE_F32;
    logits->shape = (struct shape){2, {-1, CLASSES}};
    assert_true(graph_add_output(graph, logits));

    struct error error = {0};
    assert_true(operators_bind(graph, &error));
    return graph;
}

/* Synthetic photos: smooth, so that they differ more than noise would. */
static void make_photos(int count, struct photo_set *ret) {
    *ret = (struct photo_set){.count = count,
                              .found = count,
                              .input = {.dtype = DTYPE_F32, .batch = -1, .height = SIDE, .width = SIDE},
                              .elements = 3 * SIDE * SIDE,
                              .height = SIDE,
                              .width = SIDE,
                              .key = 5};
    ret->photos = calloc((size_t)count + 1, sizeof *ret->photos);
    ret->tensors = aligned_alloc(64, size_align((size_t)(count * ret->elements) * sizeof(float), 64));

    seed = 99;
    for (int i = 0; i < count; i++) {
        float a = noise(), b = noise(), c = noise();
        assert_true(asprintf(&ret->photos[i].name, "photo%03d.png", i) > 0);
        ret->photos[i].class_index = -1;
        for (int64_t j = 0; j < ret->elements; j++)
            ret->tensors[i * ret->elements + j] = a + b * sinf((float)j * 0.05f * c) + 0.3f * noise();
    }
}

static struct node *find_node(const struct graph *graph, const char *name) {
    for (struct node *node = graph->first; node; node = node->next)
        if (strcmp(node->name, name) == 0)
            return node;
    return NULL;
}

static int count_nodes(const struct graph *graph, const char *op_type) {
    int count = 0;
    for (const struct node *node = graph->first; node; node = node->next)
        count += node_is(node, op_type);
    return count;
}

static struct unit *find_unit(struct scheme *scheme, const char *name) {
    for (int i = 0; i < scheme->count; i++)
        if (strcmp(scheme->units[i].node->name, name) == 0)
            return &scheme->units[i];
    return NULL;
}

/* Calibrated on the photos. */
static void prepare(const struct graph *graph, const struct photo_set *set, struct scheme *scheme,
                    struct observations *observations) {
    struct error error = {0};
    int *values, *axes, count, samples[64];

    for (int i = 0; i < set->count; i++)
        samples[i] = i;

    assert_true(scheme_create(graph, DTYPE_U8, false, scheme, &error));
    scheme_settle(scheme);
    assert_true(scheme_watch(scheme, &values, &axes, &count, &error));
    assert_true(observations_create(values, axes, count, observations, &error));
    free(values);
    free(axes);

    const struct observe_options options = {
        .set = set, .samples = samples, .count = set->count, .threads = 1};
    if (!observe(graph, &options, observations, &error))
        fail_msg("%s", error.message);

    scheme_set_ranges(scheme, observations, QUANT_MINMAX);
    scheme_settle(scheme);
}

static bool copy_outputs(void *context, const struct tensor *outputs, int output_count, const int *samples,
                         int count, struct error *error) {
    for (int i = 0; i < count; i++)
        memcpy((float *)context + (size_t)samples[i] * CLASSES, (const float *)outputs[0].data + i * CLASSES,
               CLASSES * sizeof(float));
    return true;
}

/* All outputs: [count, CLASSES]; takes ownership of the graph. */
static float *run_all(struct graph *graph, const struct photo_set *set) {
    struct error error = {0};
    int samples[64];
    float *values = calloc((size_t)set->count * CLASSES, sizeof *values);

    for (int i = 0; i < set->count; i++)
        samples[i] = i;

    struct runner *runner = runner_create(graph, set, 4, 1, NULL, &error);
    if (!runner || !runner_run(runner, samples, set->count, copy_outputs, values, &error))
        fail_msg("%s", error.message);
    runner_free(runner);
    return values;
}

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

/* --- Measures
 * --------------------------------------------------------------------------------------------------- */

/* Predictions for two photos, from what the network gives. */
static struct predictions predict(const float *values, int count, int classes) {
    struct tensor output = {DTYPE_F32, {2, {count, classes}}, (void *)values};
    struct predictions predictions;
    struct error error;
    assert_true(predictions_create(count, classes, HEAD_BY_VALUES, &predictions, &error));
    for (int i = 0; i < count; i++)
        assert_true(predictions_set(&predictions, i, &output, i, &error));
    return predictions;
}

static void predictions_are_compared(void **state) {
    const float a[] = {0.7f, 0.2f, 0.1f, 0.1f, 0.6f, 0.3f}, b[] = {0.7f, 0.2f, 0.1f, 0.1f, 0.4f, 0.5f},
                logits[] = {1, 2, 3};
    struct predictions first = predict(a, 2, 3), second = predict(b, 2, 3), one = predict(logits, 1, 3);
    struct agreement same = predictions_compare(&first, &first), other = predictions_compare(&first, &second);

    assert_true(same.same == 2 && same.mean == 0 && same.worst == 0);
    assert_int_equal(other.same, 1);
    assert_int_equal(other.worst_at, 1);
    assert_float_equal(other.worst, 0.6 * log(0.6 / 0.4) + 0.3 * log(0.3 / 0.5), 1e-6);

    assert_true(first.probabilities[0] == 0.7f); /* probabilities already */
    assert_float_equal(one.probabilities[0] + one.probabilities[1] + one.probabilities[2], 1, 1e-6);
    assert_int_equal(one.best[0], 2);
    predictions_release(&first);
    predictions_release(&second);
    predictions_release(&one);

    const float gone[] = {1, 0}, sure[] = {0, 1};
    struct predictions low = predict(gone, 1, 2), high = predict(sure, 1, 2);
    assert_true(isfinite(predictions_divergence(&low, &high, 0)));
    predictions_release(&low);
    predictions_release(&high);
}

static void scores_that_are_not_finite_are_refused(void **state) {
    const float values[] = {1, NAN, 2};
    const struct tensor output = {DTYPE_F32, {2, {1, 3}}, (void *)values};
    struct predictions predictions;
    struct error error;
    assert_true(predictions_create(1, 3, HEAD_BY_VALUES, &predictions, &error));
    assert_false(predictions_set(&predictions, 0, &output, 0, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    predictions_release(&predictions);
}

static void few_photos_are_told(void **state) {
    assert_int_equal(search_allowed(1000, 0.5), 5);
    assert_int_equal(search_allowed(30, 0.5), 1);
    assert_int_equal(search_allowed(30, 0), 0);
    assert_true(quant_photos_wanted(20, 0.5) > 20);
    assert_int_equal(quant_photos_wanted(5000, 0.5), 0);
}

/* --- Files
 * ------------------------------------------------------------------------------------------------------ */

static char *make_folder(void) {
    char *folder = strdup("/tmp/guichet-quant-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return folder;
}

static void remove_folder(char *folder) {
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
    free(folder);
}

struct stop {
    const char *stage;
    uint64_t after, first; /* first: what the stage began with, the last time */
    bool seen;
};

static bool stop_at(void *context, const char *stage, uint64_t done, uint64_t total) {
    struct stop *stop = context;
    if (strcmp(stage, stop->stage) != 0)
        return true;

    if (!stop->seen)
        stop->first = done;
    stop->seen = true;
    return done < stop->after;
}

static struct model *load_float(const char *network) {
    const struct model_options options = {.engine = {.precision = PRECISION_F32, .threads = 1}};
    struct error error;
    struct model *model = model_load(network, &options, &error);

    if (!model)
        fail_msg("%s", error.message);
    return model;
}

static void a_complete_run(void **state) {
    struct error error = {0};
    struct photo_set set;
    struct quant_result result;
    char *folder = make_folder(), network[256], output[256], unfinished[256];

    snprintf(network, sizeof network, "%s/model.onnx", folder);
    snprintf(output, sizeof output, "%s/model_int8.onnx", folder);
    snprintf(unfinished, sizeof unfinished, "%s/.calibration", folder);

    make_photos(60, &set);
    cleanup(graph_freep) struct graph *graph = small_network(13);
    assert_true(onnx_graph_write(graph, network, &error));
    struct model *model = load_float(network);

    struct stop stop = {.stage = "calibrating", .after = 9};
    struct quant_options options = {.max_loss = 5,
                                    .threads = 1,
                                    .activations = DTYPE_U8,
                                    .state_path = unfinished,
                                    .progress = stop_at,
                                    .context = &stop};

    /* Interrupted: no model, but what was calibrated is kept, and used. */
    assert_false(quant_run(model, &set, output, &options, &result, &error));
    assert_int_equal(error.code, ERROR_UNAVAILABLE);
    assert_int_equal(access(output, F_OK), -1);
    assert_int_equal(access(unfinished, F_OK), 0);

    stop = (struct stop){.stage = "calibrating", .after = UINT64_MAX};
    if (!quant_run(model, &set, output, &options, &result, &error))
        fail_msg("%s", error.message);
    assert_true(stop.first > 9);
    assert_int_equal(access(unfinished, F_OK), -1);

    assert_int_equal(result.layer_count, 4);
    assert_int_equal(result.calibrated + result.held_out, 60);
    assert_true(result.search.met && result.layers[0].damage >= 0);
    assert_true(result.search.after.same >= result.search.after.count - result.search.allowed);
    quant_result_release(&result);

    /* What was written is quantised, and is not quantised again. */
    assert_false(quant_network_check(output, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    struct model *quantized = load_float(output);
    assert_false(quant_run(quantized, &set, network, &options, &result, &error));
    assert_non_null(strstr(error.message, "already quantised"));

    model_free(quantized);
    model_free(model);
    photo_set_release(&set);
    remove_folder(folder);
}

static void the_report_holds_what_was_measured(void **state) {
    static const char labels[] = "{\"id2label\": [\"<cat>\", \"dog\", \"ox\", \"bee\", \"fly\"]}";
    struct error error = {0};
    struct photo_set set;
    int samples[12];
    char *folder = make_folder(), network[256];

    snprintf(network, sizeof network, "%s/a & b", folder);
    assert_int_equal(mkdir(network, 0777), 0);
    strcat(network, "/config.json");
    assert_true(file_write(network, labels, sizeof labels - 1, &error));
    snprintf(network, sizeof network, "%s/a & b/model.onnx", folder);

    make_photos(12, &set);
    for (int i = 0; i < 12; i++) {
        samples[i] = i;
        set.photos[i].class_index = 1;
    }

    cleanup(graph_freep) struct graph *graph = small_network(13);
    assert_true(onnx_graph_write(graph, network, &error));
    struct model *model = load_float(network);

    struct report_side side = {.model = model, .set = &set};
    struct report report = {.sides = {side, side}};
    assert_true(report_measure(&report, samples, 12, 0.05, NULL, NULL, &error));
    assert_true(report.agreement.same == 12 && report.agreement.worst == 0 && report.change_count == 0);
    assert_true(report.sides[0].bytes > 1000 && report.sides[1].milliseconds > 0 &&
                report.sides[0].hits.count == 12);

    report.changes[report.change_count++] = (struct report_change){3, {0, 1}, {0.6f, 0.5f}};
    json_t *json = report_json(&report);
    assert_non_null(json);
    assert_float_equal(json_number_value(json_object_get(json, "agreement")), 1, 1e-9);
    assert_int_equal(json_array_size(json_object_get(json, "changed")), 1);

    struct buffer page = {0};
    assert_true(report_html(&report, &page));
    assert_non_null(strstr(page.bytes, "&lt;cat&gt;"));
    assert_non_null(strstr(page.bytes, "a &amp; b"));
    assert_null(strstr(page.bytes, "<script"));

    buffer_release(&page);
    json_decref(json);
    report_release(&report);
    model_free(model);
    photo_set_release(&set);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_histogram_grows_and_loses_nothing),
        cmocka_unit_test(constant_values_have_a_range),
        cmocka_unit_test(methods_differ_on_outliers),
        cmocka_unit_test(zero_is_exact),
        cmocka_unit_test(names_of_methods),
        cmocka_unit_test(weights_round_by_channel),
        cmocka_unit_test(a_large_bias_widens_the_step),
        cmocka_unit_test(integers_come_in_where_they_should),
        cmocka_unit_test(predictions_stay_near),
        cmocka_unit_test(what_is_excluded_reads_floats),
        cmocka_unit_test(equalization_changes_no_prediction),
        cmocka_unit_test(a_shift_of_the_mean_is_corrected),
        cmocka_unit_test(older_opsets_are_raised),
        cmocka_unit_test(predictions_are_compared),
        cmocka_unit_test(scores_that_are_not_finite_are_refused),
        cmocka_unit_test(few_photos_are_told),
        cmocka_unit_test(a_complete_run),
        cmocka_unit_test(the_report_holds_what_was_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
