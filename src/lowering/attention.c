/* Attention of passes/fuse_attention.c: inputs q [b…, t, d], k transposed [b…, d, s], v [b…, s, e], then
 * constant addends that are broadcast to the scores [b…, t, s]; attribute `scale`. */
#include <omp.h>

#include "lowering/lowering.h"
#include "plan/kernels.h"

static bool attention_run(const struct step *step, void *const *pointers, struct error *error) {
    (void)error;
    kernel_attention(step->parameters, pointers[0], pointers[1], pointers[2], pointers[3], pointers[4],
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

static struct plan_tensor *lower_strided(struct lowering *lowering, struct value *value, int64_t *ret_strides,
                                         struct error *error) {
    struct plan_tensor *tensor = lower_current(lowering, value, error);

    if (tensor && (tensor->dtype != lowering->compute || !strides_of(tensor, ret_strides)))
        tensor = lower_plain(lowering, value, lowering->compute, error);
    return tensor && strides_of(tensor, ret_strides) ? tensor : NULL;
}

/* Where the addend's matrix for each pair of batch and head begins; its strides, 0 where it is broadcast. */
static bool describe_addend(struct lowering *lowering, const struct value *value,
                            const struct kernel_attention *attention, struct kernel_attention_addend *ret) {
    const struct shape *shape = &value->shape;
    int64_t pairs = attention->batches * attention->heads;
    int64_t rows = shape->dims[shape->rank - 2], columns = shape->dims[shape->rank - 1], matrices = 1;
    int64_t *starts = arena_allocate_array(lowering->plan->arena, (size_t)pairs, sizeof *starts);
    if (!starts)
        return false;

    for (int i = 0; i < shape->rank - 2; i++)
        matrices *= shape->dims[i]; /* they repeat in the order of the pairs: see passes/fuse_attention.c */
    for (int64_t pair = 0; pair < pairs; pair++)
        starts[pair] = pair % matrices * rows * columns;

    *ret = (struct kernel_attention_addend){.data = value->constant->data,
                                            .starts = starts,
                                            .row_stride = rows == 1 ? 0 : columns,
                                            .column_stride = columns == 1 ? 0 : 1};

    return true;
}

/* Where the only user turns [b, h, t, e] into [b, t, h, e], the result is written in that order at once. */
static const struct layout *output_layout(struct lowering *lowering, const struct value *output) {
    struct primitive_pool *pool = lowering->plan->pool;
    const struct node *user = output->use_count == 1 && !output->is_output ? output->uses[0].node : NULL;
    const int64_t *permutation;
    const struct shape *s = &output->shape;
    size_t count = user && node_is(user, "Transpose") ? node_ints(user, "perm", &permutation) : 0;

    if (s->rank == 4 && count == 4 && permutation[0] == 0 && permutation[1] == 2 && permutation[2] == 1 &&
        permutation[3] == 3) {
        const int64_t strides[4] = {s->dims[2] * s->dims[1] * s->dims[3], s->dims[3], s->dims[1] * s->dims[3],
                                    1};
        return layout_strided(pool, lowering->compute, s, strides);
    }

    if (s->rank == 3 && count == 3 && permutation[0] == 1 && permutation[1] == 0 && permutation[2] == 2) {
        const int64_t strides[3] = {s->dims[2], s->dims[0] * s->dims[2], 1};
        return layout_strided(pool, lowering->compute, s, strides);
    }

    return layout_plain(pool, lowering->compute, s);
}

/* Extents, scale and addends; the strides are the caller's. */
static bool describe_attention(struct lowering *lowering, const struct node *node,
                               struct kernel_attention *ret) {
    const struct shape *q = &node->inputs[0]->shape, *k = &node->inputs[1]->shape;
    const struct shape *v = &node->inputs[2]->shape;
    int rank = q->rank;

    ret->dtype = lowering->compute;
    ret->batches = q->dims[0];
    ret->heads = rank == 4 ? q->dims[1] : 1;
    ret->queries = q->dims[rank - 2];
    ret->depth = q->dims[rank - 1];
    ret->keys = k->dims[rank - 1];
    ret->value_depth = v->dims[rank - 1];
    ret->scale = node_float(node, "scale", 1);
    for (int i = 3; i < node->input_count; i++)
        if (!describe_addend(lowering, node->inputs[i], ret, &ret->addends[ret->addend_count++]))
            return false;

    return true;
}

bool lower_attention(struct lowering *lowering, struct node *node, bool *ret_done, struct error *error) {
    struct plan *plan = lowering->plan;
    struct value *output = node->outputs[0];
    struct kernel_attention *attention = arena_allocate(plan->arena, sizeof *attention);
    if (!attention || !describe_attention(lowering, node, attention))
        return lower_no_memory(error);

    int64_t transposed[4];
    struct plan_tensor *tensors[4] = {
        lower_strided(lowering, node->inputs[0], attention->q_strides, error),
        lower_strided(lowering, node->inputs[1], transposed, error),
        lower_strided(lowering, node->inputs[2], attention->v_strides, error),
    };
    if (!tensors[0] || !tensors[1] || !tensors[2])
        return error_prefix(error, "node %s", node->name);

    attention->k_strides[0] = transposed[0]; /* k has features before tokens */
    attention->k_strides[1] = transposed[1];
    attention->k_strides[2] = transposed[3];
    attention->k_strides[3] = transposed[2];

    tensors[3] = plan_add_tensor(plan, lowering->compute, &output->shape, output_layout(lowering, output));
    if (!tensors[3] || !strides_of(tensors[3], attention->out_strides))
        return lower_no_memory(error);

    *ret_done = true;
    return lower_kernel(
        lowering, node,
        &(struct step){.kernel = attention_run,
                       .kernel_name = "guichet:attention",
                       .parameters = attention,
                       .arguments = tensors,
                       .input_count = 3,
                       .scratch_bytes = kernel_attention_scratch(attention, omp_get_max_threads())},
        error);
}
