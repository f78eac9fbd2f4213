/* ONNX's Attention (opset 23), with what was seen before as inputs.
 * https://onnx.ai/onnx/operators/onnx__Attention.html */
#include <math.h>

#include "ops/heads.h"

enum { QUERY, KEY, VALUE, MASK, PAST_KEY, PAST_VALUE, LENGTHS };

/* Shapes as the node's inputs have them. */
struct attention_shapes {
    struct head_layout query, key, value;
    int64_t past; /* rows */
};

static bool attention_check(const struct node *node, struct error *error) {
    return node->output_count < 4 || !node->outputs[3] ||
           node_error(node, error, "the output of scores is not supported");
}

static bool past_fits(const struct node *node, const struct shape *past, const struct head_layout *now,
                      int64_t rows, struct error *error) {
    return (past->rank == 4 && past->dims[0] == now->batches && past->dims[1] == now->heads &&
            past->dims[2] == rows && past->dims[3] == now->size) ||
           node_error(node, error, "the past's shape does not fit that of the keys and values");
}

/* `shapes`: [7], NULL where an input is left out. */
static bool attention_read(const struct node *node, const struct shape *const *shapes,
                           struct attention_shapes *ret, struct error *error) {
    int64_t heads = node_int(node, "q_num_heads", 0), key_heads = node_int(node, "kv_num_heads", 0);
    struct attention_shapes read = {.past = 0};
    if (!head_layout_read(node, shapes[QUERY], heads, &read.query, error) ||
        !head_layout_read(node, shapes[KEY], key_heads, &read.key, error) ||
        !head_layout_read(node, shapes[VALUE], key_heads, &read.value, error))
        return false;

    const struct head_layout *q = &read.query, *k = &read.key, *v = &read.value;
    if (q->batches != k->batches || q->batches != v->batches || k->heads != v->heads || k->rows != v->rows ||
        q->size != k->size || k->heads < 1 || q->heads % k->heads)
        return node_error(node, error, "the shapes of queries, keys and values do not fit together");
    if (!shapes[PAST_KEY] != !shapes[PAST_VALUE])
        return node_error(node, error, "past keys and past values come together");
    if (shapes[PAST_KEY]) {
        read.past = shapes[PAST_KEY]->rank == 4 ? shapes[PAST_KEY]->dims[2] : 0;
        if (!past_fits(node, shapes[PAST_KEY], k, read.past, error) ||
            !past_fits(node, shapes[PAST_VALUE], v, read.past, error))
            return false;
    }

    *ret = read;
    return true;
}

static bool attention_infer(struct node *node, struct error *error) {
    const struct shape *shapes[7];
    struct attention_shapes read;
    for (int i = 0; i < 7; i++)
        shapes[i] = node_shape(node, i);
    for (int i = 0; i < 6; i++)
        if (i != MASK &&
            (!node_want_types(node, i, TYPES_F32, error) || !node_want_same_type(node, i, 0, error)))
            return false;
    if (!node_want_types(node, MASK, TYPES_F32 | TYPE(BOOL), error) ||
        !node_want_types(node, LENGTHS, TYPE(I64), error) || !attention_read(node, shapes, &read, error))
        return false;

    const struct head_layout *q = &read.query, *k = &read.key;
    int64_t total = read.past + k->rows;
    struct pair_view view;
    if (shapes[MASK] &&
        !pair_view_make(shapes[MASK], NULL, (int64_t[]){q->batches, q->heads, q->rows, total}, &view))
        return node_error(node, error, "the mask does not broadcast to queries and keys");
    if (shapes[LENGTHS] && (shapes[LENGTHS]->rank != 1 || shapes[LENGTHS]->dims[0] != q->batches))
        return node_error(node, error, "nonpad_kv_seqlen is not one number for each batch");

    struct shape y = q->by_head ? (struct shape){4, {q->batches, q->heads, q->rows, read.value.size}}
                                : (struct shape){3, {q->batches, q->rows, q->heads * read.value.size}};
    struct shape key = {4, {k->batches, k->heads, total, k->size}}, value = key;
    value.dims[3] = read.value.size;
    enum dtype type = node_dtype(node, 0);
    return infer_output(node, 0, type, &y, error) && infer_output(node, 1, type, &key, error) &&
           infer_output(node, 2, type, &value, error);
}

