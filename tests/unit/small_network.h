/* For tests of quant/: a small network, synthetic photos, and running the one on the others. Functions are
 * static: one program each. */
#pragma once
#include <math.h>
#include <stdio.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "onnx/onnx.h"
#include "ops/operator.h"
#include "quant/correct.h"
#include "quant/load.h"
#include "quant/quant.h"

enum { SIDE = 16, CHANNELS = 8, CLASSES = 5 };

static uint32_t seed = 1;

/* Roughly normal, deviation about 1. */
static inline float noise(void) {
    float sum = 0;
    for (int i = 0; i < 6; i++) {
        seed = seed * 1664525u + 1013904223u;
        sum += (float)(seed >> 8) / (1 << 24) - 0.5f;
    }
    return sum * 1.4f;
}

static inline struct value *random_constant(struct graph *graph, const char *name, struct shape shape,
                                            float spread) {
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(graph, (size_t)count * sizeof *data);

    for (int64_t i = 0; i < count; i++)
        data[i] = noise() * spread;
    return graph_add_constant(graph, name, DTYPE_F32, &shape, data);
}

static inline struct value *add(struct graph *graph, const char *op_type, const char *name,
                                struct value *const *inputs, int count) {
    struct value *output = graph_add_value(graph, name);
    assert_non_null(graph_add_node(graph, NULL, "", op_type, name, inputs, count, &output, 1));
    return output;
}

static inline struct value *conv(struct graph *graph, const char *name, struct value *input, int inputs,
                                 int outputs, int group) {
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
static inline struct graph *small_network(int opset) {
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
static inline void make_photos(int count, struct photo_set *ret) {
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

static inline struct node *find_node(const struct graph *graph, const char *name) {
    for (struct node *node = graph->first; node; node = node->next)
        if (strcmp(node->name, name) == 0)
            return node;
    return NULL;
}

static inline int count_nodes(const struct graph *graph, const char *op_type) {
    int count = 0;
    for (const struct node *node = graph->first; node; node = node->next)
        count += node_is(node, op_type);
    return count;
}

static inline struct unit *find_unit(struct scheme *scheme, const char *name) {
    for (int i = 0; i < scheme->count; i++)
        if (strcmp(scheme->units[i].node->name, name) == 0)
            return &scheme->units[i];
    return NULL;
}

/* Calibrated on the photos. */
static inline void prepare(const struct graph *graph, const struct photo_set *set, struct scheme *scheme,
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

static inline bool copy_outputs(void *context, const struct tensor *outputs, int output_count,
                                const int *samples, int count, struct error *error) {
    for (int i = 0; i < count; i++)
        memcpy((float *)context + (size_t)samples[i] * CLASSES, (const float *)outputs[0].data + i * CLASSES,
               CLASSES * sizeof(float));
    return true;
}

/* All outputs: [count, CLASSES]; takes ownership of the graph. */
static inline float *run_all(struct graph *graph, const struct photo_set *set) {
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
