/* Attention of passes/fuse_attention.c: inputs q [b…, t, d], k transposed [b…, d, s], v [b…, s, e], then
 * constant addends that are broadcast to the scores [b…, t, s]; attribute `scale`. */
#include <omp.h>

#include "lowering/lowering.h"
#include "plan/kernels.h"

static bool attention_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    const struct attention *attention = step->parameters;
    kernel_attention(attention, pointers[0], pointers[1], pointers[2], pointers[3], pointers[4],
                     omp_get_max_threads());
    return true;
}

/* Strides of [batch, head, row, column] of a tensor of rank 3 or 4. */
static bool strides_of(const struct plan_tensor *tensor, int64_t *ret) {
    int64_t strides[LIMIT_TENSOR_RANK];
    int rank = tensor->shape.rank;
    if (!tensor->layout || !layout_strides(tensor->layout, strides))
        return false;
    ret[0] = strides[0];
    ret[1] = rank == 4 ? strides[1] : 0;
    ret[2] = strides[rank - 2];
    ret[3] = strides[rank - 1];
    return true;
}

static struct plan_tensor *strided(struct lowering *lowering, struct value *value, int64_t *ret_strides,
                                   struct error *error) {
    struct plan_tensor *tensor = lower_current(lowering, value, error);
    if (tensor && (tensor->dtype != lowering->compute || !strides_of(tensor, ret_strides)))
        tensor = lower_plain(lowering, value, lowering->compute, error);
    return tensor && strides_of(tensor, ret_strides) ? tensor : NULL;
}

/* Where the addend's matrix for each pair of batch and head begins. */
static bool describe_addend(struct lowering *lowering, const struct value *value, int64_t pairs,
                            int64_t queries, int64_t keys, struct attention_addend *ret) {
    const struct shape *shape = &value->shape;
    int64_t steps[LIMIT_TENSOR_RANK], step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        steps[i] = shape->dims[i] == 1 ? 0 : step;
        step *= shape->dims[i];
    }
    int64_t *starts = arena_allocate_array(lowering->plan->arena, (size_t)pairs, sizeof *starts);
    if (!starts)
        return false;
    int64_t count = 1; /* its matrices repeat in the order of the pairs: see fuse_attention */
    for (int i = 0; i < shape->rank - 2; i++)
        count *= shape->dims[i];
    for (int64_t pair = 0; pair < pairs; pair++)
        starts[pair] = (pair % count) * (shape->dims[shape->rank - 2] * shape->dims[shape->rank - 1]);
    *ret = (struct attention_addend){value->constant->data, starts, queries == 1 ? 0 : steps[shape->rank - 2],
                                     keys == 1 ? 0 : steps[shape->rank - 1]};
    return true;
}

/* Where the only user turns [b, h, t, e] into [b, t, h, e], the result is written that way round at once. */
static const struct layout *output_layout(struct lowering *lowering, const struct value *output) {
    struct plan *plan = lowering->plan;
    const struct node *user = output->use_count == 1 && !output->is_output ? output->uses[0].node : NULL;
    const int64_t *permutation;
    const struct shape *s = &output->shape;
    if (user && node_is(user, "Transpose") && s->rank == 4 && node_ints(user, "perm", &permutation) == 4 &&
        permutation[0] == 0 && permutation[1] == 2 && permutation[2] == 1 && permutation[3] == 3) {
        const int64_t strides[4] = {s->dims[2] * s->dims[1] * s->dims[3], s->dims[3], s->dims[1] * s->dims[3],
                                    1};
        return layout_strided(plan->pool, lowering->compute, s, strides);
    }
    if (user && node_is(user, "Transpose") && s->rank == 3 && node_ints(user, "perm", &permutation) == 3 &&
        permutation[0] == 1 && permutation[1] == 0 && permutation[2] == 2) {
        const int64_t strides[3] = {s->dims[2], s->dims[0] * s->dims[2], 1};
        return layout_strided(plan->pool, lowering->compute, s, strides);
    }
    return layout_plain(plan->pool, lowering->compute, s);
}

bool lower_attention(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *q = node->inputs[0], *k = node->inputs[1], *v = node->inputs[2], *output = node->outputs[0];
    int rank = q->shape.rank;
    struct attention *attention = arena_allocate(plan->arena, sizeof *attention);
    if (!attention)
        return lower_no_memory(error);
    int64_t turned[4];
    struct plan_tensor *tensors[4] = {strided(lowering, q, attention->q_strides, error),
                                      strided(lowering, k, turned, error),
                                      strided(lowering, v, attention->v_strides, error)};
    if (!tensors[0] || !tensors[1] || !tensors[2])
        return error_prefix(error, "node %s", node->name);
    attention->k_strides[0] = turned[0]; /* k comes with features before tokens */
    attention->k_strides[1] = turned[1];
    attention->k_strides[2] = turned[3];
    attention->k_strides[3] = turned[2];
    attention->dtype = lowering->compute;
    attention->batches = q->shape.dims[0];
    attention->heads = rank == 4 ? q->shape.dims[1] : 1;
    attention->queries = q->shape.dims[rank - 2];
    attention->depth = q->shape.dims[rank - 1];
    attention->keys = k->shape.dims[rank - 1];
    attention->value_depth = v->shape.dims[rank - 1];
    attention->scale = node_float(node, "scale", 1);
    for (int i = 3; i < node->input_count; i++)
        if (!describe_addend(lowering, node->inputs[i], attention->batches * attention->heads,
                             attention->queries, attention->keys,
                             &attention->addends[attention->addend_count++]))
            return lower_no_memory(error);
    tensors[3] = plan_add_tensor(plan, lowering->compute, &output->shape, output_layout(lowering, output));
    struct step *step =
        tensors[3] ? plan_add_step(plan, STEP_KERNEL, node->name, "Attention", tensors, NULL, 4) : NULL;
    if (!step || !strides_of(tensors[3], attention->out_strides))
        return lower_no_memory(error);
    step->kernel = attention_run;
    step->kernel_name = "guichet:attention";
    step->parameters = attention;
    step->input_count = 3;
    step->scratch_bytes = kernel_attention_scratch(attention, omp_get_max_threads());
    lower_define(lowering, output, tensors[3]);
    *ret_done = true;
    return true;
}
