#include "llm/encoder_weights.h"

#include <math.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/limits.h"

/* The file being read. */
struct encoder_source {
    const struct gguf *gguf;
    struct encoder_weights *weights;
    int layer; /* of "blk.N.…"; -1: none */
    struct error *error;
    char name[96];
};

static const struct gguf_tensor *find(struct encoder_source *source, const char *name, const char *kind) {
    if (source->layer < 0)
        snprintf(source->name, sizeof source->name, "%s.%s", name, kind);
    else
        snprintf(source->name, sizeof source->name, "blk.%d.%s.%s", source->layer, name, kind);
    return gguf_find_tensor(source->gguf, source->name);
}

static bool missing(const struct encoder_source *source) {
    return error_set(source->error, ERROR_MODEL, "%s lacks the tensor '%s'", gguf_name(source->gguf),
                     source->name);
}

static bool wrong(const struct encoder_source *source, const struct gguf_tensor *tensor) {
    return error_set(source->error, ERROR_MODEL,
                     "%s: tensor '%s' is %llu x %llu, which does not fit the model", gguf_name(source->gguf),
                     source->name, (unsigned long long)tensor->dims[0], (unsigned long long)tensor->dims[1]);
}

/* [outputs, inputs]; outputs 0: any number, at most LIMIT_TOKENS. */
static bool read_matrix(struct encoder_source *source, const char *name, int64_t inputs, int64_t outputs,
                        struct linear *ret) {
    const struct gguf_tensor *tensor = find(source, name, "weight");
    size_t row_bytes;
    if (!tensor)
        return missing(source);
    if (tensor->dims[0] != (uint64_t)inputs || tensor->dims[2] != 1 || tensor->dims[3] != 1 ||
        (outputs ? tensor->dims[1] != (uint64_t)outputs : tensor->dims[1] > LIMIT_TOKENS) ||
        !block_row_bytes(tensor->type, tensor->dims[0], &row_bytes))
        return wrong(source, tensor);

    *ret = (struct linear){tensor->type, inputs, (int64_t)tensor->dims[1], row_bytes, tensor->bytes};
    return true;
}

/* The first row of a tensor, as floats; *ret is NULL where it is not needed and not there. */
static bool read_vector(struct encoder_source *source, const char *name, const char *kind, int64_t count,
                        bool needed, const float **ret) {
    const struct gguf_tensor *tensor = find(source, name, kind);
    *ret = NULL;
    if (!tensor)
        return !needed || missing(source);
    if (tensor->dims[0] != (uint64_t)count)
        return wrong(source, tensor);

    float *values = arena_allocate_array(source->weights->arena, (size_t)count, sizeof *values);
    if (!values)
        return error_set(source->error, ERROR_MEMORY, "%s: not enough memory for its weights",
                         gguf_name(source->gguf));
    blocks_dequantize(tensor->type, tensor->bytes, (size_t)count, values);
    *ret = values;
    return true;
}

static bool read_linear(struct encoder_source *source, const char *name, int64_t inputs, int64_t outputs,
                        struct encoder_linear *ret) {
    return read_matrix(source, name, inputs, outputs, &ret->weights) &&
           read_vector(source, name, "bias", outputs, false, &ret->bias);
}

static bool read_norm(struct encoder_source *source, const char *name, struct encoder_norm *ret) {
    int64_t width = source->weights->width;
    return read_vector(source, name, "weight", width, true, &ret->scale) &&
           read_vector(source, name, "bias", width, true, &ret->shift);
}

static bool read_layer(struct encoder_source *source, struct encoder_layer *layer) {
    int64_t width = source->weights->width, inner = source->weights->inner;
    return read_linear(source, "attn_q", width, width, &layer->query) &&
           read_linear(source, "attn_k", width, width, &layer->key) &&
           read_linear(source, "attn_v", width, width, &layer->value) &&
           read_linear(source, "attn_output", width, width, &layer->output) &&
           read_norm(source, "attn_output_norm", &layer->attention_norm) &&
           read_linear(source, "ffn_up", width, inner, &layer->up) &&
           read_linear(source, "ffn_down", inner, width, &layer->down) &&
           read_norm(source, "layer_output_norm", &layer->output_norm);
}

