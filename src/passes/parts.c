/* A graph in three parts, where shapes follow from what is computed: what can be planned, the nodes that wait
 * for its results, and the rest, which depends on those. Values keep their ids in all three. */
#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

/* Nodes of a part have this mark (see struct node). */
enum { IN_HEAD = NODE_PLANNED, IN_WAITING = NODE_WAITS, IN_REST = NODE_FOLLOWS };

bool node_must_wait(const struct node *node) {
    if (node_has(node, OP_CONTROL))
        return true;
    for (int i = 0; i < node->input_count && i < 32; i++)
        if (node->op->plan_inputs & 1u << i && node->inputs[i] && !node->inputs[i]->constant)
            return true;
    return false;
}

/* A copy with the nodes of one part. `whole` and the copy list nodes in the same order. */
static struct graph *part_copy(const struct graph *whole, int mark) {
    struct graph *part = graph_clone(whole);
    struct node *copy = part ? part->first : NULL, *next;

    for (const struct node *node = whole->first; node && part; node = node->next, copy = next) {
        next = copy->next;
        if (node->mark != mark)
            graph_remove_node(part, copy);
    }
    return part;
}

/* Inputs: what nodes use and nothing in the part makes. Outputs: the whole's, as far as the part makes them.
 */
static bool part_set_ends(struct graph *part, const struct graph *whole) {
    part->input_count = part->output_count = 0;
    part->inputs = part->outputs = NULL;
    for (int i = 0; i < part->value_count; i++)
        part->values[i]->is_input = part->values[i]->is_output = false;

    for (int i = 0; i < whole->output_count; i++) {
        struct value *value = part->values[whole->outputs[i]->id];
        if (value->producer && !value->is_output && !graph_add_output(part, value))
            return false;
    }
    for (int i = 0; i < part->value_count; i++) {
        struct value *value = part->values[i];
        if (value->producer || value->constant || !value->use_count)
            continue;
        value->dtype = DTYPE_UNKNOWN; /* as it will come */
        value->shape = SHAPE_UNKNOWN;
        if (!graph_add_input(part, value))
            return false;
    }
    return true;
}

/* The head takes the whole's inputs and gives, besides the whole's outputs, what the other parts need. */
static bool head_set_ends(struct graph *head, const struct graph *whole, const struct graph_parts *parts) {
    const struct graph *others[] = {parts->waiting, parts->rest};

    head->output_count = 0;
    head->outputs = NULL;
    for (int i = 0; i < head->value_count; i++)
        head->values[i]->is_output = false;
    for (int i = 0; i < whole->output_count; i++) {
        struct value *value = head->values[whole->outputs[i]->id];
        bool made = value->producer || value->constant || value->is_input;
        if (made && !value->is_output && !graph_add_output(head, value))
            return false;
    }

    for (int k = 0; k < 2; k++)
        for (int i = 0; others[k] && i < others[k]->input_count; i++) {
            struct value *value = head->values[others[k]->inputs[i]->id];
            if (value->producer && !value->is_output && !graph_add_output(head, value))
                return false;
        }
    return true;
}

void graph_parts_release(struct graph_parts *parts) {
    graph_free(parts->head);
    graph_free(parts->waiting);
    graph_free(parts->rest);
    *parts = (struct graph_parts){0};
}

bool passes_split(const struct graph *whole, struct graph_parts *ret, struct error *error) {
    struct graph_parts parts = {part_copy(whole, IN_HEAD), part_copy(whole, IN_WAITING),
                                part_copy(whole, IN_REST)};
    bool done = parts.head && parts.waiting && parts.rest && part_set_ends(parts.waiting, whole) &&
                part_set_ends(parts.rest, whole) && head_set_ends(parts.head, whole, &parts);
    if (done && passes_remove_identities(parts.head, true, error)) {
        graph_remove_dead_nodes(parts.head);
        *ret = parts;
        return true;
    }

    graph_parts_release(&parts);
    return done ? false : error_set(error, ERROR_MEMORY, "not enough memory to plan the model in parts");
}
