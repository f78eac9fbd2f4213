/* com.microsoft GroupQueryAttention: a decoder's attention, with a cache of what was seen, fewer heads of
 * keys than of queries, positions turned in, and windows.
 * https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md */
#include <math.h>
#include <string.h>

#include "ops/heads.h"

enum { QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LENGTHS, TOTAL, COSINES, SINES, POSITIONS, PAIRS };

struct grouped {
    struct head_layout query, key; /* key: of values, too */
    bool packed;                   /* queries, keys and values in one row */
    int64_t row;                   /* elements from row to row of the queries' tensor */
    int64_t past, total, present;  /* rows: of the past's buffer, in use, of the new buffer */
    struct rotary turn;
    bool rotates;
};

static bool grouped_check(const struct node *node, struct error *error) {
    for (int i = PAIRS + 1; i < node->input_count; i++)
        if (node->inputs[i])
            return node_error(node, error, "head_sink and quantized caches are not supported");
    if (node_int(node, "smooth_softmax", 0) == 1)
        return node_error(node, error, "smooth_softmax is not supported");
    if (node_has_input(node, KEY) != node_has_input(node, VALUE) ||
        node_has_input(node, PAST_KEY) != node_has_input(node, PAST_VALUE))
        return node_error(node, error, "keys and values come together");
    if (!node_has_input(node, LENGTHS) || !node_has_input(node, TOTAL))
        return node_error(node, error, "seqlens_k or total_sequence_length is missing");
    int64_t heads = node_int(node, "num_heads", 0), key_heads = node_int(node, "kv_num_heads", 0);
    if (key_heads < 1 || heads < 1 || heads > LIMIT_TENSOR_ELEMENTS || heads % key_heads)
        return node_error(node, error, "%lld heads cannot share %lld of keys", (long long)heads,
                          (long long)key_heads);
    return node->output_count < 4 || !node->outputs[3] ||
           node_error(node, error, "the output of scores is not supported");
}

/* `shapes`: [11], NULL where an input is left out. */
static bool heads_read(const struct node *node, const struct shape *const *shapes, struct grouped *ret,
                       struct error *error) {
    int64_t heads = node_int(node, "num_heads", 1), key_heads = node_int(node, "kv_num_heads", 1);
    const struct shape *q = shapes[QUERY], *k = shapes[KEY], *v = shapes[VALUE];
    int64_t parts = k ? heads : heads + 2 * key_heads;
    if (q->rank != 3 || q->dims[2] % parts)
        return node_error(node, error, "the query is not rows of %lld heads", (long long)parts);

    *ret = (struct grouped){.query = {q->dims[0], heads, q->dims[1], q->dims[2] / parts, false},
                            .key = {q->dims[0], key_heads, q->dims[1], q->dims[2] / parts, false},
                            .packed = !k,
                            .row = q->dims[2]};
    if (k && (k->rank != 3 || !shape_equal(k, v) || k->dims[0] != q->dims[0] || k->dims[1] != q->dims[1] ||
              k->dims[2] != key_heads * ret->key.size))
        return node_error(node, error, "the shapes of query, key and value do not fit together");
    return true;
}

static bool grouped_read(const struct node *node, const struct shape *const *shapes, int64_t total,
                         struct grouped *ret, struct error *error) {
    if (!heads_read(node, shapes, ret, error))
        return false;

    const struct head_layout *k = &ret->key;
    const struct shape *past = shapes[PAST_KEY], *cosines = shapes[COSINES];
    if (past && (past->rank != 4 || past->dims[0] != k->batches || past->dims[1] != k->heads ||
                 past->dims[3] != k->size || !shape_equal(past, shapes[PAST_VALUE])))
        return node_error(node, error, "the past's shape does not fit");
    ret->past = past ? past->dims[2] : 0;
    ret->total = total;
    ret->present = total > ret->past ? total : ret->past;
    if (total < k->rows || total > ret->past + k->rows)
        return node_error(node, error, "total_sequence_length is %lld, of %lld past rows and %lld new ones",
                          (long long)total, (long long)ret->past, (long long)k->rows);
    if (shape_elements(shapes[LENGTHS]) != k->batches)
        return node_error(node, error, "seqlens_k is not one number for each batch");

    ret->rotates = node_int(node, "do_rotary", 0) != 0;
    if (!ret->rotates)
        return true;
    if (!cosines || !shapes[SINES] || cosines->rank != 2 || !shape_equal(cosines, shapes[SINES]) ||
        cosines->dims[1] < 1 || 2 * cosines->dims[1] > k->size)
        return node_error(node, error, "the caches of cosines and sines do not fit");
    if (shapes[POSITIONS] && shape_elements(shapes[POSITIONS]) != k->batches * k->rows)
        return node_error(node, error, "there is no position for each row");
    ret->turn = (struct rotary){cosines->dims[1], node_int(node, "rotary_interleaved", 0) != 0};
    return true;
}

