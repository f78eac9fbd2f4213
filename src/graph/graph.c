#include "graph/graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/limits.h"

struct graph *graph_create(void) {
    struct graph *graph = calloc(1, sizeof *graph);
    if (!graph)
        return NULL;

    graph->arena = arena_create();
    if (!graph->arena) {
        free(graph);
        return NULL;
    }

    graph->name = graph->producer = "";

    return graph;
}

void graph_free(struct graph *graph) {
    if (!graph)
        return;

    for (int i = 0; i < graph->map_count; i++)
        file_map_close(&graph->maps[i]);
    for (int i = 0; i < graph->owned_count; i++)
        free(graph->owned[i]);

    while (graph->bodies) {
        struct graph *next = graph->bodies->next_body;
        graph_free(graph->bodies);
        graph->bodies = next;
    }

    free(graph->owned);
    arena_free(graph->arena);
    free(graph);
}

void graph_own_body(struct graph *graph, struct graph *body) {
    body->next_body = graph->bodies;
    graph->bodies = body;
}

/* An array in the arena with room for one more element: doubled by copying; the old array stays until the
 * arena is freed. */
static void *array_grow(struct arena *arena, void *array, int count, int *capacity, size_t element) {
    if (count < *capacity)
        return array;
    if (*capacity > INT32_MAX / 2)
        return NULL;

    int larger = *capacity ? *capacity * 2 : 4;
    void *grown = arena_allocate_array(arena, (size_t)larger, element);
    if (!grown)
        return NULL;

    if (count)
        memcpy(grown, array, (size_t)count * element);
    *capacity = larger;

    return grown;
}

static const char *domain_normalize(const char *domain) {
    return !domain || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

static char *graph_copy_string(struct graph *graph, const char *text) {
    return arena_copy_string(graph->arena, text, strlen(text));
}

bool graph_add_import(struct graph *graph, const char *domain, int version) {
    domain = domain_normalize(domain);
    for (int i = 0; i < graph->import_count; i++)
        if (strcmp(graph->imports[i].domain, domain) == 0) {
            graph->imports[i].version = version;
            return true;
        }

    struct opset_import *imports =
        arena_allocate_array(graph->arena, (size_t)graph->import_count + 1, sizeof *imports);
    char *copy = graph_copy_string(graph, domain);
    if (!imports || !copy)
        return false;

    if (graph->import_count)
        memcpy(imports, graph->imports, (size_t)graph->import_count * sizeof *imports);
    imports[graph->import_count++] = (struct opset_import){copy, version};
    graph->imports = imports;

    return true;
}

int graph_opset(const struct graph *graph, const char *domain) {
    domain = domain_normalize(domain);
    for (int i = 0; i < graph->import_count; i++)
        if (strcmp(graph->imports[i].domain, domain) == 0)
            return graph->imports[i].version;
    return 0;
}

static bool list_append(struct arena *arena, struct value ***list, int *count, struct value *value) {
    /* The capacity is the power of two that holds the count: the list grows when the count reaches it. */
    if (*count == 0 || (*count & (*count - 1)) == 0) {
        struct value **grown = arena_allocate_array(arena, *count ? (size_t)*count * 2 : 1, sizeof *grown);
        if (!grown)
            return false;

        if (*count)
            memcpy(grown, *list, (size_t)*count * sizeof *grown);
        *list = grown;
    }

    (*list)[(*count)++] = value;
    return true;
}

bool graph_add_input(struct graph *graph, struct value *value) {
    if (!list_append(graph->arena, &graph->inputs, &graph->input_count, value))
        return false;
    value->is_input = true;
    return true;
}

bool graph_add_output(struct graph *graph, struct value *value) {
    if (!list_append(graph->arena, &graph->outputs, &graph->output_count, value))
        return false;
    value->is_output = true;
    return true;
}

struct value *graph_add_value(struct graph *graph, const char *name) {
    if (graph->value_count >= LIMIT_MODEL_VALUES)
        return NULL;

    struct value **values =
        array_grow(graph->arena, graph->values, graph->value_count, &graph->value_capacity, sizeof *values);
    struct value *value = values ? arena_allocate(graph->arena, sizeof *value) : NULL;
    if (!value)
        return NULL;

    graph->values = values;
    value->name = name && *name ? graph_copy_string(graph, name) : "";
    if (!value->name)
        return NULL;

    value->shape = SHAPE_UNKNOWN;
    value->id = graph->value_count;
    values[graph->value_count++] = value;

    return value;
}

struct value *graph_add_constant(struct graph *graph, const char *name, enum dtype dtype,
                                 const struct shape *shape, void *data) {
    struct tensor *tensor = arena_allocate(graph->arena, sizeof *tensor);
    struct value *value = tensor ? graph_add_value(graph, name) : NULL;
    if (!value)
        return NULL;

    *tensor = (struct tensor){dtype, *shape, data};
    value->dtype = dtype;
    value->shape = *shape;
    value->constant = tensor;

    return value;
}

size_t graph_constant_bytes(const struct graph *graph) {
    size_t total = 0;
    for (const struct node *node = graph->first; node; node = node->next)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] && node->inputs[i]->constant)
                total += tensor_bytes(node->inputs[i]->constant);
    return total;
}

