/* passes/specialize.c and separable.c: shapes become known, and rows stay apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rewriting.h"

/* Reshape(x, Concat(Gather(Shape(x), 0), -1)): what exporters write for flatten. */
static void reshape_by_its_own_shape(struct value *x) {
    struct value *batch = add("Gather", VALUES(add("Shape", VALUES(x)), integers((int64_t[]){0}, 1)));
    node_set_int(graph, batch->producer, "axis", 0);
    struct value *shape = add("Concat", VALUES(batch, integers((int64_t[]){-1}, 1)));
    node_set_int(graph, shape->producer, "axis", 0);
    graph_add_output(graph, add("Reshape", VALUES(x, shape)));
}

static void shapes_become_constants_in_a_clone(void **state) {
    struct error error = {0};
    struct value *x = input_of(SHAPE(-1, 3, -1, -1));
    struct value *weight = floats(SHAPE(4, 3, 1, 1));
    reshape_by_its_own_shape(add("Conv", VALUES(x, weight)));

    assert_true(operators_bind(graph, &error) && passes_simplify(graph, &error));

    bool needed[1];
    passes_plan_inputs(graph, needed);
    assert_false(needed[0]);

    for (int64_t batch = 1; batch < 4; batch++) {
        cleanup(graph_freep) struct graph *plan = graph_clone(graph);
        struct tensor input = {DTYPE_F32, SHAPE(batch, 3, 2, 5), NULL};
        if (!passes_specialize(plan, &input, 1, &error))
            fail_msg("%s", error.message);
        assert_int_equal(plan->node_count, 2);
        assert_true(shape_equal(&plan->outputs[0]->shape, &SHAPE(batch, 40)));
        assert_int_equal(plan->outputs[0]->dtype, DTYPE_F32);
        assert_ptr_equal(plan->first->inputs[1]->constant->data, weight->constant->data);
        assert_int_equal(tensor_get_i64(plan->last->inputs[1]->constant, 0), batch);
    }

    assert_int_equal(graph->inputs[0]->shape.dims[0], -1);
    assert_true(graph->node_count > 2); /* the clones' folding is theirs alone */
}

static void wrong_inputs_are_refused_by_name(void **state) {
    struct error error = {0};
    graph_add_output(graph, add("Relu", VALUES(input_of(SHAPE(-1, 3)))));
    assert_true(operators_bind(graph, &error));

    struct tensor wrong[] = {{DTYPE_F32, SHAPE(1, 4), NULL},
                             {DTYPE_F32, SHAPE(1, 3, 1), NULL},
                             {DTYPE_U8, SHAPE(1, 3), NULL},
                             {DTYPE_F32, SHAPE(-1, 3), NULL},
                             {DTYPE_F32, SHAPE(1ll << 40, 3), NULL}};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cleanup(graph_freep) struct graph *plan = graph_clone(graph);
        assert_false(passes_specialize(plan, &wrong[i], 1, &error));
        assert_int_equal(error.code, ERROR_INVALID);
        assert_non_null(strstr(error.message, "input 'x'"));
    }

    cleanup(graph_freep) struct graph *plan = graph_clone(graph);
    assert_false(passes_specialize(plan, wrong, 0, &error));
}

static void inputs_that_decide_shapes_are_found(void **state) {
    struct error error = {0};
    struct value *x = input_of(SHAPE(2, 3));

    struct value *shape = graph_add_value(graph, "shape");
    shape->dtype = DTYPE_I64;
    shape->shape = SHAPE(1);
    graph_add_input(graph, shape);
    graph_add_output(graph, add("Reshape", VALUES(x, add("Abs", VALUES(shape)))));
    assert_true(operators_bind(graph, &error));

    bool needed[2];
    passes_plan_inputs(graph, needed);
    assert_true(!needed[0] && needed[1]);

    int64_t six = -6;
    struct tensor inputs[] = {{DTYPE_F32, SHAPE(2, 3), NULL}, {DTYPE_I64, SHAPE(1), &six}};
    cleanup(graph_freep) struct graph *plan = graph_clone(graph);
    if (!passes_specialize(plan, inputs, 2, &error))
        fail_msg("%s", error.message);
    assert_true(shape_equal(&plan->outputs[0]->shape, &SHAPE(6)));

    inputs[1].data = NULL;
    cleanup(graph_freep) struct graph *unknown = graph_clone(graph);
    assert_false(passes_specialize(unknown, inputs, 2, &error));
    assert_non_null(strstr(error.message, "Reshape"));
    assert_non_null(strstr(error.message, "decides a shape"));
}

static void shape_takes_a_part(void **state) {
    struct error error = {0};
    graph_add_import(graph, "", 15);

    struct value *x = input_of(SHAPE(-1, 3, -1, 7));
    struct value *part = add("Shape", VALUES(x)), *size = add("Size", VALUES(x));
    node_set_int(graph, part->producer, "start", 1);
    node_set_int(graph, part->producer, "end", -1);
    graph_add_output(graph, part);
    graph_add_output(graph, size);
    assert_true(operators_bind(graph, &error));

    struct tensor input = {DTYPE_F32, SHAPE(2, 3, 5, 7), NULL};
    assert_true(passes_specialize(graph, &input, 1, &error));

    assert_int_equal(graph->node_count, 0);
    assert_true(shape_equal(&graph->outputs[0]->shape, &SHAPE(2)));
    assert_int_equal(tensor_get_i64(graph->outputs[0]->constant, 1), 5);
    assert_int_equal(tensor_get_i64(graph->outputs[1]->constant, 0), 210);
}

