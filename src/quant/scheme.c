#include "quant/scheme.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ops/operator.h"

/* Fused into the node before it, in integers or not. */
static bool is_activation(const struct node *node) {
    return node->op && post_op_is_activation(node->op->post);
}

static bool is_weights(const struct value *value, int least_rank, int most_rank) {
    return value && value->constant && value->constant->dtype == DTYPE_F32 &&
           value->shape.rank >= least_rank && value->shape.rank <= most_rank &&
           shape_elements(&value->shape) > 0;
}

/* No bias, or a constant with one element per channel. */
static bool is_bias(const struct value *value, int64_t channels) {
    return !value || (value->constant && value->constant->dtype == DTYPE_F32 &&
                      shape_elements(&value->shape) == channels);
}

static const char *find_conv_obstacle(const struct node *node) {
    const struct value *weights = node_input(node, 1);
    if (!is_weights(weights, 3, 5))
        return "its weights are not constant";
    if (!is_bias(node_input(node, 2), weights->shape.dims[0]))
        return "its bias is not constant";
    return NULL;
}

static const char *find_gemm_obstacle(const struct node *node) {
    const struct value *weights = node_input(node, 1);
    if (!is_weights(weights, 2, 2))
        return "its weights are not constant";
    if (node_int(node, "transA", 0) || node_float(node, "alpha", 1) != 1 ||
        (node_input(node, 2) && node_float(node, "beta", 1) != 1))
        return "it is scaled or transposed";
    if (!is_bias(node_input(node, 2), weights->shape.dims[node_int(node, "transB", 0) ? 0 : 1]))
        return "its bias is not one constant per channel";

    return NULL;
}

static void understand_unit(struct unit *unit) {
    const struct node *node = unit->node;
    unit->damage = -1;
    if (!node->input_count || !node->inputs[0] || !node->outputs[0] || node->inputs[0]->constant)
        return;

    if (node_is(node, "Conv")) {
        unit->reason = find_conv_obstacle(node);
        unit->kind = unit->reason ? UNIT_NONE : UNIT_CONV;
    } else if (node_is(node, "Gemm")) {
        unit->reason = find_gemm_obstacle(node);
        unit->kind = unit->reason ? UNIT_NONE : UNIT_GEMM;
    } else if (node_is(node, "MatMul")) {
        unit->reason = is_weights(node_input(node, 1), 2, 2) ? NULL : "it multiplies two activations";
        unit->kind = unit->reason ? UNIT_NONE : UNIT_MATMUL;
    } else if (node_is(node, "Add")) {
        unit->kind = node->inputs[1] && !node->inputs[1]->constant ? UNIT_ADD : UNIT_NONE;
    } else if (node_has(node, OP_KEEPS_VALUES)) {
        unit->kind = node->output_count > 1 ? UNIT_NONE : UNIT_PASS;
    } else if (node_has(node, OP_KEEPS_RANGE)) {
        unit->kind = UNIT_POOL;
    }
}

bool scheme_create(const struct graph *graph, enum dtype activations, bool per_tensor, struct scheme *ret,
                   struct error *error) {
    size_t values = (size_t)graph->value_count + 1;
    struct scheme scheme = {.graph = graph, .activations = activations, .per_tensor = per_tensor};
    scheme.units = calloc((size_t)graph->node_count + 1, sizeof *scheme.units);
    scheme.ranges = calloc(values, sizeof *scheme.ranges);
    scheme.shared = calloc(values, sizeof *scheme.shared);
    scheme.parameters = calloc(values, sizeof *scheme.parameters);
    scheme.quantized = calloc(values, sizeof *scheme.quantized);
    scheme.made_by = calloc(values, sizeof *scheme.made_by);
    scheme.group = calloc(values, sizeof *scheme.group);
    if (!scheme.units || !scheme.ranges || !scheme.shared || !scheme.parameters || !scheme.quantized ||
        !scheme.made_by || !scheme.group) {
        scheme_release(&scheme);
        return error_set(error, ERROR_MEMORY, "not enough memory to quantise the network");
    }

    for (int i = 0; i < graph->value_count; i++)
        scheme.made_by[i] = -1;

    for (struct node *node = graph->first; node; node = node->next) {
        scheme.units[scheme.count].node = node;
        understand_unit(&scheme.units[scheme.count]);
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i])
                scheme.made_by[node->outputs[i]->id] = scheme.count;
        scheme.count++;
    }

    *ret = scheme;
    return true;
}