void *graph_own_memory(struct graph *graph, size_t bytes) {
    if (graph->owned_count == graph->owned_capacity) {
        int capacity = graph->owned_capacity ? graph->owned_capacity * 2 : 16;
        void **owned = reallocarray(graph->owned, (size_t)capacity, sizeof *owned);
        if (!owned)
            return NULL;
        graph->owned = owned;
        graph->owned_capacity = capacity;
    }

    if (bytes > SIZE_MAX - 128)
        return NULL;
    void *memory = aligned_alloc(64, size_align(bytes ? bytes : 1, 64));
    if (memory)
        graph->owned[graph->owned_count++] = memory;

    return memory;
}

static bool value_add_use(struct graph *graph, struct value *value, struct node *node, int input) {
    struct use *uses =
        array_grow(graph->arena, value->uses, value->use_count, &value->use_capacity, sizeof *uses);
    if (!uses)
        return false;

    value->uses = uses;
    uses[value->use_count++] = (struct use){node, input};
    return true;
}

static void value_drop_use(struct value *value, const struct node *node, int input) {
    for (int i = value->use_count - 1; i >= 0; i--)
        if (value->uses[i].node == node && value->uses[i].input == input) {
            memmove(&value->uses[i], &value->uses[i + 1],
                    (size_t)(value->use_count - i - 1) * sizeof *value->uses);
            value->use_count--;
            return;
        }
}

static void node_link(struct graph *graph, struct node *node, struct node *before) {
    node->next = before;
    node->previous = before ? before->previous : graph->last;
    if (node->previous)
        node->previous->next = node;
    else
        graph->first = node;

    if (before)
        before->previous = node;
    else
        graph->last = node;

    graph->node_count++;
}

static void node_unlink(struct graph *graph, struct node *node) {
    if (node->previous)
        node->previous->next = node->next;
    else
        graph->first = node->next;

    if (node->next)
        node->next->previous = node->previous;
    else
        graph->last = node->previous;

    node->previous = node->next = NULL;
    graph->node_count--;
}

/* Memory for a node and its lists. */
static struct node *node_allocate(struct graph *graph, int input_count, int output_count) {
    struct node *node = arena_allocate(graph->arena, sizeof *node);
    if (!node)
        return NULL;

    node->inputs = arena_allocate_array(graph->arena, (size_t)input_count + 1, sizeof *node->inputs);
    node->outputs = arena_allocate_array(graph->arena, (size_t)output_count + 1, sizeof *node->outputs);
    node->input_capacity = input_count + 1;

    return node->inputs && node->outputs ? node : NULL;
}

static bool node_connect(struct graph *graph, struct node *node, struct value *const *inputs, int input_count,
                         struct value *const *outputs, int output_count) {
    for (int i = 0; i < input_count; i++) {
        if (inputs[i] && !value_add_use(graph, inputs[i], node, i)) {
            while (--i >= 0)
                if (inputs[i])
                    value_drop_use(inputs[i], node, i);
            return false;
        }
        node->inputs[i] = inputs[i];
    }

    node->input_count = input_count;
    for (int i = 0; i < output_count; i++) {
        node->outputs[i] = outputs[i];
        if (outputs[i])
            outputs[i]->producer = node;
    }

    node->output_count = output_count;
    return true;
}

