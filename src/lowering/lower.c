#include "lowering/lower.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lowering/lowering.h"

bool lower_no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "no memory to plan the model");
}

static const struct {
    const char *op_type;
    lower_function lower;
} functions[] = {
    {"Conv", lower_convolution},
    {"ConvTranspose", lower_convolution},
    {"Gemm", lower_gemm},
    {"MatMul", lower_matmul},
    {"MaxPool", lower_pooling},
    {"AveragePool", lower_pooling},
    {"GlobalAveragePool", lower_global_pooling},
    {"GlobalMaxPool", lower_global_pooling},
    {"LRN", lower_lrn},
    {"Relu", lower_elementwise},
    {"LeakyRelu", lower_elementwise},
    {"Clip", lower_elementwise},
    {"Sigmoid", lower_elementwise},
    {"Tanh", lower_elementwise},
    {"HardSwish", lower_elementwise},
    {"Elu", lower_elementwise},
    {"Exp", lower_elementwise},
    {"Gelu", lower_elementwise},
    {"Swish", lower_elementwise},
    {"Add", lower_binary},
    {"Mul", lower_binary},
    {"BatchNormalization", lower_batch_norm},
    {"Softmax", lower_softmax},
    {"Reshape", lower_reshape},
    {"Flatten", lower_reshape},
    {"Squeeze", lower_reshape},
    {"Unsqueeze", lower_reshape},
    {"Identity", lower_reshape},
    {"QuantizeLinear", lower_quantize},
    {"DequantizeLinear", lower_quantize},
    {"QuantizedAdd", lower_quantized_add},
    {"QuantizedConv", lower_quantized_convolution},
    {"QuantizedMatMul", lower_quantized_matmul},
    {"Transpose", lower_transpose},
    {"Slice", lower_slice},
    {"Split", lower_split},
    {"Gather", lower_gather},
    {"LayerNormalization", lower_layer_norm},
    {"Attention", lower_attention},
    {"GatherRows", lower_gather_rows},
    {"Concat", lower_concat},
};

static lower_function function_of(const struct node *node) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (node_is(node, functions[i].op_type))
            return functions[i].lower;
    return NULL;
}

void lower_define(struct lowering *lowering, struct value *value, struct plan_tensor *tensor) {
    struct lowered *lowered = &lowering->lowered[value->id];
    lowered->tensors[0] = tensor;
    lowered->count = 1;
}

static struct plan_tensor *lower_constant(struct lowering *lowering, const struct value *value,
                                          struct error *error) {
    const struct tensor *constant = value->constant;
    struct plan *plan = lowering->plan;
    const struct layout *layout = layout_plain(plan->pool, constant->dtype, &constant->shape);
    const void *data = constant->data;
    void *restored;
    if (!weights_restore(plan->weights, data, &restored, error))
        return NULL;
    if (restored) {
        void *kept = plan_own_memory(plan, tensor_bytes(constant));
        if (kept)
            data = memcpy(kept, restored, tensor_bytes(constant));
        free(restored);
        if (!kept) {
            lower_no_memory(error);
            return NULL;
        }
    }
    struct plan_tensor *tensor = plan_add_constant(plan, constant->dtype, &constant->shape, layout, data);
    if (!tensor)
        lower_no_memory(error);
    return tensor;
}

struct plan_tensor *lower_current(struct lowering *lowering, struct value *value, struct error *error) {
    struct lowered *lowered = &lowering->lowered[value->id];
    if (!lowered->count && value->constant) {
        struct plan_tensor *tensor = lower_constant(lowering, value, error);
        if (!tensor)
            return NULL;
        lower_define(lowering, value, tensor);
    }
    if (!lowered->count) {
        error_set(error, ERROR_INTERNAL, "value '%s' is used before it is made", value->name);
        return NULL;
    }
    return lowered->tensors[0];
}

static void lower_remember(struct lowering *lowering, struct value *value, struct plan_tensor *tensor) {
    struct lowered *lowered = &lowering->lowered[value->id];
    int room = (int)(sizeof lowered->tensors / sizeof lowered->tensors[0]);
    if (lowered->count < room)
        lowered->tensors[lowered->count++] = tensor;
}

/* A constant that is wanted otherwise than it lies is converted now, not at every run. */
static struct plan_tensor *convert_constant(struct lowering *lowering, const struct plan_tensor *from,
                                            const struct layout *layout, struct error *error) {
    struct plan *plan = lowering->plan;
    void *bytes = plan_own_memory(plan, layout_bytes(layout));
    if (!bytes) {
        lower_no_memory(error);
        return NULL;
    }
    if (!primitive_reorder_now(plan->pool, from->layout, (const char *)from->constant + from->offset, layout,
                               bytes, error))
        return NULL;
    return plan_add_constant(plan, layout_dtype(layout), layout_shape(layout), layout, bytes);
}

