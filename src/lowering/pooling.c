/* Pooling and local response normalisation. */
#include <string.h>

#include "lowering/lowering.h"
#include "plan/kernels.h"

static bool watch_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct kernel_lowest *p = step->parameters;
    kernel_watch_lowest(p, pointers[0]);
    return true;
}

/* oneDNN's maximum of -infinity is the lowest finite number. Where a result has one, a floating-point flag is
 * raised, and the engine computes the run exactly: see engine/watch.h. */
static bool watch_maximum(struct lowering *lowering, const struct node *node, struct error *error) {
    struct plan_tensor *result = lower_current(lowering, node->outputs[0], error);
    struct kernel_lowest *parameters = arena_allocate(lowering->plan->arena, sizeof *parameters);
    if (!result || !parameters)
        return result ? lower_no_memory(error) : false;
    if (result->dtype != DTYPE_F32 && result->dtype != DTYPE_BF16)
        return true;

    *parameters = (struct kernel_lowest){result->dtype,
                                         (int64_t)(layout_bytes(result->layout) / dtype_size(result->dtype))};
    const struct step step = {.kind = STEP_KERNEL,
                              .name = node->name,
                              .action = "watch",
                              .kernel_name = "guichet:watch",
                              .kernel = watch_run,
                              .parameters = parameters,
                              .arguments = &result,
                              .argument_count = 1,
                              .input_count = 1};
    return plan_add_step(lowering->plan, &step) || lower_no_memory(error);
}

static bool lower_with_spec(struct lowering *lowering, struct node *node, struct pooling_spec *spec,
                            bool *ret_done, struct error *error) {
    struct plan_tensor *source = lower_dense(lowering, node->inputs[0], error);
    if (!source)
        return false;
    if (!source->layout)
        return true;

    spec->source = node->inputs[0]->shape;
    spec->destination = node->outputs[0]->shape;
    spec->dtype = source->dtype;
    spec->source_layout = source->layout;
    struct error refused;
    const struct primitive *primitive = primitive_pooling(lowering->plan->pool, spec, &refused);
    if (!primitive)
        return true;

    *ret_done = true;
    return lower_one_to_one(lowering, node, primitive, source, error) &&
           (spec->kind != POOLING_MAX || watch_maximum(lowering, node, error));
}

bool lower_pooling(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    const struct shape *in = &node->inputs[0]->shape, *out = &node->outputs[0]->shape;
    int spatial = in->rank - 2;
    enum dtype dtype = node->inputs[0]->dtype;
    if (spatial < 1 || spatial > 3 || node->output_count > 1 ||
        (dtype != DTYPE_F32 && dtype != DTYPE_U8 && dtype != DTYPE_I8))
        return true;

    bool average = !node_has(node, OP_KEEPS_VALUES), include = node_int(node, "count_include_pad", 0) != 0;
    struct pooling_spec spec = {.kind = !average  ? POOLING_MAX
                                        : include ? POOLING_AVERAGE_INCLUDE_PAD
                                                  : POOLING_AVERAGE_EXCLUDE_PAD};
    const char *automatic = node_string(node, "auto_pad", "NOTSET");
    if (strcmp(automatic, "NOTSET") != 0 && strcmp(automatic, "VALID") != 0)
        return true;

    for (int i = 0; i < spatial; i++) {
        const int64_t *ints;
        node_ints(node, "kernel_shape", &ints);
        spec.kernel[i] = ints[i];
        spec.strides[i] = node_ints(node, "strides", &ints) ? ints[i] : 1;
        spec.dilations[i] = node_ints(node, "dilations", &ints) ? ints[i] : 1;
        bool padded = node_ints(node, "pads", &ints) && strcmp(automatic, "VALID") != 0;
        spec.pads_begin[i] = padded ? ints[i] : 0;
        int64_t given = padded ? ints[i + spatial] : 0;
        int64_t reach = (spec.kernel[i] - 1) * spec.dilations[i] + 1;
        int64_t pad_end =
            (out->dims[2 + i] - 1) * spec.strides[i] + reach - in->dims[2 + i] - spec.pads_begin[i];
        if (include &&
            pad_end > given) /* ceil_mode reaches past the padding: what lies there does not count */
            return true;
        if (reach <= spec.pads_begin[i] || reach <= pad_end)
            return true; /* a window without a single pixel */
        spec.pads_end[i] = pad_end;
    }
    return lower_with_spec(lowering, node, &spec, ret_done, error);
}

bool lower_global_pooling(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    const struct shape *in = &node->inputs[0]->shape;
    int spatial = in->rank - 2;
    enum dtype dtype = node->inputs[0]->dtype;
    bool maximum = node_has(node, OP_KEEPS_VALUES), bytes = dtype == DTYPE_U8 || dtype == DTYPE_I8;
    if (spatial < 1 || spatial > 3 || (dtype != DTYPE_F32 && !(maximum && bytes)))
        return true;

    struct pooling_spec spec = {.kind = maximum ? POOLING_MAX : POOLING_AVERAGE_EXCLUDE_PAD};
    for (int i = 0; i < spatial; i++) {
        spec.kernel[i] = in->dims[2 + i];
        spec.strides[i] = spec.dilations[i] = 1;
    }
    return lower_with_spec(lowering, node, &spec, ret_done, error);
}

bool lower_lrn(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan_tensor *source = lower_current(lowering, node->inputs[0], error);
    if (!source)
        return false;
    if (!source->layout || source->dtype != DTYPE_F32 || source->shape.rank != 4)
        return true;

    const struct lrn_spec spec = {.layout = source->layout,
                                  .size = node_int(node, "size", 1),
                                  .alpha = node_float(node, "alpha", 0.0001f),
                                  .beta = node_float(node, "beta", 0.75f),
                                  .k = node_float(node, "bias", 1)};
    struct error refused;
    const struct primitive *primitive = primitive_lrn(lowering->plan->pool, &spec, &refused);
    if (!primitive)
        return true;

    *ret_done = true;
    return lower_one_to_one(lowering, node, primitive, source, error);
}
