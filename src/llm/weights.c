#include "llm/weights.h"

#include <stdio.h>

#include "base/arena.h"
#include "base/limits.h"

/* The file being read. */
struct source {
    const struct gguf *gguf;
    const struct llm_config *config;
    struct llm_weights *weights;
    int layer; /* of "blk.N.…"; -1: none */
    char name[96];
};

static const char *full_name(struct source *source, const char *name) {
    if (source->layer < 0)
        snprintf(source->name, sizeof source->name, "%s", name);
    else
        snprintf(source->name, sizeof source->name, "blk.%d.%s", source->layer, name);
    return source->name;
}

static bool missing(const struct source *source, struct error *error) {
    return error_set(error, ERROR_MODEL, "%s lacks the tensor '%s'", gguf_name(source->gguf), source->name);
}

static bool wrong_shape(const struct source *source, const struct gguf_tensor *tensor, int64_t inputs,
                        int64_t outputs, struct error *error) {
    return error_set(error, ERROR_MODEL, "%s: tensor '%s' is %llu x %llu, and should be %lld x %lld",
                     gguf_name(source->gguf), source->name, (unsigned long long)tensor->dims[0],
                     (unsigned long long)tensor->dims[1], (long long)inputs, (long long)outputs);
}

/* [outputs, inputs]; outputs 0: any number, at most LIMIT_TOKENS. */
static bool read_matrix(struct source *source, const char *name, int64_t inputs, int64_t outputs,
                        struct linear *ret, struct error *error) {
    const struct gguf_tensor *tensor = gguf_find_tensor(source->gguf, full_name(source, name));
    if (!tensor)
        return missing(source, error);

    bool fits = tensor->dims[0] == (uint64_t)inputs && tensor->dims[2] == 1 && tensor->dims[3] == 1 &&
                (outputs ? tensor->dims[1] == (uint64_t)outputs : tensor->dims[1] <= LIMIT_TOKENS);
    size_t row_bytes;
    if (!fits || !block_row_bytes(tensor->type, tensor->dims[0], &row_bytes))
        return wrong_shape(source, tensor, inputs, outputs, error);

    *ret = (struct linear){tensor->type, inputs, (int64_t)tensor->dims[1], row_bytes, tensor->bytes};
    return true;
}

/* A vector as floats; *ret is NULL where it is not needed and not there. */
static bool read_vector(struct source *source, const char *name, int64_t count, bool needed,
                        const float **ret, struct error *error) {
    const struct gguf_tensor *tensor = gguf_find_tensor(source->gguf, full_name(source, name));
    *ret = NULL;
    if (!tensor)
        return !needed || missing(source, error);
    if (tensor->dims[0] != (uint64_t)count || tensor->rank != 1)
        return wrong_shape(source, tensor, count, 1, error);

    float *values = arena_allocate_array(source->weights->arena, (size_t)count, sizeof *values);
    if (!values)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for its weights",
                         gguf_name(source->gguf));
    blocks_dequantize(tensor->type, tensor->bytes, (size_t)count, values);
    *ret = values;
    return true;
}

static bool read_linear(struct source *source, const char *name, int64_t inputs, int64_t outputs,
                        struct llm_linear *ret, struct error *error) {
    char text[64];
    snprintf(text, sizeof text, "%s.weight", name);
    if (!read_matrix(source, text, inputs, outputs, &ret->weights, error))
        return false;

    snprintf(text, sizeof text, "%s.bias", name);
    return read_vector(source, text, outputs, false, &ret->bias, error);
}

/* Rows [*first, *first + outputs) of a matrix that is several in one. */
static struct llm_linear part(const struct llm_linear *whole, int64_t *first, int64_t outputs) {
    struct llm_linear result = *whole;

    result.weights.blocks += (size_t)*first * whole->weights.row_bytes;
    result.weights.outputs = outputs;
    result.bias = whole->bias ? whole->bias + *first : NULL;
    *first += outputs;
    return result;
}

static bool has_tensor(struct source *source, const char *name) {
    return gguf_find_tensor(source->gguf, full_name(source, name));
}