void scheme_release(struct scheme *scheme) {
    for (int i = 0; scheme->units && i < scheme->count; i++)
        free(scheme->units[i].correction);

    free(scheme->units);
    free(scheme->ranges);
    free(scheme->shared);
    free(scheme->parameters);
    free(scheme->quantized);
    free(scheme->made_by);
    free(scheme->group);
    *scheme = (struct scheme){0};
}

bool unit_has_weights(const struct unit *unit) {
    return unit->kind == UNIT_CONV || unit->kind == UNIT_GEMM || unit->kind == UNIT_MATMUL;
}

bool unit_is_layer(const struct unit *unit) {
    return unit_has_weights(unit) || unit->kind == UNIT_ADD;
}

int unit_weight_axis(const struct unit *unit) {
    if (unit->kind == UNIT_CONV)
        return 0;
    return unit->kind == UNIT_GEMM && node_int(unit->node, "transB", 0) ? 0 : 1;
}

/* The number of inputs that are activations. */
static int activation_inputs(const struct unit *unit) {
    return node_data_inputs(unit->node);
}

/* An active unit reads the value, perhaps through activations. */
static bool is_read_in_integers(const struct scheme *scheme, const struct value *value, int depth) {
    for (int i = 0; i < value->use_count; i++) {
        const struct node *user = value->uses[i].node;
        const struct unit *unit = &scheme->units[scheme->made_by[user->outputs[0]->id]];
        if (unit->active && value->uses[i].input < activation_inputs(unit))
            return true;
        if (depth > 0 && unit->kind == UNIT_NONE && is_activation(user) &&
            is_read_in_integers(scheme, user->outputs[0], depth - 1))
            return true;
    }

    return false;
}

/* An active unit makes the value, perhaps with activations after it. */
static bool comes_from_integers(const struct scheme *scheme, const struct value *value) {
    for (int depth = 0; depth < 4; depth++) {
        if (scheme->made_by[value->id] < 0)
            return false;
        const struct unit *unit = &scheme->units[scheme->made_by[value->id]];
        if (unit->active)
            return true;
        if (!is_activation(unit->node))
            return false;
        value = unit->node->inputs[0];
    }

    return false;
}

static bool all_users_active(const struct scheme *scheme, const struct value *value) {
    for (int i = 0; i < value->use_count; i++) {
        const struct node *user = value->uses[i].node;
        if (!scheme->units[scheme->made_by[user->outputs[0]->id]].active)
            return false;
    }
    return !value->is_output;
}

/* Additions, pools and moves run in integers where their inputs are integers and their result is read in
 * integers. */
static bool follower_can_be_active(const struct scheme *scheme, const struct unit *unit) {
    if (unit->kind == UNIT_ADD)
        return is_read_in_integers(scheme, unit->node->outputs[0], 3);

    for (int i = 0; i < activation_inputs(unit); i++)
        if (!unit->node->inputs[i] || unit->node->inputs[i]->constant ||
            !comes_from_integers(scheme, unit->node->inputs[i]))
            return false;
    return is_read_in_integers(scheme, unit->node->outputs[0], 0);
}

static void settle_active(struct scheme *scheme) {
    for (int i = 0; i < scheme->count; i++)
        scheme->units[i].active = unit_has_weights(&scheme->units[i]) && !scheme->units[i].excluded;

    /* Readers are found backwards, makers forwards: two rounds suffice for chains of both. */
    for (int round = 0; round < 2; round++) {
        for (int i = scheme->count - 1; i >= 0; i--) {
            struct unit *unit = &scheme->units[i];
            if (unit->kind == UNIT_ADD)
                unit->active = !unit->excluded && follower_can_be_active(scheme, unit);
            else if (unit->kind == UNIT_POOL || unit->kind == UNIT_PASS)
                unit->active = is_read_in_integers(scheme, unit->node->outputs[0], 0);
        }
        for (int i = 0; i < scheme->count; i++) {
            struct unit *unit = &scheme->units[i];
            if (unit->active && (unit->kind == UNIT_POOL || unit->kind == UNIT_PASS))
                unit->active = follower_can_be_active(scheme, unit) &&
                               (unit->kind == UNIT_PASS || all_users_active(scheme, unit->node->inputs[0]));
        }
    }
}

