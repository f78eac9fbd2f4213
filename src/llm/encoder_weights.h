/* The weights of an encoder: views of its file, checked against its keys, and the small ones as floats. Used
 * inside llm/ only. Immutable: any thread. */
#pragma once
#include "gguf/gguf.h"
#include "linear/linear.h"

struct encoder_linear {
    struct linear weights;
    const float *bias; /* [outputs]; NULL: none */
};

struct encoder_norm {
    const float *scale, *shift; /* [width] */
};

struct encoder_layer {
    struct encoder_linear query, key, value, output, up, down;
    struct encoder_norm attention_norm, output_norm;
};

enum encoder_pooling { ENCODER_MEAN = 1, ENCODER_FIRST = 2 }; /* as the key pooling_type has it */

struct encoder_weights {
    int layers, heads;
    int64_t width, inner, context;
    float epsilon;
    enum encoder_pooling pooling;
    struct linear embedding, positions; /* [vocabulary, width], [context, width] */
    const float *kind;                  /* [width]; NULL: none */
    struct encoder_norm embedding_norm;
    struct encoder_layer *layer; /* [layers] */
    struct arena *arena;         /* has all but the matrices */
};

/* ERROR_MODEL names a key or tensor. Released by encoder_weights_release, also after a failure. */
bool encoder_weights_init(struct encoder_weights *ret, const struct gguf *gguf, struct error *error);
void encoder_weights_release(struct encoder_weights *weights);
