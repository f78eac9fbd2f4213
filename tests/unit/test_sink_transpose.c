/* passes/sink_transpose.c: transposes meet and cancel, and what must not turn stops them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "rewriting.h"

/* passes_specialize for the shape that the input states, then passes_fuse. */
static bool fuse(struct graph *g, struct error *error) {
    struct tensor x = {DTYPE_F32, g->inputs[0]->shape, NULL};

    return passes_specialize(g, &x, 1, error) && passes_fuse(g, error);
}

static struct value *transpose(struct value *x, int64_t a, int64_t b, int64_t c, int64_t d) {
    struct value *y = add("Transpose", VALUES(x));
    node_set_ints(graph, y->producer, "perm", (int64_t[]){a, b, c, d}, d < 0 ? 3 : 4);
    return y;
}

/* [n, c, h, w] to [n, h, w, c], and back. */
static struct value *last(struct value *x) {
    return transpose(x, 0, 2, 3, 1);
}

static struct value *first(struct value *x) {
    return transpose(x, 0, 3, 1, 2);
}

/* [n, t, c] to [n, c, t], and back. */
static struct value *turned(struct value *x) {
    return transpose(x, 0, 2, 1, -1);
}

/* One by one: x turned, the operator (with what is constant of it, or a vector of channels), turned back. */
static void transposes_pass_every_elementwise_operator(void **state) {
    int count, tried = 0;
    const struct op_def *entries = operator_table(&count);
    struct shape shape = SHAPE(2, 4, 6, 5);

    for (int i = 0; i < count; i++) {
        const struct op_def *entry = &entries[i];
        struct subject subject;
        if (!(entry->traits & OP_ELEMENTWISE) || !subject_init(&subject, entry, shape) ||
            subject.dtype != DTYPE_F32 || subject.data > 2)
            continue;

        graph_free(graph);
        graph = graph_create();
        graph_add_import(graph, entry->domain, entry->until);
        graph_add_import(graph, "", *entry->domain ? 13 : entry->until);
        struct value *inputs[INPUTS] = {last(add("Erf", VALUES(input_of(shape)))), positive(SHAPE(4))},
                     *y = graph_add_value(graph, "y");
        int used = subject.data;
        for (; used < INPUTS && subject.recipe->inputs[used]; used++)
            inputs[used] = parameter_add(graph, subject.recipe->inputs[used]);
        struct node *node =
            graph_add_node(graph, NULL, entry->domain, entry->op_type, NULL, inputs, used, &y, 1);
        attributes_add(graph, node, subject.recipe->attributes);
        expect_same(first(y), shape, fuse, 1e-6);
        if (count_of(graph, "Transpose") != 0)
            fail_msg("a Transpose stops before %s", entry->op_type);
        tried++;
    }
    assert_true(tried > 50);
}

static void transposes_of_both_operands_become_one(void **state) {
    struct value *x = input_of(SHAPE(2, 6, 4));
    struct value *a = turned(add("Erf", VALUES(x))), *b = turned(add("Neg", VALUES(x)));

    expect_same(turned(add("Sub", VALUES(add("Max", VALUES(a, b)), floats(SHAPE(4, 1))))), SHAPE(2, 6, 4),
                fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 0);
}

static void a_value_that_is_used_twice_is_turned_once(void **state) {
    struct value *t = last(input_of(SHAPE(2, 4, 3, 5)));
    expect_same(first(add("Mul", VALUES(t, t))), SHAPE(2, 4, 3, 5), fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 0);
}

/* In a channels-last network, what is added comes in the other order: it gets a Transpose, for the one after.
 */
static void the_way_back_to_channels_first_is_sunk_past_additions(void **state) {
    struct value *x = input_of(SHAPE(2, 3, 5, 4));
    struct value *y = first(add("Erf", VALUES(x))), *other = add("Neg", VALUES(first(x)));

    y = last(add("Softplus", VALUES(add("Add", VALUES(y, other)))));
    expect_same(y, SHAPE(2, 3, 5, 4), fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 0);
}

/* [0, 2, 1] is its own inverse: what is put before the other operand must not come back. */
static void residuals_around_a_turn_end(void **state) {
    struct value *x = input_of(SHAPE(2, 6, 4));

    for (int i = 0; i < 3; i++) {
        struct value *mixed = add("MatMul", VALUES(turned(add("Erf", VALUES(x))), floats(SHAPE(6, 6))));
        x = add("Softplus", VALUES(add("Add", VALUES(x, turned(mixed)))));
    }

    expect_same(x, SHAPE(2, 6, 4), fuse, 1e-5);
}

static void an_operand_that_must_not_turn_stops_a_transpose(void **state) {
    struct value *x = input_of(SHAPE(2, 4, 4, 4));
    struct value *y = add("Mul", VALUES(last(x), floats(SHAPE(4, 4)))); /* varies along two axes */
    expect_same(first(y), SHAPE(2, 4, 4, 4), fuse, 1e-6);
    assert_int_equal(count_of(graph, "Transpose"), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        test(transposes_pass_every_elementwise_operator),
        test(transposes_of_both_operands_become_one),
        test(a_value_that_is_used_twice_is_turned_once),
        test(the_way_back_to_channels_first_is_sunk_past_additions),
        test(residuals_around_a_turn_end),
        test(an_operand_that_must_not_turn_stops_a_transpose),
    };
    return cmocka_run_group_tests_name("sink_transpose", tests, NULL, NULL);
}
