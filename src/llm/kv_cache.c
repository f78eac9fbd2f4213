#include "llm/kv_cache.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/checked.h"

struct kv_cache {
    int kv_heads;
    size_t key_floats, value_floats; /* of one head in one page */
    size_t layer_floats, page_floats;
    float *memory; /* [pages] of page_floats; touched when used */
    size_t bytes;
};

static size_t page_floats(const struct llm_config *config) {
    return (size_t)config->layers * (size_t)config->kv_heads * KV_PAGE *
           (size_t)(config->key_size + config->value_size);
}

size_t kv_cache_page_bytes(const struct llm_config *config) {
    return page_floats(config) * sizeof(float);
}

struct kv_cache *kv_cache_create(const struct llm_config *config, int pages, struct error *error) {
    struct kv_cache *cache = calloc(1, sizeof *cache);
    size_t bytes = 0;

    if (cache) {
        cache->kv_heads = config->kv_heads;
        cache->key_floats = KV_PAGE * (size_t)config->key_size;
        cache->value_floats = KV_PAGE * (size_t)config->value_size;
        cache->layer_floats = (size_t)config->kv_heads * (cache->key_floats + cache->value_floats);
        cache->page_floats = page_floats(config);
    }
    if (cache && size_multiply(kv_cache_page_bytes(config), (size_t)pages, &bytes)) {
        void *memory =
            mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        cache->memory = memory == MAP_FAILED ? NULL : memory;
        cache->bytes = bytes;
    }
    if (!cache || !cache->memory) {
        kv_cache_free(cache);
        error_set(error, ERROR_MEMORY, "not enough memory for the keys and values of %lld positions",
                  (long long)pages * KV_PAGE);
        return NULL;
    }
    return cache;
}

void kv_cache_free(struct kv_cache *cache) {
    if (!cache)
        return;

    if (cache->memory)
        munmap(cache->memory, cache->bytes);
    free(cache);
}

float *kv_cache_keys(const struct kv_cache *cache, int32_t page, int layer, int head) {
    return cache->memory + (size_t)page * cache->page_floats + (size_t)layer * cache->layer_floats +
           (size_t)head * cache->key_floats;
}

float *kv_cache_values(const struct kv_cache *cache, int32_t page, int layer, int head) {
    return cache->memory + (size_t)page * cache->page_floats + (size_t)layer * cache->layer_floats +
           (size_t)cache->kv_heads * cache->key_floats + (size_t)head * cache->value_floats;
}
