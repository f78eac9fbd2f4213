/* Values as tensors of the plan: as they were made, or in the layout that a step wants. */
#include <stdlib.h>
#include <string.h>

#include "lowering/lowering.h"

void lower_define(struct lowering *lowering, struct value *value, struct plan_tensor *tensor) {
    struct lowered *lowered = &lowering->lowered[value->id];
    lowered->tensors[0] = tensor;
    lowered->count = 1;
}

/* The constant's elements; a copy that the plan owns where only packed ones are left. */
static const void *constant_data(struct plan *plan, const struct tensor *constant, struct error *error) {
    void *restored;
    if (!weights_restore(plan->weights, constant->data, &restored, error))
        return NULL;
    if (!restored)
        return constant->data;

    void *kept = plan_own_memory(plan, tensor_bytes(constant));
    if (kept)
        memcpy(kept, restored, tensor_bytes(constant));
    else
        lower_no_memory(error);

    free(restored);
    return kept;
}

static struct plan_tensor *lower_constant(struct lowering *lowering, const struct value *value,
                                          struct error *error) {
    const struct tensor *constant = value->constant;
    struct plan *plan = lowering->plan;
    const struct layout *layout = layout_plain(plan->pool, constant->dtype, &constant->shape);
    const void *data = constant_data(plan, constant, error);
    if (!data)
        return NULL;

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

static void remember(struct lowering *lowering, const struct value *value, struct plan_tensor *tensor) {
    struct lowered *lowered = &lowering->lowered[value->id];
    int room = (int)(sizeof lowered->tensors / sizeof lowered->tensors[0]);

    if (lowered->count < room)
        lowered->tensors[lowered->count++] = tensor;
}

/* Constants are converted to the layout that is wanted now, not at every run. */
static struct plan_tensor *convert_constant(struct lowering *lowering, const struct layout *from,
                                            const void *data, const struct layout *layout,
                                            struct error *error) {
    struct plan *plan = lowering->plan;
    void *bytes = plan_own_memory(plan, layout_bytes(layout));
    if (!bytes) {
        lower_no_memory(error);
        return NULL;
    }
    if (!primitive_reorder_now(from, data, layout, bytes, error))
        return NULL;

    return plan_add_constant(plan, layout_dtype(layout), layout_shape(layout), layout, bytes);
}

static struct plan_tensor *add_reorder(struct lowering *lowering, const struct value *value,
                                       struct plan_tensor *current, const struct layout *layout,
                                       struct error *error) {
    struct plan *plan = lowering->plan;
    const struct primitive *reorder = primitive_reorder(plan->pool, current->layout, layout, error);
    if (!reorder)
        return NULL;

    const enum primitive_argument roles[2] = {ARGUMENT_SOURCE, ARGUMENT_DESTINATION};
    struct plan_tensor *arguments[2] = {
        current, plan_add_tensor(plan, layout_dtype(layout), layout_shape(layout), layout)};
    const struct step step = {.kind = STEP_PRIMITIVE,
                              .name = value->producer ? value->producer->name : value->name,
                              .action = "reorder",
                              .kernel_name = primitive_kernel(reorder),
                              .primitive = reorder,
                              .arguments = arguments,
                              .roles = roles,
                              .argument_count = 2,
                              .scratch_bytes = primitive_scratchpad_bytes(reorder)};

    if (!arguments[1] || !plan_add_step(plan, &step)) {
        lower_no_memory(error);
        return NULL;
    }

    return arguments[1];
}

/* The value in a layout that equals this one, but that axes of 1 may have other strides. */
static struct plan_tensor *in_equal_layout(struct lowering *lowering, struct value *value,
                                           const struct layout *layout, struct error *error) {
    struct plan_tensor *current = lower_current(lowering, value, error);
    if (!current)
        return NULL;

    const struct lowered *lowered = &lowering->lowered[value->id];
    for (int i = 0; i < lowered->count; i++)
        if (lowered->tensors[i]->layout && layout_equal(lowered->tensors[i]->layout, layout))
            return lowered->tensors[i];

    if (!current->layout) {
        error_set(error, ERROR_INTERNAL, "value '%s' has no layout to reorder from", value->name);
        return NULL;
    }

    struct plan_tensor *made;
    if (current->memory == PLAN_MEMORY_CONSTANT)
        made = convert_constant(lowering, current->layout, (const char *)current->constant + current->offset,
                                layout, error);
    else
        made = add_reorder(lowering, value, current, layout, error);

    if (made)
        remember(lowering, value, made);
    return made;
}

struct plan_tensor *lower_in_layout(struct lowering *lowering, struct value *value,
                                    const struct layout *layout, struct error *error) {
    struct plan_tensor *tensor = in_equal_layout(lowering, value, layout, error);
    if (!tensor || layout_identical(tensor->layout, layout))
        return tensor;

    struct plan_tensor *view = plan_add_view(lowering->plan, tensor, &tensor->shape, layout);
    if (!view)
        lower_no_memory(error);
    return view;
}

struct plan_tensor *lower_to_overwrite(struct lowering *lowering, const struct node *node,
                                       struct value *value, const struct layout *layout,
                                       struct error *error) {
    struct plan *plan = lowering->plan;
    struct plan_tensor *tensor = in_equal_layout(lowering, value, layout, error);
    if (!tensor || lower_may_overwrite(lowering, node, value, tensor))
        return tensor;

    const struct primitive *copy = primitive_reorder(plan->pool, tensor->layout, layout, error);
    struct plan_tensor *copied =
        copy ? plan_add_tensor(plan, layout_dtype(layout), &value->shape, layout) : NULL;
    const struct primitive_step step = {
        .action = "copy", .primitive = copy, .source = tensor, .destination = copied};
    if (!copied || !lower_primitive(lowering, node, &step, error))
        return NULL;

    return copied;
}

/* Types that oneDNN has no layouts for are always row-major, and of the graph's type. */
struct plan_tensor *lower_plain(struct lowering *lowering, struct value *value, enum dtype dtype,
                                struct error *error) {
    struct plan_tensor *current = lower_current(lowering, value, error);
    if (!current)
        return NULL;
    if (dtype == DTYPE_UNKNOWN)
        dtype = value->dtype;

    const struct lowered *lowered = &lowering->lowered[value->id];
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

/* From this size on, a constant does not stay in memory twice. */
#define DISCARD_BYTES (64u << 10)

struct plan_tensor *lower_weights(struct lowering *lowering, const struct value *value,
                                  const struct layout *from, const struct layout *wanted, const char *role,
                                  struct error *error) {
    struct plan *plan = lowering->plan;
    const struct tensor *constant = value->constant;
    if (!weights_is_shared(plan->weights, constant->data))
        return convert_constant(lowering, from, constant->data, wanted, error);

    const struct weights_request request = {.data = constant->data,
                                            .role = role,
                                            .from = from,
                                            .layout = wanted,
                                            .discard = tensor_bytes(constant) >= DISCARD_BYTES};
    const struct packed_weights *packed = weights_pack(plan->weights, &request, error);
    if (!packed)
        return NULL;

    return plan_add_constant(plan, layout_dtype(wanted), layout_shape(wanted), wanted, packed->bytes);
}

bool lower_may_overwrite(const struct lowering *lowering, const struct node *node, const struct value *value,
                         const struct plan_tensor *tensor) {
    int reads = 0;

    for (int i = 0; i < node->input_count; i++)
        reads += node->inputs[i] == value;
    return reads <= 1 && tensor->memory == PLAN_MEMORY_ARENA && tensor->storage->tensor_count == 1 &&
           !tensor->storage->is_output && !value->is_output &&
           lowering->last_use[value->id] <= lowering->position;
}

struct plan_tensor *lower_result_like(struct lowering *lowering, const struct node *node,
                                      const struct value *value, const struct plan_tensor *tensor,
                                      struct error *error) {
    const struct shape *shape = &node->outputs[0]->shape;
    struct plan_tensor *result = lower_may_overwrite(lowering, node, value, tensor)
                                     ? plan_add_view(lowering->plan, tensor, shape, tensor->layout)
                                     : plan_add_tensor(lowering->plan, tensor->dtype, shape, tensor->layout);

    if (!result)
        lower_no_memory(error);
    return result;
}
