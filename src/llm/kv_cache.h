/* Keys and values of the positions that sequences have seen, in pages; whose a page is says kv_pages.h. One
 * thread at a time changes a position; many may read one that is written. */
#pragma once
#include "llm/config.h"
#include "llm/kv_pages.h"

struct kv_cache;

/* Memory of `pages` pages; ERROR_MEMORY. */
struct kv_cache *kv_cache_create(const struct llm_config *config, int pages, struct error *error);
void kv_cache_free(struct kv_cache *cache);
/* Bytes of one page, of all layers. */
size_t kv_cache_page_bytes(const struct llm_config *config);

/* Keys, [KV_PAGE, key_size], and values, [KV_PAGE, value_size], of one head in one page. */
float *kv_cache_keys(const struct kv_cache *cache, int32_t page, int layer, int head);
float *kv_cache_values(const struct kv_cache *cache, int32_t page, int layer, int head);