struct node *graph_add_node(struct graph *graph, struct node *before, const char *domain, const char *op_type,
                            const char *name, struct value *const *inputs, int input_count,
                            struct value *const *outputs, int output_count) {
    if (graph->node_count >= LIMIT_MODEL_NODES)
        return NULL;
    struct node *node = node_allocate(graph, input_count, output_count);
    if (!node)
        return NULL;

    domain = domain_normalize(domain);
    node->domain = *domain ? graph_copy_string(graph, domain) : "";
    node->op_type = graph_copy_string(graph, op_type);
    node->name = name && *name ? graph_copy_string(graph, name)
                               : arena_printf(graph->arena, "%s#%d", op_type, graph->nodes_made);
    node->opset = graph_opset(graph, domain);
    if (!node->domain || !node->op_type || !node->name ||
        !node_connect(graph, node, inputs, input_count, outputs, output_count))
        return NULL;

    graph->nodes_made++;
    node_link(graph, node, before);

    return node;
}

void graph_remove_node(struct graph *graph, struct node *node) {
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i])
            value_drop_use(node->inputs[i], node, i);

    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && node->outputs[i]->producer == node)
            node->outputs[i]->producer = NULL;
    node_unlink(graph, node);
}

void graph_move_node(struct graph *graph, struct node *node, struct node *before) {
    if (node == before)
        return;
    node_unlink(graph, node);
    node_link(graph, node, before);
}

bool graph_replace_value(struct graph *graph, struct value *from, struct value *to) {
    if (from == to)
        return true;

    for (; from->use_count; from->use_count--) {
        struct use use = from->uses[from->use_count - 1];
        if (!value_add_use(graph, to, use.node, use.input))
            return false;
        use.node->inputs[use.input] = to;
    }

    if (!from->is_output)
        return true;

    if (!to->is_output && !to->is_input) {
        const char *name = to->name;
        to->name = from->name;
        from->name = name;
    }

    for (int i = 0; i < graph->output_count; i++)
        if (graph->outputs[i] == from)
            graph->outputs[i] = to;

    from->is_output = false;
    to->is_output = true;

    return true;
}

static bool node_is_dead(const struct node *node) {
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i] && (node->outputs[i]->use_count || node->outputs[i]->is_output))
            return false;
    return true;
}

int graph_remove_dead_nodes(struct graph *graph) {
    int removed = 0;
    /* From the end, so that a node's consumers are gone before it is looked at. */
    for (struct node *node = graph->last, *previous; node; node = previous) {
        previous = node->previous;
        if (node_is_dead(node)) {
            graph_remove_node(graph, node);
            removed++;
        }
    }

    return removed;
}

struct sort_step {
    struct node *node;
    int input;
};

enum { MARK_NEW, MARK_OPEN, MARK_DONE };

/* Depth first from `root` through producers: append each node to `order` after everything it needs. Nodes
 * that do not depend on each other keep their order. */
static bool sort_from(struct node *root, struct sort_step *stack, struct node **order, int *count,
                      struct error *error) {
    int depth = 0;
    root->mark = MARK_OPEN;
    stack[depth++] = (struct sort_step){root, 0};

    while (depth) {
        struct sort_step *top = &stack[depth - 1];
        if (top->input == top->node->input_count) {
            top->node->mark = MARK_DONE;
            order[(*count)++] = top->node;
            depth--;
            continue;
        }

        struct value *value = top->node->inputs[top->input++];
        struct node *producer = value ? value->producer : NULL;
        if (!producer || producer->mark == MARK_DONE)
            continue;
        if (producer->mark == MARK_OPEN)
            return error_set(error, ERROR_MODEL,
                             "node %s (%s) is part of a cycle: it depends on its own result", producer->name,
                             producer->op_type);

        producer->mark = MARK_OPEN;
        stack[depth++] = (struct sort_step){producer, 0};
    }

    return true;
}

