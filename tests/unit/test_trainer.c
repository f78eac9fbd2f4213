/* train/: a trainer learns, stops and goes on as if it had not, and its optimisers are the formulas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "interpreter.h"
#include "train/trainer.h"

enum { BATCH = 8, SIDE = 6, CLASSES = 3, PIXELS = 3 * SIDE * SIDE };

static struct value *weights(struct graph *graph, int rank, const int64_t *dims, uint32_t seed, float scale) {
    struct shape shape = {.rank = rank};
    memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(graph, (size_t)count * sizeof *data);
    fill_floats(data, count, seed);
    for (int64_t i = 0; i < count; i++)
        data[i] *= scale;
    return graph_add_constant(graph, "weights", DTYPE_F32, &shape, data);
}

static struct value *apply(struct graph *graph, const char *op_type, struct value **inputs, int count) {
    struct value *output = graph_add_value(graph, op_type);
    assert_non_null(graph_add_node(graph, NULL, "", op_type, NULL, inputs, count, &output, 1));
    return output;
}

/* Two convolutions, the second a depthwise one that is added to its input, and a dense layer. */
static struct graph *make_network(void) {
    struct graph *graph = graph_create();
    struct error error;
    graph_add_import(graph, "", 13);
    struct value *photo = graph_add_value(graph, "photo");
    photo->dtype = DTYPE_F32;
    photo->shape = (struct shape){4, {-1, 3, SIDE, SIDE}};
    graph_add_input(graph, photo);

