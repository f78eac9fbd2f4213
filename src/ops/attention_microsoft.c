/* com.microsoft Attention and MultiHeadAttention, as ONNX Runtime's optimiser and exporters write them.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
#include <math.h>
#include <string.h>

#include "ops/heads.h"
#include "ops/product.h"

/* What a node comes down to, once its inputs are looked at. */
struct attention_parts {
    struct head_layout query, key, value;
    int64_t past; /* rows */
};

static float scale_of(const struct node *node, int64_t size) {
    float scale = node_float(node, "scale", 0);
    return scale != 0 ? scale : 1 / sqrtf((float)size);
}

/* ---- Masks of int32: lengths [batch], or who is seen [batch, keys] or [batch, queries, keys] ---- */

static bool mask_fits(const struct node *node, int input, const struct attention_parts *parts,
                      struct error *error) {
    const struct shape *mask = node_shape(node, input);
    int64_t batches = parts->query.batches, total = parts->past + parts->key.rows;
    if (!mask)
        return true;
    bool fits = (mask->rank == 1 && mask->dims[0] == batches) ||
                (mask->rank == 2 && mask->dims[0] == batches && mask->dims[1] == total) ||
                (mask->rank == 3 && mask->dims[0] == batches && mask->dims[1] == parts->query.rows &&
                 mask->dims[2] == total);
    return node_want_types(node, input, TYPE(I32), error) &&
           (fits || node_error(node, error, "this form of mask is not supported"));
}

/* *ret_memory: what the mask needs; to be freed. */
static bool mask_read(const struct node *node, const struct tensor *mask, struct attend *attend,
                      void **ret_memory, struct error *error) {
    const int32_t *from = mask->data;
    int64_t count = shape_elements(&mask->shape), keys = attend->keys;
    if (mask->shape.rank == 1) {
        int64_t *lengths = *ret_memory = malloc((size_t)count * sizeof *lengths + 64);
        for (int64_t i = 0; lengths && i < count; i++)
            lengths[i] = from[i];
        attend->lengths = lengths;
        return lengths || node_memory_error(node, error);
    }

    uint8_t *allowed = *ret_memory = malloc((size_t)count + 64);
    for (int64_t i = 0; allowed && i < count; i++)
        allowed[i] = from[i] > 0;
    bool square = mask->shape.rank == 3;
    attend->allowed =
        (struct pair_view){allowed, square ? attend->queries * keys : keys, 0, square ? keys : 0, 1};
    return allowed || node_memory_error(node, error);
}

static bool bias_fits(const struct node *node, int input, const struct attention_parts *parts,
                      struct error *error) {
    struct pair_view view;
    const struct shape *bias = node_shape(node, input);
    const int64_t dims[4] = {parts->query.batches, parts->query.heads, parts->query.rows,
                             parts->past + parts->key.rows};
    return !bias || (node_want_same_type(node, input, 0, error) &&
                     (pair_view_make(bias, NULL, dims, &view) ||
                      node_error(node, error, "attention_bias does not broadcast to queries and keys")));
}

static void bias_set(const struct node *node, const struct tensor *inputs, int input, struct attend *attend) {
    const int64_t dims[4] = {attend->batches, attend->heads, attend->queries, attend->keys};
    if (node->input_count > input && inputs[input].data)
        pair_view_make(&inputs[input].shape, inputs[input].data, dims, &attend->bias);
}

static struct attend attend_of(const struct node *node, const struct attention_parts *parts) {
    return (struct attend){.batches = parts->query.batches,
                           .heads = parts->query.heads,
                           .key_heads = parts->key.heads,
                           .queries = parts->query.rows,
                           .keys = parts->past + parts->key.rows,
                           .size = parts->query.size,
                           .value_size = parts->value.size,
                           .scale = scale_of(node, parts->query.size),
                           .causal = node_int(node, "unidirectional", 0) != 0,
                           .hidden = node_float(node, "mask_filter_value", -10000)};
}

static void offsets_set(struct attend *attend, int64_t *offsets, int64_t past) {
    for (int64_t b = 0; b < attend->batches; b++)
        offsets[b] = past;
    attend->offsets = offsets;
}

/* ---- MultiHeadAttention ---- */

enum { QUERY, KEY, VALUE, BIAS, PADDING, PAIRS, PAST_KEY, PAST_VALUE };

