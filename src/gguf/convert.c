#include "gguf/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/limits.h"
#include "gguf/convert_internal.h"
#include "gguf/safetensors.h"

/* model_type of config.json, and what GGUF calls it. */
static const struct architecture {
    const char *model_type, *name;
    bool is_turned; /* rows of q and k change places: pairs become neighbours */
} architectures[] = {{"llama", "llama", true},
                     {"mistral", "llama", true},
                     {"smollm3", "smollm3", true},
                     {"qwen2", "qwen2", false},
                     {"qwen3", "qwen3", false}};

struct converting {
    const char *folder;
    json_t *config;
    const struct architecture *architecture;
    struct safetensors *tensors;
    struct gguf_writer *writer;
    int64_t layers, width, inner, heads, kv_heads, head_size, context;
    double base, epsilon;
    bool is_tied;
    float *rope_factors; /* [head_size / 2]; NULL: none */
    size_t rope_index;
    progress_report progress;
    void *progress_context;
};

json_t *convert_read_json(const char *folder, const char *name, uint64_t limit, struct error *error) {
    cleanup(freep) char *path = NULL;
    size_t size;
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        path = NULL;
        error_set(error, ERROR_MEMORY, "not enough memory for the name of a file");
        return NULL;
    }
    cleanup(freep) char *text = file_read(path, limit, &size, error);
    if (!text)
        return NULL;
    json_t *json = json_parse_python(text, size, error);
    if (!json)
        error_prefix(error, "%s", path);
    return json;
}

/* --- config.json ---------------------------------------------------------------------------------------- */

static bool read_integer(const struct converting *c, const char *key, int64_t usual, int64_t most,
                         int64_t *ret, struct error *error) {
    const json_t *value = json_object_get(c->config, key);
    if ((!value || json_is_null(value)) && usual > 0) {
        *ret = usual;
        return true;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > most)
        return error_set(error, ERROR_MODEL, "%s/config.json: '%s' is missing, or no number from 1 to %lld",
                         c->folder, key, (long long)most);
    *ret = json_integer_value(value);
    return true;
}

static double read_real(const json_t *object, const char *key, double usual) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : usual;
}

static bool find_architecture(struct converting *c, struct error *error) {
    const char *type = json_string_value(json_object_get(c->config, "model_type"));
    for (size_t i = 0; type && i < sizeof architectures / sizeof *architectures; i++)
        if (strcmp(type, architectures[i].model_type) == 0)
            c->architecture = &architectures[i];
    return c->architecture || error_set(error, ERROR_MODEL,
                                        "%s/config.json: the model_type '%.40s' is not supported; llama, "
                                        "mistral, smollm3, qwen2 and qwen3 are",
                                        c->folder, type ? type : "");
}

static bool read_config(struct converting *c, struct error *error) {
    c->config = convert_read_json(c->folder, "config.json", LIMIT_CONFIG_BYTES, error);
    if (!c->config || !find_architecture(c, error))
        return false;
    const char *activation = json_string_value(json_object_get(c->config, "hidden_act"));
    if (activation && strcmp(activation, "silu") != 0)
        return error_set(error, ERROR_MODEL, "%s/config.json: hidden_act is '%.40s', and silu is supported",
                         c->folder, activation);
    if (json_is_true(json_object_get(c->config, "use_sliding_window")))
        return error_set(error, ERROR_MODEL, "%s/config.json: use_sliding_window is not supported",
                         c->folder);

    const json_t *parameters = json_object_get(c->config, "rope_parameters");
    c->epsilon = read_real(c->config, "rms_norm_eps", 1e-6);
    c->base = read_real(c->config, "rope_theta", read_real(parameters, "rope_theta", 10000));
    c->is_tied = json_is_true(json_object_get(c->config, "tie_word_embeddings"));
    return read_integer(c, "num_hidden_layers", 0, LIMIT_LAYERS, &c->layers, error) &&
           read_integer(c, "hidden_size", 0, LIMIT_LAYER_WIDTH, &c->width, error) &&
           read_integer(c, "intermediate_size", 0, LIMIT_LAYER_WIDTH, &c->inner, error) &&
           read_integer(c, "num_attention_heads", 0, LIMIT_HEADS, &c->heads, error) &&
           read_integer(c, "num_key_value_heads", c->heads, LIMIT_HEADS, &c->kv_heads, error) &&
           read_integer(c, "head_dim", c->width / c->heads, LIMIT_HEAD_SIZE, &c->head_size, error) &&
           read_integer(c, "max_position_embeddings", 2048, INT32_MAX, &c->context, error);
}

