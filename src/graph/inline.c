/* The body of a branch or a function in place of the node that names it. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "graph/graph.h"

/* One body being copied: what its values are in the graph, by their ids. */
struct inlining {
    struct graph *graph;
    struct node *before; /* where its nodes go; NULL: to the end */
    const char *prefix;  /* the name of the node that it stands for */
    struct value **values;
    struct value **list; /* scratch */
};

/* The outputs that a node of the body makes are the node's own; the others need a copy. */
static void bind_outputs(struct inlining *inlining, const struct graph *body, struct value *const *outputs,
                         int count) {
    for (int i = 0; i < count; i++) {
        const struct value *made = body->outputs[i];
        if (outputs[i] && made->producer && !inlining->values[made->id])
            inlining->values[made->id] = outputs[i];
    }
}

static struct value *value_of(struct inlining *inlining, const struct value *original) {
    if (!original)
        return NULL;

    struct value **slot = &inlining->values[original->id];
    if (*slot || original->is_input) /* an input may be left out */
        return *slot;

    *slot = graph_add_value(inlining->graph, original->name);
    if (*slot) {
        (*slot)->dtype = original->dtype;
        (*slot)->shape = original->shape;
        (*slot)->constant = original->constant;
        (*slot)->is_defined = true;
    }
    return *slot;
}

/* `count` values of the body into the scratch list from `start`. */
static bool list_values(struct inlining *inlining, struct value *const *values, int count, int start) {
    for (int i = 0; i < count; i++) {
        inlining->list[start + i] = value_of(inlining, values[i]);
        if (values[i] && !values[i]->is_input && !inlining->list[start + i])
            return false;
    }
    return true;
}

static bool copy_node(struct inlining *inlining, const struct node *original) {
    struct graph *graph = inlining->graph;
    size_t count = (size_t)original->input_count + (size_t)original->output_count;
    struct value **list = reallocarray(inlining->list, count + 1, sizeof *list);
    if (!list)
        return false;

    inlining->list = list;
    if (!list_values(inlining, original->inputs, original->input_count, 0) ||
        !list_values(inlining, original->outputs, original->output_count, original->input_count))
        return false;

    const char *name = arena_printf(graph->arena, "%s/%s", inlining->prefix, original->name);
    struct node *node =
        graph_add_node(graph, inlining->before, original->domain, original->op_type, name, list,
                       original->input_count, list + original->input_count, original->output_count);
    if (!name || !node)
        return false;

    node->opset = original->opset;
    node->op = original->op;
    return node_copy_attributes(graph, node, original);
}

/* Outputs that are inputs or constants of the body, or the same value twice. */
static bool copy_outputs(struct inlining *inlining, const struct graph *body, struct value *const *outputs,
                         int count) {
    for (int i = 0; i < count; i++) {
        struct value *from = value_of(inlining, body->outputs[i]), *to = outputs[i];
        if (!from)
            return false;
        if (!to || from == to)
            continue;

        struct node *node =
            graph_add_node(inlining->graph, inlining->before, "", "Identity", NULL, &from, 1, &to, 1);
        if (!node)
            return false;
        if (!node->opset)
            node->opset = 1;
    }
    return true;
}

bool graph_inline_body(struct graph *graph, struct node *node, const struct graph *body,
                       struct value *const *inputs) {
    cleanup(freep) struct value **values = calloc((size_t)body->value_count + 1, sizeof(struct value *));
    struct inlining inlining = {.graph = graph, .before = node->next, .prefix = node->name, .values = values};
    bool done = values && node->output_count <= body->output_count;

    for (int i = 0; done && i < body->input_count; i++)
        values[body->inputs[i]->id] = inputs[i];
    if (done) {
        bind_outputs(&inlining, body, node->outputs, node->output_count);
        graph_remove_node(graph, node);
    }

    for (const struct node *each = body->first; done && each; each = each->next)
        done = copy_node(&inlining, each);
    done = done && copy_outputs(&inlining, body, node->outputs, node->output_count);

    free(inlining.list);
    return done;
}