static bool multi_check(const struct node *node, struct error *error) {
    for (int i = 8; i < node->input_count; i++)
        if (node->inputs[i])
            return node_error(node, error, "a shared buffer of the past is not supported");
    if (!node_has_input(node, KEY) || !node_has_input(node, VALUE))
        return node_error(node, error, "packed keys and values are not supported");
    if (node_int(node, "num_heads", 0) < 1)
        return node_error(node, error, "num_heads is missing");
    return node->output_count < 4 || !node->outputs[3] ||
           node_error(node, error, "the output of scores is not supported");
}

/* `shapes`: [8], NULL where an input is left out. */
static bool multi_read(const struct node *node, const struct shape *const *shapes,
                       struct attention_parts *ret, struct error *error) {
    int64_t heads = node_int(node, "num_heads", 0);
    struct attention_parts parts = {.past = 0};
    if (!head_layout_read(node, shapes[QUERY], heads, &parts.query, error) ||
        !head_layout_read(node, shapes[KEY], heads, &parts.key, error) ||
        !head_layout_read(node, shapes[VALUE], heads, &parts.value, error))
        return false;

    const struct head_layout *q = &parts.query, *k = &parts.key, *v = &parts.value;
    const struct shape *past = shapes[PAST_KEY], *values = shapes[PAST_VALUE];
    if (q->by_head || q->batches != k->batches || q->batches != v->batches || k->heads != heads ||
        v->heads != heads || k->rows != v->rows || q->size != k->size)
        return node_error(node, error, "the shapes of query, key and value do not fit together");
    if (past)
        parts.past = past->rank == 4 ? past->dims[2] : 0;
    if (past && (!values || past->rank != 4 || past->dims[0] != k->batches || past->dims[1] != heads ||
                 past->dims[3] != k->size || values->rank != 4 || values->dims[0] != k->batches ||
                 values->dims[1] != heads || values->dims[2] != parts.past || values->dims[3] != v->size))
        return node_error(node, error, "the past's shape does not fit that of key and value");
    if (shapes[BIAS] &&
        (shapes[BIAS]->rank != 1 || shapes[BIAS]->dims[0] != heads * (q->size + k->size + v->size)))
        return node_error(node, error, "the bias has not one number for each column of query, key and value");

    *ret = parts;
    return true;
}

static bool multi_infer(struct node *node, struct error *error) {
    const struct shape *shapes[8];
    struct attention_parts parts;
    for (int i = 0; i < 8; i++) {
        shapes[i] = node_shape(node, i);
        if (i != PADDING &&
            (!node_want_types(node, i, TYPES_F32, error) || !node_want_same_type(node, i, 0, error)))
            return false;
    }
    if (!multi_read(node, shapes, &parts, error) || !mask_fits(node, PADDING, &parts, error) ||
        !bias_fits(node, PAIRS, &parts, error))
        return false;

    const struct head_layout *q = &parts.query;
    int64_t total = parts.past + parts.key.rows;
    struct shape y = {3, {q->batches, q->rows, q->heads * parts.value.size}};
    struct shape key = {4, {q->batches, q->heads, total, q->size}}, value = key;
    value.dims[3] = parts.value.size;
    enum dtype type = node_dtype(node, 0);
    return infer_output(node, 0, type, &y, error) && infer_output(node, 1, type, &key, error) &&
           infer_output(node, 2, type, &value, error);
}

/* A view of an input; with the bias of its columns added, where it has rows of all heads, in *ret_copy. */
static bool with_bias(const struct tensor *input, const struct head_layout *layout, const float *bias,
                      struct heads *ret, float **ret_copy) {
    int64_t width = layout->heads * layout->size, rows = layout->batches * layout->rows;
    const float *from = input->data;
    *ret = head_layout_view(layout, from);
    if (!bias || layout->by_head)
        return true;

    float *copy = *ret_copy = malloc((size_t)(rows * width) * sizeof *copy + 64);
    if (!copy)
        return false;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = 0; c < width; c++)
            copy[i * width + c] = from[i * width + c] + bias[c];
    ret->data = copy;
    return true;
}

static float *output_data(const struct node *node, const struct tensor *outputs, int index) {
    return node->output_count > index ? outputs[index].data : NULL;
}

