/* Growing a random graph. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../unit/inputs.h"
#include "graphs.h"

#define OPSET 18
#define LARGEST_NUMBER 1e3f
#define MOST_ELEMENTS 16384

/* Splitmix (Steele, Lea and Flood, 2014). */
uint64_t random_next(struct random *random) {
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t random_range(struct random *random, int64_t low, int64_t high) {
    return low + (int64_t)(random_next(random) % (uint64_t)(high - low + 1));
}

bool random_percent(struct random *random, int percent) {
    return random_range(random, 0, 99) < percent;
}

float random_unit(struct random *random) {
    return (float)(random_next(random) >> 40) * 0x1p-23f - 1;
}

/* --- Constants ------------------------------------------------------------------------------------------ */

static struct value *add_constant(struct random_graph *g, enum dtype dtype, const struct shape *shape,
                                  void *data) {
    char name[32];

    snprintf(name, sizeof name, "constant%d", g->graph->value_count);
    return graph_add_constant(g->graph, name, dtype, shape, data);
}

struct value *graph_floats(struct random_graph *g, float size, int rank, const int64_t *dims) {
    struct shape shape = {.rank = rank};
    if (rank)
        memcpy(shape.dims, dims, (size_t)rank * sizeof *dims);
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(g->graph, (size_t)count * sizeof *data);

    for (int64_t i = 0; i < count; i++)
        data[i] = size * random_unit(&g->random);
    return add_constant(g, DTYPE_F32, &shape, data);
}

struct value *graph_vector(struct random_graph *g, float size, int64_t count) {
    return graph_floats(g, size, 1, &count);
}

struct value *graph_number(struct random_graph *g, float number) {
    struct value *value = graph_floats(g, 0, 0, NULL);
    *(float *)value->constant->data = number;
    return value;
}

struct value *graph_ints(struct random_graph *g, int count, const int64_t *numbers) {
    struct shape shape = {.rank = 1, .dims = {count}};
    int64_t *data = graph_own_memory(g->graph, (size_t)count * sizeof *data + 8);

    memcpy(data, numbers, (size_t)count * sizeof *data);
    return add_constant(g, DTYPE_I64, &shape, data);
}

struct value *graph_byte_number(struct random_graph *g, enum dtype dtype, int number) {
    struct shape shape = {.rank = 0};
    uint8_t *data = graph_own_memory(g->graph, 1);

    *data = (uint8_t)number;
    return add_constant(g, dtype, &shape, data);
}

/* --- Nodes ---------------------------------------------------------------------------------------------- */

void node_set_text(struct random_graph *g, struct node *node, const char *name, const char *text) {
    node_set_int(g->graph, node, name, 0);
    struct attribute *attribute = (struct attribute *)node_attribute(node, name);
    attribute->kind = ATTRIBUTE_STRING;
    attribute->s = text;
}

struct node *graph_begin_node(struct random_graph *g, const char *op_type, struct value *const *inputs,
                              int input_count, int output_count) {
    struct value *outputs[4];
    char name[32];

    if (g->graph->value_count > GRAPH_VALUES - 16)
        return NULL;
    for (int i = 0; i < output_count; i++) {
        snprintf(name, sizeof name, "value%d", g->graph->value_count);
        outputs[i] = graph_add_value(g->graph, name);
    }
    return graph_add_node(g->graph, NULL, "", op_type, NULL, inputs, input_count, outputs, output_count);
}

static bool numbers_fit(const struct tensor *tensor) {
    if (tensor->dtype != DTYPE_F32)
        return true;
    for (int64_t i = 0; i < shape_elements(&tensor->shape); i++)
        if (!(fabsf(((float *)tensor->data)[i]) <= LARGEST_NUMBER))
            return false;
    return true;
}

static bool compute_output(struct random_graph *g, struct node *node, struct tensor *inputs,
                           struct tensor *outputs) {
    struct error error;

    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        outputs[i] = (struct tensor){value->dtype, value->shape, NULL};
        if (shape_elements(&value->shape) < 1 || shape_elements(&value->shape) > MOST_ELEMENTS)
            return false;
        outputs[i].data = arena_allocate(g->graph->arena, tensor_bytes(&outputs[i]));
    }
    if (!operator_compute(node, inputs, outputs, &error))
        return false;

    for (int i = 0; i < node->output_count; i++) {
        if (!numbers_fit(&outputs[i]))
            return false;
        g->tensors[node->outputs[i]->id] = &outputs[i];
    }
    return true;
}

bool graph_end_node(struct random_graph *g, struct node *node) {
    struct tensor inputs[16] = {0};
    struct error error;
    struct tensor *outputs =
        arena_allocate_array(g->graph->arena, (size_t)node->output_count, sizeof *outputs);

    for (int i = 0; i < node->input_count && i < 16; i++)
        if (node->inputs[i])
            inputs[i] =
                node->inputs[i]->constant ? *node->inputs[i]->constant : *g->tensors[node->inputs[i]->id];

    if (operators_bind(g->graph, &error) && operator_infer(node, &error) &&
        compute_output(g, node, inputs, outputs))
        return true;
    graph_remove_node(g->graph, node);
    return false;
}