/* Keys or values with their past: a view of what is there, or a copy in `output` or else in *ret_copy. */
static bool join_past(const struct tensor *inputs, const struct node *node, int now, int past, int output,
                      const struct tensor *outputs, const struct head_layout *layout, int64_t past_rows,
                      struct heads *ret, float **ret_copy) {
    struct heads view = head_layout_view(layout, inputs[now].data);
    float *to = node->output_count > output ? outputs[output].data : NULL;
    return heads_with_past(past_rows ? inputs[past].data : NULL, past_rows, &view, layout, to, ret, ret_copy);
}

/* Each batch's count of keys, and where its queries stand among them. */
static bool lengths_read(const struct node *node, const struct tensor *inputs, struct attend *attend,
                         int64_t *offsets, struct error *error) {
    const int64_t *lengths = node->input_count > LENGTHS ? inputs[LENGTHS].data : NULL;
    for (int64_t b = 0; lengths && b < attend->batches; b++) {
        if (lengths[b] < 0 || lengths[b] > attend->keys)
            return node_error(node, error, "nonpad_kv_seqlen is %lld of %lld keys", (long long)lengths[b],
                              (long long)attend->keys);
        offsets[b] = lengths[b] - attend->queries;
    }
    attend->lengths = lengths;
    return true;
}

static void mask_set(const struct node *node, const struct tensor *inputs, struct attend *attend) {
    const int64_t dims[4] = {attend->batches, attend->heads, attend->queries, attend->keys};
    if (node->input_count <= MASK || !inputs[MASK].data)
        return;

    struct pair_view *view = inputs[MASK].dtype == DTYPE_BOOL ? &attend->allowed : &attend->bias;
    pair_view_make(&inputs[MASK].shape, inputs[MASK].data, dims, view);
}

static bool attention_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const struct shape *shapes[7] = {NULL};
    struct attention_shapes read;
    for (int i = 0; i < 7 && i < node->input_count; i++)
        shapes[i] = inputs[i].data ? &inputs[i].shape : NULL;
    if (!attention_read(node, shapes, &read, error))
        return false;

    const struct head_layout *q = &read.query;
    cleanup(freep) float *keys = NULL;
    cleanup(freep) float *values = NULL;
    cleanup(freep) int64_t *offsets = malloc((size_t)q->batches * sizeof *offsets + 64);
    struct attend attend = {.query = head_layout_view(q, inputs[QUERY].data),
                            .batches = q->batches,
                            .heads = q->heads,
                            .key_heads = read.key.heads,
                            .queries = q->rows,
                            .keys = read.past + read.key.rows,
                            .size = q->size,
                            .value_size = read.value.size,
                            .scale = node_float(node, "scale", 1 / sqrtf((float)q->size)),
                            .softcap = node_float(node, "softcap", 0),
                            .causal = node_int(node, "is_causal", 0) != 0,
                            .offsets = offsets,
                            .hidden = -INFINITY};
    for (int64_t b = 0; offsets && b < q->batches; b++)
        offsets[b] = read.past;

    if (!offsets ||
        !join_past(inputs, node, KEY, PAST_KEY, 1, outputs, &read.key, read.past, &attend.key, &keys) ||
        !join_past(inputs, node, VALUE, PAST_VALUE, 2, outputs, &read.value, read.past, &attend.value,
                   &values))
        return node_memory_error(node, error);
    if (!lengths_read(node, inputs, &attend, offsets, error))
        return false;
    mask_set(node, inputs, &attend);
    return attend_run(&attend, q->by_head, outputs[0].data) || node_memory_error(node, error);
}

static bool attention_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, attention_wide);
}

const struct op_def attention_operators[] = {
    {.op_type = "Attention",
     .since = 23,
     .inputs = {3, 7},
     .outputs = {1, 4},
     .data_inputs = 3,
     .types = NAMES_F32,
     .traits = OP_HEAVY,
     .check = attention_check,
     FUNCTIONS(attention)},
    {0},
};
