#include "quant/language.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "gguf/writer.h"
#include "linear/encode.h"
#include "llm/layerwise.h"
#include "quant/second_order.h"

#define DAMPING 0.01 /* of the mean of the diagonal */

/* A tensor of the file, and what it becomes. */
struct planned {
    const struct gguf_tensor *tensor;
    enum block_type to;
    size_t index; /* in the new file */
    bool done;
};

struct quantizing {
    const struct language_request *options;
    struct llm_model *model;
    const struct gguf *gguf;
    struct gguf_writer *writer;
    struct language_result *result;
    struct planned *tensors; /* [count] */
    size_t count;
    uint64_t weights, weights_done; /* of matrices */
    /* Of the text: */
    struct llm_context *context;
    float *x; /* [windows, window, width]: what the next layer gets */
    struct covariance covariances[LLM_INPUTS];
    uint8_t **kept; /* [count] weights of the layer's tensors, while it runs again */
};

static bool show(struct quantizing *q, const char *stage) {
    return q->options->progress(q->options->context, stage, q->weights_done, q->weights);
}

static bool out_of_memory(struct error *error) {
    return error_set(error, ERROR_MEMORY, "not enough memory to quantise the model");
}

/* --- One tensor ----------------------------------------------------------------------------------------- */

/* Rows [first, first + count) as floats. */
static bool read_rows(const struct gguf_tensor *tensor, uint64_t first, uint64_t count, float *ret,
                      struct error *error) {
    size_t row_bytes = 0;
    int64_t columns = (int64_t)tensor->dims[0];
    bool finite = true;
    block_row_bytes(tensor->type, tensor->dims[0], &row_bytes);

#pragma omp parallel for reduction(&& : finite)
    for (int64_t i = 0; i < (int64_t)count; i++) {
        float *row = ret + i * columns;
        blocks_dequantize(tensor->type, tensor->bytes + (first + (uint64_t)i) * row_bytes, (size_t)columns,
                          row);
        for (int64_t j = 0; j < columns; j++)
            finite = finite && isfinite(row[j]);
    }
    return finite || error_set(error, ERROR_MODEL,
                               "the tensor '%.*s' has weights that are not numbers: the file is "
                               "damaged",
                               (int)(tensor->name.size < 80 ? tensor->name.size : 80), tensor->name.bytes);
}

/* The rows of a piece, each weight by itself. */
static void round_plainly(enum block_type type, const float *rows, int64_t count, int64_t columns,
                          uint8_t *ret) {
    size_t row_bytes = 0;
    block_row_bytes(type, (uint64_t)columns, &row_bytes);
#pragma omp parallel for schedule(dynamic, 16)
    for (int64_t i = 0; i < count; i++)
        blocks_quantize(type, rows + i * columns, NULL, (size_t)columns, ret + (size_t)i * row_bytes);
}

/* In pieces, so that not much memory is needed. `keep`: also have all of it. */
static bool write_tensor(struct quantizing *q, size_t index, const struct covariance *covariance,
                         uint8_t *keep, struct error *error) {
    enum { PIECE = 1 << 22 /* weights */ };
    struct planned *planned = &q->tensors[index];
    const struct gguf_tensor *tensor = planned->tensor;
    uint64_t columns = tensor->dims[0], rows = tensor->dims[1] * tensor->dims[2] * tensor->dims[3],
             piece = PIECE / columns ? PIECE / columns : 1;
    size_t row_bytes = 0;
    block_row_bytes(planned->to, columns, &row_bytes);
    piece = piece < rows ? piece : rows;
    cleanup(freep) float *floats = malloc(piece * columns * sizeof *floats);
    cleanup(freep) uint8_t *own = keep ? NULL : malloc(piece * row_bytes);
    double sum = 0;
    if (!floats || (!own && !keep))
        return out_of_memory(error);

    for (uint64_t first = 0; first < rows; first += piece) {
        uint64_t count = rows - first < piece ? rows - first : piece;
        uint8_t *blocks = keep ? keep + first * row_bytes : own;
        if (!show(q, "rounding"))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted; nothing was written");
        if (!read_rows(tensor, first, count, floats, error))
            return false;
        if (covariance && block_weights(planned->to) > 1)
            sum +=
                second_order_round(covariance, planned->to, floats, (int64_t)count, blocks) * (double)count;
        else
            round_plainly(planned->to, floats, (int64_t)count, (int64_t)columns, blocks);
        if (!gguf_writer_put(q->writer, planned->index, first * row_bytes, blocks, count * row_bytes, error))
            return false;
        q->weights_done += count * columns;
    }
    planned->done = true;
    if (covariance)
        q->result->tensors[index].error = sum / (double)rows;
    return true;
}

