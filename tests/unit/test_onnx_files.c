/* onnx/: files: external data, single tensors, and writing what reads the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "same_graphs.h"
#include "small_model.h"
#include "own_folder.h"

/* A folder for files, removed by the caller's paths. */
static void write_file(const char *path, const void *bytes, size_t size) {
    struct error error;
    assert_true(file_write(path, bytes, size, &error));
}

static struct graph *read_external(const char *location, const char *offset, const char *length,
                                   struct error *error) {
    static struct proto entry;
    const char *pairs[][2] = {{"location", location}, {"offset", offset}, {"length", length}};
    add_tensor("w", 1, (int64_t[]){2}, 1);

    for (int i = 0; i < 3; i++) {
        if (!pairs[i][1])
            continue;
        entry.size = 0;
        proto_string(&entry, 1, pairs[i][0]);
        proto_string(&entry, 2, pairs[i][1]);
        proto_message(&tensor, 13, &entry);
    }

    proto_int(&tensor, 14, 1);
    graph.size = 0;
    proto_node(&graph, "Relu", "r", NAMES("w"), NAMES("y"), NULL);
    proto_message(&graph, 5, &tensor);
    proto_value_info(&graph, 12, "y", NULL, 0);
    proto_model(&model, 7, 13, &graph);

    write_file(in_folder("m.onnx"), model.bytes, model.size);
    *error = (struct error){0};
    return onnx_graph_read(in_folder("m.onnx"), error);
}

