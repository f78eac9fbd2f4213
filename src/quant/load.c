#include "quant/load.h"

#include <float.h>
#include <string.h>

#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"

bool quant_graph_is_quantized(const struct graph *graph) {
    for (const struct node *node = graph->first; node; node = node->next) {
        const struct op_def *op = operator_find(node->domain, node->op_type, node->opset);
        if (op && op->traits & OP_QUANTIZED)
            return true;
    }

    return passes_is_quantized(graph);
}

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the network");
}

/* Attribute `name` (integers) becomes input `input`. */
static bool ints_to_input(struct graph *graph, struct node *node, const char *name, int input) {
    const int64_t *ints;
    size_t count = node_ints(node, name, &ints);
    if (!count || node_input(node, input))
        return true;

    struct shape shape = {.rank = 1, .dims = {(int64_t)count}};
    int64_t *data = graph_own_memory(graph, count * sizeof *data);
    if (!data)
        return false;

    memcpy(data, ints, count * sizeof *data);
    struct value *value = graph_add_constant(graph, "", DTYPE_I64, &shape, data);
    return value && node_set_input(graph, node, input, value);
}

static bool float_to_input(struct graph *graph, struct node *node, float number, int input) {
    struct shape scalar = {.rank = 0};
    float *data = graph_own_memory(graph, sizeof *data);
    if (!data)
        return false;

    *data = number;
    struct value *value = graph_add_constant(graph, "", DTYPE_F32, &scalar, data);
    return value && node_set_input(graph, node, input, value);
}

static void drop_attribute(struct node *node, const char *name) {
    int kept = 0;
    for (int i = 0; i < node->attribute_count; i++)
        if (strcmp(node->attributes[i].name, name) != 0)
            node->attributes[kept++] = node->attributes[i];
    node->attribute_count = kept;
}

static bool raise_clip(struct graph *graph, struct node *node) {
    const struct attribute *low = node_attribute(node, "min"), *high = node_attribute(node, "max");
    bool done =
        node->opset >= 11 || ((!low && !high) || (float_to_input(graph, node, low ? low->f : -FLT_MAX, 1) &&
                                                  float_to_input(graph, node, high ? high->f : FLT_MAX, 2)));

    drop_attribute(node, "min");
    drop_attribute(node, "max");
    return done;
}

static bool raise_pad(struct graph *graph, struct node *node) {
    if (node->opset >= 11)
        return true;

    float value = node_float(node, "value", 0);
    bool done = ints_to_input(graph, node, "pads", 1) && float_to_input(graph, node, value, 2);
    drop_attribute(node, "pads");
    drop_attribute(node, "value");
    return done;
}

static bool raise_slice(struct graph *graph, struct node *node) {
    if (node->opset >= 10)
        return true;

    bool done = ints_to_input(graph, node, "starts", 1) && ints_to_input(graph, node, "ends", 2) &&
                ints_to_input(graph, node, "axes", 3);
    drop_attribute(node, "starts");
    drop_attribute(node, "ends");
    drop_attribute(node, "axes");

    return done;
}

static bool raise_axes(struct graph *graph, struct node *node, const char *name) {
    bool done = ints_to_input(graph, node, name, 1);
    drop_attribute(node, name);
    return done;
}

/* Before opset 13 the softmax of all axes from `axis` on, flattened: the same for the last one. */
static bool softmax_can_be_raised(const struct node *node) {
    int rank = node->inputs[0]->shape.rank;
    const struct node *before = node->inputs[0]->producer;
    if (rank < 0 && before && (node_is(before, "Gemm") || node_is(before, "Flatten")))
        rank = 2;
    int64_t axis = node_int(node, "axis", 1);
    return axis == -1 || (rank > 0 && axis == rank - 1);
}

