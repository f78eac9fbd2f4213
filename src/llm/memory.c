#include "llm/memory.h"

#include <string.h>

struct llm_sizes llm_sizes_of(int context, int parallel, const char *kv, bool exact) {
    return (struct llm_sizes){
        .context = context,
        .parallel = parallel,
        .precision = exact || (kv && strcmp(kv, "f32") == 0) ? LLM_F32 : LLM_AUTO,
        .kv = kv && strcmp(kv, "q8_0") == 0   ? LLM_KV_Q8_0
              : kv && strcmp(kv, "bf16") == 0 ? LLM_KV_BF16
                                              : LLM_KV_F16,
    };
}

bool llm_sizes_complete(struct llm_sizes *sizes, const struct llm_config *config, struct error *error) {
    if (sizes->context > config->context)
        return error_set(
            error, ERROR_INVALID,
            "a context of %lld tokens is asked for (--context), and the model was trained for %lld",
            (long long)sizes->context, (long long)config->context);
    if (sizes->context == 0)
        sizes->context = config->context < LLM_CONTEXT ? config->context : LLM_CONTEXT;
    if (sizes->parallel == 0)
        sizes->parallel = LLM_PARALLEL;
    return true;
}

struct llm_memory llm_memory_of(const struct gguf *gguf, const struct llm_config *config,
                                const struct llm_sizes *sizes) {
    struct llm_memory memory = {0};
    uint64_t pages = (uint64_t)((sizes->context + KV_PAGE - 1) / KV_PAGE) * (uint64_t)sizes->parallel;

    for (size_t i = 0; i < gguf_tensor_count(gguf); i++)
        memory.weights += gguf_tensor(gguf, i)->size;
    memory.cache = pages * kv_cache_page_bytes(config, llm_kept_as(sizes->precision, sizes->kv));
    return memory;
}

bool llm_memory_find(const char *path, struct llm_sizes *sizes, struct llm_memory *ret, struct error *error) {
    struct gguf *gguf = gguf_open(path, error);
    struct llm_config config;
    bool done = gguf && llm_config_read(gguf, &config, error) && llm_sizes_complete(sizes, &config, error);
    if (done)
        *ret = llm_memory_of(gguf, &config, sizes);
    gguf_free(gguf);
    return done;
}

bool llm_memory_check(const struct llm_memory *memory, const struct llm_sizes *sizes, uint64_t bytes,
                      const char *who, struct error *error) {
    if (memory->cache <= bytes && memory->weights <= bytes - memory->cache)
        return true;

    return error_set(
        error, ERROR_MEMORY,
        "the weights take %.1f MB, keys and values of %d x %lld tokens %.1f MB, and %s has %.1f MB "
        "(--context, --parallel, --kv)",
        (double)memory->weights / 1048576, sizes->parallel, (long long)sizes->context,
        (double)memory->cache / 1048576, who, (double)bytes / 1048576);
}