static bool read_keys(const struct gguf *gguf, struct encoder_weights *weights, struct error *error) {
    int64_t layers = 0, heads = 0, pooling = ENCODER_MEAN;
    double epsilon = 1e-12;
    bool causal = false;
    if (!gguf_integer(gguf, "bert.block_count", 1, LIMIT_LAYERS, &layers, error) ||
        !gguf_integer(gguf, "bert.embedding_length", 1, LIMIT_LAYER_WIDTH, &weights->width, error) ||
        !gguf_integer(gguf, "bert.feed_forward_length", 1, LIMIT_LAYER_WIDTH, &weights->inner, error) ||
        !gguf_integer(gguf, "bert.context_length", 1, LIMIT_ENCODER_CONTEXT, &weights->context, error) ||
        !gguf_integer(gguf, "bert.attention.head_count", 1, LIMIT_HEADS, &heads, error) ||
        !gguf_integer(gguf, "bert.pooling_type", 0, 100, &pooling, error) ||
        !gguf_real(gguf, "bert.attention.layer_norm_epsilon", &epsilon, error) ||
        !gguf_bool(gguf, "bert.attention.causal", &causal, error))
        return false;

    if (!layers || !weights->width || !weights->inner || !weights->context || !heads)
        return error_set(error, ERROR_MODEL,
                         "%s lacks one of the keys 'bert.block_count', 'bert.embedding_length', "
                         "'bert.feed_forward_length', 'bert.context_length' and 'bert.attention.head_count'",
                         gguf_name(gguf));
    if (weights->width % heads || !(epsilon > 0) || causal)
        return error_set(
            error, ERROR_MODEL,
            "%s: %lld numbers in %lld heads, an epsilon of %g or causal attention is not supported",
            gguf_name(gguf), (long long)weights->width, (long long)heads, epsilon);
    if (pooling != ENCODER_MEAN && pooling != ENCODER_FIRST)
        return error_set(
            error, ERROR_MODEL,
            "%s: the pooling_type %lld is not supported: 1 (the mean of all tokens) and 2 (the first) "
            "are",
            gguf_name(gguf), (long long)pooling);
    weights->layers = (int)layers;
    weights->heads = (int)heads;
    weights->epsilon = (float)epsilon;
    weights->pooling = (enum encoder_pooling)pooling;
    return true;
}

bool encoder_weights_init(struct encoder_weights *ret, const struct gguf *gguf, struct error *error) {
    *ret = (struct encoder_weights){.arena = arena_create()};
    if (!ret->arena)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for its weights", gguf_name(gguf));
    if (!read_keys(gguf, ret, error))
        return false;

    struct encoder_source source = {.gguf = gguf, .weights = ret, .layer = -1, .error = error};
    ret->layer = arena_allocate_array(ret->arena, (size_t)ret->layers, sizeof *ret->layer);
    if (!ret->layer)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for its weights", gguf_name(gguf));
    if (!read_matrix(&source, "token_embd", ret->width, 0, &ret->embedding) ||
        !read_matrix(&source, "position_embd", ret->width, ret->context, &ret->positions) ||
        !read_vector(&source, "token_types", "weight", ret->width, false, &ret->kind) ||
        !read_norm(&source, "token_embd_norm", &ret->embedding_norm))
        return false;
    for (source.layer = 0; source.layer < ret->layers; source.layer++)
        if (!read_layer(&source, &ret->layer[source.layer]))
            return false;
    return true;
}

void encoder_weights_release(struct encoder_weights *weights) {
    arena_free(weights->arena);
    *weights = (struct encoder_weights){0};
}