static bool read_attention(struct source *source, struct llm_layer *layer, struct error *error) {
    const struct llm_config *config = source->config;
    int64_t queries = (int64_t)config->heads * config->key_size,
            keys = (int64_t)config->kv_heads * config->key_size,
            values = (int64_t)config->kv_heads * config->value_size, width = config->width;

    if (has_tensor(source, "attn_qkv.weight")) {
        struct llm_linear fused;
        int64_t first = 0;
        if (!read_linear(source, "attn_qkv", width, queries + keys + values, &fused, error))
            return false;
        layer->query = part(&fused, &first, queries);
        layer->key = part(&fused, &first, keys);
        layer->value = part(&fused, &first, values);
    } else if (!read_linear(source, "attn_q", width, queries, &layer->query, error) ||
               !read_linear(source, "attn_k", width, keys, &layer->key, error) ||
               !read_linear(source, "attn_v", width, values, &layer->value, error)) {
        return false;
    }

    return read_linear(source, "attn_output", (int64_t)config->heads * config->value_size, width,
                       &layer->output, error) &&
           read_vector(source, "attn_q_norm.weight", config->key_size, false, &layer->query_norm, error) &&
           read_vector(source, "attn_k_norm.weight", config->key_size, false, &layer->key_norm, error);
}

static bool read_mlp(struct source *source, struct llm_layer *layer, struct error *error) {
    int64_t width = source->config->width, inner = source->config->inner;

    if (has_tensor(source, "ffn_gate.weight")) {
        if (!read_linear(source, "ffn_gate", width, inner, &layer->gate, error) ||
            !read_linear(source, "ffn_up", width, inner, &layer->up, error))
            return false;
    } else {
        struct llm_linear fused;
        int64_t first = 0;
        if (!read_linear(source, "ffn_up", width, 2 * inner, &fused, error))
            return false;
        layer->gate = part(&fused, &first, inner);
        layer->up = part(&fused, &first, inner);
    }
    return read_linear(source, "ffn_down", inner, width, &layer->down, error);
}

static bool read_layer(struct source *source, struct llm_layer *layer, struct error *error) {
    int64_t width = source->config->width;

    return read_vector(source, "attn_norm.weight", width, true, &layer->attention_norm, error) &&
           read_vector(source, "ffn_norm.weight", width, true, &layer->mlp_norm, error) &&
           read_vector(source, "post_attention_norm.weight", width, false, &layer->after_attention_norm,
                       error) &&
           read_vector(source, "post_ffw_norm.weight", width, false, &layer->after_mlp_norm, error) &&
           read_attention(source, layer, error) && read_mlp(source, layer, error);
}

static bool read_ends(struct source *source, struct error *error) {
    struct llm_weights *weights = source->weights;
    int64_t width = source->config->width, half = source->config->rope_size / 2;

    if (!read_matrix(source, "token_embd.weight", width, 0, &weights->embedding, error) ||
        !read_vector(source, "output_norm.weight", width, true, &weights->output_norm, error))
        return false;
    weights->output = weights->embedding;
    if (has_tensor(source, "output.weight") &&
        !read_matrix(source, "output.weight", width, weights->embedding.outputs, &weights->output, error))
        return false;

    const float *short_factors;
    if (!read_vector(source, "rope_freqs.weight", half, false, &weights->rope_factors, error) ||
        !read_vector(source, "rope_factors_short.weight", half, false, &short_factors, error) ||
        !read_vector(source, "rope_factors_long.weight", half, false, &weights->rope_factors_long, error))
        return false;
    if (short_factors)
        weights->rope_factors = short_factors;
    return true;
}

bool llm_weights_init(struct llm_weights *ret, const struct gguf *gguf, const struct llm_config *config,
                      struct error *error) {
    *ret = (struct llm_weights){.arena = arena_create()};
    if (ret->arena)
        ret->layers = arena_allocate_array(ret->arena, (size_t)config->layers, sizeof *ret->layers);
    if (!ret->layers)
        return error_set(error, ERROR_MEMORY, "%s: not enough memory for its weights", gguf_name(gguf));

    struct source source = {.gguf = gguf, .config = config, .weights = ret, .layer = -1};
    if (!read_ends(&source, error))
        return false;
    for (source.layer = 0; source.layer < config->layers; source.layer++)
        if (!read_layer(&source, &ret->layers[source.layer], error))
            return false;
    return true;
}

bool llm_weights_read_again(struct llm_weights *weights, const struct gguf *gguf,
                            const struct llm_config *config, int layer, struct error *error) {
    struct source source = {.gguf = gguf, .config = config, .weights = weights, .layer = layer};
    return layer < 0 ? read_ends(&source, error) : read_layer(&source, &weights->layers[layer], error);
}

void llm_weights_release(struct llm_weights *weights) {
    arena_free(weights->arena);
    *weights = (struct llm_weights){0};
}