/* Llama 3's: slow turns are made slower still. */
static bool find_llama3_factors(struct converting *c, const json_t *scaling, struct error *error) {
    double factor = read_real(scaling, "factor", 8), low = read_real(scaling, "low_freq_factor", 1),
           high = read_real(scaling, "high_freq_factor", 4),
           original = read_real(scaling, "original_max_position_embeddings", 8192);
    c->rope_factors = calloc((size_t)c->head_size / 2 + 1, sizeof *c->rope_factors);
    if (!c->rope_factors)
        return error_set(error, ERROR_MEMORY, "not enough memory to convert the model");

    for (int64_t i = 0; i < c->head_size / 2; i++) {
        double length = 2 * M_PI * pow(c->base, 2.0 * (double)i / (double)c->head_size);
        double smooth = (original / length - low) / (high - low);
        c->rope_factors[i] = (float)(length < original / high  ? 1
                                     : length > original / low ? factor
                                                               : 1 / ((1 - smooth) / factor + smooth));
    }
    return true;
}

static bool write_scaling(struct converting *c, struct error *error) {
    const json_t *scaling = json_object_get(c->config, "rope_scaling");
    if (!json_is_object(scaling))
        scaling = json_object_get(c->config, "rope_parameters");
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    char key[80];
    if (!type)
        type = json_string_value(json_object_get(scaling, "type"));
    if (!type || strcmp(type, "default") == 0)
        return true;
    if (strcmp(type, "llama3") == 0)
        return find_llama3_factors(c, scaling, error);
    if (strcmp(type, "linear") != 0)
        return error_set(error, ERROR_MODEL, "%s/config.json: rope_scaling of type '%.40s' is not supported",
                         c->folder, type);
    snprintf(key, sizeof key, "%s.rope.scaling.type", c->architecture->name);
    gguf_writer_text(c->writer, key, "linear", 6);
    snprintf(key, sizeof key, "%s.rope.scaling.factor", c->architecture->name);
    gguf_writer_real(c->writer, key, (float)read_real(scaling, "factor", 1));
    return true;
}

static bool write_keys(struct converting *c, const char *name, struct error *error) {
    const struct {
        const char *key;
        int64_t value;
    } integers[] = {{"block_count", c->layers},
                    {"context_length", c->context},
                    {"embedding_length", c->width},
                    {"feed_forward_length", c->inner},
                    {"attention.head_count", c->heads},
                    {"attention.head_count_kv", c->kv_heads},
                    {"attention.key_length", c->head_size},
                    {"attention.value_length", c->head_size},
                    {"rope.dimension_count", c->head_size}};
    const char *architecture = c->architecture->name;
    char key[80];

    gguf_writer_text(c->writer, "general.architecture", architecture, strlen(architecture));
    gguf_writer_text(c->writer, "general.name", name, strlen(name));
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        snprintf(key, sizeof key, "%s.%s", architecture, integers[i].key);
        gguf_writer_integer(c->writer, key, (uint32_t)integers[i].value);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", architecture);
    gguf_writer_real(c->writer, key, (float)c->epsilon);
    snprintf(key, sizeof key, "%s.rope.freq_base", architecture);
    gguf_writer_real(c->writer, key, (float)c->base);
    return write_scaling(c, error);
}

/* --- Tensors -------------------------------------------------------------------------------------------- */

/* Names of a layer's tensors, after "model.layers.N." and "blk.N.". */
static const char *const layer_names[][2] = {
    {"self_attn.q_proj.", "attn_q."},      {"self_attn.k_proj.", "attn_k."},
    {"self_attn.v_proj.", "attn_v."},      {"self_attn.o_proj.", "attn_output."},
    {"self_attn.q_norm.", "attn_q_norm."}, {"self_attn.k_norm.", "attn_k_norm."},
    {"input_layernorm.", "attn_norm."},    {"post_attention_layernorm.", "ffn_norm."},
    {"mlp.gate_proj.", "ffn_gate."},       {"mlp.up_proj.", "ffn_up."},
    {"mlp.down_proj.", "ffn_down."}};

