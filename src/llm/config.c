#include "llm/config.h"

#include <math.h>
#include <stdio.h>

#include "base/limits.h"

static const struct llm_family families[] = {
    {.architecture = "llama"},
    {.architecture = "qwen2", .rope_halves = true},
    {.architecture = "qwen3", .rope_halves = true},
    {.architecture = "gemma2",
     .rope_halves = true,
     .scaled_embedding = true,
     .gelu = true,
     .window_period = 2},
    {.architecture = "gemma3",
     .rope_halves = true,
     .scaled_embedding = true,
     .gelu = true,
     .window_period = 6,
     .local_rope_base = 10000},
    {.architecture = "phi3", .rope_halves = true},
    {.architecture = "smollm3", .unturned_period = 4},
};

/* The keys "ARCHITECTURE.…". */
struct keys {
    const struct gguf *gguf;
    const char *architecture;
    char text[128];
};

static const char *key(struct keys *keys, const char *name) {
    snprintf(keys->text, sizeof keys->text, "%s.%s", keys->architecture, name);
    return keys->text;
}

static bool find_family(const struct gguf *gguf, const struct llm_family **ret, struct error *error) {
    struct gguf_text name = {0};
    if (!gguf_text(gguf, "general.architecture", &name, error))
        return false;

    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (gguf_text_is(name, families[i].architecture)) {
            *ret = &families[i];
            return true;
        }
    return error_set(
        error, ERROR_MODEL,
        "%s has the architecture '%.*s', which is not supported: llama, qwen2, qwen3, gemma2, gemma3, phi3 "
        "and smollm3 are",
        gguf_name(gguf), (int)(name.size < 80 ? name.size : 80), name.bytes);
}

/* A key that must be there. An array, one number a layer, is accepted where all are equal. */
static bool required(struct keys *keys, const char *name, int64_t most, int64_t *ret, struct error *error) {
    const struct gguf_value *value = gguf_find(keys->gguf, key(keys, name));
    if (!value)
        return error_set(error, ERROR_MODEL, "%s lacks the key '%s'", gguf_name(keys->gguf), keys->text);
    if (value->type != GGUF_ARRAY)
        return gguf_integer(keys->gguf, keys->text, 1, most, ret, error);

    struct gguf_array array;
    if (!gguf_array(keys->gguf, keys->text, GGUF_I32, &array, error))
        return false;
    int64_t number = array.count ? gguf_array_integer(&array, 0) : 0;
    for (size_t i = 1; i < array.count; i++)
        if (gguf_array_integer(&array, i) != number)
            return error_set(error, ERROR_MODEL,
                             "%s: '%s' differs from layer to layer, which is not supported",
                             gguf_name(keys->gguf), keys->text);
    if (number < 1 || number > most)
        return error_set(error, ERROR_MODEL, "%s: the key '%s' is %lld, which is not within 1 and %lld",
                         gguf_name(keys->gguf), keys->text, (long long)number, (long long)most);
    *ret = number;
    return true;
}

static bool optional(struct keys *keys, const char *name, int64_t least, int64_t most, int64_t *ret,
                     struct error *error) {
    return gguf_integer(keys->gguf, key(keys, name), least, most, ret, error);
}

static bool real(struct keys *keys, const char *name, double *ret, struct error *error) {
    return gguf_real(keys->gguf, key(keys, name), ret, error);
}

static bool read_sizes(struct keys *keys, struct llm_config *config, struct error *error) {
    int64_t layers, heads, kv_heads, experts = 0;
    if (!required(keys, "block_count", LIMIT_LAYERS, &layers, error) ||
        !required(keys, "embedding_length", LIMIT_LAYER_WIDTH, &config->width, error) ||
        !required(keys, "feed_forward_length", LIMIT_LAYER_WIDTH, &config->inner, error) ||
        !required(keys, "attention.head_count", LIMIT_HEADS, &heads, error) ||
        !required(keys, "context_length", INT32_MAX, &config->context, error))
        return false;

    kv_heads = heads;
    if (gguf_find(keys->gguf, key(keys, "attention.head_count_kv")) &&
        !required(keys, "attention.head_count_kv", LIMIT_HEADS, &kv_heads, error))
        return false;
    if (!optional(keys, "expert_count", 0, INT32_MAX, &experts, error))
        return false;
    if (experts > 0)
        return error_set(error, ERROR_MODEL, "%s is a mixture of %lld experts, which is not supported",
                         gguf_name(keys->gguf), (long long)experts);
    if (heads % kv_heads)
        return error_set(error, ERROR_MODEL,
                         "%s has %lld heads, no multiple of its %lld heads of keys and values",
                         gguf_name(keys->gguf), (long long)heads, (long long)kv_heads);

    int64_t key_size = config->width / heads, value_size = key_size;
    if (!optional(keys, "attention.key_length", 1, LIMIT_HEAD_SIZE, &key_size, error) ||
        !optional(keys, "attention.value_length", 1, LIMIT_HEAD_SIZE, &value_size, error))
        return false;
    int64_t rope_size = key_size;
    if (!optional(keys, "rope.dimension_count", 2, LIMIT_HEAD_SIZE, &rope_size, error))
        return false;
    if (key_size < 1 || key_size > LIMIT_HEAD_SIZE || rope_size > key_size || rope_size % 2)
        return error_set(error, ERROR_MODEL,
                         "%s: heads of %lld components, of which %lld are turned, are not possible",
                         gguf_name(keys->gguf), (long long)key_size, (long long)rope_size);

    config->layers = (int)layers;
    config->heads = (int)heads;
    config->kv_heads = (int)kv_heads;
    config->key_size = (int)key_size;
    config->value_size = (int)value_size;
    config->rope_size = (int)rope_size;
    return true;
}

