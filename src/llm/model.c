#include <stdlib.h>

#include "llm/layerwise.h"
#include "llm/model_internal.h"

static bool init(struct llm_model *model, const char *path, struct error *error) {
    model->gguf = gguf_open(path, error);
    if (!model->gguf || !llm_config_read(model->gguf, &model->config, error) ||
        !llm_weights_init(&model->weights, model->gguf, &model->config, error))
        return false;

    model->tokenizer = tokenizer_create(model->gguf, error);
    if (!model->tokenizer)
        return false;
    if (tokenizer_count(model->tokenizer) > model->weights.embedding.outputs)
        return error_set(error, ERROR_MODEL, "%s has %d tokens and weights for %lld", path,
                         tokenizer_count(model->tokenizer), (long long)model->weights.embedding.outputs);
    return true;
}

struct llm_model *llm_model_load(const char *path, struct error *error) {
    struct llm_model *model = calloc(1, sizeof *model);
    if (!model)
        error_set(error, ERROR_MEMORY, "%s: not enough memory for the model", path);
    if (model && init(model, path, error))
        return model;

    llm_model_free(model);
    return NULL;
}

void llm_model_free(struct llm_model *model) {
    if (!model)
        return;

    tokenizer_free(model->tokenizer);
    llm_weights_release(&model->weights);
    gguf_free(model->gguf);
    free(model);
}

const struct llm_config *llm_model_config(const struct llm_model *model) {
    return &model->config;
}

const struct gguf *llm_model_gguf(const struct llm_model *model) {
    return model->gguf;
}

const struct tokenizer *llm_model_tokenizer(const struct llm_model *model) {
    return model->tokenizer;
}

int32_t llm_model_vocabulary(const struct llm_model *model) {
    return (int32_t)model->weights.output.outputs;
}

bool llm_model_replace(struct llm_model *model, const struct gguf_tensor *tensor, enum block_type type,
                       const void *bytes, struct error *error) {
    int layer = llm_tensor_layer(tensor);
    gguf_replace(model->gguf, tensor, type, bytes);
    return layer >= model->config.layers ||
           llm_weights_read_again(&model->weights, model->gguf, &model->config, layer, error);
}