struct plan_tensor *lower_in_layout(struct lowering *lowering, struct value *value,
                                    const struct layout *layout, struct error *error) {
    struct plan_tensor *current = lower_current(lowering, value, error);
    if (!current)
        return NULL;
    struct lowered *lowered = &lowering->lowered[value->id];
    for (int i = 0; i < lowered->count; i++)
        if (lowered->tensors[i]->layout && layout_equal(lowered->tensors[i]->layout, layout))
            return lowered->tensors[i];
    if (!current->layout) {
        error_set(error, ERROR_INTERNAL, "value '%s' has no layout to reorder from", value->name);
        return NULL;
    }
    struct plan_tensor *made;
    if (current->place == PLACE_CONSTANT) {
        made = convert_constant(lowering, current, layout, error);
    } else {
        struct plan *plan = lowering->plan;
        const struct primitive *reorder = primitive_reorder(plan->pool, current->layout, layout, error);
        made = reorder ? plan_add_tensor(plan, layout_dtype(layout), layout_shape(layout), layout) : NULL;
        if (!made)
            return NULL;
        const enum primitive_argument roles[] = {ARGUMENT_SOURCE, ARGUMENT_DESTINATION};
        struct plan_tensor *tensors[] = {current, made};
        struct step *step =
            plan_add_step(plan, STEP_PRIMITIVE, value->producer ? value->producer->name : value->name,
                          "reorder", tensors, roles, 2);
        if (!step) {
            lower_no_memory(error);
            return NULL;
        }
        step->primitive = reorder;
        step->kernel_name = primitive_kernel(reorder);
        step->scratch_bytes = primitive_scratchpad_bytes(reorder);
    }
    if (made)
        lower_remember(lowering, value, made);
    return made;
}

/* Types that oneDNN has no layouts for are always row-major, and of the graph's type. */
struct plan_tensor *lower_plain(struct lowering *lowering, struct value *value, enum dtype dtype,
                                struct error *error) {
    struct plan_tensor *current = lower_current(lowering, value, error);
    if (!current)
        return NULL;
    if (dtype == DTYPE_UNKNOWN)
        dtype = value->dtype;
    struct lowered *lowered = &lowering->lowered[value->id];
    for (int i = 0; i < lowered->count; i++)
        if (lowered->tensors[i]->dtype == dtype && plan_tensor_is_plain(lowered->tensors[i]))
            return lowered->tensors[i];
    const struct layout *layout = layout_plain(lowering->plan->pool, dtype, &current->shape);
    if (!layout) {
        error_set(error, ERROR_INTERNAL, "value '%s' cannot be made row-major %s", value->name,
                  dtype_name(dtype));
        return NULL;
    }
    return lower_in_layout(lowering, value, layout, error);
}

struct plan_tensor *lower_dense(struct lowering *lowering, struct value *value, struct error *error) {
    struct plan_tensor *tensor = lower_current(lowering, value, error);
    if (!tensor || !tensor->layout || layout_is_dense(tensor->layout) || layout_is_padded(tensor->layout))
        return tensor;
    return lower_plain(lowering, value, tensor->dtype, error);
}

bool lower_may_overwrite(const struct lowering *lowering, const struct node *node, const struct value *value,
                         const struct plan_tensor *tensor) {
    int reads = 0;
    for (int i = 0; i < node->input_count; i++)
        reads += node->inputs[i] == value;
    return reads <= 1 && tensor->place == PLACE_ARENA && tensor->storage->tensor_count == 1 &&
           !tensor->storage->is_output && !value->is_output &&
           lowering->last_use[value->id] <= lowering->place;
}

const char *lower_action(struct lowering *lowering, const struct node *node) {
    static const char *const names[] = {"Relu",      "Clip",        "Sigmoid", "Tanh", "Elu",
                                        "HardSwish", "HardSigmoid", "Swish",   "Gelu", "GeluTanh",
                                        "Linear",    "Add",         "Mul"};
    char text[160];
    int length = snprintf(text, sizeof text, "%s", node->op_type);
    for (int i = 0; i < node->post_op_count && (size_t)length < sizeof text; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "+%s", names[node->post_ops[i].kind]);
    const char *kept = arena_copy_string(lowering->plan->arena, text, strlen(text));
    return kept ? kept : node->op_type;
}

