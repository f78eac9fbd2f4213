/* For tests: a graph run node by node through the operators' own compute, with nothing clever. Every value
 * becomes a constant of a clone as soon as it is known, which is also how infer gets to see the inputs that
 * decide shapes. */
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/operator.h"

static inline bool interpret_node(struct graph *graph, struct node *node, struct error *error) {
    struct tensor inputs[64] = {0}, *outputs;
    outputs = arena_allocate_array(graph->arena, (size_t)node->output_count + 1, sizeof *outputs);
    if (node->input_count > 64 || node->post_op_count)
        return node_error(node, error, "not for the interpreter");
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !node->inputs[i]->constant)
            return node_error(node, error, "input %d is not there", i);
        else if (node->inputs[i])
            inputs[i] = *node->inputs[i]->constant;
    if (!node->op->infer(node, error))
        return false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) {
            outputs[i] = (struct tensor){node->outputs[i]->dtype, node->outputs[i]->shape, NULL};
            outputs[i].data = graph_own_memory(graph, tensor_bytes(&outputs[i]));
        }
    if (!operator_compute(node, inputs, outputs, error))
        return false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i])
            node->outputs[i]->constant = &outputs[i];
    return true;
}

/* Returns a clone whose outputs are constants; NULL and an error. Free with graph_free, before `graph`. */
static inline struct graph *interpret(const struct graph *graph, const struct tensor *inputs,
                                      struct error *error) {
    struct graph *run = graph_clone(graph);
    for (int i = 0; i < run->input_count; i++) {
        run->inputs[i]->constant = &inputs[i];
        run->inputs[i]->dtype = inputs[i].dtype;
        run->inputs[i]->shape = inputs[i].shape;
    }
    for (struct node *node = run->first; node; node = node->next)
        if (!interpret_node(run, node, error)) {
            graph_free(run);
            return NULL;
        }
    return run;
}

/* The largest difference between two tensors, over the largest magnitude of the first or `least`, whichever
 * is more; 1e9 where they are not alike. */
static inline double tensor_distance_above(const struct tensor *a, const struct tensor *b, double least) {
    if (!a || !b || a->dtype != b->dtype || !shape_equal(&a->shape, &b->shape))
        return 1e9;
    double distance = 0, largest = least;
    for (int64_t i = 0; i < shape_elements(&a->shape); i++) {
        double x = tensor_get_f64(a, i), y = tensor_get_f64(b, i);
        distance = fmax(distance, isnan(x) && isnan(y)     ? 0
                                  : isnan(x - y) && x != y ? 1e9
                                  : x == y                 ? 0
                                                           : fabs(x - y));
        largest = fmax(largest, fabs(x));
    }
    return distance / largest;
}

static inline double tensor_distance(const struct tensor *a, const struct tensor *b) {
    return tensor_distance_above(a, b, 1e-30);
}

/* Numbers between -1 and 1 that look random and are the same everywhere. */
static inline void fill_floats(float *data, int64_t count, uint32_t seed) {
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (float)(seed >> 8) / 8388608.0f - 1.0f;
    }
}

/* A float32 tensor with random numbers; free its data. */
static inline struct tensor make_input(int rank, const int64_t *dims, uint32_t seed) {
    struct tensor input = {.dtype = DTYPE_F32, .shape = {.rank = rank}};

    memcpy(input.shape.dims, dims, (size_t)rank * sizeof *dims);
    int64_t count = shape_elements(&input.shape);
    input.data = malloc((size_t)count * sizeof(float));
    fill_floats(input.data, count, seed);
    return input;
}
