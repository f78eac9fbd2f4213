/* Attributes of nodes: reading them with ONNX's defaults, and setting them. */
#include <string.h>

#include "graph/graph.h"

const struct attribute *node_attribute(const struct node *node, const char *name) {
    for (int i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) == 0)
            return &node->attributes[i];
    return NULL;
}

int64_t node_int(const struct node *node, const char *name, int64_t fallback) {
    const struct attribute *attribute = node_attribute(node, name);
    return attribute && attribute->kind == ATTRIBUTE_INT ? attribute->i : fallback;
}

float node_float(const struct node *node, const char *name, float fallback) {
    const struct attribute *attribute = node_attribute(node, name);
    return attribute && attribute->kind == ATTRIBUTE_FLOAT ? attribute->f : fallback;
}

const char *node_string(const struct node *node, const char *name, const char *fallback) {
    const struct attribute *attribute = node_attribute(node, name);
    return attribute && attribute->kind == ATTRIBUTE_STRING ? attribute->s : fallback;
}

size_t node_ints(const struct node *node, const char *name, const int64_t **ret) {
    const struct attribute *attribute = node_attribute(node, name);
    if (!attribute || attribute->kind != ATTRIBUTE_INTS || attribute->count == 0) {
        *ret = NULL;
        return 0;
    }

    *ret = attribute->ints;
    return attribute->count;
}

/* The node's attribute of that name, cleared; appended if it has none. */
static struct attribute *attribute_make(struct graph *graph, struct node *node, const char *name,
                                        enum attribute_kind kind) {
    struct attribute *attribute = (struct attribute *)node_attribute(node, name);
    if (!attribute) {
        size_t count = (size_t)node->attribute_count;
        struct attribute *list = arena_allocate_array(graph->arena, count + 1, sizeof *list);
        char *copy = arena_copy_string(graph->arena, name, strlen(name));
        if (!list || !copy)
            return NULL;

        if (count)
            memcpy(list, node->attributes, count * sizeof *list);
        node->attributes = list;
        node->attribute_count++;
        attribute = &list[count];
        attribute->name = copy;
    }

    *attribute = (struct attribute){.name = attribute->name, .kind = kind};
    return attribute;
}

bool node_set_int(struct graph *graph, struct node *node, const char *name, int64_t value) {
    struct attribute *attribute = attribute_make(graph, node, name, ATTRIBUTE_INT);
    if (!attribute)
        return false;

    attribute->i = value;
    return true;
}

bool node_set_ints(struct graph *graph, struct node *node, const char *name, const int64_t *ints,
                   size_t count) {
    int64_t *copy = arena_allocate_array(graph->arena, count + 1, sizeof *copy);
    if (!copy)
        return false;

    if (count)
        memcpy(copy, ints, count * sizeof *copy);
    struct attribute *attribute = attribute_make(graph, node, name, ATTRIBUTE_INTS);
    if (!attribute)
        return false;

    attribute->ints = copy;
    attribute->count = count;

    return true;
}

bool node_set_float(struct graph *graph, struct node *node, const char *name, float value) {
    struct attribute *attribute = attribute_make(graph, node, name, ATTRIBUTE_FLOAT);
    if (!attribute)
        return false;

    attribute->f = value;
    return true;
}

bool node_is(const struct node *node, const char *op_type) {
    return !*node->domain && strcmp(node->op_type, op_type) == 0;
}

bool node_copy_attributes(struct graph *graph, struct node *node, const struct node *original) {
    size_t count = (size_t)original->attribute_count;
    struct attribute *attributes = arena_allocate_array(graph->arena, count + 1, sizeof *attributes);
    if (!attributes)
        return false;
    if (count)
        memcpy(attributes, original->attributes, count * sizeof *attributes);

    node->attributes = attributes;
    node->attribute_count = original->attribute_count;
    return true;
}
