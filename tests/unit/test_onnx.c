/* onnx/: reading what is right, refusing what is wrong at the right place. From memory: files are in
 * test_onnx_files.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "small_model.h"

static void expect_refusal(const char *part) {
    struct error error;
    struct graph *result = read_model(&error);

    assert_null(result);
    if (!strstr(error.message, part))
        fail_msg("'%s' does not say '%s'", error.message, part);
    assert_null(strchr(error.message, '\n'));
    assert_ptr_equal(strstr(error.message, "m.onnx: "), error.message);
}

static void a_small_model_is_read(void **state) {
    struct error error;
    small_graph();
    proto_model(&model, 7, 13, &graph);

    cleanup(graph_freep) struct graph *g = read_model(&error);
    assert_non_null(g);
    assert_string_equal(g->name, "small");
    assert_string_equal(g->producer, "test");
    assert_int_equal(graph_opset(g, ""), 13);

    assert_int_equal(g->input_count, 1); /* w is an initializer */
    assert_string_equal(g->inputs[0]->name, "x");
    assert_int_equal(g->inputs[0]->dtype, DTYPE_F32);
    assert_true(shape_equal(&g->inputs[0]->shape, &(struct shape){2, {-1, 3}}));

    assert_int_equal(g->node_count, 2);
    struct node *mul = g->first;
    assert_string_equal(mul->name, "scale");
    assert_int_equal(mul->input_count, 2); /* nothing left out at the end */
    assert_int_equal(mul->opset, 13);
    assert_true(((float *)mul->inputs[1]->constant->data)[2] == 3);
    assert_true(shape_equal(&mul->outputs[0]->shape, &(struct shape){2, {-1, 3}}));

    const int64_t *pads;
    assert_int_equal(node_ints(mul, "pads", &pads), 4);
    assert_int_equal(pads[0], -1);
    assert_int_equal(pads[3], 2);

    assert_true(*g->last->name);
    assert_true(g->outputs[0]->is_output && g->outputs[0]->producer == g->last);
}

static void a_cut_at_any_byte_is_an_error(void **state) {
    struct error error;
    small_graph();
    proto_model(&model, 7, 13, &graph);

    size_t whole = model.size;
    for (model.size = 0; model.size < whole; model.size++)
        assert_null(read_model(&error));
}

static void any_byte_changed_never_crashes(void **state) {
    struct error error;
    small_graph();
    proto_model(&model, 7, 13, &graph);

    static const uint8_t changes[] = {0x01, 0x80, 0xff, 0x7f, 0x08};
    for (size_t i = 0; i < model.size; i++)
        for (size_t k = 0; k < sizeof changes; k++) {
            model.bytes[i] ^= changes[k];
            graph_free(read_model(&error));
            model.bytes[i] ^= changes[k];
        }
}

static void what_is_no_model_is_refused(void **state) {
    model.size = 0;
    expect_refusal("not an ONNX model");

    memcpy(model.bytes, "<html>hello</html>", model.size = 18);
    expect_refusal("damaged at byte");

    small_graph();
    proto_model(&model, 99, 13, &graph);
    expect_refusal("IR version 99");
    proto_model(&model, 7, 13, NULL);
    expect_refusal("no graph");
    proto_model(&model, 7, 0, &graph);
    expect_refusal("opset");
    proto_model(&model, 7, 13, &graph);
    proto_message(&model, 7, &graph);
    expect_refusal("two graphs");

    graph.size = 0;
    proto_model(&model, 7, 13, &graph);
    expect_refusal("no outputs");
}

static void lengths_beyond_the_end_are_refused(void **state) {
    model.size = 0;
    proto_int(&model, 1, 7);
    proto_varint(&model, 7 << 3 | 2);

    size_t head = model.size;
    for (int shift = 3; shift < 64; shift++) {
        model.size = head;
        proto_varint(&model, (1ull << shift) - 1);
        expect_refusal("damaged at byte");
    }

    model.size = head;
    proto_varint(&model, UINT64_MAX);
    expect_refusal("length runs past the end");

    model.size = 2;
    memset(model.bytes + 2, 0xff, 12); /* a varint without end */
    model.size = 14;
    expect_refusal("damaged at byte 2");
}