static bool multi_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                       struct error *error) {
    const struct shape *shapes[8] = {NULL};
    const void *data[8] = {NULL};
    struct attention_parts parts;
    for (int i = 0; i < 8 && i < node->input_count; i++) {
        data[i] = inputs[i].data;
        shapes[i] = data[i] ? &inputs[i].shape : NULL;
    }
    if (!multi_read(node, shapes, &parts, error))
        return false;

    cleanup(freep) float *q = NULL;
    cleanup(freep) float *k = NULL;
    cleanup(freep) float *v = NULL;
    cleanup(freep) float *keys = NULL;
    cleanup(freep) float *values = NULL;
    cleanup(freep) void *mask = NULL;
    cleanup(freep) int64_t *offsets = malloc((size_t)parts.query.batches * sizeof *offsets + 64);
    struct attend attend = attend_of(node, &parts);
    struct heads key, value;
    const float *bias = data[BIAS];
    int64_t width = attend.heads * attend.size;

    if (!offsets || !with_bias(&inputs[QUERY], &parts.query, bias, &attend.query, &q) ||
        !with_bias(&inputs[KEY], &parts.key, bias ? bias + width : NULL, &key, &k) ||
        !with_bias(&inputs[VALUE], &parts.value, bias ? bias + 2 * width : NULL, &value, &v) ||
        !heads_with_past(data[PAST_KEY], parts.past, &key, &parts.key, output_data(node, outputs, 1),
                         &attend.key, &keys) ||
        !heads_with_past(data[PAST_VALUE], parts.past, &value, &parts.value, output_data(node, outputs, 2),
                         &attend.value, &values))
        return node_memory_error(node, error);

    offsets_set(&attend, offsets, parts.past);
    bias_set(node, inputs, PAIRS, &attend);
    if (data[PADDING] && !mask_read(node, &inputs[PADDING], &attend, &mask, error))
        return false;
    return attend_run(&attend, false, outputs[0].data) || node_memory_error(node, error);
}

static bool multi_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    return compute_widened(node, inputs, outputs, error, multi_wide);
}

/* ---- Attention: one product makes queries, keys and values of its input ---- */

enum { INPUT, WEIGHTS, WEIGHTS_BIAS, MASK, PAST, INPUT_PAIRS };

static bool single_check(const struct node *node, struct error *error) {
    if (node_has_input(node, 6))
        return node_error(node, error, "a shared buffer of the past is not supported");
    if (node_int(node, "do_rotary", 0))
        return node_error(node, error, "do_rotary is not supported");
    return node_int(node, "num_heads", 0) > 0 || node_error(node, error, "num_heads is missing");
}

/* `past` may be NULL. */
static bool single_read(const struct node *node, const struct shape *x, const struct shape *weights,
                        const struct shape *past, struct attention_parts *ret, struct error *error) {
    int64_t heads = node_int(node, "num_heads", 0), sizes[3], columns = weights->dims[1];
    int count;
    if (!node_attribute_ints(node, "qkv_hidden_sizes", 3, sizes, &count, error))
        return false;
    if (count < 0)
        sizes[0] = sizes[1] = sizes[2] = columns / 3;
    if ((count >= 0 && count != 3) || sizes[0] < 1 || sizes[2] < 1 || sizes[0] != sizes[1] ||
        sizes[0] > columns || sizes[2] > columns || 2 * sizes[0] + sizes[2] != columns || sizes[0] % heads ||
        sizes[2] % heads || x->dims[2] != weights->dims[0])
        return node_error(node, error, "the weights do not fit the input and %lld heads", (long long)heads);

    struct head_layout layout = {x->dims[0], heads, x->dims[1], sizes[0] / heads, false};
    struct attention_parts parts = {layout, layout, layout, 0};
    parts.value.size = sizes[2] / heads;
    if (past) {
        parts.past = past->rank == 5 ? past->dims[3] : 0;
        if (past->rank != 5 || past->dims[0] != 2 || past->dims[1] != layout.batches ||
            past->dims[2] != heads || past->dims[4] != layout.size || parts.value.size != layout.size)
            return node_error(node, error, "the past's shape does not fit");
    }
    *ret = parts;
    return true;
}

