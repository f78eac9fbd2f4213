/* The reference, node by node, exactly or with the noise of a lesser precision. */
#include <math.h>
#include <string.h>

#include "graphs.h"

static double typical_magnitude(const struct tensor *tensor) {
    double sum = 0;
    int64_t count = shape_elements(&tensor->shape);

    for (int64_t i = 0; i < count; i++)
        if (isfinite(((float *)tensor->data)[i]))
            sum += (double)((float *)tensor->data)[i] * (double)((float *)tensor->data)[i];
    return count ? sqrt(sum / (double)count) : 0;
}

static void blur_floats(const struct tensor *tensor, float relative, struct random *random) {
    float *data = tensor->data;
    double typical = typical_magnitude(tensor);

    for (int64_t i = 0; i < shape_elements(&tensor->shape); i++)
        if (isfinite(data[i]))
            data[i] += (float)((fabs((double)data[i]) + typical) * relative * random_unit(random));
}

/* One step up or down, or back from where it would saturate. At least one element. */
static void flip_bytes(const struct tensor *tensor, int percent, struct random *random) {
    int low = tensor->dtype == DTYPE_I8 ? -128 : 0, high = tensor->dtype == DTYPE_I8 ? 127 : 255;
    int64_t count = shape_elements(&tensor->shape), always = random_range(random, 0, count - 1);

    for (int64_t i = 0; i < count; i++) {
        int64_t number = tensor_get_i64(tensor, i), step = random_percent(random, 50) ? 1 : -1;
        if (i != always && !random_percent(random, percent))
            continue;
        step = number + step < low || number + step > high ? -step : step;
        ((uint8_t *)tensor->data)[i] = (uint8_t)(number + step);
    }
}

static void blur(const struct node *node, const struct tensor *tensor, const struct noise *noise,
                 struct random *random) {
    if (node && node_has(node, OP_MOVES))
        return;
    if (tensor->dtype == DTYPE_F32 && noise->relative > 0)
        blur_floats(tensor, noise->relative, random);
    if (node && node_is(node, "QuantizeLinear") && noise->flip_percent)
        flip_bytes(tensor, noise->flip_percent, random);
}

static bool run_node(struct node *node, const struct tensor **tensors, const struct noise *noise,
                     struct random *random, struct arena *arena) {
    struct tensor inputs[16] = {0}, *outputs;
    struct error error;

    outputs = arena_allocate_array(arena, (size_t)node->output_count, sizeof *outputs);
    for (int i = 0; i < node->input_count && i < 16; i++)
        if (node->inputs[i])
            inputs[i] =
                node->inputs[i]->constant ? *node->inputs[i]->constant : *tensors[node->inputs[i]->id];

    for (int i = 0; i < node->output_count; i++) {
        outputs[i] = (struct tensor){node->outputs[i]->dtype, node->outputs[i]->shape, NULL};
        outputs[i].data = arena_allocate(arena, tensor_bytes(&outputs[i]) + 1);
        tensors[node->outputs[i]->id] = &outputs[i];
    }
    if (!operator_compute(node, inputs, outputs, &error))
        return false;

    for (int i = 0; noise && i < node->output_count; i++)
        blur(node, &outputs[i], noise, random);
    return true;
}

bool reference_run(const struct random_graph *g, const struct noise *noise, struct random *random,
                   struct arena *arena, struct tensor *ret_outputs) {
    const struct tensor *tensors[GRAPH_VALUES] = {0};
    struct tensor input = g->input;
    size_t bytes = tensor_bytes(&input);

    input.data = arena_allocate(arena, bytes + 1);
    memcpy(input.data, g->input.data, bytes);
    if (noise)
        blur(NULL, &input, noise, random);
    tensors[g->graph->inputs[0]->id] = &input;

    for (struct node *node = g->graph->first; node; node = node->next)
        if (!run_node(node, tensors, noise, random, arena))
            return false;
    for (int i = 0; i < g->graph->output_count; i++)
        ret_outputs[i] = *tensors[g->graph->outputs[i]->id];
    return true;
}

struct distance tensor_compare(const struct tensor *a, const struct tensor *b) {
    struct distance result = {0, 0};
    int64_t count = shape_elements(&a->shape);
    if (a->dtype != b->dtype || !shape_equal(&a->shape, &b->shape))
        return (struct distance){INFINITY, INFINITY};

    for (int64_t i = 0; i < count; i++) {
        double x = tensor_get_f64(a, i), y = tensor_get_f64(b, i);
        if (x == y || (isnan(x) && isnan(y)))
            continue;

        double apart = isnan(x - y) ? INFINITY : fabs(x - y);
        result.largest = fmax(result.largest, apart);
        result.typical += apart * apart;
    }
    result.typical = count ? sqrt(result.typical / (double)count) : 0;
    return result;
}