bool graph_sort(struct graph *graph, struct error *error) {
    size_t room = (size_t)graph->node_count + 1;
    cleanup(freep) struct sort_step *stack = calloc(room, sizeof *stack);
    cleanup(freep) struct node **order = calloc(room, sizeof(struct node *));
    if (!stack || !order)
        return error_set(error, ERROR_MEMORY, "not enough memory to sort %d nodes", graph->node_count);

    for (struct node *node = graph->first; node; node = node->next)
        node->mark = MARK_NEW;

    int count = 0;
    for (struct node *node = graph->first; node; node = node->next)
        if (node->mark == MARK_NEW && !sort_from(node, stack, order, &count, error))
            return false;

    for (int i = 0; i < count; i++) {
        order[i]->previous = i ? order[i - 1] : NULL;
        order[i]->next = i + 1 < count ? order[i + 1] : NULL;
    }

    graph->first = count ? order[0] : NULL;
    graph->last = count ? order[count - 1] : NULL;
    return true;
}

bool node_set_input(struct graph *graph, struct node *node, int input, struct value *value) {
    if (input < 0 || input >= INT32_MAX / 2)
        return false;

    if (input >= node->input_capacity) {
        int capacity = input + 1 > node->input_capacity * 2 ? input + 1 : node->input_capacity * 2;
        struct value **inputs = arena_allocate_array(graph->arena, (size_t)capacity, sizeof *inputs);
        if (!inputs)
            return false;

        memcpy(inputs, node->inputs, (size_t)node->input_count * sizeof *inputs);
        node->inputs = inputs;
        node->input_capacity = capacity;
    }

    if (value && !value_add_use(graph, value, node, input))
        return false;

    for (; node->input_count <= input; node->input_count++)
        node->inputs[node->input_count] = NULL;

    if (node->inputs[input])
        value_drop_use(node->inputs[input], node, input);
    node->inputs[input] = value;

    return true;
}

struct value *node_input(const struct node *node, int input) {
    return input >= 0 && input < node->input_count ? node->inputs[input] : NULL;
}

/* The copy's value for one of the original's, which has the same id; NULL for NULL. */
static struct value *counterpart(const struct graph *copy, const struct value *original) {
    return original && copy->values ? copy->values[original->id] : NULL;
}

static bool clone_values(struct graph *copy, const struct graph *graph) {
    for (int i = 0; i < graph->value_count; i++) {
        struct value *value = graph_add_value(copy, NULL);
        const struct value *original = graph->values[i];
        if (!value)
            return false;

        value->name = original->name;
        value->dtype = original->dtype;
        value->shape = original->shape;
        value->constant = original->constant;
    }

    for (int i = 0; i < graph->input_count; i++)
        if (!graph_add_input(copy, counterpart(copy, graph->inputs[i])))
            return false;

    for (int i = 0; i < graph->output_count; i++)
        if (!graph_add_output(copy, counterpart(copy, graph->outputs[i])))
            return false;

    return true;
}

static bool clone_node(struct graph *copy, const struct node *original) {
    struct node *node = node_allocate(copy, original->input_count, original->output_count);
    if (!node)
        return false;

    node->op_type = original->op_type;
    node->domain = original->domain;
    node->name = original->name;
    node->opset = original->opset;
    node->op = original->op;
    memcpy(node->post_ops, original->post_ops, sizeof node->post_ops);
    node->post_op_count = original->post_op_count;

    /* Copied, because attributes may be set in the copy; what the list points at never changes. */
    if (!node_copy_attributes(copy, node, original))
        return false;

    for (int i = 0; i < original->input_count; i++) {
        struct value *value = counterpart(copy, original->inputs[i]);
        if (value && !value_add_use(copy, value, node, i))
            return false;
        node->inputs[i] = value;
    }

    node->input_count = original->input_count;
    for (int i = 0; i < original->output_count; i++) {
        node->outputs[i] = counterpart(copy, original->outputs[i]);
        if (node->outputs[i])
            node->outputs[i]->producer = node;
    }

    node->output_count = original->output_count;
    node_link(copy, node, NULL);

    return true;
}

struct graph *graph_clone(const struct graph *graph) {
    struct graph *copy = graph_create();
    if (!copy)
        return NULL;

    copy->name = graph->name;
    copy->producer = graph->producer;
    copy->nodes_made = graph->nodes_made;
    if (!clone_values(copy, graph))
        goto fail;

    for (int i = 0; i < graph->import_count; i++)
        if (!graph_add_import(copy, graph->imports[i].domain, graph->imports[i].version))
            goto fail;

    for (const struct node *node = graph->first; node; node = node->next)
        if (!clone_node(copy, node))
            goto fail;

    return copy;

fail:
    graph_free(copy);
    return NULL;
}
