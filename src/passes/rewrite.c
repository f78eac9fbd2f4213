#include "passes/rewrite.h"

#include <stdlib.h>
#include <string.h>

#define WORTH_FREEING 4096 /* bytes; it also keeps the searches below cheap for any file */

const float *constant_floats(const struct value *value, int64_t *ret_count) {
    if (!value || !value->constant || value->constant->dtype != DTYPE_F32)
        return NULL;
    *ret_count = shape_elements(&value->constant->shape);
    return value->constant->data;
}

bool constant_is_zero(const struct value *value) {
    if (!value)
        return true;
    if (!value->constant || value->constant->dtype == DTYPE_STRING)
        return false;

    int64_t count = shape_elements(&value->constant->shape);
    for (int64_t i = 0; i < count; i++)
        if (tensor_get_f64(value->constant, i) != 0)
            return false;

    return true;
}

bool constants_equal(const struct value *a, const struct value *b) {
    if (a == b)
        return true;
    if (!a || !b || !a->constant || !b->constant || a->constant->dtype != b->constant->dtype ||
        a->constant->dtype == DTYPE_STRING || !shape_equal(&a->constant->shape, &b->constant->shape))
        return false;
    return memcmp(a->constant->data, b->constant->data, tensor_bytes(a->constant)) == 0;
}

static bool graph_owns(const struct graph *graph, const void *data) {
    for (int i = graph->owned_count - 1; i >= 0; i--)
        if (graph->owned[i] == data)
            return true;
    return false;
}

static bool graph_maps(const struct graph *graph, const void *data) {
    for (int i = 0; i < graph->map_count; i++)
        if ((uintptr_t)data >= (uintptr_t)graph->maps[i].bytes &&
            (uintptr_t)data - (uintptr_t)graph->maps[i].bytes < graph->maps[i].size)
            return true;
    return false;
}

void value_release_constant(struct graph *graph, struct value *value) {
    if (!value->constant || value->use_count || value->is_output || value->is_input)
        return;
    void *data = value->constant->data;
    size_t bytes = tensor_bytes(value->constant);
    if (!data || bytes < WORTH_FREEING)
        return;

    for (int i = graph->owned_count - 1; i >= 0; i--)
        if (graph->owned[i] == data) {
            free(data);
            graph->owned[i] = graph->owned[--graph->owned_count];
            value->constant = NULL;
            return;
        }

    if (graph_maps(graph, data))
        file_map_discard(data, bytes);
}

struct value *graph_add_floats(struct graph *graph, const struct shape *shape, float **ret) {
    int64_t count = shape_elements(shape);
    float *data = count < 0 ? NULL : graph_own_memory(graph, (size_t)count * sizeof *data);
    struct value *value = data ? graph_add_constant(graph, "", DTYPE_F32, shape, data) : NULL;

    if (value)
        *ret = data;
    return value;
}

float *node_writable_floats(struct graph *graph, struct node *node, int input) {
    struct value *value = node->inputs[input];
    const struct tensor *constant = value->constant;
    size_t bytes = tensor_bytes(constant);
    if (value->use_count == 1 && !value->is_output && !value->is_input && bytes >= WORTH_FREEING &&
        graph_owns(graph, constant->data))
        return constant->data;

    float *data;
    struct value *copy = graph_add_floats(graph, &constant->shape, &data);
    if (!copy)
        return NULL;

    memcpy(data, constant->data, bytes);
    copy->name = value->name;
    if (!node_set_input(graph, node, input, copy))
        return NULL;

    value_release_constant(graph, value);

    return data;
}

struct node *sole_producer(const struct value *value) {
    return value && value->use_count == 1 && !value->is_output ? value->producer : NULL;
}

bool node_bypass(struct graph *graph, struct node *node, struct value *value) {
    struct value *output = node->outputs[0];
    /* An output needs a value of its own: not an input, another output or a constant. */
    if (output->is_output && (value->is_input || value->is_output || value->constant))
        return false;
    if (!graph_replace_value(graph, output, value))
        return false;

    graph_remove_node(graph, node);
    return true;
}