static bool read_rope(struct keys *keys, struct llm_config *config, struct error *error) {
    struct gguf_text scaling = {0};
    double factor = 1, magnitude = 1;

    config->rope_base = 10000;
    if (!real(keys, "rope.freq_base", &config->rope_base, error))
        return false;
    config->rope_base_local =
        config->family->local_rope_base ? config->family->local_rope_base : config->rope_base;
    if (!real(keys, "rope.freq_base_swa", &config->rope_base_local, error) ||
        !gguf_text(keys->gguf, key(keys, "rope.scaling.type"), &scaling, error) ||
        !real(keys, "rope.scaling.factor", &factor, error) ||
        !real(keys, "rope.scaling.attn_factor", &magnitude, error) ||
        !optional(keys, "rope.scaling.original_context_length", 1, INT32_MAX, &config->original_context,
                  error))
        return false;

    bool known = !scaling.bytes || gguf_text_is(scaling, "none") || gguf_text_is(scaling, "linear") ||
                 gguf_text_is(scaling, "longrope");
    if (!known)
        return error_set(error, ERROR_MODEL,
                         "%s stretches its context by '%.*s' (rope.scaling.type), which is not "
                         "supported",
                         gguf_name(keys->gguf), (int)(scaling.size < 80 ? scaling.size : 80), scaling.bytes);
    if (!(config->rope_base > 0) || !(config->rope_base_local > 0) || !(factor > 0) || !(magnitude > 0))
        return error_set(error, ERROR_MODEL, "%s: the bases and factors of RoPE must be above 0",
                         gguf_name(keys->gguf));

    config->rope_scale = scaling.bytes && gguf_text_is(scaling, "linear") ? factor : 1;
    config->rope_magnitude = (float)magnitude;
    return true;
}

static bool read_numbers(struct keys *keys, struct llm_config *config, struct error *error) {
    double epsilon = 1e-5, score_cap = 0, logit_cap = 0;
    double scale_size = (double)config->key_size;

    if (!real(keys, "attention.layer_norm_rms_epsilon", &epsilon, error) ||
        !real(keys, "attn_logit_softcapping", &score_cap, error) ||
        !real(keys, "final_logit_softcapping", &logit_cap, error) ||
        !optional(keys, "attention.sliding_window", 0, INT32_MAX, &config->window, error))
        return false;
    if (!(epsilon > 0) || score_cap < 0 || logit_cap < 0)
        return error_set(error, ERROR_MODEL, "%s: the epsilon of its norms must be above 0, caps not below",
                         gguf_name(keys->gguf));

    /* The 27B models of Gemma 2 and 3 divide by the width of a head as the residual stream has it. */
    if (config->family->scaled_embedding && (config->layers == 46 || config->layers == 62))
        scale_size = (double)config->width / config->heads;
    config->score_scale = (float)(1 / sqrt(scale_size));
    config->epsilon = (float)epsilon;
    config->score_cap = (float)score_cap;
    config->logit_cap = (float)logit_cap;
    return true;
}

bool llm_config_read(const struct gguf *gguf, struct llm_config *ret, struct error *error) {
    struct llm_config config = {0};
    if (!find_family(gguf, &config.family, error))
        return false;

    struct keys keys = {gguf, config.family->architecture, ""};
    if (!read_sizes(&keys, &config, error) || !read_rope(&keys, &config, error) ||
        !read_numbers(&keys, &config, error))
        return false;
    *ret = config;
    return true;
}

bool llm_config_is_local(const struct llm_config *config, int layer) {
    int period = config->family->window_period;
    return config->window > 0 && (period == 0 || layer % period != period - 1);
}

bool llm_config_is_turned(const struct llm_config *config, int layer) {
    int period = config->family->unturned_period;
    return period == 0 || layer % period != period - 1;
}
