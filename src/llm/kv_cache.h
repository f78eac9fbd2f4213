/* Keys and values of the positions that sequences have seen, in pages that any sequence may have. One thread
 * at a time changes it; many may read a position that is written. */
#pragma once
#include "linear/attention.h"
#include "llm/config.h"

enum { KV_PAGE = ATTENTION_PAGE /* positions of a page */ };

struct kv_cache;

/* Memory of `pages` pages; ERROR_MEMORY. */
struct kv_cache *kv_cache_create(const struct llm_config *config, enum attention_type type, int pages,
                                 struct error *error);
void kv_cache_free(struct kv_cache *cache);
/* Bytes of one page, of all layers. */
size_t kv_cache_page_bytes(const struct llm_config *config, enum attention_type type);

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

/* Of one head. */
const struct attention_shape *kv_cache_shape(const struct kv_cache *cache);
/* Pages of a sequence, as one head of a layer sees them. */
struct attention_pages kv_cache_pages(const struct kv_cache *cache, const int32_t *pages, int layer,
                                      int head);
/* Write the key and the value of a position, [key_size] and [value_size]. Different positions: any threads.
 */
void kv_cache_store(const struct kv_cache *cache, const struct attention_pages *pages, int64_t position,
                    const float *key, const float *value);
