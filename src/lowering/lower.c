/* The graph, node by node: each by its operator's step, or by the reference kernel. */
#include "lowering/lower.h"

#include <stdlib.h>
#include <string.h>

#include "lowering/lowering.h"

/* Operators with a step of their own. */
static const struct {
    const char *domain, *op_type;
    lower_function lower;
    bool exact; /* it passes NaN and infinities on as the reference kernel does */
} functions[] = {
    {"", "Conv", lower_convolution, true},
    {"", "ConvTranspose", lower_convolution, true},
    {"", "Gemm", lower_gemm, true},
    {"", "MatMul", lower_matmul, true},
    {"", "MaxPool", lower_pooling},
    {"", "AveragePool", lower_pooling},
    {"", "GlobalAveragePool", lower_global_pooling},
    {"", "GlobalMaxPool", lower_global_pooling},
    {"", "LRN", lower_lrn},
    {"", "BatchNormalization", lower_batch_norm},
    {"", "Softmax", lower_softmax},
    {"", "QuantizeLinear", lower_quantize},
    {"", "DequantizeLinear", lower_quantize},
    {"", "Transpose", lower_transpose, true},
    {"", "Slice", lower_slice, true},
    {"", "Split", lower_split, true},
    {"", "Gather", lower_gather, true},
    {"", "LayerNormalization", lower_layer_norm},
    {"", "Concat", lower_concat, true},
    {OPERATORS_OWN, "ConvWeightGradient", lower_convolution_gradient},
    {OPERATORS_OWN, "Attention", lower_attention},
    {OPERATORS_OWN, "GatherRows", lower_gather_rows},
    {OPERATORS_OWN, "QuantizedAdd", lower_quantized_add},
    {OPERATORS_OWN, "QuantizedConv", lower_quantized_convolution},
    {OPERATORS_OWN, "QuantizedMatMul", lower_quantized_matmul},
};

/* What the node's traits lead to, else the operator's own; NULL: only the reference can do it. */
static lower_function function_of(const struct lowering *lowering, const struct node *node) {
    if (node_has(node, OP_RESHAPES))
        return lower_reshape;
    if (!lowering->exact && node->op && node->op->post != POST_NONE && node_is_elementwise(node))
        return post_op_is_activation(node->op->post) ? lower_elementwise : lower_binary;

    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strcmp(node->op_type, functions[i].op_type) == 0 &&
            strcmp(node->domain, functions[i].domain) == 0)
            return functions[i].exact || !lowering->exact ? functions[i].lower : NULL;

    return NULL;
}

/* The operator's reference kernel on row-major tensors of the graph's types. */
static bool lower_reference(struct lowering *lowering, struct node *node, struct error *error) {
    struct plan *plan = lowering->plan;
    int count = node->input_count + node->output_count;
    if (node->post_op_count || !node->op || !node->op->compute)
        return error_set(error, ERROR_INTERNAL, "node %s (%s): no step can compute it", node->name,
                         node->op_type);

    struct plan_tensor **tensors = arena_allocate_array(plan->arena, (size_t)count + 1, sizeof *tensors);
    if (!tensors)
        return lower_no_memory(error);

    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !(tensors[i] = lower_plain(lowering, node->inputs[i], DTYPE_UNKNOWN, error)))
            return false;

    for (int i = 0; i < node->output_count; i++) {
        struct value *value = node->outputs[i];
        if (!value)
            continue;
        struct plan_tensor *output = plan_add_tensor(plan, value->dtype, &value->shape,
                                                     layout_plain(plan->pool, value->dtype, &value->shape));
        if (!output)
            return lower_no_memory(error);
        tensors[node->input_count + i] = output;
        lower_define(lowering, value, output);
    }

    const struct step step = {.kind = STEP_REFERENCE,
                              .name = node->name,
                              .action = node->op_type,
                              .kernel_name = "reference",
                              .node = node,
                              .arguments = tensors,
                              .argument_count = count,
                              .input_count = node->input_count};

    if (!plan_add_step(plan, &step))
        return lower_no_memory(error);

    return operator_prepare(node, plan->arena, error);
}

