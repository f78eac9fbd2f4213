#include "quant/simulate.h"

#include "ops/operator.h"

#define DOMAIN "guichet.simulation"
#define PARALLEL_ELEMENTS 32768

/* Adding and taking away 1.5 * 2^23 rounds what is below 2^22 to an integer, halves to even, and needs no
 * instruction that older processors lack. */
#define ROUNDER 12582912.0f

void simulate_rounding(const float *from, int64_t count, float scale, int zero, int least, int most,
                       float *to) {
    const float low = (float)(least - zero), high = (float)(most - zero);
#pragma omp parallel for simd schedule(static) if (count > PARALLEL_ELEMENTS)
    for (int64_t i = 0; i < count; i++) {
        float value = from[i] / scale;
        value = value < low ? low : value;
        value = value > high ? high : value;
        value = (value + ROUNDER) - ROUNDER;
        to[i] = value * scale;
    }
}

static bool simulate_infer(struct node *node, struct error *error) {
    if (node->inputs[0]->dtype != DTYPE_F32)
        return node_error(node, error, "only float32 is rounded");
    node->outputs[0]->dtype = DTYPE_F32;
    node->outputs[0]->shape = node->inputs[0]->shape;
    return true;
}

static bool simulate_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    simulate_rounding(inputs[0].data, shape_elements(&inputs[0].shape), node_float(node, "scale", 1),
                      (int)node_int(node, "zero", 0), (int)node_int(node, "least", 0),
                      (int)node_int(node, "most", 255), outputs[0].data);
    return true;
}

static const struct operator simulation = {
    DOMAIN, "Round8", 1, 1, 0, NULL, 1, 1, 1, 1, simulate_infer, simulate_compute, "float32",
};

struct node *simulate_add(struct graph *graph, struct node *before, struct value *from, struct value *to,
                          float scale, int zero, enum dtype dtype) {
    int least = dtype == DTYPE_I8 ? -128 : 0;
    struct node *node = graph_add_node(graph, before, DOMAIN, "Round8", NULL, &from, 1, &to, 1);
    if (!node || !node_set_float(graph, node, "scale", scale) || !node_set_int(graph, node, "zero", zero) ||
        !node_set_int(graph, node, "least", least) || !node_set_int(graph, node, "most", least + 255))
        return NULL;
    node->opset = 1;
    node->operator= & simulation;
    return node;
}