static bool is_separable(struct graph *network, int64_t batch, struct shape shape) {
    struct error error = {0};
    cleanup(graph_freep) struct graph *plan = network;

    shape.dims[0] = batch;
    struct tensor input = {DTYPE_F32, shape, NULL};
    if (!passes_specialize(plan, &input, 1, &error))
        fail_msg("%s", error.message);
    return passes_batch_is_separable(plan, batch);
}

/* One node over [n, 6, 4]. */
static struct graph *network_single(const char *op_type, int64_t axis) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    x = network_node(g, op_type, network_node(g, "Relu", x, NULL), NULL);
    node_set_int(g, x->producer, "axis", axis);
    return network_end(g, x);
}

static struct graph *network_of_two(const char *op_type, struct value *(*operand)(struct graph *)) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    return network_end(g, network_node(g, op_type, x, operand(g), NULL));
}

static struct value *same_for_every_row(struct graph *g) {
    return network_floats(g, 1, 1, 3, 1, 6, 4);
}

static struct value *one_for_each_of_four_rows(struct graph *g) {
    return network_floats(g, 1, 1, 3, 4, 6, 4);
}

static struct value *rows_in_pairs(struct graph *g) {
    return network_ints(g, 3, -1, 12, 4);
}

static struct value *rows_by_themselves(struct graph *g) {
    return network_ints(g, 3, 0, 4, 6);
}

/* Elements 1 … 2 of an axis. */
static struct graph *network_slice(int axis) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    return network_end(g, network_node(g, "Slice", x, network_ints(g, 1, 1), network_ints(g, 1, 3),
                                       network_ints(g, 1, axis), NULL));
}

static struct graph *network_pad(int before, int after) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    return network_end(g, network_node(g, "Pad", x, network_ints(g, 6, before, 1, 0, after, 0, 1), NULL));
}

/* Every row by itself, or all of them as one matrix. */
static struct graph *network_attention(bool is_joined) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 6);
    struct value *y = network_node(g, "Relu", x, NULL);
    if (is_joined)
        y = network_permute(g, y, 3, 1, 0, 2);
    return network_end(g, network_node(g, "MatMul", x, y, NULL));
}

/* [n, 6, 4] on top of itself: all rows, and all of them again; then the mean of
 * each and its double, or of neighbours. */
static struct graph *network_stacked(bool pairs_neighbours) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    x = network_node(g, "Concat", x, network_node(g, "Relu", x, NULL), NULL);
    node_set_int(g, x->producer, "axis", 0);
    x = network_node(g, "Reshape", x,
                     pairs_neighbours ? network_ints(g, 4, -1, 2, 6, 4) : network_ints(g, 4, 2, -1, 6, 4),
                     NULL);
    x = network_node(g, "ReduceMean", x, NULL);
    int64_t axis = pairs_neighbours;
    node_set_ints(g, x->producer, "axes", &axis, 1);
    node_set_int(g, x->producer, "keepdims", 0);
    return network_end(g, x);
}

/* A constant of four rows, all alike, above each of the four. */
static struct graph *network_token(float change) {
    struct value *x;
    struct graph *g = network_begin(&x, 3, -1, 6, 4);
    struct value *token = network_floats(g, 1, 1, 3, 4, 1, 4);
    float *data = token->constant->data;
    for (int i = 0; i < 16; i++)
        data[i] = (float)(i % 4) + (i == 15 ? change : 0);
    x = network_node(g, "Concat", token, x, NULL);
    node_set_int(g, x->producer, "axis", 1);
    return network_end(g, x);
}

static void rows_are_apart_only_where_nothing_joins_them(void **state) {
    struct shape row = SHAPE(1, 6, 4);
    assert_true(is_separable(network_convolutional(), 4, SHAPE(1, 3, 16, 16)));
    assert_true(is_separable(network_single("Softmax", 1), 4, row));
    assert_false(is_separable(network_single("Softmax", 0), 4, row));
    assert_false(is_separable(network_single("Softmax", -3), 4, row));
    assert_true(is_separable(network_of_two("Add", same_for_every_row), 4, row));
    assert_false(is_separable(network_of_two("Add", one_for_each_of_four_rows), 4, row));
    assert_true(is_separable(network_of_two("Reshape", rows_by_themselves), 4, row));
    assert_false(is_separable(network_of_two("Reshape", rows_in_pairs), 4, row));
    assert_true(is_separable(network_slice(1), 4, row));
    assert_false(is_separable(network_slice(0), 4, row));
    assert_true(is_separable(network_pad(0, 0), 4, row));
    assert_false(is_separable(network_pad(0, 1), 4, row));
    assert_false(is_separable(network_pad(1, -1), 4, row));
    assert_true(is_separable(network_attention(false), 4, SHAPE(1, 6, 6)));
    assert_false(is_separable(network_attention(true), 6, SHAPE(1, 6, 6)));
    assert_true(is_separable(network_transformer(), 4, SHAPE(1, 8, 8, 32))); /* windows */
    assert_true(is_separable(network_stacked(false), 4, row));
    assert_false(is_separable(network_stacked(true), 4, row));
    assert_true(is_separable(network_token(0), 4, row));
    assert_false(is_separable(network_token(1), 4, row));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        test(shapes_become_constants_in_a_clone),
        test(wrong_inputs_are_refused_by_name),
        test(inputs_that_decide_shapes_are_found),
        test(rows_are_apart_only_where_nothing_joins_them),
        test(shape_takes_a_part),
    };
    return cmocka_run_group_tests_name("specialize", tests, NULL, NULL);
}
