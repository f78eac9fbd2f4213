/* engine/: plans against the plain interpreter, free shapes, many threads, integers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <pthread.h>
#include <stdio.h>
#include <cmocka.h>

#include "engine/engine.h"
#include "networks.h"
#include "plan/plan.h"
#include "plan/primitive.h"

static const struct engine_options f32 = {.precision = PRECISION_F32};
static const struct engine_options bf16 = {.precision = PRECISION_BF16};

static struct engine *load(struct graph *graph, const struct engine_options *options) {
    struct error error = {0};
    struct engine *engine = engine_load_graph(graph, options, &error);
    if (!engine)
        fail_msg("%s", error.message);
    return engine;
}

/* tensor_distance between the engine's first output and the interpreter's; 0 if the processor lacks the
 * precision. */
static double distance_to_reference(struct graph *(*make)(void), const struct engine_options *options,
                                    const struct tensor *input) {
    if ((options->precision == PRECISION_BF16 && !primitive_has_avx512()) ||
        (options->precision == PRECISION_INT8 && !primitive_has_native_int8()))
        return 0;

    struct error error = {0};
    struct graph *plain = make(), *run = interpret(plain, input, &error);
    if (!run)
        fail_msg("%s", error.message);

    struct engine *engine = load(make(), options);
    struct engine_context *context = engine_context_create(engine, &error);
    struct tensor output;
    if (!engine_run(context, input, 1, &output, 1, &error))
        fail_msg("%s", error.message);

    double distance = tensor_distance(run->outputs[0]->constant, &output);
    engine_context_free(context);
    engine_free(engine);
    graph_free(run);
    graph_free(plain);
    return distance;
}

static void convolutional_network_agrees_with_the_interpreter(void **state) {
    const int64_t dims[][4] = {{1, 3, 32, 32}, {3, 3, 32, 32}, {1, 3, 45, 61}};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        struct tensor input = make_input(4, dims[i], (uint32_t)i);
        assert_true(distance_to_reference(network_convolutional, &f32, &input) < 1e-5);
        assert_true(distance_to_reference(network_convolutional, &bf16, &input) < 0.03);
        free(input.data);
    }
}

static void residual_that_the_convolution_reads_is_not_overwritten(void **state) {
    const int64_t dims[4] = {2, 24, 29, 31};
    struct tensor input = make_input(4, dims, 3);
    assert_true(distance_to_reference(network_direct_residual, &f32, &input) < 1e-5);
    assert_true(distance_to_reference(network_direct_residual, &bf16, &input) < 0.03);
    free(input.data);
}

static void operand_in_another_layout_is_added_where_it_belongs(void **state) {
    const int64_t dims[4] = {1, 64, 14, 17};
    struct tensor input = make_input(4, dims, 4);
    assert_true(distance_to_reference(network_row_major_operand, &f32, &input) < 1e-5);
    assert_true(distance_to_reference(network_row_major_operand, &bf16, &input) < 0.03);
    free(input.data);
}

static void slices_with_gaps_are_joined(void **state) {
    for (int64_t batch = 1; batch < 4; batch += 2) {
        const int64_t dims[4] = {batch, 32, 9, 11};
        struct tensor input = make_input(4, dims, 5);
        assert_true(distance_to_reference(network_swapped_halves, &f32, &input) < 1e-5);
        assert_true(distance_to_reference(network_swapped_halves, &bf16, &input) < 0.03);
        free(input.data);
    }
}

static void batch_norm_before_a_convolution_agrees_with_the_interpreter(void **state) {
    const int64_t dims[][4] = {{1, 32, 28, 28}, {3, 32, 9, 11}};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        struct tensor input = make_input(4, dims[i], (uint32_t)i);
        assert_true(distance_to_reference(network_dense_block, &f32, &input) < 1e-5);
        assert_true(distance_to_reference(network_dense_block, &bf16, &input) < 0.03);
        free(input.data);
    }
}

static void transformer_agrees_with_the_interpreter(void **state) {
    for (int64_t batch = 1; batch < 4; batch += 2) {
        const int64_t dims[4] = {batch, 8, 8, 32};
        struct tensor input = make_input(4, dims, 7);
        assert_true(distance_to_reference(network_transformer, &f32, &input) < 1e-5);
        assert_true(distance_to_reference(network_transformer, &bf16, &input) < 0.03);
        free(input.data);
    }
}

