/* engine/: files of models, and baked files beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "engine/engine.h"
#include "networks.h"
#include "onnx/onnx.h"
#include "plan/plan.h"
#include "plan/primitive.h"

static const struct engine_options f32 = {.precision = PRECISION_F32};
static const struct engine_options bf16 = {.precision = PRECISION_BF16};

static char folder[] = "/tmp/guichet-baked-XXXXXX";
static char model_path[64], baked_file[96];

static void write_model(struct graph *graph) {
    struct error error = {0};
    if (!onnx_graph_write(graph, model_path, &error))
        fail_msg("%s", error.message);
    graph_free(graph);
}

/* The first output of the model file for a batch, to be freed. *ret_state: engine_baked_state. */
static float *run_model_file(const struct engine_options *options, int64_t batch, bool bake,
                             char *ret_state) {
    struct error error = {0};
    const int64_t dims[4] = {batch, 3, 32, 32};
    struct tensor input = make_input(4, dims, 3), output;
    struct engine *engine = engine_load(model_path, options, &error);
    if (!engine)
        fail_msg("%s", error.message);

    struct engine_context *context = engine_context_create(engine, &error);
    if (!engine_run(context, &input, 1, &output, 1, &error) || (bake && !engine_bake(engine, NULL, &error)))
        fail_msg("%s", error.message);

    float *copy = malloc(tensor_bytes(&output));
    memcpy(copy, output.data, tensor_bytes(&output));
    snprintf(ret_state, 256, "%s", engine_baked_state(engine));
    engine_baked_path(engine, baked_file, sizeof baked_file);

    engine_context_free(context);
    engine_free(engine);
    free(input.data);
    return copy;
}

static void baked_model_answers_as_the_file_it_came_from(void **state) {
    const struct engine_options *precisions[] = {&f32, &bf16};
    write_model(network_convolutional());
    for (int i = 0; i < (primitive_has_avx512() ? 2 : 1); i++) {
        char text[256];
        float *cold = run_model_file(precisions[i], 1, true, text);
        assert_string_equal(text, "");
        float *baked = run_model_file(precisions[i], 1, false, text);
        assert_string_equal(text, "used");
        assert_memory_equal(cold, baked, 10 * sizeof(float));

        /* a batch that wants the weights packed otherwise gets them */
        struct engine_options fresh = *precisions[i];
        fresh.no_baked = true;
        float *many = run_model_file(precisions[i], 20, false, text);
        float *reference = run_model_file(&fresh, 20, false, text);
        for (int j = 0; j < 200; j++)
            assert_true(fabsf(many[j] - reference[j]) <= 0.03f * fabsf(reference[j]) + 0.03f);

        free(cold);
        free(baked);
        free(many);
        free(reference);
        unlink(baked_file);
    }
}

struct detached_case {
    struct graph *(*make)(void);
    enum precision precision;
    int64_t dims[4]; /* of one row */
    bool baked;
};

/* Run `batch` rows; the first output, its data to be freed. */
static struct tensor run_batch(struct engine_context *context, const struct detached_case *one,
                               int64_t batch) {
    struct error error = {0};
    const int64_t dims[4] = {batch, one->dims[1], one->dims[2], one->dims[3]};
    struct tensor input = make_input(4, dims, 3), output;
    if (!engine_run(context, &input, 1, &output, 1, &error))
        fail_msg("%s", error.message);

    void *copy = malloc(tensor_bytes(&output));
    memcpy(copy, output.data, tensor_bytes(&output));
    output.data = copy;
    free(input.data);
    return output;
}

/* Load, run, detach; then cut the files to nothing: the same answers, and those of batches never seen. */
static void expect_no_file_is_needed(const struct detached_case *one) {
    const struct engine_options options = {.precision = one->precision, .no_baked = !one->baked};
    struct error error = {0};
    write_model(one->make());

    for (int turn = 0; turn <= one->baked; turn++) { /* the first makes the baked file */
        struct engine *engine = engine_load(model_path, &options, &error);
        struct engine_context *context = engine ? engine_context_create(engine, &error) : NULL;
        if (!context)
            fail_msg("%s", error.message);
        struct tensor before = run_batch(context, one, 1);
        if (turn < one->baked) {
            assert_true(engine_bake(engine, NULL, &error));
        } else {
            struct engine *other = engine_load(model_path, &options, &error);
            struct engine_context *whole = engine_context_create(other, &error);
            struct tensor reference = run_batch(whole, one, 20);

            assert_true(engine_detach(engine, &error) && engine_detach_baked(engine, &error));
            engine_baked_path(engine, baked_file, sizeof baked_file);
            assert_int_equal(truncate(model_path, 0), 0);
            assert_true(!one->baked || truncate(baked_file, 0) == 0);

            struct tensor after = run_batch(context, one, 1), many = run_batch(context, one, 20);
            assert_memory_equal(before.data, after.data, tensor_bytes(&before));
            assert_memory_equal(reference.data, many.data, tensor_bytes(&reference));
            free(after.data);
            free(many.data);
            free(reference.data);
            engine_context_free(whole);
            engine_free(other);
        }
        free(before.data);
        engine_context_free(context);
        engine_free(engine);
    }
    unlink(baked_file);
}

