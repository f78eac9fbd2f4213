/* A scheme and its float graph -> the graph with QuantizeLinear, DequantizeLinear and 8-bit weights. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/operator.h"
#include "quant/scheme.h"
#include "quant/weights.h"

struct rewriting {
    const struct scheme *scheme;
    struct graph *graph;
    struct value **rounded; /* [value_count] of the original's: the rounded value, once it is made */
    struct value **weights; /* [value_count] the same for constants; valid for weight_axis only */
    int *weight_axis;       /* [value_count] */
    float **weight_scales;  /* [value_count] */
};

/* A constant whose memory the caller fills. */
static struct value *add_constant(struct graph *graph, const char *base, const char *suffix, enum dtype dtype,
                                  const struct shape *shape, void **ret_data) {
    struct tensor tensor = {dtype, *shape, NULL};
    const char *name = arena_printf(graph->arena, "%s%s", base, suffix);
    void *data = name ? graph_own_memory(graph, tensor_bytes(&tensor)) : NULL;
    *ret_data = data;
    return data ? graph_add_constant(graph, name, dtype, shape, data) : NULL;
}

static struct value *add_scalar(struct graph *graph, const char *base, const char *suffix, enum dtype dtype,
                                double number) {
    struct shape scalar = {.rank = 0};
    void *data;
    struct value *value = add_constant(graph, base, suffix, dtype, &scalar, &data);
    if (!value)
        return NULL;

    if (dtype == DTYPE_F32)
        *(float *)data = (float)number;
    else if (dtype == DTYPE_U8)
        *(uint8_t *)data = (uint8_t)number;
    else
        *(int8_t *)data = (int8_t)number;

    return value;
}

static struct value *named_value(struct graph *graph, const char *base, const char *suffix) {
    const char *name = arena_printf(graph->arena, "%s%s", base, suffix);
    return name ? graph_add_value(graph, name) : NULL;
}

/* A value -> QuantizeLinear -> DequantizeLinear. */
static struct value *add_pair(struct rewriting *rewriting, struct value *value,
                              struct quant_parameters parameters) {
    struct graph *graph = rewriting->graph;
    struct value *scale = add_scalar(graph, value->name, "_scale", DTYPE_F32, parameters.scale);
    struct value *zero =
        add_scalar(graph, value->name, "_zero_point", rewriting->scheme->activations, parameters.zero);
    struct value *integers = named_value(graph, value->name, "_quantized");
    struct value *result = named_value(graph, value->name, "_dequantized");
    if (!scale || !zero || !integers || !result)
        return NULL;

    struct value *first[] = {value, scale, zero}, *second[] = {integers, scale, zero};
    const char *quantize = arena_printf(graph->arena, "%s_QuantizeLinear", value->name);
    const char *dequantize = arena_printf(graph->arena, "%s_DequantizeLinear", value->name);
    if (!graph_add_node(graph, NULL, "", "QuantizeLinear", quantize, first, 3, &integers, 1) ||
        !graph_add_node(graph, NULL, "", "DequantizeLinear", dequantize, second, 3, &result, 1))
        return NULL;

    return result;
}

static struct value *rounded_value(struct rewriting *rewriting, int id) {
    struct value *value = rewriting->graph->values[id];
    struct quant_parameters parameters = rewriting->scheme->parameters[id];
    if (rewriting->rounded[id])
        return rewriting->rounded[id];
    return rewriting->rounded[id] = add_pair(rewriting, value, parameters);
}

/* Integers and their scales -> DequantizeLinear. `axis` -1: one scale. NULL: no memory. */
static struct value *add_dequantized(struct rewriting *rewriting, const char *base, enum dtype dtype,
                                     const struct shape *shape, const void *integers, const float *scales,
                                     int axis) {
    struct graph *graph = rewriting->graph;
    struct tensor tensor = {dtype, *shape, NULL};
    int64_t channels = axis < 0 ? 1 : shape->dims[axis];
    struct shape scale_shape = {.rank = axis < 0 ? 0 : 1, .dims = {channels}};
    void *constant_data, *scale_data, *zero_data;
    struct value *constant = add_constant(graph, base, "_quantized", dtype, shape, &constant_data);
    struct value *scale = add_constant(graph, base, "_scale", DTYPE_F32, &scale_shape, &scale_data);
    struct value *zero = add_constant(graph, base, "_zero_point", dtype, &scale_shape, &zero_data);
    struct value *result = named_value(graph, base, "_dequantized");
    if (!constant || !scale || !zero || !result)
        return NULL;

    memcpy(constant_data, integers, tensor_bytes(&tensor));
    memcpy(scale_data, scales, (size_t)channels * sizeof *scales);
    memset(zero_data, 0, (size_t)channels * dtype_size(dtype));

    struct value *inputs[] = {constant, scale, zero};
    const char *name = arena_printf(graph->arena, "%s_DequantizeLinear", base);
    struct node *node = graph_add_node(graph, NULL, "", "DequantizeLinear", name, inputs, 3, &result, 1);
    return node && (axis < 0 || node_set_int(graph, node, "axis", axis)) ? result : NULL;
}