struct step *lower_primitive(struct lowering *lowering, const struct node *node, const char *action,
                             const struct primitive *primitive, struct plan_tensor *const *tensors,
                             const enum primitive_argument *roles, int count,
                             struct plan_tensor *const *operands, int operand_count, struct error *error) {
    struct plan_tensor *all[8 + LOWER_POSTS];
    enum primitive_argument all_roles[8 + LOWER_POSTS];
    memcpy(all, tensors, (size_t)count * sizeof *all);
    memcpy(all_roles, roles, (size_t)count * sizeof *all_roles);
    for (int i = 0; i < operand_count; i++)
        if (operands[i]) {
            all[count] = operands[i];
            all_roles[count++] = ARGUMENT_OPERAND + i;
        }
    struct step *step =
        plan_add_step(lowering->plan, STEP_PRIMITIVE, node->name, action, all, all_roles, count);
    if (!step) {
        lower_no_memory(error);
        return NULL;
    }
    step->primitive = primitive;
    step->kernel_name = primitive_kernel(primitive);
    step->scratch_bytes = primitive_scratchpad_bytes(primitive);
    return step;
}

bool lower_one_to_one(struct lowering *lowering, const struct node *node, const struct primitive *primitive,
                      struct plan_tensor *source, struct error *error) {
    struct value *output = node->outputs[0];
    struct plan_tensor *destination = plan_add_tensor(lowering->plan, source->dtype, &output->shape,
                                                      primitive_layout(primitive, ARGUMENT_DESTINATION));
    if (!destination)
        return lower_no_memory(error);
    struct plan_tensor *tensors[2] = {source, destination};
    const enum primitive_argument roles[2] = {ARGUMENT_SOURCE, ARGUMENT_DESTINATION};
    if (!lower_primitive(lowering, node, node->op_type, primitive, tensors, roles, 2, NULL, 0, error))
        return false;
    lower_define(lowering, output, destination);
    return true;
}

/* From this size on, a constant does not stay in memory twice. */
#define DISCARD_BYTES (64u << 10)

struct plan_tensor *lower_weights(struct lowering *lowering, const struct value *value,
                                  const struct layout *from, const struct layout *wanted, const char *role,
                                  struct error *error) {
    struct plan *plan = lowering->plan;
    const struct tensor *constant = value->constant;
    if (!weights_is_shared(plan->weights, constant->data)) {
        struct plan_tensor raw = {.layout = from, .constant = constant->data};
        return convert_constant(lowering, &raw, wanted, error);
    }
    bool large = tensor_bytes(constant) >= DISCARD_BYTES;
    const struct packed_weights *packed =
        weights_pack(plan->weights, constant->data, role, from, constant->data, wanted, large, error);
    if (!packed)
        return NULL;
    return plan_add_constant(plan, layout_dtype(wanted), layout_shape(wanted), wanted, packed->bytes);
}

enum primitive_post_kind lower_post_kind(enum post_op_kind kind) {
    static const enum primitive_post_kind kinds[] = {
        [POST_RELU] = PRIMITIVE_POST_RELU,
        [POST_CLIP] = PRIMITIVE_POST_CLIP,
        [POST_SIGMOID] = PRIMITIVE_POST_SIGMOID,
        [POST_TANH] = PRIMITIVE_POST_TANH,
        [POST_ELU] = PRIMITIVE_POST_ELU,
        [POST_HARDSWISH] = PRIMITIVE_POST_HARDSWISH,
        [POST_SWISH] = PRIMITIVE_POST_SWISH,
        [POST_GELU_ERF] = PRIMITIVE_POST_GELU_ERF,
        [POST_GELU_TANH] = PRIMITIVE_POST_GELU_TANH,
        [POST_LINEAR] = PRIMITIVE_POST_LINEAR,
        [POST_ADD] = PRIMITIVE_POST_ADD,
        [POST_MULTIPLY] = PRIMITIVE_POST_MULTIPLY,
    };
    return kinds[kind];
}

/* An operand seen with as many axes as the result: [c, 1, 1] becomes [1, c, 1, 1]. */
static struct plan_tensor *operand_of_rank(struct lowering *lowering, struct value *value, int rank,
                                           struct error *error) {
    struct plan_tensor *tensor = lower_current(lowering, value, error);
    if (!tensor || tensor->shape.rank == rank)
        return tensor;
    tensor = lower_plain(lowering, value, DTYPE_UNKNOWN, error);
    if (!tensor)
        return NULL;
    struct shape shape = {.rank = rank};
    for (int i = 0; i < rank; i++) {
        int from = i - (rank - tensor->shape.rank);
        shape.dims[i] = from < 0 ? 1 : tensor->shape.dims[from];
    }
    return plan_add_view(lowering->plan, tensor, &shape,
                         layout_plain(lowering->plan->pool, tensor->dtype, &shape));
}

