/* Whose the pages of a cache of keys and values are: each sequence has a list of them, and several may have
 * the same page, which is counted. What they hold is kv_cache.h's. One thread at a time. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { KV_PAGE = 32 /* positions of a page */ };

struct kv_pool;

/* Pages 0 … pages - 1, all free. NULL when memory is out. */
struct kv_pool *kv_pool_create(int pages);
void kv_pool_free(struct kv_pool *pool);
int kv_pool_free_pages(const struct kv_pool *pool);
/* One more that has a page that is in use, and one less: the last one frees it. */
void kv_pool_hold(struct kv_pool *pool, int32_t page);
void kv_pool_drop(struct kv_pool *pool, int32_t page);

/* The pages of one sequence, first position first. A zeroed struct has none. */
struct kv_pages {
    int32_t *pages; /* malloc'ed */
    int count, capacity;
};
/* Pages for `positions` positions in all. False, with what there was, where too few are free or memory is
 * out. */
bool kv_pages_reserve(struct kv_pool *pool, struct kv_pages *pages, int64_t positions);
/* Have a page that is in use, too: the next one of the list, whole. False when memory is out. */
bool kv_pages_share(struct kv_pool *pool, struct kv_pages *pages, int32_t page);
/* Have that page in place of the list's own. */
void kv_pages_replace(struct kv_pool *pool, struct kv_pages *pages, int at, int32_t page);
/* Give back all pages, and the list's memory. */
void kv_pages_release(struct kv_pool *pool, struct kv_pages *pages);