static void add_initializer_and_try(const char *part) {
    graph.size = 0;
    proto_node(&graph, "Relu", "r", NAMES("w"), NAMES("y"), NULL);
    proto_message(&graph, 5, &tensor);
    proto_value_info(&graph, 12, "y", (int64_t[]){1}, 1);
    proto_model(&model, 7, 13, &graph);
    expect_refusal(part);
}

static void tensors_that_lie_are_refused(void **state) {
    uint8_t bytes[64] = {0};
    add_tensor("w", 1, (int64_t[]){1000, 2048}, 2);
    proto_bytes(&tensor, 9, bytes, 12);
    add_initializer_and_try(
        "initializer 'w': raw data has 12 bytes, but shape 1000x2048 of float32 needs 8192000");

    add_tensor("w", 1, (int64_t[]){3}, 1);
    proto_bytes(&tensor, 9, bytes, 13);
    add_initializer_and_try("needs 12");

    add_tensor("w", 1, (int64_t[]){-3}, 1);
    proto_bytes(&tensor, 9, bytes, 12);
    add_initializer_and_try("negative");

    add_tensor("w", 1, (int64_t[]){1ll << 32, 1ll << 32}, 2);
    proto_bytes(&tensor, 9, bytes, 0);
    add_initializer_and_try("more elements");

    add_tensor("w", 1, (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 9);
    add_initializer_and_try("9 dimensions");
    add_tensor("w", 1, (int64_t[]){3}, 1);
    add_initializer_and_try("has 0 elements");

    add_tensor("w", 7, (int64_t[]){1ll << 30},
               1); /* nothing is allocated before the file is known to be that large */
    proto_int(&tensor, 7, 1);
    add_initializer_and_try("has 1 elements");

    add_tensor("w", 14, (int64_t[]){1}, 1);
    add_initializer_and_try("element type 14");
    add_tensor("", 1, (int64_t[]){0}, 1);
    add_initializer_and_try("no name");
}

static void read_typed(int data_type, int field, bool packed, const int64_t *numbers, struct tensor *ret,
                       struct graph **ret_graph) {
    add_tensor("w", data_type, (int64_t[]){3}, 1);

    struct proto list = {.size = 0};
    for (int i = 0; i < 3; i++) {
        if (packed)
            proto_varint(&list, (uint64_t)numbers[i]);
        else
            proto_int(&tensor, field, numbers[i]);
    }

    if (packed)
        proto_message(&tensor, field, &list);

    graph.size = 0;
    proto_node(&graph, "Relu", "r", NAMES("w"), NAMES("y"), NULL);
    proto_message(&graph, 5, &tensor);
    proto_value_info(&graph, 12, "y", NULL, 0);
    proto_model(&model, 7, 13, &graph);

    struct error error;
    *ret_graph = read_model(&error);
    if (!*ret_graph)
        fail_msg("%s", error.message);
    *ret = *(*ret_graph)->first->inputs[0]->constant;
}

static void typed_fields_packed_and_not(void **state) {
    static const struct {
        int data_type, field;
        int64_t numbers[3];
    } cases[] = {
        {2, 5, {0, 200, 255}},      {3, 5, {-128, -1, 127}},           {4, 5, {0, 40000, 65535}},
        {5, 5, {-32768, 0, 32767}}, {6, 5, {INT32_MIN, 0, INT32_MAX}}, {7, 7, {INT64_MIN, -1, INT64_MAX}},
        {9, 5, {0, 1, 1}},          {12, 11, {0, 7, UINT32_MAX}},      {13, 11, {0, 1, INT64_MAX}},
    };

    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int packed = 0; packed < 2; packed++) {
            struct tensor t;
            struct graph *g;
            read_typed(cases[c].data_type, cases[c].field, packed, cases[c].numbers, &t, &g);
            for (int i = 0; i < 3; i++)
                assert_true(tensor_get_i64(&t, i) == cases[c].numbers[i]);
            graph_free(g);
        }

    struct tensor t;
    struct graph *g;
    read_typed(10, 5, true, (int64_t[]){0x3c00, 0xc000, 0x7bff}, &t, &g); /* float16 bits */
    assert_true(tensor_get_f64(&t, 0) == 1 && tensor_get_f64(&t, 1) == -2 && tensor_get_f64(&t, 2) == 65504);
    graph_free(g);

    read_typed(16, 5, true, (int64_t[]){0x3f80, 0xc000, 0}, &t, &g); /* bfloat16 bits */
    assert_true(tensor_get_f64(&t, 0) == 1 && tensor_get_f64(&t, 1) == -2);
    graph_free(g);

    read_typed(9, 5, true, (int64_t[]){0, 2, 255}, &t, &g); /* a bool is 0 or 1, whatever the file says */
    assert_true(((uint8_t *)t.data)[1] == 1 && ((uint8_t *)t.data)[2] == 1);
    graph_free(g);
}

