/* What moves elements without computing: views where the layout allows it, copies where not. */
#include <string.h>

#include "lowering/lowering.h"
#include "plan/kernels.h"

bool lower_reshape(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *output = node->outputs[0];
    struct plan_tensor *source = lower_current(lowering, input, error);
    if (!source)
        return false;

    *ret_done = true;
    const struct layout *layout = NULL;
    if (source->layout && source->shape.rank > 0 && output->shape.rank > 0)
        layout = layout_reshape(plan->pool, source->layout, &output->shape);
    if (!layout && !plan_tensor_is_plain(source)) {
        source = lower_plain(lowering, input, source->dtype, error);
        if (!source)
            return false;
    }

    if (!layout)
        layout = layout_plain(plan->pool, source->dtype, &output->shape);
    struct plan_tensor *view = plan_add_view(plan, source, &output->shape, layout);
    if (!view)
        return lower_no_memory(error);

    lower_define(lowering, output, view);
    return true;
}

bool lower_transpose(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *input = node->inputs[0], *output = node->outputs[0];
    int rank = input->shape.rank;
    struct plan_tensor *source = lower_current(lowering, input, error);
    if (!source)
        return false;
    if (!source->layout || rank < 1)
        return true;

    int permutation[LIMIT_TENSOR_RANK];
    const int64_t *given;
    size_t count = node_ints(node, "perm", &given);

    for (int i = 0; i < rank; i++)
        permutation[i] = count ? (int)given[i] : rank - 1 - i;
    const struct layout *layout = layout_permute(plan->pool, source->layout, permutation);
    if (!layout)
        return true;

    struct plan_tensor *view = plan_add_view(plan, source, &output->shape, layout);
    if (!view)
        return lower_no_memory(error);

    *ret_done = true;
    lower_define(lowering, output, view);
    return true;
}

struct concat_parameters {
    int64_t rows;
    int count;
    size_t bytes[]; /* [count] of each input's row */
};

/* Inputs whose inner axes are contiguous in the result too. */
static bool concat_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct concat_parameters *parameters = step->parameters;
    kernel_concat_rows((const void *const *)pointers, parameters->bytes, parameters->count, parameters->rows,
                       pointers[parameters->count]);
    return true;
}

/* A slice of a tensor that has its channels innermost has them innermost too, with gaps. */
static bool has_channels_innermost(const struct layout *layout) {
    int64_t strides[LIMIT_TENSOR_RANK];
    return !layout_is_plain(layout) &&
           (layout_is_channels_last(layout) || (layout_strides(layout, strides) && strides[1] == 1));
}

/* The layout in which all inputs lie one after the other. */
static const struct layout *concat_layout(struct lowering *lowering, struct node *node, int axis,
                                          struct plan_tensor *const *sources) {
    struct plan *plan = lowering->plan;
    const struct shape *result = &node->outputs[0]->shape;
    enum dtype dtype = sources[0]->dtype;
    if (axis == 1 && result->rank >= 3 && has_channels_innermost(sources[0]->layout))
        return layout_channels_last(plan->pool, dtype, result);
    return layout_plain(plan->pool, dtype, result);
}

/* nChw16c and its like: [n, c / b, spatial…, b] lies one after the other along c as long as no block is
 * padded.
 */
static bool concat_blocked(struct lowering *lowering, struct node *node, struct plan_tensor **sources,
                           const struct layout **ret, struct error *error) {
    const struct layout *wanted =
        layout_for_shape(lowering->plan->pool, sources[0]->layout, &node->outputs[0]->shape);
    if (!wanted || !layout_has_channel_blocks(sources[0]->layout) || layout_is_padded(wanted) ||
        layout_is_padded(sources[0]->layout))
        return false;

    for (int i = 1; i < node->input_count; i++) {
        const struct layout *same =
            layout_for_shape(lowering->plan->pool, sources[0]->layout, &sources[i]->shape);
        if (!same || layout_is_padded(same))
            return false;
        sources[i] = lower_in_layout(lowering, node->inputs[i], same, error);
        if (!sources[i])
            return false;
    }

    *ret = wanted;
    return true;
}

static int64_t product_of(const struct shape *shape, int from, int to) {
    int64_t product = 1;
    for (int i = from; i < to; i++)
        product *= shape->dims[i];
    return product;
}

static bool emit_concat(struct lowering *lowering, struct node *node, int axis, struct plan_tensor **sources,
                        const struct layout *layout, struct error *error) {
    struct plan *plan = lowering->plan;
    int count = node->input_count;
    struct value *output = node->outputs[0];
    struct concat_parameters *parameters =
        arena_allocate(plan->arena, sizeof *parameters + (size_t)count * sizeof(size_t));
    sources[count] = plan_add_tensor(plan, sources[0]->dtype, &output->shape, layout);
    if (!parameters || !sources[count])
        return lower_no_memory(error);

    bool last = axis == 1 && layout_is_channels_last(layout) && !layout_is_plain(layout);
    parameters->rows =
        last ? shape_elements(&output->shape) / output->shape.dims[1] : product_of(&output->shape, 0, axis);
    parameters->count = count;
    for (int i = 0; i < count; i++)
        parameters->bytes[i] = plan_tensor_bytes(sources[i]) / (size_t)parameters->rows;

    return lower_kernel(lowering, node,
                        &(struct step){.kernel = concat_run,
                                       .kernel_name = "guichet:concat",
                                       .parameters = parameters,
                                       .arguments = sources,
                                       .input_count = count},
                        error);
}

bool lower_concat(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *output = node->outputs[0];
    int rank = output->shape.rank, count = node->input_count;
    int axis = (int)node_int(node, "axis", 1);
    if (axis < 0)
        axis += rank;
    struct plan_tensor **sources = arena_allocate_array(plan->arena, (size_t)count + 1, sizeof *sources);
    if (!sources)
        return lower_no_memory(error);

    bool bytes = output->dtype == DTYPE_U8 || output->dtype == DTYPE_I8;
    if ((output->dtype != DTYPE_F32 && !bytes) || shape_elements(&output->shape) == 0)
        return true;

    for (int i = 0; i < count; i++) {
        sources[i] = lower_current(lowering, node->inputs[i], error);
        if (!sources[i])
            return false;
        if (!sources[i]->layout || shape_elements(&sources[i]->shape) == 0)
            return true;
    }

    *ret_done = true;
    const struct layout *layout;
    int64_t strides[LIMIT_TENSOR_RANK];
    bool blocked = !layout_strides(sources[0]->layout, strides);
    if (axis == 1 && rank >= 3 && blocked && concat_blocked(lowering, node, sources, &layout, error))
        return emit_concat(lowering, node, axis, sources, layout, error);

    layout = concat_layout(lowering, node, axis, sources);
    for (int i = 0; layout && i < count; i++) {
        const struct shape *shape = &node->inputs[i]->shape;
        const struct layout *wanted = layout_is_plain(layout)
                                          ? layout_plain(plan->pool, sources[0]->dtype, shape)
                                          : layout_channels_last(plan->pool, sources[0]->dtype, shape);
        sources[i] = wanted ? lower_in_layout(lowering, node->inputs[i], wanted, error) : NULL;
        if (!sources[i])
            return false;
    }

    return layout ? emit_concat(lowering, node, axis, sources, layout, error) : lower_no_memory(error);
}
