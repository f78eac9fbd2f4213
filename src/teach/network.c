#include "teach/network.h"

#include <stdlib.h>
#include <string.h>

#include "onnx/onnx.h"
#include "ops/operator.h"
#include "passes/passes.h"
#include "quant/load.h"
#include "teach/none.h"

static bool no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory for the network");
}

static bool is_constant(const struct value *value) {
    return value && value->constant;
}

/* What may stand between the last layer and the classes, and changes neither which classes there are nor
 * their order. */
static struct value *step_back(const struct node *node) {
    if (node_is(node, "Softmax") || node_is(node, "LogSoftmax") || node_is(node, "Sigmoid") ||
        node_is(node, "Cast") || node_is(node, "GlobalAveragePool") || node_is(node, "ReduceMean") ||
        node_is(node, "Relu") || node_has(node, OP_RESHAPES))
        return node->inputs[0];

    bool scaled =
        node_is(node, "Add") || node_is(node, "Sub") || node_is(node, "Mul") || node_is(node, "Div");
    if (scaled && is_constant(node_input(node, 1)))
        return node->inputs[0];
    if (scaled && is_constant(node_input(node, 0)))
        return node->inputs[1];
    return NULL;
}

/* The number of features that the layer reads; 0: it is none. */
static int64_t layer_width(const struct node *node) {
    const struct value *weights = node_input(node, 1);
    if (!is_constant(weights))
        return 0;

    const struct shape *shape = &weights->constant->shape;
    if (node_is(node, "Gemm") && shape->rank == 2 && !node_int(node, "transA", 0))
        return shape->dims[node_int(node, "transB", 0) ? 1 : 0];
    if (node_is(node, "MatMul") && shape->rank == 2)
        return shape->dims[0];
    if (node_is(node, "Conv") && shape->rank == 4 && node_int(node, "group", 1) == 1 && shape->dims[2] == 1 &&
        shape->dims[3] == 1)
        return shape->dims[1];
    return 0;
}

/* What is between the layer and the scores, seen from the scores. */
struct tail {
    struct value *scores; /* before what is not linear */
    bool reduces, shifts;
};

static void tail_add(struct tail *tail, const struct node *node) {
    if (node_has(node, OP_RESHAPES))
        return;
    if (node_is(node, "ReduceMean") || node_is(node, "GlobalAveragePool"))
        tail->reduces = true;
    else if (node_is(node, "Add") || node_is(node, "Sub") || node_is(node, "Mul") || node_is(node, "Div"))
        tail->shifts = true;
    else
        *tail = (struct tail){.scores = node->inputs[0]};
}

static bool find_features(struct teach_network *network, struct value *scores, struct error *error) {
    struct tail tail = {.scores = scores};
    while (scores->producer) {
        struct node *node = scores->producer;
        int64_t width = layer_width(node);
        if (width > 0 && width <= LIMIT_TENSOR_ELEMENTS && width < INT32_MAX) {
            network->layer = node;
            network->features = node->inputs[0];
            network->gathered = tail.reduces && !tail.shifts && !node_is(node, "Conv") ? tail.scores : NULL;
            network->flat = node_is(node, "Gemm");
            network->pixels = node_is(node, "Conv");
            network->width = (int)width;
            return true;
        }

        struct value *before = step_back(node);
        if (!before)
            return node_error(node, error,
                              "the network ends in this: only one that ends in a dense layer can be taught");
        tail_add(&tail, node);
        scores = before;
    }

    return error_set(error, ERROR_MODEL, "the network has no dense layer at its end: it cannot be taught");
}

/* Read again from the file: the engine's own copy is packed. */
static struct graph *load_graph(const char *path, struct error *error) {
    if (!quant_network_check(path, error))
        return NULL;

    struct graph *graph = onnx_graph_read(path, error);
    if (graph && operators_bind(graph, error) && passes_widen_halves(graph, error) &&
        passes_simplify(graph, error))
        return graph;

