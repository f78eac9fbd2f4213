/* The weights of a decoder: views of its file, checked against its configuration, and the small ones as
 * floats. Immutable: any thread. */
#pragma once
#include "linear/linear.h"
#include "llm/config.h"

/* A matrix and what is added to its product; of a fused one, a part of its rows. */
struct llm_linear {
    struct linear weights;
    const float *bias; /* [outputs]; NULL: none */
};

struct llm_layer {
    struct llm_linear query, key, value, output, gate, up, down;
    /* RMSNorm, [width]; the last two NULL where the family has none */
    const float *attention_norm, *mlp_norm, *after_attention_norm, *after_mlp_norm;
    const float *query_norm, *key_norm; /* of each head, [key_size]; NULL: none */
};

struct llm_weights {
    struct linear embedding, output; /* [vocabulary] rows of `width`; the same where they are tied */
    const float *output_norm;        /* [width] */
    /* What frequencies are divided by, [rope_size / 2]; NULL: nothing. */
    const float *rope_factors, *rope_factors_long;
    struct llm_layer *layers; /* [config->layers] */
    struct arena *arena;      /* has all but the matrices */
};

/* ERROR_MODEL names a tensor that is missing or has the wrong shape. ret is released by llm_weights_release,
 * also after a failure. The GGUF must outlive it. */
bool llm_weights_init(struct llm_weights *ret, const struct gguf *gguf, const struct llm_config *config,
                      struct error *error);
/* Tensors of the file are others now (gguf_replace): those of a layer, or (-1) of the ends. */
bool llm_weights_read_again(struct llm_weights *weights, const struct gguf *gguf,
                            const struct llm_config *config, int layer, struct error *error);
void llm_weights_release(struct llm_weights *weights);
