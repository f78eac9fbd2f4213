/* If, Loop, Scan: nodes with graphs inside. What an If chooses once shapes are known, passes/ puts in its
 * place; the rest engine/ runs, body by body: nothing here computes.
 * https://onnx.ai/onnx/operators/onnx__If.html */
#include "ops/family.h"

/* The attribute, if its graph takes `inputs` values (besides those from around it; -1: any number) and gives
 * at least as many as the node has outputs, and `more`. */
static const struct attribute *body_check(const struct node *node, const char *name, int inputs, int more,
                                          struct error *error) {
    const struct attribute *attribute = node_attribute(node, name);
    if (!attribute || attribute->kind != ATTRIBUTE_GRAPH) {
        node_error(node, error, "attribute %s is not a graph", name);
        return NULL;
    }

    const struct graph *body = attribute->graph;
    int formal = body->input_count - attribute->captured_count;
    if (formal == (inputs < 0 ? formal : inputs) && body->output_count >= node->output_count + more)
        return attribute;

    node_error(node, error, "%s has %d inputs and %d outputs, which do not fit the node's", name, formal,
               body->output_count);
    return NULL;
}

static bool if_check(const struct node *node, struct error *error) {
    const struct attribute *then_branch = body_check(node, "then_branch", 0, 0, error);
    const struct attribute *else_branch = then_branch ? body_check(node, "else_branch", 0, 0, error) : NULL;
    return else_branch && ((then_branch->first_captured >= 1 && else_branch->first_captured >= 1) ||
                           node_error(node, error, "has no condition"));
}

/* The trip count, the condition, then what is carried from turn to turn. */
static bool loop_check(const struct node *node, struct error *error) {
    const struct attribute *attribute = body_check(node, "body", -1, 1, error);
    if (!attribute)
        return false;

    int carried = attribute->graph->input_count - attribute->captured_count - 2;
    int given = attribute->first_captured - 2;
    if (carried < 0 || (given < 0 ? 0 : given) != carried || attribute->graph->output_count < carried + 1)
        return node_error(node, error, "its body does not take what the loop carries");
    for (int i = 2; i < carried + 2; i++)
        if (!node_has_input(node, i))
            return node_error(node, error, "input %d is missing", i);
    return true;
}

static bool scan_check(const struct node *node, struct error *error) {
    const struct attribute *attribute = body_check(node, "body", -1, 0, error);
    if (!attribute)
        return false;

    int inputs = attribute->graph->input_count - attribute->captured_count;
    int64_t scanned = node_int(node, "num_scan_inputs", 0);
    if (scanned < 1 || scanned > inputs || attribute->first_captured != inputs ||
        attribute->graph->output_count < inputs - scanned)
        return node_error(node, error, "its body does not take what the node has");
    for (int i = 0; i < inputs; i++)
        if (!node_has_input(node, i))
            return node_error(node, error, "input %d is missing", i);
    return true;
}

static bool control_infer(struct node *node, struct error *error) {
    return node_error(node, error, "is not supported here: only running the model computes it");
}

static bool control_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    (void)inputs, (void)outputs;
    return node_error(node, error, "is not supported here: only running the model computes it");
}

#define CONTROL(name, first)                                                              \
    {                                                                                     \
        .op_type = name, .inputs = {first, -1}, .outputs = {1, -1}, .traits = OP_CONTROL, \
        .types = NAMES_ALL, FUNCTIONS(control)

const struct op_def control_operators[] = {CONTROL("If", 1), .since = 1, .check = if_check,
                                           .plan_inputs = 1u << 0},
                    CONTROL("Loop", 0), .since = 1, .check = loop_check
}
, CONTROL("Scan", 1), .since = 9, .check = scan_check
}
, {0},
}
;
