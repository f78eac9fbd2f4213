/* Steps of the plan: primitives with their post-ops, and our own kernels. */
#include <stdio.h>
#include <string.h>

#include "lowering/lowering.h"

bool lower_no_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to plan the model");
}

const char *lower_action(struct lowering *lowering, const struct node *node) {
    char text[160];
    int length = snprintf(text, sizeof text, "%s", node->op_type);

    for (int i = 0; i < node->post_op_count && (size_t)length < sizeof text; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "+%s",
                           post_op_name(node->post_ops[i].kind));
    const char *kept = arena_copy_string(lowering->plan->arena, text, strlen(text));
    return kept ? kept : node->op_type;
}

/* --- Post-ops --- */

int lower_activation(const struct post_op *post, struct primitive_post *ret) {
    if (post->kind == POST_HARDSIGMOID) { /* clip(alpha x + beta, 0, 1) */
        ret[0] = (struct primitive_post){POST_LINEAR, post->alpha, post->beta};
        ret[1] = (struct primitive_post){POST_CLIP, 0, 1};
        return 2;
    }

    if (post->kind == POST_STEPS) {
        ret[0] = (struct primitive_post){POST_LINEAR, 1 / post->beta, 0};
        ret[1] = (struct primitive_post){POST_CLIP, post->alpha, post->alpha + 255};
        ret[2] = (struct primitive_post){POST_ROUND, post->beta, 0};
        return 3;
    }

    *ret = (struct primitive_post){post->kind, post->alpha, post->beta};
    return 1;
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
    if (!destination || !shape_equal(&value->shape, result))
        return operand_of_rank(lowering, value, result->rank, error);

    struct plan_tensor *current = lower_current(lowering, value, error);
    const struct layout *layout =
        current ? layout_retype(lowering->plan->pool, destination, current->dtype) : NULL;
    return layout ? lower_in_layout(lowering, value, layout, error) : NULL;
}

bool lower_posts(struct lowering *lowering, struct node *node, const struct layout *destination,
                 struct post_list *ret, struct error *error) {
    struct post_list list = {.count = 0};

    for (int i = 0; i < node->post_op_count; i++) {
        const struct post_op *post = &node->post_ops[i];
        int added = lower_activation(post, &list.posts[list.count]);

        if (post->input >= 0) {
            struct plan_tensor *operand = post_operand(lowering, node, post->input, destination, error);
            if (!operand)
                return false;
            list.operands[list.count] = operand;
            list.posts[list.count].operand = operand->layout;
        }
        list.count += added;
    }

    *ret = list;
    return true;
}

/* --- Primitives and kernels --- */

bool lower_primitive(struct lowering *lowering, const struct node *node, const struct primitive_step *given,
                     struct error *error) {
    struct plan_tensor *const tensors[] = {[ARGUMENT_SOURCE] = given->source,
                                           [ARGUMENT_SOURCE_1] = given->source_1,
                                           [ARGUMENT_WEIGHTS] = given->weights,
                                           [ARGUMENT_BIAS] = given->bias,
                                           [ARGUMENT_DESTINATION] = given->destination};
    struct plan_tensor *arguments[ARGUMENT_COUNT];
    enum primitive_argument roles[ARGUMENT_COUNT];
    int count = 0;

    for (int i = 0; i <= ARGUMENT_DESTINATION; i++)
        if (tensors[i]) {
            arguments[count] = tensors[i];
            roles[count++] = i;
        }
    for (int i = 0; given->posts && i < given->posts->count; i++)
        if (given->posts->operands[i]) {
            arguments[count] = given->posts->operands[i];
            roles[count++] = ARGUMENT_OPERAND + i;
        }

    const struct step step = {.kind = STEP_PRIMITIVE,
                              .name = node->name,
                              .action = given->action,
                              .kernel_name = primitive_kernel(given->primitive),
                              .primitive = given->primitive,
                              .arguments = arguments,
                              .roles = roles,
                              .argument_count = count,
                              .scratch_bytes = primitive_scratchpad_bytes(given->primitive),
                              .flops = given->flops};
    return plan_add_step(lowering->plan, &step) || lower_no_memory(error);
}

bool lower_one_to_one(struct lowering *lowering, const struct node *node, const struct primitive *primitive,
                      struct plan_tensor *source, struct error *error) {
    struct value *output = node->outputs[0];
    struct plan_tensor *destination = plan_add_tensor(lowering->plan, source->dtype, &output->shape,
                                                      primitive_layout(primitive, ARGUMENT_DESTINATION));
    if (!destination)
        return lower_no_memory(error);

    const struct primitive_step step = {
        .action = node->op_type, .primitive = primitive, .source = source, .destination = destination};
    if (!lower_primitive(lowering, node, &step, error))
        return false;
    lower_define(lowering, output, destination);
    return true;
}

bool lower_kernel(struct lowering *lowering, const struct node *node, const struct step *given,
                  struct error *error) {
    struct plan_tensor *output = given->arguments[given->input_count];
    struct step step = *given;

    step.kind = STEP_KERNEL;
    step.name = node->name;
    step.action = node->op_type;
    step.argument_count = given->input_count + 1;
    if (!output || !given->parameters || !plan_add_step(lowering->plan, &step))
        return lower_no_memory(error);

    lower_define(lowering, node->outputs[0], output);
    return true;
}