static struct plan_tensor *post_operand(struct lowering *lowering, struct node *node, int input,
                                        const struct layout *destination, struct error *error) {
    struct value *value = node->inputs[input];
    const struct shape *result = &node->outputs[0]->shape;
    if (destination && shape_equal(&value->shape, result)) {
        const struct layout *layout =
            layout_retype(lowering->plan->pool, destination, lower_current(lowering, value, error)->dtype);
        return layout ? lower_in_layout(lowering, value, layout, error) : NULL;
    }
    return operand_of_rank(lowering, value, result->rank, error);
}

bool lower_posts(struct lowering *lowering, struct node *node, const struct layout *destination,
                 struct primitive_post *posts, struct plan_tensor **operands, int *ret_count,
                 struct error *error) {
    int count = 0;
    for (int i = 0; i < node->post_op_count; i++) {
        const struct post_op *post = &node->post_ops[i];
        operands[count] = NULL;
        if (post->kind == POST_HARDSIGMOID) { /* clip(alpha x + beta, 0, 1) */
            posts[count++] = (struct primitive_post){PRIMITIVE_POST_LINEAR, post->alpha, post->beta};
            posts[count] = (struct primitive_post){PRIMITIVE_POST_CLIP, 0, 1};
            operands[count++] = NULL;
            continue;
        }
        posts[count] = (struct primitive_post){lower_post_kind(post->kind), post->alpha, post->beta};
        if (post->input >= 0) {
            operands[count] = post_operand(lowering, node, post->input, destination, error);
            if (!operands[count])
                return false;
            posts[count].operand = operands[count]->layout;
        }
        count++;
    }
    *ret_count = count;
    return true;
}

/* The operator's plain computation on row-major tensors of the graph's types. */
static bool lower_reference(struct lowering *lowering, struct node *node, struct error *error) {
    struct plan *plan = lowering->plan;
    if (node->post_op_count)
        return error_set(error, ERROR_INTERNAL, "node %s: fused, and has no fast step", node->name);
    int count = node->input_count + node->output_count;
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
        tensors[node->input_count + i] = plan_add_tensor(
            plan, value->dtype, &value->shape, layout_plain(plan->pool, value->dtype, &value->shape));
        if (!tensors[node->input_count + i])
            return lower_no_memory(error);
        lower_define(lowering, value, tensors[node->input_count + i]);
    }
    struct step *step = plan_add_step(plan, STEP_REFERENCE, node->name, node->op_type, tensors, NULL, count);
    if (!step)
        return lower_no_memory(error);
    step->node = node;
    step->input_count = node->input_count;
    step->kernel_name = "plain";
    return true;
}

static bool lower_node(struct lowering *lowering, struct node *node, struct error *error) {
    lower_function lower = function_of(node);
    bool done = false;
    if (lower && !lower(lowering, node, &done, error))
        return false;
    return done || lower_reference(lowering, node, error);
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

static bool lower_all(struct lowering *lowering, struct error *error) {
    struct graph *graph = lowering->graph;
    struct plan *plan = lowering->plan;
    plan->input_count = graph->input_count;
    for (int i = 0; i < graph->input_count; i++) {
        struct value *value = graph->inputs[i];
        struct plan_tensor *tensor = plan_add_input(plan, value->dtype, &value->shape,
                                                    layout_plain(plan->pool, value->dtype, &value->shape), i);
        if (!tensor)
            return lower_no_memory(error);
        lower_define(lowering, value, tensor);
    }
    if (lowering->compute == DTYPE_F32 && primitive_has_avx512())
        for (struct node *node = graph->first; node && !lowering->blocked; node = node->next)
            lowering->blocked = node_is(node, "Conv") && lower_suits_winograd(node);
    lowering->winograd_budget = graph_constant_bytes(graph) / 100 * WINOGRAD_PERCENT;
    int place = 0;
    for (struct node *node = graph->first; node; node = node->next, place++)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i])
                lowering->last_use[node->inputs[i]->id] = place;
    for (struct node *node = graph->first; node; node = node->next, lowering->place++)
        if (!lower_node(lowering, node, error))
            return false;
    return lower_outputs(lowering, error) && plan_assign_memory(plan, error);
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