static int find_group(const struct scheme *scheme, int value) {
    while (scheme->group[value] != value)
        value = scheme->group[value];
    return value;
}

static void join_groups(struct scheme *scheme, const struct value *a, const struct value *b) {
    int first = find_group(scheme, a->id), second = find_group(scheme, b->id);
    scheme->group[first > second ? first : second] = first > second ? second : first;
}

struct quant_parameters quant_parameters_choose(struct quant_range range, enum dtype dtype) {
    double low = fmin(range.low, 0), high = fmax(range.high, 0), scale = (high - low) / 255;
    int least = dtype == DTYPE_I8 ? -128 : 0;
    if (!(scale > 1e-30))
        return (struct quant_parameters){1, low < 0 ? least + 255 : least};

    double zero = rint(least - low / scale);
    zero = fmin(fmax(zero, least), least + 255);
    return (struct quant_parameters){(float)scale, (int)zero};
}

static void settle_scales(struct scheme *scheme) {
    int values = scheme->graph->value_count;
    for (int i = 0; i < values; i++) {
        scheme->group[i] = i;
        scheme->quantized[i] = false;
    }

    for (int i = 0; i < scheme->count; i++) {
        const struct unit *unit = &scheme->units[i];
        for (int j = 0; unit->active && j < activation_inputs(unit); j++) {
            scheme->quantized[unit->node->inputs[j]->id] = true;
            if (unit->kind == UNIT_PASS)
                join_groups(scheme, unit->node->inputs[j], unit->node->outputs[0]);
        }
    }

    memset(scheme->parameters, 0, (size_t)values * sizeof *scheme->parameters);
    memset(scheme->shared, 0, (size_t)values * sizeof *scheme->shared);

    for (int i = 0; i < values; i++) {
        struct quant_range *shared = &scheme->shared[find_group(scheme, i)];
        if (!scheme->quantized[i])
            continue;
        shared->low = fminf(shared->low, scheme->ranges[i].low);
        shared->high = fmaxf(shared->high, scheme->ranges[i].high);
    }

    for (int i = 0; i < values; i++)
        if (scheme->quantized[i])
            scheme->parameters[i] =
                quant_parameters_choose(scheme->shared[find_group(scheme, i)], scheme->activations);
}

void scheme_settle(struct scheme *scheme) {
    settle_active(scheme);
    settle_scales(scheme);
}

/* Every value that can be read in integers, whatever is excluded later. */
bool scheme_watch(const struct scheme *scheme, int **ret_values, int **ret_axes, int *ret_count,
                  struct error *error) {
    int values = scheme->graph->value_count, count = 0;
    int *axis_of = calloc((size_t)values + 1, sizeof *axis_of),
        *ids = calloc((size_t)values + 1, sizeof *ids);
    if (!axis_of || !ids) {
        free(axis_of);
        free(ids);
        return error_set(error, ERROR_MEMORY, "not enough memory to calibrate");
    }

    for (int i = 0; i < scheme->count; i++) {
        const struct unit *unit = &scheme->units[i];
        bool possible = unit_has_weights(unit) || (unit->active && unit->kind != UNIT_NONE);
        for (int j = 0; possible && j < activation_inputs(unit); j++)
            axis_of[unit->node->inputs[j]->id] =
                unit->kind == UNIT_GEMM || unit->kind == UNIT_MATMUL ? -1 : 1;
    }

    for (int i = 0; i < values; i++)
        if (axis_of[i]) {
            ids[count] = i;
            axis_of[count++] = axis_of[i]; /* count <= i: what is overwritten was read */
        }

    *ret_values = ids;
    *ret_axes = axis_of;
    *ret_count = count;
    return true;
}

void scheme_set_ranges(struct scheme *scheme, const struct observations *observations,
                       enum quant_method method) {
    memset(scheme->ranges, 0, (size_t)scheme->graph->value_count * sizeof *scheme->ranges);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < observations->count; i++)
        scheme->ranges[observations->items[i].value] =
            histogram_range(&observations->items[i].histogram, method);
}