/* "": it is not needed. False: it is unknown. */
static bool convert_name(const struct converting *c, const char *name, char *ret, size_t size) {
    static const char *const others[][2] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                            {"model.norm.weight", "output_norm.weight"},
                                            {"lm_head.weight", "output.weight"}};
    int layer, at = 0;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(name, others[i][0]) == 0) {
            snprintf(ret, size, "%s", i == 2 && c->is_tied ? "" : others[i][1]);
            return true;
        }
    if (strstr(name, "rotary_emb.inv_freq")) {
        *ret = 0;
        return true;
    }
    if (sscanf(name, "model.layers.%4d.%n", &layer, &at) != 1 || !at || layer < 0 || layer >= c->layers)
        return false;
    for (size_t i = 0; i < sizeof layer_names / sizeof *layer_names; i++) {
        size_t length = strlen(layer_names[i][0]);
        const char *rest = name + at + length;
        if (strncmp(name + at, layer_names[i][0], length) == 0 &&
            (strcmp(rest, "weight") == 0 || strcmp(rest, "bias") == 0)) {
            snprintf(ret, size, "blk.%d.%s%s", layer, layer_names[i][1], rest);
            return true;
        }
    }
    return false;
}

/* What a tensor becomes: vectors are float32. */
static bool describe(const struct converting *c, const struct safetensor *from, char name[96],
                     struct gguf_tensor *ret, struct error *error) {
    if (!convert_name(c, from->name, name, 96))
        return error_set(error, ERROR_MODEL, "%s: the tensor '%.80s' is not one of a %s model", c->folder,
                         from->name, c->architecture->model_type);
    if (from->rank < 1 || from->rank > 2)
        return error_set(error, ERROR_MODEL, "%s: the tensor '%.80s' has %d dimensions", c->folder,
                         from->name, from->rank);
    *ret =
        (struct gguf_tensor){.name = {name, strlen(name)},
                             .rank = from->rank,
                             .dims = {from->dims[from->rank - 1], from->rank == 2 ? from->dims[0] : 1, 1, 1},
                             .type = from->rank == 1 ? BLOCK_F32 : from->type};
    return true;
}

/* Row of the original that becomes row `row`, where the pairs of a head become neighbours. */
static uint64_t turned_row(uint64_t row, uint64_t head_size) {
    uint64_t head = row / head_size, at = row % head_size;
    return head * head_size + at % 2 * (head_size / 2) + at / 2;
}

static bool put_tensor(struct converting *c, const struct safetensor *from, const char *name, size_t index,
                       struct error *error) {
    bool turned = c->architecture->is_turned && (strstr(name, ".attn_q.") || strstr(name, ".attn_k."));
    uint64_t rows = from->rank == 2 ? from->dims[0]
                    : turned        ? from->dims[0]
                                    : 1,
             columns = from->rank == 2 ? from->dims[1] : from->dims[0] / rows;
    size_t row_bytes = (size_t)columns * block_bytes(from->type);
    if (turned && rows % (uint64_t)c->head_size)
        return error_set(error, ERROR_MODEL, "%s: '%.80s' is no whole number of heads", c->folder,
                         from->name);
    if (from->rank == 2 && !turned)
        return gguf_writer_put(c->writer, index, 0, from->bytes, from->size, error);

    cleanup(freep) float *values = malloc((size_t)columns * sizeof *values);
    if (!values)
        return error_set(error, ERROR_MEMORY, "not enough memory to convert the model");
    for (uint64_t row = 0; row < rows; row++) {
        const uint8_t *at =
            from->bytes + (turned ? turned_row(row, (uint64_t)c->head_size) : row) * row_bytes;
        bool done;
        if (from->rank == 2) {
            done = gguf_writer_put(c->writer, index, row * row_bytes, at, row_bytes, error);
        } else {
            blocks_dequantize(from->type, at, (size_t)columns, values);
            done = gguf_writer_put(c->writer, index, row * columns * sizeof *values, values,
                                   (size_t)columns * sizeof *values, error);
        }
        if (!done)
            return false;
    }
    return true;
}

