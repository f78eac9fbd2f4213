/* Compute once what depends on constants alone, with the operators' reference; merge equal constants. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/operator.h"
#include "passes/rewrite.h"

bool node_keeps_quantization(const struct node *node) {
    return node_is(node, "DequantizeLinear") && !node_int(node, "block_size", 0); /* no product has blocks */
}

static bool inputs_are_constant(const struct node *node, size_t *ret_bytes) {
    *ret_bytes = 0;
    for (int i = 0; i < node->input_count; i++) {
        const struct value *value = node->inputs[i];
        if (!value)
            continue;
        if (!value->constant || value->constant->dtype == DTYPE_STRING)
            return false;
        *ret_bytes += tensor_bytes(value->constant);
    }

    return true;
}

#define HEAVY_WORK \
    (1ull << 36) /* bytes of the result times bytes of the inputs: about a second of computing */

/* The outputs' bytes, once infer has set them; SIZE_MAX if they are not known. */
static size_t output_bytes(const struct node *node) {
    size_t bytes = 0;
    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        if (!value)
            continue;
        if (shape_elements(&value->shape) < 0 || !dtype_size(value->dtype))
            return SIZE_MAX;
        bytes += tensor_bytes(&(struct tensor){value->dtype, value->shape, NULL});
    }

    return bytes;
}

static bool is_heavy(const struct node *node, size_t inputs, size_t outputs) {
    return node_has(node, OP_HEAVY) && inputs && outputs > HEAVY_WORK / inputs;
}

static bool is_worth_folding(const struct node *node, size_t inputs, size_t limit, size_t budget) {
    size_t outputs = output_bytes(node);
    return outputs <= budget && (outputs <= limit || outputs / 4 <= inputs) &&
           !is_heavy(node, inputs, outputs);
}

size_t graph_fold_budget(const struct graph *graph) {
    size_t bytes = 0;
    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i]->constant)
            bytes += tensor_bytes(graph->values[i]->constant);
    return FOLD_LIMIT + 4 * bytes;
}

/* A Constant's tensor is its attribute, without copying. */
static bool fold_constant_node(struct graph *graph, struct node *node) {
    const struct attribute *attribute = node_attribute(node, "value");
    if (!node_is(node, "Constant") || !attribute || attribute->kind != ATTRIBUTE_TENSOR ||
        node->output_count != 1 || !node->outputs[0])
        return false;

    struct value *value = node->outputs[0];
    value->constant = attribute->tensor;
    value->dtype = attribute->tensor->dtype;
    value->shape = attribute->tensor->shape;
    graph_remove_node(graph, node);

    return true;
}

/* outputs [output_count]: memory of the graph for each that is not left out. */
static bool allocate_outputs(struct graph *graph, const struct node *node, struct tensor *outputs) {
    for (int i = 0; i < node->output_count; i++) {
        const struct value *value = node->outputs[i];
        if (!value)
            continue;

        outputs[i] = (struct tensor){value->dtype, value->shape, NULL};
        outputs[i].data = graph_own_memory(graph, tensor_bytes(&outputs[i]));
        if (!outputs[i].data)
            return false;
    }

    return true;
}

static void become_constant(struct graph *graph, struct node *node, const struct tensor *outputs) {
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i])
            node->outputs[i]->constant = &outputs[i];

    graph_remove_node(graph, node);
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i])
            value_release_constant(graph, node->inputs[i]);
}

static enum fold_result compute(struct graph *graph, struct node *node, struct error *error) {
    struct tensor *outputs =
        arena_allocate_array(graph->arena, (size_t)node->output_count + 1, sizeof *outputs);
    cleanup(freep) struct tensor *inputs = calloc((size_t)node->input_count + 1, sizeof *inputs);
    if (!outputs || !inputs || !allocate_outputs(graph, node, outputs)) {
        node_memory_error(node, error);
        return FOLD_FAILED;
    }

    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i])
            inputs[i] = *node->inputs[i]->constant;
    if (!operator_compute(node, inputs, outputs, error))
        return FOLD_FAILED;

    become_constant(graph, node, outputs);
    return FOLD_DONE;
}

enum fold_result node_fold(struct graph *graph, struct node *node, size_t limit, size_t *budget,
                           struct error *error) {
    size_t inputs;
    if (node_has(node, OP_RANDOM) || !inputs_are_constant(node, &inputs))
        return FOLD_KEPT;
    if (fold_constant_node(graph, node))
        return FOLD_DONE;

    const struct op_def *op = node->op;
    if (node_has(node, OP_CONTROL))
        return FOLD_KEPT;
    if (!op || !op->compute || !op->infer || node->post_op_count)
        return FOLD_KEPT;
    if (!op->infer(node, error))
        return FOLD_FAILED;
    if (!is_worth_folding(node, inputs, limit, *budget))
        return FOLD_KEPT;

    *budget -= output_bytes(node);

    return compute(graph, node, error);
}

bool passes_fold_constants(struct graph *graph, struct error *error) {
    size_t budget = graph_fold_budget(graph);
    for (struct node *node = graph->first, *next; node; node = next) {
        next = node->next;
        if (node_has_known_branch(node)) {
            if (!node_inline_branch(graph, node, &next, error))
                return false;
        } else if (!node_keeps_quantization(node) &&
                   node_fold(graph, node, FOLD_LIMIT, &budget, error) == FOLD_FAILED)
            return false;
    }

    return true;
}

#define SHARE_BYTES 1024 /* larger ones are hardly ever equal */

static uint64_t constant_hash(const struct tensor *tensor) {
    uint64_t hash = 0xcbf29ce484222325u ^ (uint64_t)tensor->dtype ^ (uint64_t)tensor->shape.rank << 8;
    const uint8_t *bytes = tensor->data;
    size_t size = tensor_bytes(tensor);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;

    return hash ^ hash >> 29;
}

/* The search ends after a few steps: a file full of hash collisions only keeps equal constants. */
static bool share_constant(struct graph *graph, struct value **slots, size_t capacity, struct value *value) {
    size_t slot = constant_hash(value->constant) & (capacity - 1);
    for (int step = 0; step < 16; step++, slot = (slot + 1) & (capacity - 1)) {
        if (!slots[slot]) {
            slots[slot] = value;
            return true;
        }
        if (constants_equal(slots[slot], value))
            return graph_replace_value(graph, value, slots[slot]);
    }

    return true;
}

bool passes_share_constants(struct graph *graph, struct error *error) {
    size_t capacity = 64;
    while (capacity < (size_t)graph->value_count * 2)
        capacity *= 2;
    cleanup(freep) struct value **slots = calloc(capacity, sizeof(struct value *));
    if (!slots)
        return error_set(error, ERROR_MEMORY, "not enough memory to share constants");

    for (int i = 0; i < graph->value_count; i++) {
        struct value *value = graph->values[i];
        if (!value->constant || !value->use_count || value->is_output || value->is_input ||
            value->dtype == DTYPE_STRING || tensor_bytes(value->constant) > SHARE_BYTES)
            continue;
        if (!share_constant(graph, slots, capacity, value))
            return error_set(error, ERROR_MEMORY, "not enough memory to share constants");
    }

    return true;
}
