#include "llm/prefix.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/hash.h"

/* A page and what is in it: a node of a tree whose branches are prompts. */
struct prefix_node {
    uint64_t scope;
    int32_t tokens[KV_PAGE];
    int32_t parent;          /* -1: none; it stays as long as it has children */
    int32_t page;            /* held */
    int32_t next;            /* of those with the same slot; of free nodes */
    int32_t older, newer;    /* of those that may go; -1: none */
    uint64_t used;           /* the later, the larger */
    int children, followers; /* sequences whose place it is */
};

struct prefix_index {
    struct kv_pool *pool;
    struct prefix_node *nodes; /* [capacity] */
    int32_t *slots;            /* [slot_count], a power of two; -1: none */
    int32_t capacity, free;
    size_t slot_count;
    int32_t oldest, newest; /* those without children and followers */
    uint64_t uses;
    uint64_t seed; /* random: callers cannot choose tokens that collide */
};

struct prefix_index *prefix_index_create(struct kv_pool *pool, int pages) {
    struct prefix_index *index = calloc(1, sizeof *index);
    if (!index)
        return NULL;

    *index =
        (struct prefix_index){.pool = pool, .capacity = pages, .slot_count = 64, .oldest = -1, .newest = -1};
    while (index->slot_count < (size_t)pages)
        index->slot_count *= 2;
    index->nodes = calloc((size_t)pages, sizeof *index->nodes);
    index->slots = malloc(index->slot_count * sizeof *index->slots);
    if (index->slots)
        memset(index->slots, 0xff, index->slot_count * sizeof *index->slots);
    if (!index->nodes || !index->slots) {
        prefix_index_free(index);
        return NULL;
    }

    for (int32_t i = 0; i < pages; i++)
        index->nodes[i].next = i + 1 < pages ? i + 1 : -1;
    if (getrandom(&index->seed, sizeof index->seed, GRND_NONBLOCK) < 0)
        index->seed = HASH_START;
    return index;
}

void prefix_index_free(struct prefix_index *index) {
    if (!index)
        return;

    for (size_t i = 0; index->slots && index->nodes && i < index->slot_count; i++)
        for (int32_t node = index->slots[i]; node >= 0; node = index->nodes[node].next)
            kv_pool_drop(index->pool, index->nodes[node].page);
    free(index->nodes);
    free(index->slots);
    free(index);
}

/* --- Those that may go ---------------------------------------------------------------------------------- */

static bool may_go(const struct prefix_node *node) {
    return node->children == 0 && node->followers == 0;
}

/* Into its place by its last use: mostly at one of the ends. */
static void queue(struct prefix_index *index, int32_t at) {
    struct prefix_node *node = &index->nodes[at];
    int32_t newer = index->newest >= 0 && index->nodes[index->newest].used > node->used ? index->oldest : -1;
    while (newer >= 0 && index->nodes[newer].used < node->used)
        newer = index->nodes[newer].newer;

    node->newer = newer;
    node->older = newer >= 0 ? index->nodes[newer].older : index->newest;
    *(node->older >= 0 ? &index->nodes[node->older].newer : &index->oldest) = at;
    *(newer >= 0 ? &index->nodes[newer].older : &index->newest) = at;
}

static void unqueue(struct prefix_index *index, int32_t at) {
    struct prefix_node *node = &index->nodes[at];
    *(node->older >= 0 ? &index->nodes[node->older].newer : &index->oldest) = node->newer;
    *(node->newer >= 0 ? &index->nodes[node->newer].older : &index->newest) = node->older;
}

/* `change` of a count that keeps a node. */
static void change_count(struct prefix_index *index, int32_t at, int *count, int change) {
    bool before = may_go(&index->nodes[at]);
    *count += change;
    bool after = may_go(&index->nodes[at]);

    if (before && !after)
        unqueue(index, at);
    else if (after && !before)
        queue(index, at);
}

/* --- The table ------------------------------------------------------------------------------------------ */

static int32_t *slot_of(const struct prefix_index *index, uint64_t scope, int32_t parent,
                        const int32_t *tokens) {
    uint64_t hash = hash_bytes(index->seed ^ scope, &parent, sizeof parent);
    hash = hash_bytes(hash, tokens, KV_PAGE * sizeof *tokens);
    return &index->slots[(hash ^ hash >> 32) & (index->slot_count - 1)];
}

