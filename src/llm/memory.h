/* What serving a language model takes, known from the keys of its file before it is loaded. Any thread. */
#pragma once
#include "llm/context.h"

/* Defaults of --context and --parallel. */
#define LLM_CONTEXT 4096 /* tokens of a sequence, or fewer where the model was trained for fewer */
#define LLM_PARALLEL 4   /* sequences at once */

struct llm_sizes {
    int64_t context; /* tokens of a sequence */
    int parallel;    /* sequences at once */
    enum llm_precision precision;
    enum llm_kv_type kv;
};
/* As options and guichet.json say it: kv is "f16", "bf16", "q8_0", "f32" or NULL; `exact`: f32 is asked for.
 */
struct llm_sizes llm_sizes_of(int context, int parallel, const char *kv, bool exact);
/* Zeros become the defaults. ERROR_INVALID: a longer context than the model was trained for. */
bool llm_sizes_complete(struct llm_sizes *sizes, const struct llm_config *config, struct error *error);

struct llm_memory {
    uint64_t weights, cache; /* bytes; the cache is that of keys and values */
};
/* Completes the sizes, too. ERROR_MODEL and others: the file cannot be served. */
bool llm_memory_find(const char *path, struct llm_sizes *sizes, struct llm_memory *ret, struct error *error);
struct llm_memory llm_memory_of(const struct gguf *gguf, const struct llm_config *config,
                                const struct llm_sizes *sizes);
/* ERROR_MEMORY, which says what takes how much, where they do not fit into `bytes`; `who` has no more. */
bool llm_memory_check(const struct llm_memory *memory, const struct llm_sizes *sizes, uint64_t bytes,
                      const char *who, struct error *error);
