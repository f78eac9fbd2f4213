/* Operators of ai.onnx.ml: numbers by hand, and trees whose lists contradict each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ops/operator.h"

#define INTS(values) .kind = ATTRIBUTE_INTS, .count = sizeof(values) / sizeof(values)[0], .ints = values
#define FLOATS(values) .kind = ATTRIBUTE_FLOATS, .count = sizeof(values) / sizeof(values)[0], .floats = values

/* The node's outputs on the table x [rows, columns]; false where it is refused. Outputs are the graph's. */
static bool run(struct graph *graph, const char *op_type, struct attribute *attributes, int count, float *x,
                int64_t rows, int64_t columns, struct tensor *ret, int outputs, struct error *error) {
    struct value *input = graph_add_constant(graph, "x", DTYPE_F32, &(struct shape){2, {rows, columns}}, x);
    struct value *made[2] = {graph_add_value(graph, "y"), graph_add_value(graph, "z")};
    graph_add_import(graph, "ai.onnx.ml", 3);
    struct node *node = graph_add_node(graph, NULL, "ai.onnx.ml", op_type, "n", &input, 1, made, outputs);

    node->attributes = attributes;
    node->attribute_count = count;
    if (!operators_bind(graph, error) || !operator_infer(node, error))
        return false;
    for (int i = 0; i < outputs; i++) {
        ret[i] = (struct tensor){made[i]->dtype, made[i]->shape, NULL};
        ret[i].data = graph_own_memory(graph, tensor_bytes(&ret[i]));
    }
    return operator_compute(node, input->constant, ret, error);
}

/* Two trees of one test each over two columns: x0 <= 0.5 ? 1 : 2, and x1 < 0 ? 10 : 20. */
struct lists {
    int64_t trees[6], ids[6], features[6], yes[6], no[6], weight_trees[4], weight_nodes[4], targets[4];
    const char *modes[6];
    float values[6], weights[4];
};

static const struct lists two_trees = {.trees = {0, 0, 0, 1, 1, 1},
                                       .ids = {0, 1, 2, 0, 1, 2},
                                       .features = {0, 0, 0, 1, 0, 0},
                                       .yes = {1, 0, 0, 1, 0, 0},
                                       .no = {2, 0, 0, 2, 0, 0},
                                       .modes = {"BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"},
                                       .values = {0.5f},
                                       .weight_trees = {0, 0, 1, 1},
                                       .weight_nodes = {1, 2, 1, 2},
                                       .weights = {1, 2, 10, 20}};

static int lists_attributes(const struct lists *l, struct attribute *ret) {
    struct attribute all[] = {
        {.name = "nodes_treeids", INTS(l->trees)},
        {.name = "nodes_nodeids", INTS(l->ids)},
        {.name = "nodes_featureids", INTS(l->features)},
        {.name = "nodes_truenodeids", INTS(l->yes)},
        {.name = "nodes_falsenodeids", INTS(l->no)},
        {.name = "nodes_modes", .kind = ATTRIBUTE_STRINGS, .count = 6, .strings = l->modes},
        {.name = "nodes_values", FLOATS(l->values)},
        {.name = "target_treeids", INTS(l->weight_trees)},
        {.name = "target_nodeids", INTS(l->weight_nodes)},
        {.name = "target_ids", INTS(l->targets)},
        {.name = "target_weights", FLOATS(l->weights)},
    };
    memcpy(ret, all, sizeof all);
    return (int)(sizeof all / sizeof all[0]);
}

static void trees_add_what_their_leaves_say(void **state) {
    struct graph *graph = graph_create();
    struct attribute attributes[16];
    struct tensor y;
    struct error error = {0};
    float x[] = {0.5f, -1, 0.75f, 0, NAN, NAN};
    int count = lists_attributes(&two_trees, attributes);

    if (!run(graph, "TreeEnsembleRegressor", attributes, count, x, 3, 2, &y, 1, &error))
        fail_msg("%s", error.message);
    const float expected[] = {11, 22, 22}; /* no test holds for NaN */
    assert_memory_equal(y.data, expected, sizeof expected);

    float narrow[] = {1};
    struct graph *other = graph_create();
    assert_false(run(other, "TreeEnsembleRegressor", attributes, count, narrow, 1, 1, &y, 1, &error));
    assert_non_null(strstr(error.message, "look at 2 columns, the input has 1"));
    graph_free(other);
    graph_free(graph);
}

/* Some number of the lists changed: an error, or a result; never a walk without end or out of bounds. */
static void lists_that_contradict_each_other_are_harmless(void **state) {
    uint32_t seed = 3;
    int refused = 0;
    for (int round = 0; round < 4000; round++) {
        struct lists lists = two_trees;
        int64_t *lists_of_ints[] = {lists.trees, lists.ids,          lists.features,     lists.yes,
                                    lists.no,    lists.weight_trees, lists.weight_nodes, lists.targets};
        for (int change = 0; change < 1 + round % 3; change++) {
            seed = seed * 1664525u + 1013904223u;
            int list = (int)(seed >> 10) % 8, at = (int)(seed >> 16) % (list < 5 ? 6 : 4);
            lists_of_ints[list][at] = (int64_t[]){0, 1, 2, 3, -1, INT64_MAX, INT64_MIN, 1 << 30}[seed >> 29];
        }

        struct attribute attributes[16];
        struct graph *graph = graph_create();
        struct tensor y;
        struct error error = {0};
        float x[] = {0.5f, -1, 0.75f, 0};
        int count = lists_attributes(&lists, attributes);
        if (!run(graph, "TreeEnsembleRegressor", attributes, count, x, 2, 2, &y, 1, &error)) {
            refused++;
            assert_non_null(strstr(error.message, "node n (TreeEnsembleRegressor): "));
        }
        graph_free(graph);
    }
    assert_true(refused > 1000 && refused < 4000);
}