static bool types_fit(const struct node *node, struct error *error) {
    static const int floats[] = {QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, COSINES, SINES, PAIRS};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        if (!node_want_types(node, floats[i], TYPES_F32, error) ||
            !node_want_same_type(node, floats[i], 0, error))
            return false;
    return node_want_types(node, LENGTHS, TYPE(I32), error) &&
           node_want_types(node, TOTAL, TYPE(I32), error) &&
           node_want_types(node, POSITIONS, TYPE(I64), error);
}

static bool grouped_infer(struct node *node, struct error *error) {
    const struct shape *shapes[PAIRS + 1];
    struct grouped read;
    struct pair_view view;
    int64_t total;
    int count;
    for (int i = 0; i <= PAIRS; i++)
        shapes[i] = node_shape(node, i);
    if (!types_fit(node, error) || !node_read_ints(node, TOTAL, 1, &total, &count, error))
        return false;
    if (count != 1 || !grouped_read(node, shapes, total, &read, error))
        return count != 1 ? node_error(node, error, "total_sequence_length is not one number") : false;
    if (shapes[PAIRS] &&
        !pair_view_make(shapes[PAIRS], NULL,
                        (int64_t[]){read.query.batches, read.query.heads, read.query.rows, total}, &view))
        return node_error(node, error, "attention_bias does not broadcast to queries and keys");

    const struct head_layout *k = &read.key;
    struct shape y = {3, {k->batches, k->rows, read.query.heads * k->size}};
    struct shape present = {4, {k->batches, k->heads, read.present, k->size}};
    enum dtype type = node_dtype(node, 0);
    return infer_output(node, 0, type, &y, error) && infer_output(node, 1, type, &present, error) &&
           infer_output(node, 2, type, &present, error);
}

/* How many rows of the past each batch has. */
static bool pasts_read(const struct node *node, const struct grouped *read, const struct tensor *lengths,
                       int64_t *ret, struct error *error) {
    for (int64_t b = 0; b < read->key.batches; b++) {
        int64_t all = (int64_t)((const int32_t *)lengths->data)[b] + 1;
        ret[b] = read->key.rows == read->total ? 0 : all - read->key.rows; /* a prompt may be padded */
        if (ret[b] < 0 || ret[b] > read->past || all > read->total)
            return node_error(node, error, "seqlens_k has %lld, of %lld rows", (long long)all - 1,
                              (long long)read->total);
    }
    return true;
}

/* Heads of one row, turned by the row's position, or copied. */
static bool turn_row(const struct grouped *read, const struct tensor *inputs, int64_t line, int64_t heads,
                     const float *from, float *to) {
    int64_t size = read->key.size, half = read->turn.half;
    if (!read->rotates) {
        memcpy(to, from, (size_t)(heads * size) * sizeof *to);
        return true;
    }
    if (line < 0 || line >= inputs[COSINES].shape.dims[0])
        return false;
    for (int64_t h = 0; h < heads; h++)
        rotary_turn(&read->turn, from + h * size, (const float *)inputs[COSINES].data + line * half,
                    (const float *)inputs[SINES].data + line * half, size, to + h * size);
    return true;
}

/* Queries and keys with their positions turned in: [batch, rows, heads, size] each. */
static bool turn_rows(const struct node *node, const struct grouped *read, const struct tensor *inputs,
                      const int64_t *pasts, float *queries, float *keys, struct error *error) {
    const struct head_layout *q = &read->query, *k = &read->key;
    int64_t size = k->size, q_width = q->heads * size, k_width = k->heads * size;
    const int64_t *positions = node->input_count > POSITIONS ? inputs[POSITIONS].data : NULL;
    const float *from = inputs[QUERY].data;

    for (int64_t i = 0; i < q->batches * q->rows; i++) {
        int64_t line = positions ? positions[i] : pasts[i / q->rows] + i % q->rows;
        const float *row = from + i * read->row;
        const float *key = read->packed ? row + q_width : (const float *)inputs[KEY].data + i * k_width;
        if (!turn_row(read, inputs, line, q->heads, row, queries + i * q_width) ||
            !turn_row(read, inputs, line, k->heads, key, keys + i * k_width))
            return node_error(node, error, "position %lld is not in the caches", (long long)line);
    }
    return true;
}

/* Each batch's past rows, then the new ones, into a buffer of read->present rows. */
static void append_rows(const struct grouped *read, const float *past, const struct heads *now,
                        const int64_t *pasts, float *to) {
    const struct head_layout *k = &read->key;
    int64_t size = k->size;
    memset(to, 0, (size_t)(k->batches * k->heads * read->present * size) * sizeof *to);

    for (int64_t i = 0; i < k->batches * k->heads; i++) {
        int64_t rows = pasts[i / k->heads];
        const float *from = now->data + i / k->heads * now->batch + i % k->heads * now->head;
        float *head = to + i * read->present * size;
        if (rows)
            memcpy(head, past + i * read->past * size, (size_t)(rows * size) * sizeof *to);
        for (int64_t row = 0; row < k->rows; row++)
            memcpy(head + (rows + row) * size, from + row * now->row, (size_t)size * sizeof *to);
    }
}