/* What is written alike from opset 7 to 13, or differs in the types alone. */
static bool is_unchanged(const struct node *node) {
    const struct op_def *now = operator_find("", node->op_type, node->opset);
    static const char *const changed[] = {
        "Upsample",           "Resize",  "TopK",     "Hardmax", "Scan", "Loop", "Softmax", "LogSoftmax",
        "BatchNormalization", "Dropout", "ReduceSum"};

    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++)
        if (node_is(node, changed[i]))
            return false;
    return node->opset >= 7 && now && operator_find("", node->op_type, QUANT_OPSET);
}

static bool raise_node(struct graph *graph, struct node *node, struct error *error) {
    bool raised;
    if (node_is(node, "Clip"))
        raised = raise_clip(graph, node);
    else if (node_is(node, "Pad"))
        raised = raise_pad(graph, node);
    else if (node_is(node, "Slice"))
        raised = raise_slice(graph, node);
    else if (node_is(node, "Squeeze") || node_is(node, "Unsqueeze") || node_is(node, "ReduceSum"))
        raised = raise_axes(graph, node, "axes");
    else if (node_is(node, "Split"))
        raised = raise_axes(graph, node, "split");
    else if (node_is(node, "Softmax") || node_is(node, "LogSoftmax")) {
        if (!softmax_can_be_raised(node))
            return error_set(error, ERROR_MODEL,
                             "node %s (%s) means something else from opset 13 on, and int8 needs opset 13: "
                             "export the model with opset 13",
                             node->name, node->op_type);
        raised = node_set_int(graph, node, "axis", -1);
    } else if (node_is(node, "BatchNormalization") && node->opset >= 9)
        raised = node->output_count == 1;
    else if ((node_is(node, "Resize") && node->opset >= 11) || is_unchanged(node))
        raised = true;
    else
        return error_set(error, ERROR_MODEL,
                         "node %s (%s, opset %d) cannot be raised to opset 13, which int8 needs: export the "
                         "model with opset 13",
                         node->name, node->op_type, node->opset);

    return raised || no_memory(error);
}

bool quant_raise_opset(struct graph *graph, struct error *error) {
    if (graph_opset(graph, "") >= QUANT_OPSET)
        return true;

    for (struct node *node = graph->first; node; node = node->next)
        if (!*node->domain && node->opset < QUANT_OPSET) {
            if (!raise_node(graph, node, error))
                return false;
            node->opset = QUANT_OPSET;
        }

    return (graph_add_import(graph, "", QUANT_OPSET) || no_memory(error)) && operators_bind(graph, error);
}

static bool check_float(const struct graph *graph, struct error *error) {
    return !quant_graph_is_quantized(graph) ||
           error_set(error, ERROR_INVALID, "it is already quantised: give the float model it was made from");
}

bool quant_network_check(const char *path, struct error *error) {
    struct graph *graph = onnx_graph_read(path, error);
    if (!graph)
        return false;
    bool done = check_float(graph, error) || error_prefix(error, "%s", path);
    graph_free(graph);
    return done;
}

/* Simplifying may replace an output by another value: keep the type and shape that the file states, for other
 * runtimes.
 */
static bool simplify(struct graph *graph, struct error *error) {
    struct value *stated =
        arena_allocate_array(graph->arena, (size_t)graph->output_count + 1, sizeof *stated);
    if (!stated)
        return no_memory(error);

    for (int i = 0; i < graph->output_count; i++)
        stated[i] = *graph->outputs[i];

    if (!passes_simplify(graph, error))
        return false;

    for (int i = 0; i < graph->output_count; i++) {
        struct value *output = graph->outputs[i];
        output->dtype = stated[i].dtype != DTYPE_UNKNOWN ? stated[i].dtype : output->dtype;
        output->shape = stated[i].shape.rank >= 0 ? stated[i].shape : output->shape;
    }

    return true;
}

struct graph *quant_graph_load(const char *path, struct error *error) {
    struct graph *graph = onnx_graph_read(path, error);
    if (!graph)
        return NULL;
    if (check_float(graph, error) && operators_bind(graph, error) && simplify(graph, error) &&
        quant_raise_opset(graph, error))
        return graph;

    graph_free(graph);
    error_prefix(error, "%s", path);
    return NULL;
}