    graph_free(graph);
    return NULL;
}

bool teach_network_open(const struct model *model, struct teach_network *ret, struct error *error) {
    struct teach_network network = {.graph = load_graph(model_path(model), error)};
    if (!network.graph)
        return false;

    if (model_input(model)->batch > 1)
        error_set(error, ERROR_MODEL,
                  "%s: it only takes batches of %lld: export it with a free batch dimension",
                  model_path(model), (long long)model_input(model)->batch);
    else if (graph_opset(network.graph, "") < 7)
        error_set(error, ERROR_MODEL, "%s: opset %d is too old to be taught: export it with 13 or later",
                  model_path(model), graph_opset(network.graph, ""));
    else if (find_features(&network, network.graph->outputs[model_output(model)], error)) {
        *ret = network;
        return true;
    } else
        error_prefix(error, "%s", model_path(model));

    graph_free(network.graph);
    return false;
}

void teach_network_release(struct teach_network *network) {
    graph_free(network->graph);
    *network = (struct teach_network){0};
}

/* ---- Another end ---- */

/* A node where the last layer is. */
static struct value *append(const struct teach_network *network, struct graph *graph, const char *op_type,
                            struct value *const *inputs, int count, const char *name) {
    const struct value *layer = graph->values[network->layer->outputs[0]->id];
    struct value *output = graph_add_value(graph, name);
    return output && graph_add_node(graph, layer->producer, "", op_type, NULL, inputs, count, &output, 1)
               ? output
               : NULL;
}

/* The features as [n, width], from where the last layer read them. */
static struct value *append_flat(const struct teach_network *network, struct graph *graph) {
    struct value *value = graph->values[network->features->id];
    if (network->pixels)
        value = append(network, graph, "GlobalAveragePool", &value, 1, "features_averaged");
    if (value && !network->flat)
        value = append(network, graph, "Flatten", &value, 1, "features_flat");
    return value;
}

static void drop_outputs(struct graph *graph) {
    for (int i = 0; i < graph->output_count; i++)
        graph->outputs[i]->is_output = false;
    graph->output_count = 0;
}

/* `value`, in the last layer's place, becomes the only output, perhaps through what was behind the layer. */
static bool finish(const struct teach_network *network, struct graph *graph, struct value *value,
                   const char *name, int64_t width, struct error *error) {
    const struct value *input = graph->inputs[0];
    int64_t batch = input->shape.rank > 0 ? input->shape.dims[0] : -1;
    drop_outputs(graph);
    if (network->gathered) {
        if (!graph_replace_value(graph, graph->values[network->layer->outputs[0]->id], value))
            return no_memory(error);
        value = graph->values[network->gathered->id];
    }

    value->name = name;
    value->dtype = DTYPE_F32;
    value->shape = (struct shape){.rank = 2, .dims = {batch, width}};
    if (!graph_add_output(graph, value))
        return no_memory(error);

    graph_remove_dead_nodes(graph);
    return operators_bind(graph, error);
}

struct graph *teach_network_features(const struct teach_network *network, struct error *error) {
    struct graph *graph = graph_clone(network->graph);
    struct value *flat = graph ? append_flat(network, graph) : NULL;
    struct value *output = flat ? append(network, graph, "Identity", &flat, 1, "flat") : NULL;
    if (!output)
        no_memory(error);
    else if (finish(network, graph, output, "features", network->width, error))
        return graph;

    graph_free(graph);
    return NULL;
}

/* ---- The last layer ---- */

static struct value *constant(struct graph *graph, const char *name, enum dtype dtype, int64_t rows,
                              int64_t columns, const void *data) {
    const struct shape shape = {.rank = columns ? 2 : 1, .dims = {rows, columns}};
    return graph_add_constant(graph, name, dtype, &shape, (void *)data);
}