static bool lower_node(struct lowering *lowering, struct node *node, struct error *error) {
    lower_function lower = function_of(lowering, node);
    bool done = false;

    if (lower && !lower(lowering, node, &done, error))
        return false;
    return done || lower_reference(lowering, node, error);
}

static bool lower_inputs(struct lowering *lowering, struct error *error) {
    struct plan *plan = lowering->plan;
    const struct graph *graph = lowering->graph;

    plan->input_count = graph->input_count;
    for (int i = 0; i < graph->input_count; i++) {
        struct value *value = graph->inputs[i];
        struct plan_tensor *tensor = plan_add_input(plan, value->dtype, &value->shape,
                                                    layout_plain(plan->pool, value->dtype, &value->shape), i);
        if (!tensor)
            return lower_no_memory(error);
        lower_define(lowering, value, tensor);
    }

    return true;
}

/* Outputs leave row-major, of the graph's types, and not as views of the caller's inputs or of constants. */
static bool lower_outputs(struct lowering *lowering, struct error *error) {
    struct plan *plan = lowering->plan;
    struct graph *graph = lowering->graph;
    plan->outputs = arena_allocate_array(plan->arena, (size_t)graph->output_count + 1, sizeof *plan->outputs);
    if (!plan->outputs)
        return lower_no_memory(error);

    for (int i = 0; i < graph->output_count; i++) {
        struct plan_tensor *tensor = lower_plain(lowering, graph->outputs[i], DTYPE_UNKNOWN, error);
        if (!tensor)
            return false;
        if (tensor->storage)
            tensor->storage->is_output = true;
        plan->outputs[plan->output_count++] = tensor;
    }
    return true;
}

/* Of a model's weights, so much may be added by Winograd's algorithm: two thirds of its gain for a
 * ResNet-152, at a third of the memory. */
#define WINOGRAD_PERCENT 60

static void choose_winograd_budget(struct lowering *lowering) {
    const struct graph *graph = lowering->graph;

    if (lowering->compute == DTYPE_F32 && primitive_has_avx512() && !lowering->exact)
        for (struct node *node = graph->first; node && !lowering->blocked; node = node->next)
            lowering->blocked = lower_suits_winograd(node);
    lowering->winograd_budget = graph_constant_bytes(graph) / 100 * WINOGRAD_PERCENT;
}

static void find_last_uses(struct lowering *lowering) {
    int position = 0;

    for (struct node *node = lowering->graph->first; node; node = node->next, position++)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i])
                lowering->last_use[node->inputs[i]->id] = position;
}

static bool lower_all(struct lowering *lowering, struct error *error) {
    if (!lower_inputs(lowering, error))
        return false;
    choose_winograd_budget(lowering);
    find_last_uses(lowering);

    for (struct node *node = lowering->graph->first; node; node = node->next, lowering->position++)
        if (!lower_node(lowering, node, error))
            return false;
    return lower_outputs(lowering, error) && plan_assign_memory(lowering->plan, error);
}

struct plan *lower_graph(struct graph *graph, struct weights_store *weights,
                         const struct lower_options *options, struct error *error) {
    struct plan *plan = plan_create(graph, weights, error);
    if (!plan) {
        graph_free(graph);
        return NULL;
    }

    size_t values = (size_t)graph->value_count + 1;
    struct lowering lowering = {.plan = plan,
                                .graph = graph,
                                .compute = options->compute,
                                .exact = options->exact,
                                .lowered = calloc(values, sizeof(struct lowered)),
                                .last_use = calloc(values, sizeof(int))};
    bool done = lowering.lowered && lowering.last_use ? lower_all(&lowering, error) : lower_no_memory(error);
    free(lowering.lowered);
    free(lowering.last_use);
    if (done)
        return plan;

    plan_free(plan);
    return NULL;
}