/* Before opset 13, Softmax flattens what follows its axis: over the last one, that is the same. */
static struct graph *network_old_transformer(void) {
    struct graph *graph = network_transformer();
    for (struct node *node = graph->first; node; node = node->next)
        if (node_is(node, "Softmax")) {
            node->opset = 12;
            node_set_int(graph, node, "axis", -1);
        }

    return graph;
}

static void attention_is_found_in_files_of_opset_12(void **state) {
    const int64_t dims[4] = {2, 8, 8, 32};
    struct tensor input = make_input(4, dims, 7);
    struct error error = {0};
    assert_true(distance_to_reference(network_old_transformer, &f32, &input) < 1e-5);

    struct engine *engine = load(network_old_transformer(), &f32);
    struct engine_context *context = engine_context_create(engine, &error);
    assert_true(engine_prepare(context, &input, 1, &error));
    const struct plan *plan = engine_context_plan(context);
    int found = 0;
    for (int i = 0; i < plan->step_count; i++)
        found += strcmp(plan->steps[i].action, "Attention") == 0;
    assert_true(found > 0);

    engine_context_free(context);
    engine_free(engine);
    free(input.data);
}

static const struct engine_options int8 = {.precision = PRECISION_INT8};

static void quantized_network_runs_in_integers(void **state) {
    for (int64_t batch = 1; batch < 40; batch += 19) {
        const int64_t dims[4] = {batch, 3, 16, 16};
        struct tensor input = make_input(4, dims, 5);
        /* A few steps of 255: where a residual is added, one rounding less happens than the graph says. */
        assert_true(distance_to_reference(network_quantized, &int8, &input) < 0.03);
        free(input.data);
    }

    const int64_t dims[4] = {1, 3, 16, 16};
    struct tensor input = make_input(4, dims, 5);
    struct error error = {0};

    struct engine *engine = load(network_quantized(), &int8);
    struct engine_context *context = engine_context_create(engine, &error);
    assert_true(engine_prepare(context, &input, 1, &error));

    int products = 0;
    const struct plan *plan = engine_context_plan(context);
    for (int i = 0; i < plan->step_count; i++) {
        products += strncmp(plan->steps[i].action, "Quantized", 9) == 0;
        assert_int_not_equal(plan->steps[i].kind, STEP_REFERENCE);
    }

    /* Six products, and an addition; two are part of their products. */
    assert_int_equal(products, primitive_has_native_int8() ? 7 : 0);
    assert_string_equal(engine_precision_used(engine), primitive_has_native_int8() ? "int8" : "f32");

    engine_context_free(context);
    engine_free(engine);
    free(input.data);
}

static void integers_and_floats_live_side_by_side(void **state) {
    for (int64_t batch = 1; batch < 20; batch += 9) {
        const int64_t dims[4] = {batch, 3, 16, 16};
        struct tensor input = make_input(4, dims, 8);
        assert_true(distance_to_reference(network_half_quantized, &int8, &input) < 0.03);
        free(input.data);
    }
}

static void integers_are_for_quantized_files_only(void **state) {
    struct error error = {0};
    assert_null(engine_load_graph(network_convolutional(), &int8, &error));
    assert_int_equal(error.code, ERROR_INVALID);

    struct engine_options automatic = {.precision = PRECISION_AUTO};
    struct engine *engine = load(network_quantized(), &automatic);
    if (primitive_has_native_int8())
        assert_string_equal(engine_precision_used(engine), "int8");
    engine_free(engine);
}

static int steps_with(const struct plan *plan, const char *action) {
    int count = 0;
    for (int i = 0; i < plan->step_count; i++)
        count += strcmp(plan->steps[i].action, action) == 0;
    return count;
}

static void exporters_patterns_become_single_steps(void **state) {
    const int64_t dims[4] = {1, 8, 8, 32};
    struct tensor input = make_input(4, dims, 7);
    struct error error = {0};

    struct engine *engine = load(network_transformer(), &f32);
    struct engine_context *context = engine_context_create(engine, &error);
    assert_true(engine_prepare(context, &input, 1, &error));

    const struct plan *plan = engine_context_plan(context);
    assert_int_equal(steps_with(plan, "LayerNormalization"), 1);
    assert_int_equal(steps_with(plan, "Attention"), 1);
    assert_int_equal(steps_with(plan, "GatherRows"), 2);
    assert_int_equal(steps_with(plan, "MatMul+Add+Gelu"), 1);
    assert_int_equal(steps_with(plan, "MatMul+Add"), 2);
    assert_int_equal(steps_with(plan, "Softmax"), 0);

    for (int i = 0; i < plan->step_count; i++)
        assert_int_not_equal(plan->steps[i].kind, STEP_REFERENCE);

    engine_context_free(context);
    engine_free(engine);
    free(input.data);
}