/* A node at the end; NULL inputs are passed on. */
static struct value *apply(struct graph *graph, const char *op_type, struct value *a, struct value *b) {
    struct value *inputs[] = {a, b}, *output = a ? graph_add_value(graph, "none") : NULL;
    if (!output || !graph_add_node(graph, NULL, "", op_type, NULL, inputs, b ? 2 : 1, &output, 1))
        return NULL;
    return output;
}

/* Along axis 1, which stays: an attribute before opset 18, an input from then on. */
static struct value *reduce(struct graph *graph, const char *op_type, struct value *value) {
    static const int64_t axis = 1;
    bool by_input = graph_opset(graph, "") >= 18;
    struct value *axes = by_input ? constant(graph, "axes", DTYPE_I64, 1, 0, &axis) : NULL;
    struct value *result = by_input && !axes ? NULL : apply(graph, op_type, value, axes);
    return result && (by_input || node_set_ints(graph, result->producer, "axes", &axis, 1)) ? result : NULL;
}

/* One score more: the best of the others, plus (threshold - the largest cosine to a known photo) * scale. */
static struct value *add_none(const struct teach_network *network, const struct teach_none *none,
                              struct graph *graph, struct value *features, struct value *logits) {
    struct value *mean = constant(graph, "none.mean", DTYPE_F32, network->width, 0, none->mean);
    struct value *known = constant(graph, "none.known", DTYPE_F32, network->width, none->count, none->known);
    struct value *slope = constant(graph, "none.slope", DTYPE_F32, 1, 0, &none->slope);
    struct value *shift = constant(graph, "none.shift", DTYPE_F32, 1, 0, &none->shift);
    if (!mean || !known || !slope || !shift)
        return NULL;

    struct value *centred = apply(graph, "Sub", features, mean);
    struct value *length = centred ? reduce(graph, "ReduceL2", centred) : NULL;
    struct value *unit = length ? apply(graph, "Div", centred, length) : NULL;
    struct value *cosines = unit ? apply(graph, "MatMul", unit, known) : NULL;
    struct value *nearest = cosines ? reduce(graph, "ReduceMax", cosines) : NULL;
    struct value *scaled = nearest ? apply(graph, "Mul", nearest, slope) : NULL;
    struct value *moved = scaled ? apply(graph, "Add", scaled, shift) : NULL;
    struct value *best = moved ? reduce(graph, "ReduceMax", logits) : NULL;
    struct value *score = best ? apply(graph, "Add", moved, best) : NULL;
    struct value *all = score ? apply(graph, "Concat", logits, score) : NULL;
    return all && node_set_int(graph, all->producer, "axis", 1) ? all : NULL;
}

struct graph *teach_network_with_head(const struct teach_network *network, const struct teach_layer *layer,
                                      struct error *error) {
    struct graph *graph = teach_network_features(network, error);
    if (!graph)
        return NULL;

    struct value *features = graph->outputs[0], *output = graph_add_value(graph, "classes");
    struct value *inputs[] = {
        features, constant(graph, "taught.weight", DTYPE_F32, network->width, layer->classes, layer->weights),
        constant(graph, "taught.bias", DTYPE_F32, layer->classes, 0, layer->bias)};
    bool done = output && inputs[1] && inputs[2] &&
                graph_add_node(graph, NULL, "", "Gemm", NULL, inputs, 3, &output, 1);
    if (done && layer->none)
        done = (output = add_none(network, layer->none, graph, features, output)) != NULL;

    if (done) {
        const struct shape shape = {
            .rank = 2, .dims = {features->shape.dims[0], layer->classes + (layer->none != NULL)}};
        output->name = "logits";
        output->dtype = DTYPE_F32;
        output->shape = shape;
        drop_outputs(graph);
        done = graph_add_output(graph, output);
    }
    if (!done)
        no_memory(error);
    else if (operators_bind(graph, error))
        return graph;

    graph_free(graph);
    return NULL;
}
