/* Keys and values of the positions that sequences have seen, in pages; whose a page is says kv_pages.h. One
 * thread at a time changes a position; many may read one that is written. */
#pragma once
#include "linear/attention.h"
#include "llm/config.h"
#include "llm/kv_pages.h"

struct kv_cache;

/* Memory of `pages` pages; ERROR_MEMORY. */
struct kv_cache *kv_cache_create(const struct llm_config *config, enum attention_type type, int pages,
                                 struct error *error);
void kv_cache_free(struct kv_cache *cache);
/* Bytes of one page, of all layers. */
size_t kv_cache_page_bytes(const struct llm_config *config, enum attention_type type);

/* Of one head. */
const struct attention_shape *kv_cache_shape(const struct kv_cache *cache);
/* Pages of a sequence, as one head of a layer sees them. */
struct attention_pages kv_cache_pages(const struct kv_cache *cache, const int32_t *pages, int layer,
                                      int head);
/* Write the key and the value of a position, [key_size] and [value_size]. Different positions: any threads.
 */
void kv_cache_store(const struct kv_cache *cache, const struct attention_pages *pages, int64_t position,
                    const float *key, const float *value);