static void one_of_two_classes_decides(void **state) {
    static const int64_t labels[] = {7, 9};
    struct attribute attributes[16];
    struct lists lists = two_trees;
    const float weights[] = {0.1f, 0.3f, 0.1f, 0.4f};
    memcpy(lists.weights, weights, sizeof weights);
    int count = lists_attributes(&lists, attributes);
    for (int i = 7; i < 11; i++)
        attributes[i].name =
            (const char *[]){"class_treeids", "class_nodeids", "class_ids", "class_weights"}[i - 7];
    attributes[count++] = (struct attribute){.name = "classlabels_int64s", INTS(labels)};

    struct graph *graph = graph_create();
    struct tensor y[2];
    struct error error = {0};
    float x[] = {0, -1, 1, 1};
    if (!run(graph, "TreeEnsembleClassifier", attributes, count, x, 2, 2, y, 2, &error))
        fail_msg("%s", error.message);
    const float scores[] = {0.8f, 0.2f, 0.3f, 0.7f};
    assert_int_equal(((const int64_t *)y[0].data)[0], 7);
    assert_int_equal(((const int64_t *)y[0].data)[1], 9);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(((const float *)y[1].data)[i] - scores[i]) < 1e-6f);
    graph_free(graph);
}

static const float quarter[] = {0.25f}, coefficients[] = {1, 2, -1, 0.5f}, intercepts[] = {0.5f, 1};
static const int64_t keys[] = {1, 2}, three[] = {1, 2, 3};

static const struct {
    const char *op_type;
    struct attribute attributes[3];
    int count;
    float expected[4];
} columns[] = {
    {"Scaler",
     {{.name = "offset", FLOATS(quarter)}, {.name = "scale", FLOATS(quarter)}},
     2,
     {-0.3125f, 0.1875f, 0.4375f, -0.0625f}},
    {"Normalizer", {{.name = "norm", .kind = ATTRIBUTE_STRING, .s = "L1"}}, 1, {-0.5f, 0.5f, 1, 0}},
    {"Binarizer", {{.name = "threshold", .kind = ATTRIBUTE_FLOAT, .f = 0.5f}}, 1, {0, 1, 1, 0}},
    {"Imputer",
     {{.name = "imputed_value_floats", FLOATS(quarter)},
      {.name = "replaced_value_float", .kind = ATTRIBUTE_FLOAT, .f = 2}},
     2,
     {-1, 1, 0.25f, 0}},
    {"LinearRegressor",
     {{.name = "coefficients", FLOATS(coefficients)},
      {.name = "intercepts", FLOATS(intercepts)},
      {.name = "targets", .kind = ATTRIBUTE_INT, .i = 2}},
     3,
     {1.5f, 2.5f, 2.5f, -1}},
};

static void columns_change_as_written(void **state) {
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        struct graph *graph = graph_create();
        struct attribute attributes[3];
        struct tensor y;
        struct error error = {0};
        float x[] = {-1, 1, 2, 0};
        memcpy(attributes, columns[i].attributes, sizeof attributes);
        if (!run(graph, columns[i].op_type, attributes, columns[i].count, x, 2, 2, &y, 1, &error))
            fail_msg("%s", error.message);
        for (int j = 0; j < 4; j++)
            if (fabsf(((const float *)y.data)[j] - columns[i].expected[j]) > 1e-6f)
                fail_msg("%s: element %d is %g", columns[i].op_type, j, (double)((const float *)y.data)[j]);
        graph_free(graph);
    }
}

static void what_is_not_supported_is_named(void **state) {
    static const char *const words[] = {"cat", "dog"};
    struct attribute strings[] = {
        {.name = "classlabels_strings", .kind = ATTRIBUTE_STRINGS, .count = 2, .strings = words}};
    struct attribute lengths[] = {{.name = "keys_int64s", INTS(keys)},
                                  {.name = "values_int64s", INTS(three)}};
    float x[] = {1, 2};
    struct tensor y[2];
    struct error error = {0};
    struct graph *graph = graph_create();
    assert_false(run(graph, "LinearClassifier", strings, 1, x, 1, 2, y, 2, &error));
    assert_non_null(strstr(error.message, "class labels that are strings are not supported"));
    graph_free(graph);
    graph = graph_create();
    assert_false(run(graph, "LabelEncoder", lengths, 2, x, 1, 2, y, 1, &error));
    assert_non_null(strstr(error.message, "has 2 keys of int64 and 3 values, its input is float32"));
    graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_add_what_their_leaves_say),
        cmocka_unit_test(lists_that_contradict_each_other_are_harmless),
        cmocka_unit_test(one_of_two_classes_decides),
        cmocka_unit_test(columns_change_as_written),
        cmocka_unit_test(what_is_not_supported_is_named),
    };
    return cmocka_run_group_tests_name("ml", tests, NULL, NULL);
}
