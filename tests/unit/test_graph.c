/* graph/: building, rewriting, sorting, copying. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "graph/graph.h"

static struct value *unary(struct graph *graph, const char *op_type, struct value *input, const char *name) {
    struct value *output = graph_add_value(graph, name);
    assert_non_null(graph_add_node(graph, NULL, "", op_type, NULL, &input, 1, &output, 1));
    return output;
}

static void nodes_keep_uses_and_producers(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    assert_true(graph_add_import(graph, "ai.onnx", 13));
    struct value *x = graph_add_value(graph, "x");
    assert_true(graph_add_input(graph, x));

    struct value *a = unary(graph, "Relu", x, "a"), *b = unary(graph, "Abs", x, "b");
    struct value *sum = graph_add_value(graph, "sum");
    struct node *add =
        graph_add_node(graph, NULL, "ai.onnx", "Add", "sum", (struct value *[]){a, b}, 2, &sum, 1);

    assert_int_equal(x->use_count, 2);
    assert_int_equal(add->opset, 13);
    assert_true(node_is(add, "Add"));
    assert_ptr_equal(sum->producer, add);
    assert_string_equal(a->producer->name, "Relu#0");

    assert_true(node_set_input(graph, add, 1, a));
    assert_int_equal(a->use_count, 2);
    assert_int_equal(b->use_count, 0);

    assert_true(node_set_input(graph, add, 4, b));
    assert_int_equal(add->input_count, 5);
    assert_null(node_input(add, 3));
    assert_null(node_input(add, 7));
    assert_ptr_equal(node_input(add, 4), b);

    graph_remove_node(graph, add);
    assert_int_equal(a->use_count, 0);
    assert_null(sum->producer);
    assert_int_equal(graph->node_count, 2);
}

static void a_replaced_output_keeps_its_name(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    struct value *x = graph_add_value(graph, "x");
    graph_add_input(graph, x);

    struct value *inner = unary(graph, "Relu", x, "inner");
    struct value *result = unary(graph, "Identity", inner, "result");
    graph_add_output(graph, result);

    assert_true(graph_replace_value(graph, result, inner));
    graph_remove_node(graph, result->producer);

    assert_ptr_equal(graph->outputs[0], inner);
    assert_string_equal(inner->name, "result");
    assert_true(inner->is_output && !result->is_output);
    assert_int_equal(inner->use_count, 0);
    assert_int_equal(graph_remove_dead_nodes(graph), 0);
}

static void dead_chains_go_and_outputs_stay(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    struct value *x = graph_add_value(graph, "x");
    struct value *kept = unary(graph, "Relu", x, "kept");
    graph_add_output(graph, kept);

    struct value *dead = kept;
    for (int i = 0; i < 100; i++)
        dead = unary(graph, "Abs", dead, "");

    assert_int_equal(graph_remove_dead_nodes(graph), 100);
    assert_int_equal(graph->node_count, 1);
    assert_int_equal(kept->use_count, 0);
}

static void sorting_mends_order_and_finds_cycles(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    struct value *v[1001];

    for (int i = 0; i <= 1000; i++)
        v[i] = graph_add_value(graph, "");
    for (int i = 999; i >= 0; i--) /* in reverse order */
        graph_add_node(graph, NULL, "", "Relu", NULL, &v[i], 1, &v[i + 1], 1);

    struct error error = {0};
    assert_true(graph_sort(graph, &error));

    int index = 0;
    for (struct node *node = graph->first; node; node = node->next, index++) {
        assert_ptr_equal(node->inputs[0], v[index]);
        assert_ptr_equal(node->previous ? node->previous->next : graph->first, node);
    }
    assert_int_equal(index, 1000);
    assert_ptr_equal(graph->last->outputs[0], v[1000]);

    node_set_input(graph, graph->first, 0, v[500]);
    assert_false(graph_sort(graph, &error));
    assert_non_null(strstr(error.message, "cycle"));
    assert_int_equal(error.code, ERROR_MODEL);
}