struct value *graph_grow(struct random_graph *g, const char *op_type, ...) {
    struct value *inputs[NODE_INPUTS];
    va_list list;

    va_start(list, op_type);
    int count = inputs_gather(list, inputs);
    va_end(list);

    struct node *node = count ? graph_begin_node(g, op_type, inputs, count, 1) : NULL;
    return node && graph_end_node(g, node) ? node->outputs[0] : NULL;
}

/* --- Choosing ------------------------------------------------------------------------------------------- */

struct value *graph_pick(struct random_graph *g) {
    int from = g->pool_count > 3 && random_percent(&g->random, 75) ? g->pool_count - 3 : 0;
    return g->pool[random_range(&g->random, from, g->pool_count - 1)];
}

struct value *graph_pick_alike(struct random_graph *g, const struct value *value) {
    struct value *alike[POOL_VALUES];
    int count = 0;

    for (int i = 0; i < g->pool_count; i++)
        if (g->pool[i] != value && shape_equal(&g->pool[i]->shape, &value->shape))
            alike[count++] = g->pool[i];
    return count ? alike[random_range(&g->random, 0, count - 1)] : NULL;
}

float graph_largest(const struct random_graph *g, const struct value *value) {
    const struct tensor *tensor = g->tensors[value->id];
    float largest = 0;

    for (int64_t i = 0; i < shape_elements(&tensor->shape); i++)
        largest = fmaxf(largest, fabsf(((float *)tensor->data)[i]));
    return largest;
}

/* --- The whole ------------------------------------------------------------------------------------------ */

static void add_input(struct random_graph *g) {
    static const int channels[] = {1, 2, 3, 4, 6, 8, 12, 16, 17, 24, 32};
    struct shape *shape = &g->input.shape;
    int64_t kind = random_range(&g->random, 0, 9);

    shape->rank = kind < 6 ? 4 : kind < 9 ? 3 : 2;
    shape->dims[0] = random_range(&g->random, 1, 3);
    shape->dims[1] = channels[random_range(&g->random, 0, 10)];
    for (int i = 2; i < shape->rank; i++)
        shape->dims[i] = random_range(&g->random, 1, 10);

    g->input.dtype = DTYPE_F32;
    int64_t count = shape_elements(shape);
    float *data = graph_own_memory(g->graph, (size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = 2 * random_unit(&g->random);
    g->input.data = data;

    struct value *input = graph_add_value(g->graph, "input");
    input->dtype = DTYPE_F32;
    input->shape = *shape;
    graph_add_input(g->graph, input);
    g->tensors[input->id] = &g->input;
    g->pool[g->pool_count++] = input;
}

static void add_to_pool(struct random_graph *g, struct value *value) {
    for (int i = 0; i < g->pool_count; i++)
        if (g->pool[i] == value)
            return;
    bool weights = value->producer && value->producer->inputs[0]->constant;
    if (value->dtype == DTYPE_F32 && !weights && g->pool_count < POOL_VALUES)
        g->pool[g->pool_count++] = value;
}

/* What a recipe makes on the way may be taken by others, too. */
static void add_made(struct random_graph *g, struct node *after) {
    for (struct node *node = after ? after->next : g->graph->first; node; node = node->next)
        for (int i = 0; i < node->output_count; i++)
            if (i == 0 || node->output_count > 1 || random_percent(&g->random, 20))
                add_to_pool(g, node->outputs[i]);
}

/* The last value, and some of those that nothing uses. */
static void choose_outputs(struct random_graph *g) {
    int chosen = 0;

    for (int i = g->pool_count - 1; i >= 0 && chosen < 4; i--) {
        struct value *value = g->pool[i];
        bool wanted =
            value->producer && (chosen == 0 || (!value->use_count && random_percent(&g->random, 60)) ||
                                random_percent(&g->random, 5));
        if (wanted && graph_add_output(g->graph, value))
            chosen++;
    }
    if (!chosen)
        graph_add_output(g->graph, graph_grow(g, "Neg", g->pool[0], NULL));
}

void random_graph_create(struct random_graph *ret, uint64_t seed, int steps, bool quantized) {
    *ret = (struct random_graph){.random = {seed}, .graph = graph_create()};
    graph_add_import(ret->graph, "", OPSET);
    add_input(ret);

    for (int i = 0; i < steps; i++) {
        struct node *last = ret->graph->last;
        bool integers = quantized && random_percent(&ret->random, 80);
        struct value *made = integers ? recipe_any_quantized(ret) : recipe_any(ret);

        add_made(ret, last);
        if (made && made->dtype == DTYPE_F32) { /* the youngest, whatever was made on the way */
            for (int j = 0; j < ret->pool_count; j++)
                if (ret->pool[j] == made)
                    memmove(ret->pool + j, ret->pool + j + 1,
                            sizeof *ret->pool * (size_t)(--ret->pool_count - j));
            add_to_pool(ret, made);
        }
    }
    choose_outputs(ret);
}

void random_graph_free(struct random_graph *g) {
    graph_free(g->graph);
}