static bool single_infer(struct node *node, struct error *error) {
    struct attention_parts parts;
    const struct shape *bias = node_shape(node, WEIGHTS_BIAS);
    for (int i = 0; i < 6; i++)
        if (i != MASK &&
            (!node_want_types(node, i, TYPES_F32, error) || !node_want_same_type(node, i, 0, error)))
            return false;
    if (!node_want_rank(node, INPUT, 3, 3, error) || !node_want_rank(node, WEIGHTS, 2, 2, error) ||
        !single_read(node, node_shape(node, INPUT), node_shape(node, WEIGHTS), node_shape(node, PAST), &parts,
                     error) ||
        !mask_fits(node, MASK, &parts, error) || !bias_fits(node, INPUT_PAIRS, &parts, error))
        return false;
    if (bias && (bias->rank != 1 || bias->dims[0] != node_shape(node, WEIGHTS)->dims[1]))
        return node_error(node, error, "the bias has not one number for each column of the weights");

    const struct head_layout *q = &parts.query;
    struct shape y = {3, {q->batches, q->rows, q->heads * parts.value.size}};
    struct shape present = {5, {2, q->batches, q->heads, parts.past + q->rows, q->size}};
    if (node_has_output(node, 1) && parts.value.size != q->size)
        return node_error(node, error, "keys and values of different sizes have no present");
    return infer_output(node, 0, node_dtype(node, 0), &y, error) &&
           infer_output(node, 1, node_dtype(node, 0), &present, error);
}

/* Input times weights plus bias: [batch * rows, columns]; malloc'ed, NULL when memory is out. */
static float *project(const struct tensor *inputs, int input_count) {
    const struct shape *x = &inputs[INPUT].shape, *weights = &inputs[WEIGHTS].shape;
    int64_t rows = x->dims[0] * x->dims[1], columns = weights->dims[1], zero = 0;
    const float *bias = input_count > WEIGHTS_BIAS ? inputs[WEIGHTS_BIAS].data : NULL;
    float *result = malloc((size_t)(rows * columns) * sizeof *result + 64);
    if (!result || !product_f32(rows, x->dims[2], columns, 1, inputs[INPUT].data, &zero, inputs[WEIGHTS].data,
                                &zero, false, result)) {
        free(result);
        return NULL;
    }
    for (int64_t i = 0; bias && i < rows; i++)
        for (int64_t c = 0; c < columns; c++)
            result[i * columns + c] += bias[c];
    return result;
}

static bool single_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    bool with_past = node->input_count > PAST && inputs[PAST].data;
    struct attention_parts parts;
    if (!single_read(node, &inputs[INPUT].shape, &inputs[WEIGHTS].shape,
                     with_past ? &inputs[PAST].shape : NULL, &parts, error))
        return false;

    cleanup(freep) float *all = project(inputs, node->input_count);
    cleanup(freep) float *keys = NULL;
    cleanup(freep) float *values = NULL;
    cleanup(freep) void *mask = NULL;
    cleanup(freep) int64_t *offsets = malloc((size_t)parts.query.batches * sizeof *offsets + 64);
    if (!all || !offsets)
        return node_memory_error(node, error);

    struct attend attend = attend_of(node, &parts);
    int64_t row = inputs[WEIGHTS].shape.dims[1], width = attend.heads * attend.size;
    struct heads key = {all + width, attend.queries * row, attend.size, row};
    struct heads value = {all + 2 * width, attend.queries * row, attend.value_size, row};
    attend.query = (struct heads){all, attend.queries * row, attend.size, row};

    int64_t half = attend.batches * attend.heads * parts.past * attend.size;
    int64_t present_half = attend.batches * attend.heads * attend.keys * attend.size;
    const float *past = with_past ? inputs[PAST].data : NULL;
    float *present = output_data(node, outputs, 1);
    if (!heads_with_past(past, parts.past, &key, &parts.key, present, &attend.key, &keys) ||
        !heads_with_past(past ? past + half : NULL, parts.past, &value, &parts.value,
                         present ? present + present_half : NULL, &attend.value, &values))
        return node_memory_error(node, error);

    offsets_set(&attend, offsets, parts.past);
    bias_set(node, inputs, INPUT_PAIRS, &attend);
    if (node->input_count > MASK && inputs[MASK].data &&
        !mask_read(node, &inputs[MASK], &attend, &mask, error))
        return false;
    return attend_run(&attend, false, outputs[0].data) || node_memory_error(node, error);
}

static bool single_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    return compute_widened(node, inputs, outputs, error, single_wide);
}

const struct op_def attention_microsoft_operators[] = {
    {.domain = MICROSOFT,
     .op_type = "MultiHeadAttention",
     .since = 1,
     .inputs = {1, 10},
     .outputs = {1, 4},
     .data_inputs = 3,
     .types = NAMES_F32,
     .traits = OP_HEAVY,
     .check = multi_check,
     FUNCTIONS(multi)},
    {.domain = MICROSOFT,
     .op_type = "Attention",
     .since = 1,
     .inputs = {2, 7},
     .outputs = {1, 2},
     .types = NAMES_F32,
     .traits = OP_HEAVY,
     .check = single_check,
     FUNCTIONS(single)},
    {0},
};
