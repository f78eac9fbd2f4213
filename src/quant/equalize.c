#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/operator.h"
#include "quant/correct.h"

#define CLIP_ROOM 1.25f /* a clipped channel may exceed the calibration by this factor */
#define LEAST_SCALE (1.0f / 256)

/* first -> activation -> second, with no other reader between. */
struct pair {
    struct node *first, *activation, *second;
    const struct observation *seen; /* statistics of the activation's result */
    float ceiling;                  /* of the Clip; infinite for Relu */
    int64_t channels;
};

static bool is_plain_conv(const struct node *node) {
    const struct value *weights = node_input(node, 1), *bias = node_input(node, 2);
    return node_is(node, "Conv") && weights && weights->constant && weights->constant->dtype == DTYPE_F32 &&
           weights->shape.rank >= 3 && (!bias || (bias->constant && bias->constant->dtype == DTYPE_F32));
}

static struct node *only_reader(const struct value *value) {
    return value->use_count == 1 && !value->is_output ? value->uses[0].node : NULL;
}

static bool find_ceiling(const struct node *node, float *ret) {
    struct post_op post;
    if (!node_post_op(node, &post) || post.alpha != 0)
        return false;

    *ret = post.kind == POST_CLIP ? post.beta : INFINITY;
    return post.kind == POST_RELU || (post.kind == POST_CLIP && post.beta > 0);
}

static bool find_pair(struct node *first, const struct observations *observations, struct pair *ret) {
    if (!is_plain_conv(first))
        return false;

    struct node *activation = only_reader(first->outputs[0]);
    if (!activation || activation->inputs[0] != first->outputs[0] || !find_ceiling(activation, &ret->ceiling))
        return false;

    struct node *second = only_reader(activation->outputs[0]);
    if (!second || !is_plain_conv(second) || second->inputs[0] != activation->outputs[0])
        return false;

    ret->first = first;
    ret->activation = activation;
    ret->second = second;
    ret->channels = first->inputs[1]->shape.dims[0];
    ret->seen = observations_find(observations, activation->outputs[0]->id);
    int64_t group = node_int(second, "group", 1);

    return ret->seen && ret->seen->channels == ret->channels && group > 0 &&
           second->inputs[1]->shape.dims[1] * group == ret->channels &&
           second->inputs[1]->shape.dims[0] % group == 0;
}

/* The channel between the two that is input `i` of output channel `o` of the second. */
static int64_t channel_between(const struct pair *pair, int64_t o, int64_t i) {
    const struct shape *shape = &pair->second->inputs[1]->shape;
    int64_t group = node_int(pair->second, "group", 1);
    return o / (shape->dims[0] / group) * shape->dims[1] + i;
}

static void find_second_tops(const struct pair *pair, float *ret) {
    const struct tensor *weights = pair->second->inputs[1]->constant;
    const float *values = weights->data;
    int64_t outputs = weights->shape.dims[0], inputs = weights->shape.dims[1];
    int64_t taps = shape_elements(&weights->shape) / (outputs * inputs);

    memset(ret, 0, (size_t)pair->channels * sizeof *ret);
    for (int64_t o = 0; o < outputs; o++)
        for (int64_t i = 0; i < inputs; i++)
            for (int64_t tap = 0; tap < taps; tap++, values++) {
                float *top = &ret[channel_between(pair, o, i)];
                *top = fmaxf(*top, fabsf(*values));
            }
}

/* The divisor of each channel between the two, at most 1 so that no channel exceeds the ceiling. A depthwise
 * second convolution has its own scale for each channel: there the activations alone decide, else both sides
 * share, by the square root. */
static void choose_scales(const struct pair *pair, float *scales) {
    bool depthwise = pair->second->inputs[1]->shape.dims[1] == 1;
    const float *seen = pair->seen->high;
    float widest = 0, ratio = 0;
    find_second_tops(pair, scales);

    for (int64_t c = 0; c < pair->channels; c++) {
        scales[c] = depthwise ? seen[c] : sqrtf(seen[c] * (scales[c] > 0 ? 1 / scales[c] : 0));
        widest = fmaxf(widest, seen[c]);
    }

    for (int64_t c = 0; c < pair->channels; c++)
        if (scales[c] > 0)
            ratio = fmaxf(ratio, seen[c] / scales[c]);

    for (int64_t c = 0; c < pair->channels; c++) {
        float scale = scales[c] > 0 && widest > 0 ? scales[c] * ratio / widest : 1;
        if (isfinite(pair->ceiling))
            scale = fmaxf(scale, seen[c] * CLIP_ROOM / pair->ceiling);
        scales[c] = fminf(fmaxf(scale, LEAST_SCALE), 1);
    }
}

/* A copy of a constant input, for this node alone. */
static float *own_input(struct graph *graph, struct node *node, int input) {
    const struct tensor *from = node->inputs[input]->constant;
    float *data = graph_own_memory(graph, tensor_bytes(from));
    if (!data)
        return NULL;

    memcpy(data, from->data, tensor_bytes(from));
    struct value *value = graph_add_constant(graph, node->inputs[input]->name, DTYPE_F32, &from->shape, data);
    return value && node_set_input(graph, node, input, value) ? data : NULL;
}

static bool scale_pair(struct graph *graph, const struct pair *pair, const float *scales) {
    float *first = own_input(graph, pair->first, 1);
    float *bias = node_input(pair->first, 2) ? own_input(graph, pair->first, 2) : NULL;
    float *second = own_input(graph, pair->second, 1);
    if (!first || !second || (node_input(pair->first, 2) && !bias))
        return false;

    int64_t size = shape_elements(&pair->first->inputs[1]->shape) / pair->channels;
    for (int64_t c = 0; c < pair->channels; c++) {
        for (int64_t i = 0; i < size; i++)
            first[c * size + i] /= scales[c];
        if (bias)
            bias[c] /= scales[c];
    }

    const struct shape *shape = &pair->second->inputs[1]->shape;
    int64_t taps = shape_elements(shape) / (shape->dims[0] * shape->dims[1]);
    for (int64_t o = 0; o < shape->dims[0]; o++)
        for (int64_t i = 0; i < shape->dims[1]; i++)
            for (int64_t tap = 0; tap < taps; tap++)
                *second++ *= scales[channel_between(pair, o, i)];

    return true;
}

bool equalize_layers(struct graph *graph, const struct observations *observations, int *ret_count,
                     struct error *error) {
    *ret_count = 0;
    for (struct node *node = graph->first; node; node = node->next) {
        struct pair pair;
        if (!find_pair(node, observations, &pair))
            continue;
        cleanup(freep) float *scales = malloc((size_t)pair.channels * sizeof *scales);
        if (!scales)
            return error_set(error, ERROR_MEMORY, "not enough memory to equalise the layers");
        choose_scales(&pair, scales);
        if (!scale_pair(graph, &pair, scales))
            return error_set(error, ERROR_MEMORY, "not enough memory to equalise the layers");
        ++*ret_count;
    }

    return true;
}

bool has_depthwise(const struct graph *graph) {
    for (const struct node *node = graph->first; node; node = node->next)
        if (is_plain_conv(node) && node->inputs[1]->shape.dims[1] == 1 && node_int(node, "group", 1) > 1)
            return true;
    return false;
}
