/* Keys and values of the positions that sequences have seen, in pages that any sequence may have. One thread
 * at a time changes it; many may read a position that is written. */
#pragma once
#include "llm/config.h"

enum { KV_PAGE = 32 /* positions of a page */ };

struct kv_cache;

/* Memory of `pages` pages; ERROR_MEMORY. */
struct kv_cache *kv_cache_create(const struct llm_config *config, int pages, struct error *error);
void kv_cache_free(struct kv_cache *cache);
/* Bytes of one page, of all layers. */
size_t kv_cache_page_bytes(const struct llm_config *config);

/* The pages of one sequence, first position first. A zeroed struct has none. */
struct kv_pages {
    int32_t *pages; /* malloc'ed */
    int count, capacity;
};
/* Pages for `positions` positions in all. False, with what there was, where too few are free or memory is
 * out. */
bool kv_pages_reserve(struct kv_cache *cache, struct kv_pages *pages, int64_t positions);
/* Give back all pages, and the list's memory. */
void kv_pages_release(struct kv_cache *cache, struct kv_pages *pages);

/* Keys, [KV_PAGE, key_size], and values, [KV_PAGE, value_size], of one head in one page. */
float *kv_cache_keys(const struct kv_cache *cache, int32_t page, int layer, int head);
float *kv_cache_values(const struct kv_cache *cache, int32_t page, int layer, int head);