static int32_t find(const struct prefix_index *index, uint64_t scope, int32_t parent, const int32_t *tokens) {
    int32_t at = *slot_of(index, scope, parent, tokens);

    while (at >= 0 && (index->nodes[at].parent != parent || index->nodes[at].scope != scope ||
                       memcmp(index->nodes[at].tokens, tokens, KV_PAGE * sizeof *tokens) != 0))
        at = index->nodes[at].next;
    return at;
}

static void forget(struct prefix_index *index, int32_t at) {
    struct prefix_node *node = &index->nodes[at];
    int32_t *link = slot_of(index, node->scope, node->parent, node->tokens);

    unqueue(index, at);
    while (*link != at)
        link = &index->nodes[*link].next;
    *link = node->next;
    node->next = index->free;
    index->free = at;

    kv_pool_drop(index->pool, node->page);
    if (node->parent < 0)
        return;
    struct prefix_node *parent = &index->nodes[node->parent];
    parent->used = parent->used < node->used ? node->used : parent->used;
    change_count(index, node->parent, &parent->children, -1);
}

bool prefix_make_room(struct prefix_index *index, int pages) {
    while (kv_pool_free_pages(index->pool) < pages && index->oldest >= 0)
        forget(index, index->oldest);
    return kv_pool_free_pages(index->pool) >= pages;
}

/* --- Sequences ------------------------------------------------------------------------------------------ */

static void step_to(struct prefix_index *index, struct prefix_place *place, int32_t node) {
    int32_t left = place->node;
    change_count(index, node, &index->nodes[node].followers, 1);
    if (left >= 0)
        change_count(index, left, &index->nodes[left].followers, -1);
    place->node = node;
    place->blocks++;
}

int prefix_follow(struct prefix_index *index, struct prefix_place *place, const int32_t *tokens, size_t count,
                  struct kv_pages *pages) {
    int found = 0;

    for (; ((size_t)place->blocks + 1) * KV_PAGE <= count; found++) {
        int32_t node = find(index, place->scope, place->node, tokens + (size_t)place->blocks * KV_PAGE);
        if (node < 0 || !kv_pages_share(index->pool, pages, index->nodes[node].page))
            break;
        step_to(index, place, node);
    }
    return found;
}

/* -1: there is no room. */
static int32_t create_node(struct prefix_index *index, const struct prefix_place *place,
                           const int32_t *tokens, int32_t page) {
    if (index->free < 0 && index->oldest >= 0)
        forget(index, index->oldest);
    int32_t at = index->free;
    if (at < 0)
        return -1;

    struct prefix_node *node = &index->nodes[at];
    int32_t *slot = slot_of(index, place->scope, place->node, tokens);
    index->free = node->next;
    *node = (struct prefix_node){
        .scope = place->scope, .parent = place->node, .page = page, .next = *slot, .older = -1, .newer = -1};
    memcpy(node->tokens, tokens, sizeof node->tokens);
    *slot = at;
    kv_pool_hold(index->pool, page);
    queue(index, at);
    if (place->node >= 0)
        change_count(index, place->node, &index->nodes[place->node].children, 1);
    return at;
}

void prefix_add(struct prefix_index *index, struct prefix_place *place, const int32_t *tokens, int blocks,
                struct kv_pages *pages) {
    while (place->blocks < blocks) {
        const int32_t *block = tokens + (size_t)place->blocks * KV_PAGE;
        int32_t node = find(index, place->scope, place->node, block);
        if (node < 0)
            node = create_node(index, place, block, pages->pages[place->blocks]);
        if (node < 0)
            return;
        kv_pages_replace(index->pool, pages, place->blocks, index->nodes[node].page);
        step_to(index, place, node);
    }
}

void prefix_leave(struct prefix_index *index, struct prefix_place *place) {
    if (place->node < 0)
        return;
    index->nodes[place->node].used = ++index->uses;
    change_count(index, place->node, &index->nodes[place->node].followers, -1);
    place->node = -1;
}
