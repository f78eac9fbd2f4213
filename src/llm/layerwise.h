/* A model run one layer at a time over a text, for quantising it: what a layer's products get is told, and a
 * layer may have other weights when it is run again. One thread. */
#pragma once
#include "llm/context.h"

/* What products of a layer have for input. */
enum llm_input {
    LLM_INPUT_ATTENTION, /* of attn_q, attn_k, attn_v, attn_qkv */
    LLM_INPUT_OUTPUT,    /* attn_output */
    LLM_INPUT_MLP,       /* ffn_gate, ffn_up */
    LLM_INPUT_DOWN,      /* ffn_down */
    LLM_INPUTS
};

struct llm_tap {
    /* x: [rows, inputs], until it returns */
    void (*see)(void *data, enum llm_input input, const float *x, int64_t rows, int64_t inputs);
    void *data;
};

/* A text from its beginning, at most the context's rows: what the first layer gets. ret: [count, width] */
bool llm_context_embed(struct llm_context *context, const int32_t *tokens, int count, float *ret,
                       struct error *error);
/* One layer over the text's rows; it keeps nothing in the cache. x: [count, width], in and out. tap may be
 * NULL. */
bool llm_context_run_layer(struct llm_context *context, int layer, float *x, int count,
                           const struct llm_tap *tap, struct error *error);
/* After the last layer: what the output's weights get. x: [count, width], in and out. */
void llm_context_norm_last(const struct llm_context *context, float *x, int count);

/* Have other weights for a tensor of the file; they must outlive the model. Contexts see them at once. */
bool llm_model_replace(struct llm_model *model, const struct gguf_tensor *tensor, enum block_type type,
                       const void *bytes, struct error *error);
/* The layer that a tensor is of; -1: none. */
int llm_tensor_layer(const struct gguf_tensor *tensor);
