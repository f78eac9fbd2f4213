/* com.microsoft FusedConv and FusedGemm, which ONNX Runtime saves after its own optimisation: the convolution
 * or product, the tensor that is added, and the activation, as ONNX's own operators. passes_fuse joins them
 * again. */
#include <string.h>

#include "ops/operator.h"
#include "passes/passes.h"
#include "passes/rewrite.h"

/* An activation, and what its parameters are called: FusedConv has them in activation_params, in this order.
 */
static const struct {
    const char *name, *parameters[2];
    float fallback[2];
} activations[] = {
    {"Relu", {NULL}, {0}},
    {"Tanh", {NULL}, {0}},
    {"Sigmoid", {NULL}, {0}},
    {"LeakyRelu", {"alpha"}, {0.01f}},
    {"HardSigmoid", {"alpha", "beta"}, {0.2f, 0.5f}},
    {"Clip", {"min", "max"}, {-3.4028235e38f, 3.4028235e38f}},
};
#define ACTIVATIONS ((int)(sizeof activations / sizeof activations[0]))

static bool is_fused(const struct node *node) {
    return strcmp(node->domain, "com.microsoft") == 0 &&
           (strcmp(node->op_type, "FusedConv") == 0 || strcmp(node->op_type, "FusedGemm") == 0);
}

static int activation_index(const struct node *node) {
    const char *name = node_string(node, "activation", "");
    for (int i = 0; i < ACTIVATIONS; i++)
        if (strcmp(activations[i].name, name) == 0)
            return i;
    return -1;
}

static float parameter_of(const struct node *node, int activation, int index) {
    const struct attribute *list = node_attribute(node, "activation_params");
    const char *name = activations[activation].parameters[index];
    char own[32] = "activation_";
    if (list && list->kind == ATTRIBUTE_FLOATS && list->count > (size_t)index)
        return list->floats[index];

    strncat(own, name, sizeof own - strlen(own) - 1);
    return node_float(node, own, activations[activation].fallback[index]);
}

/* A new value between `node` and what followed it: `node` makes the new one, the caller's node its old
 * output. */
static struct value *output_split(struct graph *graph, struct node *node, struct value **ret_output) {
    struct value *between = graph_add_value(graph, NULL);
    if (!between)
        return NULL;

    *ret_output = node->outputs[0];
    node->outputs[0] = between;
    between->producer = node;
    return between;
}

static bool add_activation(struct graph *graph, struct node *node, int activation, int opset) {
    struct value *output, *inputs[3] = {output_split(graph, node, &output)};
    bool clips = strcmp(activations[activation].name, "Clip") == 0;
    int count = 1;
    if (!inputs[0])
        return false;

    for (int i = 0; clips && opset >= 11 && i < 2; i++) {
        float *bound;
        inputs[count] = graph_add_floats(graph, &(struct shape){0}, &bound);
        if (!inputs[count])
            return false;
        *bound = parameter_of(node, activation, i);
        count++;
    }

    struct node *added = graph_add_node(graph, node->next, "", activations[activation].name, node->name,
                                        inputs, count, &output, 1);
    bool done = added != NULL;
    for (int i = 0; done && (!clips || opset < 11) && i < 2 && activations[activation].parameters[i]; i++)
        done = node_set_float(graph, added, activations[activation].parameters[i],
                              parameter_of(node, activation, i));
    return done;
}

/* FusedConv's fourth input is added before the activation. */
static bool add_sum(struct graph *graph, struct node *node) {
    struct value *output, *inputs[2] = {NULL, node->inputs[3]};
    inputs[0] = output_split(graph, node, &output);
    if (!inputs[0] || !graph_add_node(graph, node->next, "", "Add", node->name, inputs, 2, &output, 1) ||
        !node_set_input(graph, node, 3, NULL))
        return false;
    node->input_count = 3;
    return true;
}

static void drop_activation(struct node *node) {
    int kept = 0;
    for (int i = 0; i < node->attribute_count; i++)
        if (strncmp(node->attributes[i].name, "activation", 10) != 0)
            node->attributes[kept++] = node->attributes[i];
    node->attribute_count = kept;
}

bool passes_expand_fused(struct graph *graph, struct error *error) {
    int opset = graph_opset(graph, "");
    for (struct node *node = graph->first; node; node = node->next) {
        if (!is_fused(node) || !opset || node->output_count != 1 || !node->outputs[0])
            continue;

        int activation = activation_index(node);
        if (activation < 0)
            return node_error(node, error, "activation '%.32s' is not supported",
                              node_string(node, "activation", ""));
        bool done =
            add_activation(graph, node, activation, opset) && (!node_input(node, 3) || add_sum(graph, node));
        if (!done)
            return node_memory_error(node, error);
        drop_activation(node);
        node->op_type += strlen("Fused");
        node->domain = "";
        node->opset = opset;
    }
    return true;
}