static void tensors_that_live_together_do_not_overlap(void **state) {
    const int64_t dims[4] = {2, 3, 48, 48};
    struct tensor input = make_input(4, dims, 1);
    struct error error = {0};

    struct engine *engine = load(network_convolutional(), &f32);
    struct engine_context *context = engine_context_create(engine, &error);
    assert_true(engine_prepare(context, &input, 1, &error));

    const struct plan *plan = engine_context_plan(context);
    size_t sum = 0;
    for (int i = 0; i < plan->storage_count; i++) {
        const struct plan_storage *a = plan->storages[i];
        sum += a->bytes;
        assert_true(a->offset + a->bytes <= plan->arena_bytes);
        for (int j = 0; j < i; j++) {
            const struct plan_storage *b = plan->storages[j];
            bool together = a->first_step <= b->last_step && b->first_step <= a->last_step;
            bool apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
            assert_true(!together || apart);
        }
    }

    assert_true(plan->scratch_offset < sum); /* something was shared */

    engine_context_free(context);
    engine_free(engine);
    free(input.data);
}

struct worker {
    struct engine *engine;
    uint32_t seed;
    bool failed;
};

static void *run_worker(void *argument) {
    struct worker *worker = argument;
    struct error error = {0};
    struct engine_context *context = engine_context_create(worker->engine, &error);
    float first[10];
    for (int round = 0; round < 6; round++) {
        const int64_t dims[4] = {1 + round % 3, 3, 32, 32};
        struct tensor input = make_input(4, dims, worker->seed), output;
        if (!engine_run(context, &input, 1, &output, 1, &error))
            worker->failed = true;
        else if (round == 0)
            memcpy(first, output.data, sizeof first);
        else
            for (int i = 0; i < 10; i++)
                worker->failed |= fabsf(first[i] - ((float *)output.data)[i]) > 1e-4f;
        free(input.data);
    }

    engine_context_free(context);
    return NULL;
}

static void threads_share_an_engine_and_a_row_does_not_depend_on_its_batch(void **state) {
    struct engine_options single = {.precision = PRECISION_F32, .threads = 1};
    struct engine *engine = load(network_convolutional(), &single);
    pthread_t threads[3];
    struct worker workers[3];

    for (uint32_t i = 0; i < 3; i++) {
        workers[i] = (struct worker){engine, i, false};
        assert_int_equal(pthread_create(&threads[i], NULL, run_worker, &workers[i]), 0);
    }

    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_false(workers[i].failed);
    }

    engine_free(engine);
}

/* Two threads, four rows: each thread runs its own rows, with the results of single runs. */
static void rows_side_by_side_are_those_of_single_runs(void **state) {
    const int64_t dims[4] = {4, 3, 32, 32};
    struct tensor input = make_input(4, dims, 3), output;
    struct engine_options alone = {.precision = PRECISION_F32, .threads = 1},
                          both = {.precision = PRECISION_F32, .threads = 2};
    struct error error = {0};

    struct engine *engine = load(network_convolutional(), &both);
    struct engine_context *context = engine_context_create(engine, &error);
    assert_true(engine_run(context, &input, 1, &output, 1, &error));
    assert_int_equal(engine_context_plan(context)->outputs[0]->shape.dims[0], 1); /* a row's plan */
    assert_true(output.shape.rank == 2 && output.shape.dims[0] == 4 && output.shape.dims[1] == 10);

    struct engine *other = load(network_convolutional(), &alone);
    struct engine_context *single = engine_context_create(other, &error);
    for (int row = 0; row < 4; row++) {
        struct tensor one = {
            DTYPE_F32, {4, {1, 3, 32, 32}}, (float *)input.data + (int64_t)row * 3 * 32 * 32};
        struct tensor expected;
        assert_true(engine_run(single, &one, 1, &expected, 1, &error));
        assert_memory_equal((float *)output.data + (int64_t)row * 10, expected.data, 10 * sizeof(float));
    }

    engine_context_free(single);
    engine_free(other);
    engine_context_free(context);
    engine_free(engine);
    free(input.data);
}

