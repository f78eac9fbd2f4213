/* What a decoder is made of, from the keys of its file. Immutable: any thread. */
#pragma once
#include "gguf/gguf.h"

/* What one architecture does, and another does not. */
struct llm_family {
    const char *architecture; /* general.architecture */
    bool rope_halves;         /* pairs (i, i + n/2) are turned; else neighbours (2i, 2i + 1) */
    bool scaled_embedding;    /* by the root of the width */
    bool gelu;                /* its tanh form; else SiLU */
    int window_period; /* of so many layers the last one sees everything, where there is a window; 0: none
                          does */
    double local_rope_base; /* of layers with a window, unless a key says otherwise; 0: as in all others */
    int unturned_period;    /* of so many layers the last one has no RoPE; 0: all have */
};

struct llm_config {
    const struct llm_family *family;
    int layers;
    int64_t width, inner;     /* of the residual stream, and within the MLP */
    int heads, kv_heads;      /* of queries, and of keys and values; heads is a multiple of kv_heads */
    int key_size, value_size; /* of one head */
    int rope_size;            /* leading components of a head that are turned; even */
    double rope_base, rope_base_local;
    double rope_scale;                       /* positions are divided by it, in layers that see everything */
    float rope_magnitude;                    /* of turned vectors (long-context factors) */
    float epsilon;                           /* of RMSNorm */
    float score_scale, score_cap, logit_cap; /* caps: 0 where there is none */
    int64_t window;           /* positions that a layer with a window sees, the own one included; 0: none */
    int64_t context;          /* positions that it was trained for */
    int64_t original_context; /* before it was stretched; 0: it was not */
};

/* ERROR_MODEL: an architecture, or a feature of it, that is not supported, by name. */
bool llm_config_read(const struct gguf *gguf, struct llm_config *ret, struct error *error);
/* Does this layer look through the window only? */
bool llm_config_is_local(const struct llm_config *config, int layer);
/* Has this layer RoPE? */
bool llm_config_is_turned(const struct llm_config *config, int layer);