/* Weights of which several lie beside each other, each large enough to be given back once it is packed. The
 * longer name moves them in the file: only where they are aligned do they stay in its map. */
static struct graph *network_large(const char *name) {
    struct value *x;
    struct graph *g = network_begin(&x, 4, -1, 3, -1, -1);
    x->name = name;
    x = network_node(g, "Relu", network_conv(g, x, 3, 96, 3, 1, 1), NULL);
    for (int i = 0; i < 3; i++)
        x = network_node(g, "Relu", network_conv(g, x, 96, 96, 3, 1, 1), NULL);
    return network_end(g, network_node(g, "GlobalAveragePool", x, NULL));
}

/* Detached before anything was packed: packing one weight must leave the copies of its neighbours alone. */
static void model_that_never_ran_needs_its_files_no_more(void **state) {
    static const char *const names[] = {"x", "xx", "xxx", "xxxx"};
    const struct engine_options options = {.precision = PRECISION_F32, .no_baked = true};
    const struct detached_case one = {.dims = {1, 3, 8, 8}};
    struct error error = {0};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        write_model(network_large(names[i]));
        struct engine *engine = engine_load(model_path, &options, &error),
                      *other = engine_load(model_path, &options, &error);
        struct engine_context *context = engine_context_create(engine, &error),
                              *whole = engine_context_create(other, &error);
        struct tensor reference = run_batch(whole, &one, 1);

        assert_true(engine_detach(engine, &error));
        assert_int_equal(truncate(model_path, 0), 0);
        struct tensor after = run_batch(context, &one, 1);
        assert_memory_equal(reference.data, after.data, tensor_bytes(&reference));

        free(reference.data);
        free(after.data);
        engine_context_free(whole);
        engine_free(other);
        engine_context_free(context);
        engine_free(engine);
    }
}

static void loaded_model_needs_its_files_no_more(void **state) {
    const struct detached_case cases[] = {
        {network_convolutional, PRECISION_F32, {1, 3, 32, 32}, false},
        {network_convolutional, PRECISION_F32, {1, 3, 32, 32}, true},
        {network_convolutional, PRECISION_BF16, {1, 3, 32, 32}, false},
        {network_convolutional, PRECISION_BF16, {1, 3, 32, 32}, true},
        {network_transformer, PRECISION_F32, {1, 8, 8, 32}, false},
        {network_transformer, PRECISION_BF16, {1, 8, 8, 32}, false},
        {network_transformer, PRECISION_BF16, {1, 8, 8, 32}, true},
        {network_quantized, PRECISION_INT8, {1, 3, 16, 16}, false},
        {network_quantized, PRECISION_INT8, {1, 3, 16, 16}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if ((cases[i].precision != PRECISION_BF16 || primitive_has_avx512()) &&
            (cases[i].precision != PRECISION_INT8 || primitive_has_native_int8()))
            expect_no_file_is_needed(&cases[i]);
}

static void baked_file_that_is_not_current_is_refused_with_a_reason(void **state) {
    char text[256];
    struct error error = {0};
    write_model(network_convolutional());
    free(run_model_file(&f32, 1, true, text));

    size_t size;
    char *bytes = file_read(baked_file, 1 << 30, &size, &error);
    const size_t offsets[] = {0, 9, 17, 30, 100, size / 2, size - 1};

    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        bytes[offsets[i]] ^= 0x40;
        assert_true(file_write(baked_file, bytes, size, &error));
        bytes[offsets[i]] ^= 0x40;
        free(run_model_file(&f32, 1, false, text));
        assert_non_null(strstr(text, ".baked: "));
    }

    assert_true(file_write(baked_file, bytes, size / 3, &error));
    free(run_model_file(&f32, 1, false, text));
    assert_non_null(strstr(text, "damaged"));

    assert_true(file_write(baked_file, bytes, size, &error));
    struct graph *other = network_convolutional();
    ((float *)other->values[1]->constant->data)[0] += 1;
    write_model(other);
    free(run_model_file(&f32, 1, false, text));
    assert_non_null(strstr(text, "baked from another"));

    free(bytes);
    unlink(baked_file);
}

static int make_folder(void **state) {
    snprintf(model_path, sizeof model_path, "%s/model.onnx", mkdtemp(folder));
    return 0;
}

static int remove_folder(void **state) {
    unlink(model_path);
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(baked_model_answers_as_the_file_it_came_from),
        cmocka_unit_test(model_that_never_ran_needs_its_files_no_more),
        cmocka_unit_test(loaded_model_needs_its_files_no_more),
        cmocka_unit_test(baked_file_that_is_not_current_is_refused_with_a_reason),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
