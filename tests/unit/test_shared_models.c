/* The models of ../shared (or GUICHET_SHARED): read, written, simplified, specialised, dequantised; they
 * compute the same. Skipped where they are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "interpreter.h"
#include "onnx/onnx.h"
#include "passes/passes.h"
#include "same_graphs.h"

static struct tensor photo; /* [1, 3, 224, 224] */

static const char *model_path(const char *name) {
    static char path[512];
    const char *shared = getenv("GUICHET_SHARED");
    snprintf(path, sizeof path, "%s/models/%s/model.onnx", shared ? shared : "../shared", name);
    return path;
}

static struct graph *read_model(const char *path) {
    struct error error;
    struct graph *graph = onnx_graph_read(path, &error);
    if (!graph || !operators_bind(graph, &error))
        fail_msg("%s", error.message);
    return graph;
}

static void models_survive_a_round_trip(void **state) {
    static const char *const names[] = {"mobilenet_v2", "mobilenet_v2_qat"};
    char copy[] = "/tmp/guichet-copy-XXXXXX";
    close(mkstemp(copy));
    for (int i = 0; i < 2; i++) {
        struct error error;
        cleanup(graph_freep) struct graph *graph = read_model(model_path(names[i]));
        assert_int_equal(graph->input_count, 1);
        assert_int_equal(graph->node_count, i ? 340 : 102);
        assert_true(onnx_graph_write(graph, copy, &error));
        cleanup(graph_freep) struct graph *again = read_model(copy);
        same_graphs(graph, again);
    }
    unlink(copy);
}

static void a_simplified_and_specialized_model_computes_the_same(void **state) {
    struct error error = {0};
    cleanup(graph_freep) struct graph *model = read_model(model_path("mobilenet_v2"));
    cleanup(graph_freep) struct graph *untouched = read_model(model_path("mobilenet_v2"));

    cleanup(graph_freep) struct graph *before = interpret(untouched, &photo, &error);
    if (!before || !passes_simplify(model, &error))
        fail_msg("%s", error.message);

    cleanup(graph_freep) struct graph *plan = graph_clone(model);
    struct tensor shape_only = {photo.dtype, photo.shape, NULL};
    if (!passes_specialize(plan, &shape_only, 1, &error))
        fail_msg("%s", error.message);

    cleanup(graph_freep) struct graph *after = interpret(plan, &photo, &error);
    if (!after)
        fail_msg("%s", error.message);

    double distance = tensor_distance(before->outputs[0]->constant, after->outputs[0]->constant);
    if (!(distance < 1e-4))
        fail_msg("differs by %g", distance);
}

static void a_quantized_model_runs_in_floats(void **state) {
    struct error error = {0};
    cleanup(graph_freep) struct graph *untouched = read_model(model_path("mobilenet_v2_qat"));
    cleanup(graph_freep) struct graph *model = read_model(model_path("mobilenet_v2_qat"));

    cleanup(graph_freep) struct graph *exact = interpret(untouched, &photo, &error);
    if (!exact || !passes_simplify(model, &error) || !passes_dequantize(model, &error))
        fail_msg("%s", error.message);

    for (const struct node *node = model->first; node; node = node->next)
        assert_false(node_is(node, "DequantizeLinear") && node->inputs[0]->constant);

    cleanup(graph_freep) struct graph *floating = interpret(model, &photo, &error);
    if (!floating)
        fail_msg("%s", error.message);

    double distance = tensor_distance(exact->outputs[0]->constant, floating->outputs[0]->constant);
    if (!(distance < 1e-6)) /* the rounding stays */
        fail_msg("differs by %g", distance);
}

int main(void) {
    if (access(model_path("mobilenet_v2"), R_OK) != 0 || access(model_path("mobilenet_v2_qat"), R_OK) != 0) {
        printf("1..0 # SKIP %s is not there\n", model_path("mobilenet_v2"));
        return 0;
    }
    photo = (struct tensor){DTYPE_F32, {4, {1, 3, 224, 224}}, malloc(sizeof(float) * 3 * 224 * 224)};
    fill_floats(photo.data, 3 * 224 * 224, 99);

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_survive_a_round_trip),
        cmocka_unit_test(a_simplified_and_specialized_model_computes_the_same),
        cmocka_unit_test(a_quantized_model_runs_in_floats),
    };
    int failed = cmocka_run_group_tests_name("shared_models", tests, NULL, NULL);
    free(photo.data);
    return failed;
}