static void more_shapes_than_plans_are_kept_still_run(void **state) {
    struct error error = {0};
    struct engine *engine = load(network_convolutional(), &f32);
    struct engine_context *context = engine_context_create(engine, &error);
    for (int64_t side = 16; side < 16 + 40; side++) {
        const int64_t dims[4] = {1, 3, side, side};
        struct tensor input = make_input(4, dims, 1), output;
        assert_true(engine_run(context, &input, 1, &output, 1, &error));
        assert_int_equal(output.shape.dims[1], 10);
        free(input.data);
    }

    engine_context_free(context);
    engine_free(engine);
}

/* Weights large enough that their own elements are given back once they are packed. */
static struct graph *network_large_product(void) {
    struct value *x;
    struct graph *g = network_begin(&x, 2, -1, 256);
    return network_end(g, network_node(g, "Gemm", x, network_floats(g, 5, 0.1f, 2, 256, 300),
                                       network_floats(g, 6, 0.1f, 1, 300), NULL));
}

static void weights_are_unpacked_for_a_plan_that_wants_them_otherwise(void **state) {
    const struct engine_options *precisions[] = {&f32, &bf16};
    for (int i = 0; i < (primitive_has_avx512() ? 2 : 1); i++) {
        struct error error = {0};
        struct engine *engine = load(network_large_product(), precisions[i]);
        struct engine_context *context = engine_context_create(engine, &error);
        for (int64_t batch = 1; batch < 200; batch += 60) { /* few rows and many are packed in two ways */
            const int64_t dims[2] = {batch, 256};
            struct tensor input = make_input(2, dims, 4), output;
            if (!engine_run(context, &input, 1, &output, 1, &error))
                fail_msg("%s", error.message);

            struct graph *plain = network_large_product(), *run = interpret(plain, &input, &error);
            assert_true(tensor_distance(run->outputs[0]->constant, &output) < (i ? 0.02 : 1e-5));

            graph_free(run);
            graph_free(plain);
            free(input.data);
        }

        engine_context_free(context);
        engine_free(engine);
    }
}

static void inputs_that_do_not_fit_are_refused(void **state) {
    struct error error = {0};
    struct engine *engine = load(network_convolutional(), &f32);
    struct engine_context *context = engine_context_create(engine, &error);
    const int64_t channels[4] = {1, 4, 32, 32}, short_dims[3] = {3, 32, 32}, tiny[4] = {1, 3, 1, 1};
    struct tensor wrong = make_input(4, channels, 1), flat = make_input(3, short_dims, 1),
                  small = make_input(4, tiny, 1), output;

    assert_false(engine_run(context, &wrong, 1, &output, 1, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_non_null(strstr(error.message, "1x4x32x32"));
    assert_false(engine_run(context, &flat, 1, &output, 1, &error));
    assert_false(engine_run(context, NULL, 0, &output, 1, &error));
    assert_false(engine_run(context, &small, 1, &output, 1, &error)); /* nothing is left to pool */

    wrong.shape.dims[1] = 3;
    wrong.dtype = DTYPE_F64;
    assert_false(engine_run(context, &wrong, 1, &output, 1, &error));

    engine_context_free(context);
    engine_free(engine);
    free(wrong.data);
    free(flat.data);
    free(small.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convolutional_network_agrees_with_the_interpreter),
        cmocka_unit_test(residual_that_the_convolution_reads_is_not_overwritten),
        cmocka_unit_test(operand_in_another_layout_is_added_where_it_belongs),
        cmocka_unit_test(slices_with_gaps_are_joined),
        cmocka_unit_test(batch_norm_before_a_convolution_agrees_with_the_interpreter),
        cmocka_unit_test(transformer_agrees_with_the_interpreter),
        cmocka_unit_test(attention_is_found_in_files_of_opset_12),
        cmocka_unit_test(quantized_network_runs_in_integers),
        cmocka_unit_test(integers_and_floats_live_side_by_side),
        cmocka_unit_test(integers_are_for_quantized_files_only),
        cmocka_unit_test(exporters_patterns_become_single_steps),
        cmocka_unit_test(tensors_that_live_together_do_not_overlap),
        cmocka_unit_test(threads_share_an_engine_and_a_row_does_not_depend_on_its_batch),
        cmocka_unit_test(rows_side_by_side_are_those_of_single_runs),
        cmocka_unit_test(more_shapes_than_plans_are_kept_still_run),
        cmocka_unit_test(weights_are_unpacked_for_a_plan_that_wants_them_otherwise),
        cmocka_unit_test(inputs_that_do_not_fit_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