static void external_data_stays_in_the_folder(void **state) {
    float data[5] = {0, 1, 2, 3, 4};
    struct error error;

    write_file(in_folder("weights.bin"), data, sizeof data);
    struct graph *g = read_external("weights.bin", "8", "8", &error);
    assert_non_null(g);
    assert_true(tensor_get_f64(g->first->inputs[0]->constant, 1) == 3);
    assert_int_equal(g->map_count, 2);
    graph_free(g);

    g = read_external("weights.bin", "3", NULL, &error); /* not aligned: copied */
    assert_non_null(g);
    assert_int_equal((uintptr_t)g->first->inputs[0]->constant->data % 4, 0);
    graph_free(g);

    assert_int_equal(symlink("/etc/passwd", in_folder("link")), 0);
    assert_int_equal(mkdir(in_folder("sub"), 0755), 0);
    static const struct {
        const char *location, *offset, *length, *part;
    } cases[] = {
        {"weights.bin", "16", NULL, "past the end"},
        {"weights.bin", "18446744073709551615", "8", "past the end"},
        {"weights.bin", "18446744073709551616", "8", "not a number"},
        {"weights.bin", "-4", "8", "not a number"},
        {"weights.bin", "0", "12", "has 12 bytes"},
        {"missing.bin", NULL, NULL, "missing.bin"},
        {"/etc/passwd", NULL, NULL, "outside"},
        {"../../../../../../etc/passwd", NULL, NULL, "outside"},
        {"link", NULL, NULL, "outside"},
        {"sub", NULL, NULL, "not a regular file"},
        {"", NULL, NULL, "without a file name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        g = read_external(cases[i].location, cases[i].offset, cases[i].length, &error);
        assert_null(g);
        if (!strstr(error.message, cases[i].part) || !strstr(error.message, "initializer 'w'"))
            fail_msg("case %zu: %s", i, error.message);
    }

    graph_free(read_external("weights.bin", "8", "8", &error));
    assert_null(onnx_graph_read_memory("m", model.bytes, model.size, &error));
    assert_non_null(strstr(error.message, "in memory"));
}

/* Hugging Face's cache: snapshots/REVISION/FILE -> ../../blobs/HASH, network and data alike. */
static void data_may_lie_beside_what_is_linked_to(void **state) {
    float data[2] = {1, 2};
    struct error error;
    assert_int_equal(mkdir(in_folder("blobs"), 0755), 0);
    assert_int_equal(mkdir(in_folder("blobs/deeper"), 0755), 0);
    assert_int_equal(mkdir(in_folder("snapshot"), 0755), 0);
    write_file(in_folder("blobs/data"), data, sizeof data);
    write_file(in_folder("blobs/deeper/data"), data, sizeof data);
    write_file(in_folder("outside"), data, sizeof data);

    static const struct {
        const char *location, *target;
        bool good;
    } cases[] = {{"beside", "../blobs/data", true},
                 {"deeper", "../blobs/deeper/data", false},
                 {"elsewhere", "../outside", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char link[300];
        snprintf(link, sizeof link, "%s/%s", in_folder("snapshot"), cases[i].location);
        assert_int_equal(symlink(cases[i].target, link), 0);
        graph_free(read_external(cases[i].location, NULL, NULL, &error)); /* writes model.bytes */
        write_file(in_folder("blobs/network"), model.bytes, model.size);
        unlink(in_folder("snapshot/m.onnx"));
        assert_int_equal(symlink("../blobs/network", in_folder("snapshot/m.onnx")), 0);

        struct graph *g = onnx_graph_read(in_folder("snapshot/m.onnx"), &error);
        assert_int_equal(g != NULL, cases[i].good);
        graph_free(g);
    }
}

static void a_tensor_file_is_read(void **state) {
    struct tensor t;
    struct error error;
    int16_t data[2] = {-5, 300};

    add_tensor("", 5, (int64_t[]){2, 1}, 2);
    proto_bytes(&tensor, 9, data, sizeof data);
    write_file(in_folder("t.pb"), tensor.bytes, tensor.size);

    assert_true(onnx_tensor_read(in_folder("t.pb"), &t, &error));
    assert_int_equal(t.dtype, DTYPE_I16);
    assert_int_equal(tensor_get_i64(&t, 1), 300);
    free(t.data);

    write_file(in_folder("t.pb"), tensor.bytes, tensor.size - 1);
    assert_false(onnx_tensor_read(in_folder("t.pb"), &t, &error));
    assert_false(onnx_tensor_read(in_folder("none.pb"), &t, &error));
    assert_int_equal(error.code, ERROR_NOT_FOUND);
}

static void what_is_written_reads_the_same(void **state) {
    struct error error;
    small_graph();
    add_tensor("", 7, (int64_t[]){}, 0);
    proto_int(&tensor, 7, 42);

    attribute.size = 0;
    proto_string(&attribute, 1, "value");
    proto_int(&attribute, 20, 4);
    proto_message(&attribute, 5, &tensor);
    proto_node(&graph, "Constant", "c", NAMES("") + 1, NAMES("k"), &attribute);

    attribute.size = 0;
    proto_string(&attribute, 1, "scales");
    proto_int(&attribute, 20, 6);
    proto_fixed32(&attribute, 7, 0.5f);
    proto_fixed32(&attribute, 7, 2.0f);
    proto_node(&graph, "Resize", NULL, NAMES("y", "", "w"), NAMES("z"), &attribute);

    attribute.size = 0;
    proto_string(&attribute, 1, "mode");
    proto_int(&attribute, 20, 3);
    proto_string(&attribute, 4, "linear");
    proto_node(&graph, "Pad", NULL, NAMES("z"), NAMES("p"), &attribute);
    proto_value_info(&graph, 12, "p", (int64_t[]){-1}, 1);
    proto_model(&model, 7, 13, &graph);

    cleanup(graph_freep) struct graph *g = read_model(&error);
    assert_non_null(g);
    assert_true(onnx_graph_write(g, in_folder("again.onnx"), &error));

    cleanup(graph_freep) struct graph *again = onnx_graph_read(in_folder("again.onnx"), &error);
    if (!again)
        fail_msg("%s", error.message);
    same_graphs(g, again);

    /* Nameless and like-named values get unique names; fused nodes are refused, and no file is left. */
    struct value *nameless =
        graph_add_constant(again, "", DTYPE_F32, &(struct shape){1, {1}}, graph_own_memory(again, 4));
    struct value *twin =
        graph_add_constant(again, "w", DTYPE_F32, &(struct shape){1, {1}}, graph_own_memory(again, 4));
    memset(nameless->constant->data, 0, 4);
    memset(twin->constant->data, 0, 4);
    node_set_input(again, again->last, 1, nameless);
    node_set_input(again, again->last, 2, twin);
    assert_true(onnx_graph_write(again, in_folder("third.onnx"), &error));
    cleanup(graph_freep) struct graph *third = onnx_graph_read(in_folder("third.onnx"), &error);
    assert_non_null(third);
    again->last->post_op_count = 1;
    assert_false(onnx_graph_write(again, in_folder("fused.onnx"), &error));
    assert_non_null(strstr(error.message, "fused"));
    assert_int_not_equal(access(in_folder("fused.onnx"), F_OK), 0);
    again->last->post_op_count = 0;
    assert_false(onnx_graph_write(again, in_folder("no/such/folder.onnx"), &error));
    assert_int_equal(error.code, ERROR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(external_data_stays_in_the_folder),
        cmocka_unit_test(data_may_lie_beside_what_is_linked_to),
        cmocka_unit_test(a_tensor_file_is_read),
        cmocka_unit_test(what_is_written_reads_the_same),
    };
    return cmocka_run_group_tests_name("onnx_files", tests, make_folder, remove_folder);
}