static bool put_tensors(struct converting *c, const size_t *indices, struct error *error) {
    char name[96];
    struct gguf_tensor tensor;
    size_t count = safetensors_count(c->tensors);
    for (size_t i = 0; i < count; i++) {
        const struct safetensor *from = safetensors_get(c->tensors, i);
        if (!c->progress(c->progress_context, "converting", i, count))
            return error_set(error, ERROR_UNAVAILABLE, "interrupted; nothing was written");
        if (!describe(c, from, name, &tensor, error) ||
            (*name && !put_tensor(c, from, name, indices[i], error)))
            return false;
    }
    return !c->rope_factors || gguf_writer_put(c->writer, c->rope_index, 0, c->rope_factors,
                                               (size_t)c->head_size / 2 * sizeof *c->rope_factors, error);
}

static bool write_tensors(struct converting *c, struct error *error) {
    size_t count = safetensors_count(c->tensors);
    cleanup(freep) size_t *indices = calloc(count + 1, sizeof *indices);
    char name[96];
    struct gguf_tensor tensor;
    if (!indices)
        return error_set(error, ERROR_MEMORY, "not enough memory to convert the model");

    for (size_t i = 0; i < count; i++) {
        if (!describe(c, safetensors_get(c->tensors, i), name, &tensor, error))
            return false;
        if (*name)
            indices[i] = gguf_writer_tensor(c->writer, &tensor);
    }
    if (c->rope_factors) {
        const struct gguf_tensor factors = {.name = {"rope_freqs.weight", 17},
                                            .rank = 1,
                                            .dims = {(uint64_t)c->head_size / 2, 1, 1, 1},
                                            .type = BLOCK_F32};
        c->rope_index = gguf_writer_tensor(c->writer, &factors);
    }
    return gguf_writer_begin(c->writer, error) && put_tensors(c, indices, error) &&
           gguf_writer_finish(c->writer, error);
}

/* --- Folders -------------------------------------------------------------------------------------------- */

static bool convert(struct converting *c, const char *output, const char *name, struct error *error) {
    if (!read_config(c, error))
        return false;
    c->tensors = safetensors_open(c->folder, error);
    c->writer = c->tensors ? gguf_writer_create(output, error) : NULL;
    if (!c->writer || !write_keys(c, name, error))
        return false;

    const struct safetensor *embedding = safetensors_find(c->tensors, "model.embed_tokens.weight");
    if (!embedding || embedding->rank != 2 || embedding->dims[0] > LIMIT_TOKENS)
        return error_set(error, ERROR_MODEL, "%s lacks the tensor 'model.embed_tokens.weight'", c->folder);
    if (!safetensors_find(c->tensors, "lm_head.weight")) {
        if (json_is_false(json_object_get(c->config, "tie_word_embeddings")))
            return error_set(
                error, ERROR_MODEL,
                "%s lacks the tensor 'lm_head.weight', and config.json says that the embedding does "
                "not stand for it",
                c->folder);
        c->is_tied = true;
    }
    return convert_tokenizer(c->writer, c->folder, c->config, (size_t)embedding->dims[0], error) &&
           write_tensors(c, error);
}

bool convert_folder(const char *folder, const char *output, const char *name, progress_report progress,
                    void *context, struct error *error) {
    struct converting c = {.folder = folder, .progress = progress, .progress_context = context};
    bool done = convert(&c, output, name, error);

    gguf_writer_free(c.writer);
    safetensors_free(c.tensors);
    json_decref(c.config);
    free(c.rope_factors);
    return done;
}

static bool has(const char *folder, const char *name) {
    char path[4200];
    struct stat status;
    return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path &&
           stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool convert_is_folder(const char *folder) {
    return has(folder, "config.json") &&
           (has(folder, "model.safetensors") || has(folder, "model.safetensors.index.json"));
}

bool convert_folder_type(const char *folder, const char **ret, struct error *error) {
    struct safetensors *tensors = safetensors_open(folder, error);
    if (!tensors)
        return false;
    const struct safetensor *largest = NULL;
    for (size_t i = 0; i < safetensors_count(tensors); i++)
        if (!largest || safetensors_get(tensors, i)->size > largest->size)
            largest = safetensors_get(tensors, i);
    *ret = block_type_name(largest ? largest->type : BLOCK_F16);
    safetensors_free(tensors);
    return true;
}