/* Norms and the like: as they are. */
static bool copy_tensor(struct quantizing *q, struct planned *planned, struct error *error) {
    planned->done = true;
    return gguf_writer_put(q->writer, planned->index, 0, planned->tensor->bytes, planned->tensor->size,
                           error);
}

/* --- Layers --------------------------------------------------------------------------------------------- */

/* What a tensor's products have for input; LLM_INPUTS: it is not known. */
static enum llm_input input_of(const struct gguf_tensor *tensor) {
    static const struct {
        const char *part;
        enum llm_input input;
    } parts[] = {{".attn_q.", LLM_INPUT_ATTENTION},   {".attn_k.", LLM_INPUT_ATTENTION},
                 {".attn_v.", LLM_INPUT_ATTENTION},   {".attn_qkv.", LLM_INPUT_ATTENTION},
                 {".attn_output.", LLM_INPUT_OUTPUT}, {".ffn_gate.", LLM_INPUT_MLP},
                 {".ffn_up.", LLM_INPUT_MLP},         {".ffn_down.", LLM_INPUT_DOWN}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (memmem(tensor->name.bytes, tensor->name.size, parts[i].part, strlen(parts[i].part)))
            return parts[i].input;
    return LLM_INPUTS;
}

static void see(void *data, enum llm_input input, const float *x, int64_t rows, int64_t inputs) {
    struct quantizing *q = data;
    struct covariance *covariance = &q->covariances[input];
    if (covariance->columns == inputs)
        covariance_add(covariance, x, rows);
}

static bool run_layer(struct quantizing *q, int layer, const struct llm_tap *tap, struct error *error) {
    const struct language_text *text = q->options->text;
    int64_t width = llm_model_config(q->model)->width;
    for (int i = 0; i < text->windows; i++) {
        if (!show(q, "rounding"))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted; nothing was written");
        if (!llm_context_run_layer(q->context, layer, q->x + (int64_t)i * text->window * width, text->window,
                                   tap, error))
            return false;
    }
    return true;
}

static void release_covariances(struct quantizing *q) {
    for (int i = 0; i < LLM_INPUTS; i++)
        covariance_release(&q->covariances[i]);
}

/* The covariances of a layer's inputs, with the weights that it has in the file. */
static bool observe_layer(struct quantizing *q, int layer, struct error *error) {
    const struct llm_config *config = llm_model_config(q->model);
    const int64_t columns[LLM_INPUTS] = {[LLM_INPUT_ATTENTION] = config->width,
                                         [LLM_INPUT_OUTPUT] = (int64_t)config->heads * config->value_size,
                                         [LLM_INPUT_MLP] = config->width,
                                         [LLM_INPUT_DOWN] = config->inner};
    const struct llm_tap tap = {see, q};
    size_t bytes = (size_t)q->options->text->windows * (size_t)q->options->text->window *
                   (size_t)config->width * sizeof *q->x;

    for (int i = 0; i < LLM_INPUTS; i++)
        if (!covariance_init(&q->covariances[i], columns[i]))
            return out_of_memory(error);
    cleanup(freep) float *before = malloc(bytes);
    if (!before)
        return out_of_memory(error);
    memcpy(before, q->x, bytes);
    if (!run_layer(q, layer, &tap, error))
        return false;
    memcpy(q->x, before, bytes);
    for (int i = 0; i < LLM_INPUTS; i++)
        if (!covariance_invert(&q->covariances[i], DAMPING))
            return out_of_memory(error);
    return true;
}

/* A layer's matrices, then its rows for the next one, as the new weights give them. */
static bool quantize_layer(struct quantizing *q, int layer, struct error *error) {
    if (!observe_layer(q, layer, error))
        return false;

    for (size_t i = 0; i < q->count; i++) {
        struct planned *planned = &q->tensors[i];
        const struct gguf_tensor *tensor = planned->tensor;
        if (llm_tensor_layer(tensor) != layer || !language_is_matrix(tensor))
            continue;
        size_t size = q->result->tensors[i].bytes;
        enum llm_input input = input_of(tensor);
        const struct covariance *covariance = input < LLM_INPUTS ? &q->covariances[input] : NULL;
        if (covariance && covariance->columns != (int64_t)tensor->dims[0])
            covariance = NULL;
        q->kept[i] = malloc(size ? size : 1);
        if (!q->kept[i])
            return out_of_memory(error);
        if (!write_tensor(q, i, covariance, q->kept[i], error) ||
            !llm_model_replace(q->model, tensor, planned->to, q->kept[i], error))
            return false;
    }
    release_covariances(q);
    return run_layer(q, layer, NULL, error);
}

/* The last layer is run; its weights and those before are not needed again. */
static bool quantize_output(struct quantizing *q, struct error *error) {
    const struct language_text *text = q->options->text;
    const struct llm_config *config = llm_model_config(q->model);
    const struct gguf_tensor *output = gguf_find_tensor(q->gguf, "output.weight");
    struct covariance *covariance = &q->covariances[0];
    if (!output)
        output = gguf_find_tensor(q->gguf, "token_embd.weight");
    if (!covariance_init(covariance, config->width))
        return out_of_memory(error);

    for (int i = 0; i < text->windows; i++) {
        float *x = q->x + (int64_t)i * text->window * config->width;
        llm_context_norm_last(q->context, x, text->window);
        covariance_add(covariance, x, text->window);
    }
    if (!covariance_invert(covariance, DAMPING))
        return out_of_memory(error);
    for (size_t i = 0; i < q->count; i++)
        if (q->tensors[i].tensor == output)
            return write_tensor(q, i, covariance, NULL, error);
    return true;
}

static bool begin_text(struct quantizing *q, struct error *error) {
    const struct language_text *text = q->options->text;
    int64_t width = llm_model_config(q->model)->width;
    const struct llm_context_options options = {
        .rows = text->window, .positions = text->window, .threads = q->options->threads};

    q->context = llm_context_create(q->model, &options, error);
    if (!q->context)
        return false;
    q->x = malloc((size_t)text->windows * (size_t)text->window * (size_t)width * sizeof *q->x);
    if (!q->x)
        return out_of_memory(error);
    for (int i = 0; i < text->windows; i++)
        if (!llm_context_embed(q->context, text->tokens + (size_t)i * (size_t)text->window, text->window,
                               q->x + (int64_t)i * text->window * width, error))
            return false;
    return true;
}

static bool quantize_by_text(struct quantizing *q, struct error *error) {
    if (!begin_text(q, error))
        return false;
    for (int layer = 0; layer < llm_model_config(q->model)->layers; layer++) {
        if (!quantize_layer(q, layer, error))
            return false;
        for (size_t i = 0; i < q->count; i++)
            if (llm_tensor_layer(q->tensors[i].tensor) < layer) {
                free(q->kept[i]);
                q->kept[i] = NULL;
            }
    }
    return quantize_output(q, error);
}

/* --- The file ------------------------------------------------------------------------------------------- */

static void write_keys(struct quantizing *q) {
    for (size_t i = 0; i < gguf_value_count(q->gguf); i++) {
        const struct gguf_value *value = gguf_value(q->gguf, i);
        if (gguf_text_is(value->key, "general.file_type") || gguf_text_is(value->key, "general.alignment") ||
            gguf_text_is(value->key, "general.quantization_version") ||
            (value->key.size > 6 && memcmp(value->key.bytes, "split.", 6) == 0))
            continue;
        gguf_writer_value(q->writer, value);
    }
    gguf_writer_integer(q->writer, "general.file_type", q->options->target->file_type);
    gguf_writer_integer(q->writer, "general.quantization_version", 2);
}

static bool plan_tensors(struct quantizing *q, struct error *error) {
    const struct language_shape shape = {llm_model_config(q->model)->layers,
                                         !gguf_find_tensor(q->gguf, "output.weight")};
    for (size_t i = 0; i < q->count; i++) {
        const struct gguf_tensor *tensor = gguf_tensor(q->gguf, i);
        struct language_tensor *result = &q->result->tensors[i];
        bool is_matrix = language_is_matrix(tensor);
        if (is_matrix && block_weights(tensor->type) > 1)
            return error_set(error, ERROR_INVALID,
                             "%s is quantised already (%s): start from the F32, F16 or BF16 file",
                             gguf_name(q->gguf), block_type_name(tensor->type));

        *result = (struct language_tensor){.from = tensor->type, .error = -1};
        result->to = language_target_type(q->options->target, &shape, tensor, &result->why);
        snprintf(result->name, sizeof result->name, "%.*s",
                 (int)(tensor->name.size < 63 ? tensor->name.size : 63), tensor->name.bytes);
        struct gguf_tensor written = *tensor;
        written.type = result->to;
        q->tensors[i] = (struct planned){tensor, result->to, gguf_writer_tensor(q->writer, &written), false};
        result->weights = tensor->dims[0] * tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
        result->bytes =
            (size_t)(result->weights / (uint64_t)block_weights(result->to)) * block_bytes(result->to);
        q->result->bytes[0] += tensor->size;
        q->result->bytes[1] += result->bytes;
        q->weights += is_matrix ? result->weights : 0;
    }
    return true;
}

/* What no layer has, and everything where no text chooses. */
static bool write_rest(struct quantizing *q, struct error *error) {
    for (size_t i = 0; i < q->count; i++) {
        struct planned *planned = &q->tensors[i];
        if (planned->done)
            continue;
        if (language_is_matrix(planned->tensor) ? !write_tensor(q, i, NULL, NULL, error)
                                                : !copy_tensor(q, planned, error))
            return false;
    }
    return true;
}

static bool quantize(struct quantizing *q, const char *path, const char *output, struct error *error) {
    q->model = llm_model_load(path, error);
    if (!q->model)
        return false;
    q->gguf = llm_model_gguf(q->model);
    q->count = gguf_tensor_count(q->gguf);
    q->tensors = calloc(q->count + 1, sizeof *q->tensors);
    q->kept = calloc(q->count + 1, sizeof *q->kept);
    q->result->tensors = calloc(q->count + 1, sizeof *q->result->tensors);
    q->result->tensor_count = q->count;
    if (!q->tensors || !q->kept || !q->result->tensors)
        return out_of_memory(error);

    q->writer = gguf_writer_create(output, error);
    if (!q->writer || !plan_tensors(q, error))
        return false;
    write_keys(q);
    return gguf_writer_begin(q->writer, error) && (!q->options->text || quantize_by_text(q, error)) &&
           write_rest(q, error) && gguf_writer_finish(q->writer, error);
}

bool language_quantize(const char *path, const char *output, const struct language_request *options,
                       struct language_result *ret, struct error *error) {
    struct language_result result = {0};
    struct quantizing q = {.options = options, .result = &result};
    if (options->threads > 0)
        omp_set_num_threads(options->threads);
    bool done = quantize(&q, path, output, error);

    release_covariances(&q);
    for (size_t i = 0; q.kept && i < q.count; i++)
        free(q.kept[i]);
    free(q.kept);
    free(q.x);
    free(q.tensors);
    llm_context_free(q.context);
    gguf_writer_free(q.writer);
    llm_model_free(q.model);
    if (done)
        *ret = result;
    else
        language_result_release(&result);
    return done;
}

void language_result_release(struct language_result *result) {
    free(result->tensors);
    *result = (struct language_result){0};
}