/* Where the keys (index 1) or values (2) go: the output, or *ret_copy where it is left out. */
static float *buffer_of(const struct node *node, const struct tensor *outputs, int index,
                        const struct grouped *read, float **ret_copy) {
    const struct head_layout *k = &read->key;
    if (node->output_count > index && outputs[index].data)
        return outputs[index].data;
    return *ret_copy = malloc((size_t)(k->batches * k->heads * read->present * k->size) * sizeof(float) + 64);
}

static bool grouped_run(const struct node *node, const struct grouped *read, const struct tensor *inputs,
                        const struct tensor *outputs, float *queries, float *keys, int64_t *pasts,
                        struct error *error) {
    const struct head_layout *q = &read->query, *k = &read->key;
    cleanup(freep) float *key_copy = NULL;
    cleanup(freep) float *value_copy = NULL;
    float *key_buffer = buffer_of(node, outputs, 1, read, &key_copy),
          *value_buffer = buffer_of(node, outputs, 2, read, &value_copy);
    if (!key_buffer || !value_buffer)
        return node_memory_error(node, error);

    struct heads key = head_layout_view(k, keys), value = head_layout_view(k, inputs[VALUE].data);
    if (read->packed)
        value = (struct heads){(const float *)inputs[QUERY].data + (q->heads + k->heads) * k->size,
                               k->rows * read->row, k->size, read->row};
    append_rows(read, read->past ? inputs[PAST_KEY].data : NULL, &key, pasts, key_buffer);
    append_rows(read, read->past ? inputs[PAST_VALUE].data : NULL, &value, pasts, value_buffer);

    int64_t window = node_int(node, "local_window_size", -1);
    float scale = node_float(node, "scale", 0);
    struct attend attend = {.query = head_layout_view(q, queries),
                            .key = heads_by_head(key_buffer, k->heads, read->present, k->size),
                            .value = heads_by_head(value_buffer, k->heads, read->present, k->size),
                            .batches = q->batches,
                            .heads = q->heads,
                            .key_heads = k->heads,
                            .queries = q->rows,
                            .keys = read->total,
                            .size = k->size,
                            .value_size = k->size,
                            .scale = scale != 0 ? scale : 1 / sqrtf((float)k->size),
                            .softcap = node_float(node, "softcap", 0),
                            .causal = true,
                            .offsets = pasts,
                            .window = window > 0 ? window : 0,
                            .hidden = -INFINITY};
    const int64_t dims[4] = {attend.batches, attend.heads, attend.queries, attend.keys};
    if (node->input_count > PAIRS && inputs[PAIRS].data)
        pair_view_make(&inputs[PAIRS].shape, inputs[PAIRS].data, dims, &attend.bias);
    return attend_run(&attend, false, outputs[0].data) || node_memory_error(node, error);
}

static bool grouped_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    const struct shape *shapes[PAIRS + 1] = {NULL};
    struct grouped read;
    for (int i = 0; i <= PAIRS && i < node->input_count; i++)
        shapes[i] = inputs[i].data ? &inputs[i].shape : NULL;
    if (!shapes[LENGTHS] || !shapes[TOTAL] ||
        !grouped_read(node, shapes, *(const int32_t *)inputs[TOTAL].data, &read, error))
        return false;

    size_t rows = (size_t)(read.query.batches * read.query.rows), size = (size_t)read.key.size;
    cleanup(freep) float *queries = malloc(rows * (size_t)read.query.heads * size * sizeof *queries + 64);
    cleanup(freep) float *keys = malloc(rows * (size_t)read.key.heads * size * sizeof *keys + 64);
    cleanup(freep) int64_t *pasts = malloc((size_t)read.query.batches * sizeof *pasts + 64);
    if (!queries || !keys || !pasts)
        return node_memory_error(node, error);
    return pasts_read(node, &read, &inputs[LENGTHS], pasts, error) &&
           turn_rows(node, &read, inputs, pasts, queries, keys, error) &&
           grouped_run(node, &read, inputs, outputs, queries, keys, pasts, error);
}

static bool grouped_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, grouped_wide);
}

const struct op_def attention_grouped_operators[] = {
    {.domain = MICROSOFT,
     .op_type = "GroupQueryAttention",
     .since = 1,
     .inputs = {1, 14},
     .outputs = {1, 4},
     .plan_inputs = 1 << TOTAL,
     .data_inputs = 3,
     .types = NAMES_F32,
     .traits = OP_HEAVY,
     .check = grouped_check,
     FUNCTIONS(grouped)},
    {0},
};
