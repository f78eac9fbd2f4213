/* What a loaded model holds. Used inside llm/ only. */
#pragma once
#include "llm/model.h"
#include "llm/weights.h"

struct llm_model {
    struct gguf *gguf;
    struct llm_config config;
    struct llm_weights weights;
    struct tokenizer *tokenizer;
};