/* The weights in integers, once for all units that read them with the same axis. */
static struct value *rounded_weights(struct rewriting *rewriting, const struct value *original, int axis,
                                     const double *bias, float input_scale, float **ret_scales) {
    int id = original->id;
    if (rewriting->weights[id] && rewriting->weight_axis[id] == axis) {
        *ret_scales = rewriting->weight_scales[id];
        return rewriting->weights[id];
    }

    const struct tensor *constant = original->constant;
    float *scales = arena_allocate_array(rewriting->graph->arena,
                                         (size_t)weights_channels(constant, axis) + 1, sizeof *scales);
    cleanup(freep) int8_t *integers = malloc((size_t)shape_elements(&constant->shape) + 1);
    if (!scales || !integers)
        return NULL;

    weights_choose_scales(constant, axis, bias, input_scale, scales);
    weights_round(constant, axis, scales, integers);
    struct value *result =
        add_dequantized(rewriting, original->name, DTYPE_I8, &constant->shape, integers, scales, axis);

    if (original->use_count == 1 || !bias) {
        rewriting->weights[id] = result;
        rewriting->weight_axis[id] = axis;
        rewriting->weight_scales[id] = scales;
    }

    *ret_scales = scales;
    return result;
}

/* The node's bias and its correction; *ret NULL where there is neither. False when memory is out. */
static bool gather_bias(const struct rewriting *rewriting, const struct unit *unit, int64_t channels,
                        double **ret) {
    const struct value *bias = unit->kind == UNIT_MATMUL ? NULL : node_input(unit->node, 2);
    const double *correction =
        rewriting->scheme->correct_bias && unit->kind != UNIT_MATMUL ? unit->correction : NULL;
    *ret = NULL;
    if (!bias && !correction)
        return true;

    *ret = calloc((size_t)channels + 1, sizeof **ret);
    for (int64_t i = 0; *ret && i < channels; i++)
        (*ret)[i] = (bias ? ((const float *)bias->constant->data)[i] : 0) - (correction ? correction[i] : 0);

    return *ret != NULL;
}

static bool set_bias(struct rewriting *rewriting, const struct unit *unit, struct node *node,
                     const double *bias, int64_t channels, const float *scales, bool single,
                     float input_scale) {
    cleanup(freep) int32_t *integers = malloc(((size_t)channels + 1) * sizeof *integers);
    cleanup(freep) float *steps = malloc(((size_t)channels + 1) * sizeof *steps);
    struct shape shape = {.rank = 1, .dims = {channels}};
    if (!integers || !steps)
        return false;

    bias_round(bias, channels, scales, single, input_scale, integers);
    for (int64_t i = 0; i < (single ? 1 : channels); i++)
        steps[i] = scales[i] * input_scale;

    const struct value *old = node_input(unit->node, 2);
    const char *base = old && *old->name && old->use_count == 1
                           ? old->name
                           : arena_printf(rewriting->graph->arena, "%s_bias", node->name);
    struct value *value =
        base ? add_dequantized(rewriting, base, DTYPE_I32, &shape, integers, steps, single ? -1 : 0) : NULL;

    return value && node_set_input(rewriting->graph, node, 2, value);
}

static bool write_weights(struct rewriting *rewriting, const struct unit *unit, struct node *node) {
    const struct scheme *scheme = rewriting->scheme;
    const struct value *weights = unit->node->inputs[1];
    int real_axis = unit_weight_axis(unit), axis = scheme->per_tensor ? -1 : real_axis;
    int64_t channels = weights->shape.dims[real_axis];
    float input_scale = scheme->parameters[unit->node->inputs[0]->id].scale, *scales;

    cleanup(freep) double *bias = NULL;
    if (!gather_bias(rewriting, unit, channels, &bias))
        return false;

    struct value *rounded = rounded_weights(rewriting, weights, axis, bias, input_scale, &scales);
    return rounded && node_set_input(rewriting->graph, node, 1, rounded) &&
           (!bias || set_bias(rewriting, unit, node, bias, channels, scales, axis < 0, input_scale));
}

static bool write_unit(struct rewriting *rewriting, const struct unit *unit, struct node *node) {
    int inputs = node_data_inputs(node);
    for (int i = 0; i < inputs; i++) {
        struct value *value = rounded_value(rewriting, unit->node->inputs[i]->id);
        if (!value || !node_set_input(rewriting->graph, node, i, value))
            return false;
    }

    return !unit_has_weights(unit) || write_weights(rewriting, unit, node);
}

static bool write_units(struct rewriting *rewriting) {
    const struct scheme *scheme = rewriting->scheme;
    struct node *node = rewriting->graph->first;
    for (int i = 0; i < scheme->count; i++, node = node->next)
        if (scheme->units[i].active && !write_unit(rewriting, &scheme->units[i], node))
            return false;
    return true;
}

struct graph *scheme_write(const struct scheme *scheme, struct error *error) {
    size_t values = (size_t)scheme->graph->value_count + 1;
    struct rewriting rewriting = {.scheme = scheme, .graph = graph_clone(scheme->graph)};
    bool done = false;
    rewriting.rounded = calloc(values, sizeof(struct value *));
    rewriting.weights = calloc(values, sizeof(struct value *));
    rewriting.weight_axis = calloc(values, sizeof(int));
    rewriting.weight_scales = calloc(values, sizeof(float *));
    if (!rewriting.graph || !rewriting.rounded || !rewriting.weights || !rewriting.weight_axis ||
        !rewriting.weight_scales || !write_units(&rewriting)) {
        error_set(error, ERROR_MEMORY, "not enough memory to write the quantised network");
        goto out;
    }
    done = graph_sort(rewriting.graph, error);

out:
    free(rewriting.rounded);
    free(rewriting.weights);
    free(rewriting.weight_axis);
    free(rewriting.weight_scales);
    if (done)
        return rewriting.graph;

    graph_free(rewriting.graph);
    return NULL;
}