static void floats_and_doubles_in_typed_fields(void **state) {
    double doubles[2] = {0.1, -1e300};
    for (int data_type = 1; data_type <= 11; data_type += 10) {
        add_tensor("w", data_type, (int64_t[]){2}, 1);
        if (data_type == 11)
            proto_bytes(&tensor, 10, doubles, sizeof doubles);
        else {
            proto_fixed32(&tensor, 4, 0.5f);
            proto_fixed32(&tensor, 4, -2.0f);
        }

        graph.size = 0;
        proto_node(&graph, "Relu", "r", NAMES("w"), NAMES("y"), NULL);
        proto_message(&graph, 5, &tensor);
        proto_value_info(&graph, 12, "y", NULL, 0);
        proto_model(&model, 7, 13, &graph);

        struct error error;
        cleanup(graph_freep) struct graph *g = read_model(&error);
        assert_non_null(g);

        const struct tensor *t = g->first->inputs[0]->constant;
        assert_int_equal((uintptr_t)t->data % 8, 0);
        assert_true(tensor_get_f64(t, 0) == (data_type == 11 ? 0.1 : 0.5));
        assert_true(tensor_get_f64(t, 1) == (data_type == 11 ? -1e300 : -2.0));
    }
}

/* The nodes in `graph`, from x to one output, make a model that is refused. */
static void expect_graph_refusal(const char *output, const char *part) {
    proto_value_info(&graph, 11, "x", NULL, 0);
    proto_value_info(&graph, 12, output, NULL, 0);
    proto_model(&model, 7, 13, &graph);
    expect_refusal(part);
}

static void graphs_that_make_no_sense_are_refused(void **state) {
    graph.size = 0;
    proto_node(&graph, "Add", "a", NAMES("x", "b"), NAMES("c"), NULL);
    proto_node(&graph, "Relu", "loop", NAMES("c"), NAMES("b"), NULL);
    expect_graph_refusal("c", "cycle");

    graph.size = 0;
    proto_node(&graph, "Add", "adder", NAMES("x", "nowhere"), NAMES("c"), NULL);
    expect_graph_refusal("c", "node 'adder' (Add): input 'nowhere' is not defined");

    graph.size = 0;
    proto_node(&graph, "Relu", "a", NAMES("x"), NAMES("c"), NULL);
    proto_node(&graph, "Relu", "b", NAMES("x"), NAMES("c"), NULL);
    expect_graph_refusal("c", "node 'b': value 'c' is defined twice");

    graph.size = 0;
    proto_node(&graph, "Split", "s", NAMES("x"), NAMES("c", "c"), NULL);
    expect_graph_refusal("c", "defined twice");
}

