/* If whose condition is known: the branch that is taken, in place of the node. */
#include <stdlib.h>

#include "base/cleanup.h"
#include "ops/operator.h"
#include "passes/rewrite.h"

bool node_has_known_branch(const struct node *node) {
    const struct value *condition = node_input(node, 0);
    return node_is(node, "If") && node_has(node, OP_CONTROL) && condition && condition->constant &&
           shape_elements(&condition->constant->shape) == 1 && dtype_size(condition->constant->dtype);
}

bool node_inline_branch(struct graph *graph, struct node *node, struct node **ret_next, struct error *error) {
    bool taken = tensor_get_f64(node->inputs[0]->constant, 0) != 0;
    const struct attribute *branch = node_attribute(node, taken ? "then_branch" : "else_branch");
    struct node *previous = node->previous, *next = node->next;
    cleanup(freep) struct value **inputs = calloc((size_t)branch->captured_count + 1, sizeof(struct value *));

    for (int i = 0; inputs && i < branch->captured_count; i++)
        inputs[i] = node->inputs[branch->first_captured + i];
    if (!inputs || !graph_inline_body(graph, node, branch->graph, inputs))
        return error_set(error, ERROR_MEMORY, "node %s (If): not enough memory or room for its branch",
                         node->name);

    struct node *first = previous ? previous->next : graph->first;
    for (struct node *each = first; each != next; each = each->next)
        if (!each->op)
            each->op = operator_find(each->domain, each->op_type, each->opset);
    *ret_next = first;
    return true;
}
