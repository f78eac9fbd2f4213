#include "llm/kv_cache.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/checked.h"

_Static_assert((int)KV_PAGE == (int)ATTENTION_PAGE, "a page is what attention reads at once");

struct kv_cache {
    int kv_heads;
    struct attention_shape shape;  /* of a head */
    size_t key_bytes, value_bytes; /* of one head in one page */
    size_t layer_bytes, page_bytes;
    char *memory; /* [pages] of page_bytes; touched when used */
    size_t bytes;
};

size_t kv_cache_page_bytes(const struct llm_config *config, enum attention_type type) {
    return (size_t)config->layers * (size_t)config->kv_heads *
           (attention_page_bytes(type, config->key_size) + attention_page_bytes(type, config->value_size));
}

struct kv_cache *kv_cache_create(const struct llm_config *config, enum attention_type type, int pages,
                                 struct error *error) {
    struct kv_cache *cache = calloc(1, sizeof *cache);
    size_t bytes = 0;

    if (cache) {
        cache->kv_heads = config->kv_heads;
        cache->shape = (struct attention_shape){type, config->key_size, config->value_size,
                                                config->score_scale, config->score_cap};
        cache->key_bytes = attention_page_bytes(type, config->key_size);
        cache->value_bytes = attention_page_bytes(type, config->value_size);
        cache->layer_bytes = (size_t)config->kv_heads * (cache->key_bytes + cache->value_bytes);
        cache->page_bytes = kv_cache_page_bytes(config, type);
    }
    if (cache && size_multiply(cache->page_bytes, (size_t)pages, &bytes)) {
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

const struct attention_shape *kv_cache_shape(const struct kv_cache *cache) {
    return &cache->shape;
}

void kv_cache_store(const struct kv_cache *cache, const struct attention_pages *pages, int64_t position,
                    const float *key, const float *value) {
    size_t at = (size_t)pages->pages[position / KV_PAGE] * cache->page_bytes;
    char *memory = cache->memory + at;

    attention_store(&cache->shape, memory + pages->keys_at, memory + pages->values_at,
                    (int)(position % KV_PAGE), key, value);
}

struct attention_pages kv_cache_pages(const struct kv_cache *cache, const int32_t *pages, int layer,
                                      int head) {
    size_t at = (size_t)layer * cache->layer_bytes;
    return (struct attention_pages){.memory = cache->memory,
                                    .pages = pages,
                                    .page_bytes = cache->page_bytes,
                                    .keys_at = at + (size_t)head * cache->key_bytes,
                                    .values_at = at + (size_t)cache->kv_heads * cache->key_bytes +
                                                 (size_t)head * cache->value_bytes};
}