static void moving_a_node_keeps_the_list_whole(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    struct value *x = graph_add_value(graph, "x");
    struct node *a = unary(graph, "Relu", x, "a")->producer, *b = unary(graph, "Abs", x, "b")->producer,
                *c = unary(graph, "Neg", x, "c")->producer;

    graph_move_node(graph, c, a);
    assert_ptr_equal(graph->first, c);
    assert_ptr_equal(graph->last, b);

    graph_move_node(graph, c, NULL);
    assert_ptr_equal(graph->first, a);
    assert_ptr_equal(graph->last, c);
    assert_ptr_equal(c->previous, b);
    assert_int_equal(graph->node_count, 3);
}

static void attributes_are_set_read_and_defaulted(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    struct node *node = unary(graph, "Softmax", graph_add_value(graph, "x"), "y")->producer;
    const int64_t *ints;

    assert_int_equal(node_int(node, "axis", -1), -1);
    assert_int_equal(node_ints(node, "pads", &ints), 0);
    assert_null(ints);

    assert_true(node_set_int(graph, node, "axis", 3));
    assert_true(node_set_int(graph, node, "axis", 2));
    assert_true(node_set_float(graph, node, "alpha", 0.5f));
    assert_true(node_set_ints(graph, node, "pads", (int64_t[]){1, 2, 3}, 3));

    assert_int_equal(node->attribute_count, 3);
    assert_int_equal(node_int(node, "axis", -1), 2);
    assert_true(node_float(node, "alpha", 0) == 0.5f);
    assert_true(node_float(node, "axis", 7) == 7); /* of another kind */
    assert_int_equal(node_ints(node, "pads", &ints), 3);
    assert_int_equal(ints[2], 3);
    assert_string_equal(node_string(node, "mode", "linear"), "linear");
}

static void a_copy_shares_constants_and_nothing_else(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    graph_add_import(graph, "", 17);
    struct value *x = graph_add_value(graph, "x");
    graph_add_input(graph, x);

    struct shape shape = {1, {4}};
    float *data = graph_own_memory(graph, 16);
    assert_int_equal((uintptr_t)data % 64, 0);
    struct value *weight = graph_add_constant(graph, "w", DTYPE_F32, &shape, data);
    struct value *y = graph_add_value(graph, "y");
    struct node *node =
        graph_add_node(graph, NULL, "", "Clip", NULL, (struct value *[]){x, NULL, weight}, 3, &y, 1);

    node_set_int(graph, node, "k", 1);
    graph_add_output(graph, y);

    cleanup(graph_freep) struct graph *copy = graph_clone(graph);
    assert_int_equal(copy->value_count, graph->value_count);
    assert_ptr_equal(copy->values[weight->id]->constant->data, data);
    assert_ptr_not_equal(copy->inputs[0], x);
    assert_string_equal(copy->outputs[0]->name, "y");
    assert_ptr_equal(copy->outputs[0]->producer, copy->first);
    assert_null(copy->first->inputs[1]);

    node_set_int(copy, copy->first, "k", 2);
    assert_int_equal(node_int(node, "k", 0), 1);
    assert_int_equal(copy->values[x->id]->use_count, 1);

    graph_remove_node(copy, copy->first);
    assert_int_equal(x->use_count, 1);
    assert_int_equal(graph_opset(copy, "ai.onnx"), 17);
}

static void the_limit_on_values_holds(void **state) {
    cleanup(graph_freep) struct graph *graph = graph_create();
    for (int i = 0; i < LIMIT_MODEL_VALUES; i++)
        if (!graph_add_value(graph, ""))
            fail();
    assert_null(graph_add_value(graph, ""));
    graph_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes_keep_uses_and_producers),
        cmocka_unit_test(a_replaced_output_keeps_its_name),
        cmocka_unit_test(dead_chains_go_and_outputs_stay),
        cmocka_unit_test(sorting_mends_order_and_finds_cycles),
        cmocka_unit_test(moving_a_node_keeps_the_list_whole),
        cmocka_unit_test(attributes_are_set_read_and_defaulted),
        cmocka_unit_test(a_copy_shares_constants_and_nothing_else),
        cmocka_unit_test(the_limit_on_values_holds),
    };
    return cmocka_run_group_tests_name("graph", tests, NULL, NULL);
}