    struct value *first[] = {photo, weights(graph, 4, (int64_t[]){8, 3, 3, 3}, 1, 0.3f),
                             weights(graph, 1, (int64_t[]){8}, 2, 0.1f)};
    struct value *a = apply(graph, "Conv", first, 3);
    node_set_ints(graph, a->producer, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    a = apply(graph, "Relu", &a, 1);
    struct value *second[] = {a, weights(graph, 4, (int64_t[]){8, 1, 3, 3}, 3, 0.3f)};
    struct value *b = apply(graph, "Conv", second, 2);
    node_set_ints(graph, b->producer, "pads", (int64_t[]){1, 1, 1, 1}, 4);
    node_set_int(graph, b->producer, "group", 8);
    struct value *both[] = {a, b}, *sum = apply(graph, "Add", both, 2);
    sum = apply(graph, "GlobalAveragePool", &sum, 1);
    sum = apply(graph, "Flatten", &sum, 1);
    struct value *dense[] = {sum, weights(graph, 2, (int64_t[]){8, CLASSES}, 4, 0.5f),
                             weights(graph, 1, (int64_t[]){CLASSES}, 5, 0.1f)};
    struct value *logits = apply(graph, "Gemm", dense, 3);
    logits->dtype = DTYPE_F32;
    logits->shape = (struct shape){2, {-1, CLASSES}};
    graph_add_output(graph, logits);
    assert_true(operators_bind(graph, &error));
    return graph;
}

/* Photos whose class is the colour that is brightest. */
static void make_batch(uint32_t seed, float *photos, float *targets) {
    fill_floats(photos, BATCH * PIXELS, seed);
    memset(targets, 0, sizeof(float) * BATCH * CLASSES);
    for (int i = 0; i < BATCH; i++) {
        int class_index = (int)((seed + (uint32_t)i * 7) % CLASSES);
        for (int j = 0; j < SIDE * SIDE; j++)
            photos[i * PIXELS + class_index * SIDE * SIDE + j] += 0.5f;
        targets[i * CLASSES + class_index] = 1;
    }
}

static struct trainer_options usual(enum train_method method, int parts) {
    struct trainer_options options = {.optimizer = {.method = method,
                                                    .rate = method == TRAIN_SGD ? 0.1 : 0.01,
                                                    .momentum = 0.9,
                                                    .decay = 0.01,
                                                    .warm_up = 3,
                                                    .steps = 60},
                                      .input = {4, {BATCH / parts, 3, SIDE, SIDE}},
                                      .parts = parts,
                                      .threads = 1};
    return options;
}

static double run_steps(struct trainer *trainer, int from, int to) {
    static float photos[BATCH * PIXELS], targets[BATCH * CLASSES];
    struct error error;
    double loss = 0;
    for (int i = from; i < to; i++) {
        make_batch((uint32_t)i + 1, photos, targets);
        if (!trainer_step(trainer, photos, targets, &loss, &error))
            fail_msg("%s", error.message);
    }
    return loss;
}

static struct trainer *make_trainer(const struct graph *graph, const struct trainer_options *options) {
    struct error error;
    struct trainer *trainer = trainer_create(graph, options, &error);
    if (!trainer)
        fail_msg("%s", error.message);
    return trainer;
}

static void check_learning(enum train_method method) {
    struct graph *graph = make_network();
    const struct trainer_options options = usual(method, 1);
    struct trainer *trainer = make_trainer(graph, &options);
    assert_int_equal(trainer_parameter_count(trainer), 8 * 27 + 8 + 72 + 8 * CLASSES + CLASSES);
    double before = run_steps(trainer, 0, 1), after = run_steps(trainer, 1, 60);
    assert_true(before > 0.7 && after < 0.5 * before);
    trainer_free(trainer);
    graph_free(graph);
}

static void losses_fall(void **state) {
    check_learning(TRAIN_SGD);
    check_learning(TRAIN_ADAMW);
}

/* The weights as bytes, by way of the graph that would be written. */
static struct graph *trained(const struct trainer *trainer) {
    struct error error;
    struct graph *graph = trainer_graph(trainer, &error);
    assert_non_null(graph);
    return graph;
}

static double weight_distance(const struct trainer *a, const struct trainer *b) {
    struct graph *first = trained(a), *second = trained(b);
    double distance = 0;
    for (int i = 0; i < first->value_count; i++)
        if (first->values[i]->constant)
            distance =
                fmax(distance, tensor_distance(first->values[i]->constant, second->values[i]->constant));
    graph_free(first);
    graph_free(second);
    return distance;
}

static void what_was_saved_goes_on_to_the_same_weights(void **state) {
    char path[] = "/tmp/guichet-trainer-XXXXXX";
    struct error error;
    struct graph *graph = make_network();
    const struct trainer_options options = usual(TRAIN_ADAMW, 1), other = usual(TRAIN_SGD, 1);
    struct trainer *whole = make_trainer(graph, &options), *first = make_trainer(graph, &options),
                   *second = make_trainer(graph, &options), *sgd = make_trainer(graph, &other);
    close(mkstemp(path));

    run_steps(whole, 0, 20);
    run_steps(first, 0, 8);
    assert_true(trainer_save(first, path, &error));
    assert_true(trainer_restore(second, path, &error));
    assert_int_equal(trainer_step_count(second), 8);
    run_steps(second, 8, 20);
    assert_true(weight_distance(whole, second) == 0);
    assert_true(weight_distance(whole, first) > 0);

    assert_false(trainer_restore(sgd, path, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_int_equal(truncate(path, 100), 0);
    assert_false(trainer_restore(second, path, &error));
    assert_int_equal(unlink(path), 0);

    trainer_free(whole);
    trainer_free(first);
    trainer_free(second);
    trainer_free(sgd);
    graph_free(graph);
}

static void parts_of_a_batch_add_up(void **state) {
    struct graph *graph = make_network();
    const struct trainer_options one = usual(TRAIN_SGD, 1), four = usual(TRAIN_SGD, 4);
    struct trainer *whole = make_trainer(graph, &one), *parts = make_trainer(graph, &four);
    assert_float_equal(run_steps(whole, 0, 5), run_steps(parts, 0, 5), 1e-5);
    assert_true(weight_distance(whole, parts) < 1e-4);
    trainer_free(whole);
    trainer_free(parts);
    graph_free(graph);
}

static void rates_grow_and_fall(void **state) {
    const struct train_optimizer optimizer = {.rate = 2, .warm_up = 4, .steps = 14};
    assert_float_equal(train_rate(&optimizer, 0), 0.5, 1e-12);
    assert_float_equal(train_rate(&optimizer, 3), 2, 1e-12);
    assert_float_equal(train_rate(&optimizer, 4), 2, 1e-12);
    assert_float_equal(train_rate(&optimizer, 9), 1, 1e-12);
    assert_float_equal(train_rate(&optimizer, 14), 0, 1e-12);
}

static void updates_are_the_formulas(void **state) {
    float weight = 1, first = 0, second = 0, gradient = 0.5f;
    const struct train_slot slot = {&weight, &first, &second, &gradient, 1, true};
    const struct train_optimizer adamw = {.method = TRAIN_ADAMW, .rate = 0.1, .decay = 0.01};
    train_update(&adamw, 0, &slot); /* the first step is of the rate's length */
    assert_float_equal(weight, 1 * (1 - 0.001) - 0.1, 1e-6);
    assert_float_equal(first, 0.05, 1e-7);
    assert_float_equal(second, 0.00025, 1e-8);

    weight = 1, first = 2;
    const struct train_optimizer sgd = {.method = TRAIN_SGD, .rate = 0.1, .momentum = 0.9, .decay = 0.01};
    train_update(&sgd, 0, &slot);
    assert_float_equal(first, 0.9 * 2 + 0.5 + 0.01, 1e-6);
    assert_float_equal(weight, 1 - 0.1 * first, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_fall),
        cmocka_unit_test(what_was_saved_goes_on_to_the_same_weights),
        cmocka_unit_test(parts_of_a_batch_add_up),
        cmocka_unit_test(rates_grow_and_fall),
        cmocka_unit_test(updates_are_the_formulas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
