#include "llm/kv_pages.h"

#include <stdlib.h>

struct kv_pool {
    int32_t *free; /* [free_count] pages; a stack */
    int free_count;
    int *holders; /* [pages]: how many have it */
};

struct kv_pool *kv_pool_create(int pages) {
    struct kv_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;

    pool->free = calloc((size_t)pages, sizeof *pool->free);
    pool->holders = calloc((size_t)pages, sizeof *pool->holders);
    if (!pool->free || !pool->holders) {
        kv_pool_free(pool);
        return NULL;
    }
    for (int i = 0; i < pages; i++)
        pool->free[pool->free_count++] = pages - 1 - i;
    return pool;
}

void kv_pool_free(struct kv_pool *pool) {
    if (!pool)
        return;

    free(pool->free);
    free(pool->holders);
    free(pool);
}

int kv_pool_free_pages(const struct kv_pool *pool) {
    return pool->free_count;
}

void kv_pool_hold(struct kv_pool *pool, int32_t page) {
    pool->holders[page]++;
}

void kv_pool_drop(struct kv_pool *pool, int32_t page) {
    if (--pool->holders[page] == 0)
        pool->free[pool->free_count++] = page;
}

/* Room in the list for `wanted` pages. */
static bool grow(struct kv_pages *pages, int64_t wanted) {
    if (wanted <= pages->capacity)
        return true;

    int capacity = (int)(wanted < 16 ? 16 : wanted * 2);
    int32_t *grown = realloc(pages->pages, (size_t)capacity * sizeof *grown);
    if (!grown)
        return false;
    pages->pages = grown;
    pages->capacity = capacity;
    return true;
}

bool kv_pages_reserve(struct kv_pool *pool, struct kv_pages *pages, int64_t positions) {
    int64_t wanted = (positions + KV_PAGE - 1) / KV_PAGE;
    if (wanted - pages->count > pool->free_count || !grow(pages, wanted))
        return false;

    while (pages->count < wanted) {
        int32_t page = pool->free[--pool->free_count];
        pool->holders[page] = 1;
        pages->pages[pages->count++] = page;
    }
    return true;
}

bool kv_pages_share(struct kv_pool *pool, struct kv_pages *pages, int32_t page) {
    if (!grow(pages, pages->count + 1))
        return false;

    kv_pool_hold(pool, page);
    pages->pages[pages->count++] = page;
    return true;
}

void kv_pages_replace(struct kv_pool *pool, struct kv_pages *pages, int at, int32_t page) {
    kv_pool_hold(pool, page);
    kv_pool_drop(pool, pages->pages[at]);
    pages->pages[at] = page;
}

void kv_pages_release(struct kv_pool *pool, struct kv_pages *pages) {
    while (pages->count > 0)
        kv_pool_drop(pool, pages->pages[--pages->count]);
    free(pages->pages);
    *pages = (struct kv_pages){0};
}
