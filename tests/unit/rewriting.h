/* For tests of passes: a graph that each test builds anew, and a check that a pass keeps what it computes.
 * Headers of tests are for one program each: functions are static. */
#pragma once
#include "passes/passes.h"
#include "subject.h"

#define SHAPE(...) ((struct shape){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})
#define VALUES(...) \
    ((struct value *[]){__VA_ARGS__}), (int)(sizeof((struct value *[]){__VA_ARGS__}) / sizeof(void *))

static struct graph *graph;
static uint32_t seed;

static inline struct value *input_of(struct shape shape) {
    struct value *value = graph_add_value(graph, "x");
    value->dtype = DTYPE_F32;
    value->shape = shape;
    graph_add_input(graph, value);
    return value;
}

static inline int start(void **state) {
    graph = graph_create();
    graph_add_import(graph, "", 13);
    seed = 1;
    return 0;
}

static inline int finish(void **state) {
    graph_free(graph);
    return 0;
}

static inline struct value *floats(struct shape shape) {
    float *data = graph_own_memory(graph, (size_t)shape_elements(&shape) * sizeof *data);
    fill_floats(data, shape_elements(&shape), seed++);
    return graph_add_constant(graph, "", DTYPE_F32, &shape, data);
}

/* As floats, but away from zero: variances and divisors. */
static inline struct value *positive(struct shape shape) {
    struct value *value = floats(shape);
    float *data = value->constant->data;

    for (int64_t i = 0; i < shape_elements(&shape); i++)
        data[i] = data[i] * 0.4f + 1;
    return value;
}

static inline struct value *number(float f) {
    struct value *value = floats((struct shape){0});
    *(float *)value->constant->data = f;
    return value;
}

static inline struct value *integers(const int64_t *list, int count) {
    int64_t *data = graph_own_memory(graph, (size_t)count * sizeof *data);

    memcpy(data, list, (size_t)count * sizeof *data);
    return graph_add_constant(graph, "", DTYPE_I64, &SHAPE(count), data);
}

static inline struct value *bytes_of(enum dtype dtype, struct shape shape, const void *bytes) {
    struct tensor tensor = {dtype, shape, NULL};
    void *data = graph_own_memory(graph, tensor_bytes(&tensor));

    memcpy(data, bytes, tensor_bytes(&tensor));
    return graph_add_constant(graph, "", dtype, &shape, data);
}

static inline struct value *add(const char *op_type, struct value **inputs, int count) {
    struct value *output = graph_add_value(graph, "");
    assert_non_null(graph_add_node(graph, NULL, "", op_type, NULL, inputs, count, &output, 1));
    return output;
}

static inline int count_of(const struct graph *g, const char *op_type) {
    int count = 0;
    for (const struct node *node = g->first; node; node = node->next)
        count += node_is(node, op_type);
    return count;
}

static inline struct tensor x_of(struct shape shape) {
    struct tensor x = {DTYPE_F32, shape, malloc((size_t)shape_elements(&shape) * 4)};
    fill_floats(x.data, shape_elements(&shape), 99);
    return x;
}

static inline bool simplify(struct graph *g, struct error *error) {
    return passes_simplify(g, error);
}

/* Runs the graph, rewrites it, runs it again: the same to within `tolerance`. */
static inline void expect_same(struct value *output, struct shape shape,
                               bool (*rewrite)(struct graph *, struct error *), double tolerance) {
    struct error error = {0};

    graph_add_output(graph, output);
    char *name = strdup(output->name);
    if (!operators_bind(graph, &error))
        fail_msg("%s", error.message);

    struct tensor x = x_of(shape);
    struct graph *before = interpret(graph, &x, &error);
    if (!before)
        fail_msg("before: %s", error.message);

    struct tensor expected = *before->outputs[0]->constant;
    void *copy = malloc(tensor_bytes(&expected) + 1);
    expected.data = memcpy(copy, expected.data, tensor_bytes(&expected));
    graph_free(before); /* the pass may change its constants in place */

    if (!rewrite(graph, &error))
        fail_msg("%s", error.message);
    assert_string_equal(graph->outputs[0]->name, name);

    struct graph *after = interpret(graph, &x, &error);
    if (!after)
        fail_msg("after: %s", error.message);

    double distance = tensor_distance(&expected, after->outputs[0]->constant);
    if (!(distance <= tolerance))
        fail_msg("differs by %g", distance);

    graph_free(after);
    free(copy);
    free(x.data);
    free(name);
}

#define test(name) cmocka_unit_test_setup_teardown(name, start, finish)