static void declarations_that_make_no_sense_are_refused(void **state) {
    graph.size = 0;
    proto_node(&graph, "", NULL, NAMES("x"), NAMES("c"), NULL);
    expect_graph_refusal("c", "node 0: has no op_type");

    graph.size = 0;
    proto_value_info(&graph, 11, "x", NULL, 0);
    expect_graph_refusal("x", "'x' is defined twice");

    graph.size = 0;
    expect_graph_refusal("z", "no node computes output 'z'");

    graph.size = 0;
    proto_node(&graph, "Relu", "bad\nname", NAMES("x"), NAMES("c"), NULL);
    expect_graph_refusal("c", "not UTF-8 text");

    graph.size = 0;
    proto_value_info(&graph, 11, "x", (int64_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 9);
    proto_value_info(&graph, 12, "x", NULL, 0);
    proto_model(&model, 7, 13, &graph);
    expect_refusal("input 'x': more than 8 dimensions");
}

static void a_name_too_long_is_refused(void **state) {
    static char name[LIMIT_NAME_BYTES + 2];

    memset(name, 'n', LIMIT_NAME_BYTES + 1);
    graph.size = 0;
    proto_node(&graph, "Relu", NULL, NAMES(name), NAMES("c"), NULL);
    proto_value_info(&graph, 12, "c", NULL, 0);
    proto_model(&model, 7, 13, &graph);
    expect_refusal("longer than 4096");
}

static void nested_messages_are_no_bomb(void **state) {
    static struct proto inner, outer;

    inner.size = 0;
    proto_int(&inner, 20, 5);
    for (int i = 0; i < 2000; i++) { /* graphs in attributes in nodes in graphs … */
        outer.size = 0;
        proto_message(&outer, i % 3 == 0 ? 6 : i % 3 == 1 ? 5 : 1, &inner);
        if (outer.size > PROTO_ROOM / 4)
            break;
        inner = outer;
    }

    attribute.size = 0;
    proto_string(&attribute, 1, "body");
    proto_int(&attribute, 20, 5);
    proto_message(&attribute, 6, &inner);

    graph.size = 0;
    proto_node(&graph, "Loop", "l", NAMES("x"), NAMES("c"), &attribute);
    proto_value_info(&graph, 11, "x", NULL, 0);
    proto_value_info(&graph, 12, "c", NULL, 0);
    proto_model(&model, 7, 13, &graph);

    struct error error;
    cleanup(graph_freep) struct graph *g = read_model(&error);
    assert_null(g);
    assert_non_null(strstr(error.message, "node 'l': attribute 'body'"));
}

static void strings_are_known_and_not_computed_with(void **state) {
    add_tensor("w", 8, (int64_t[]){2}, 1);
    proto_string(&tensor, 6, "a");
    proto_string(&tensor, 6, "b");

    graph.size = 0;
    proto_node(&graph, "Identity", "r", NAMES("w"), NAMES("y"), NULL);
    proto_message(&graph, 5, &tensor);
    proto_value_info(&graph, 12, "y", NULL, 0);
    proto_model(&model, 7, 13, &graph);

    struct error error;
    cleanup(graph_freep) struct graph *g = read_model(&error);
    assert_non_null(g);
    assert_int_equal(g->first->inputs[0]->dtype, DTYPE_STRING);
    assert_null(g->first->inputs[0]->constant->data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_model_is_read),
        cmocka_unit_test(a_cut_at_any_byte_is_an_error),
        cmocka_unit_test(any_byte_changed_never_crashes),
        cmocka_unit_test(what_is_no_model_is_refused),
        cmocka_unit_test(lengths_beyond_the_end_are_refused),
        cmocka_unit_test(tensors_that_lie_are_refused),
        cmocka_unit_test(typed_fields_packed_and_not),
        cmocka_unit_test(floats_and_doubles_in_typed_fields),
        cmocka_unit_test(graphs_that_make_no_sense_are_refused),
        cmocka_unit_test(declarations_that_make_no_sense_are_refused),
        cmocka_unit_test(a_name_too_long_is_refused),
        cmocka_unit_test(nested_messages_are_no_bomb),
        cmocka_unit_test(strings_are_known_and_not_computed_with),
    };
    return cmocka_run_group_tests_name("onnx", tests, NULL, NULL);
}
