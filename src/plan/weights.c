/* Packed weights: found by the address of the constant, kept in a few large chunks of memory. */
#include "plan/weights.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"
#include "base/checked.h"

#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define CHUNK_BYTES ((size_t)64 << 20) /* of address space: only what is used becomes memory */

struct weights_chunk {
    struct weights_chunk *next;
    unsigned char *start; /* [size], of which `used` are given away */
    size_t size, used;
};

struct weights_store {
    struct weights_store *parent; /* packs what both graphs hold; NULL: none */
    const struct graph *graph;
    const void **shared; /* [shared_count] data of the graph's constants, sorted */
    int shared_count;

    pthread_mutex_t lock; /* covers everything below */
    struct arena *arena;
    struct primitive_pool *pool;
    struct packed_weights **entries;
    int count, capacity;
    struct weights_chunk *chunks; /* the newest first */
    bool is_detached;             /* the graph's maps are copies: what is discarded of them is lost */
};

static int by_address(const void *a, const void *b) {
    const void *const *first = a, *const *second = b;
    return *first < *second ? -1 : *first > *second;
}

static bool collect_shared(struct weights_store *store, const struct graph *graph) {
    store->shared = malloc(((size_t)graph->value_count + 1) * sizeof *store->shared);
    if (!store->shared)
        return false;

    for (int i = 0; i < graph->value_count; i++)
        if (graph->values[i] && graph->values[i]->constant)
            store->shared[store->shared_count++] = graph->values[i]->constant->data;
    qsort(store->shared, (size_t)store->shared_count, sizeof *store->shared, by_address);
    return true;
}

struct weights_store *weights_store_create(const struct graph *graph, struct error *error) {
    struct weights_store *store = calloc(1, sizeof *store);

    if (store) {
        pthread_mutex_init(&store->lock, NULL);
        store->graph = graph;
        store->arena = arena_create();
        store->pool = primitive_pool_create(error);
    }

    if (store && store->arena && store->pool && collect_shared(store, graph))
        return store;

    weights_store_free(store);
    error_set(error, ERROR_MEMORY, "not enough memory for weights");
    return NULL;
}

void weights_store_share(struct weights_store *store, struct weights_store *parent) {
    store->parent = parent;
}

/* The store that packs this constant: the eldest whose graph holds it. */
static struct weights_store *owner_of(struct weights_store *store, const void *data) {
    while (store->parent && weights_is_shared(store->parent, data))
        store = store->parent;
    return store;
}

void weights_store_free(struct weights_store *store) {
    if (!store)
        return;

    for (struct weights_chunk *chunk = store->chunks; chunk; chunk = chunk->next)
        free(chunk->start);
    free(store->entries);
    free(store->shared);
    primitive_pool_free(store->pool);
    arena_free(store->arena);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

bool weights_is_shared(const struct weights_store *store, const void *data) {
    return store->shared_count && bsearch(&data, store->shared, (size_t)store->shared_count,
                                          sizeof *store->shared, by_address) != NULL;
}

/* Lock held, as in all below whose name does not begin with weights_. */
static const struct packed_weights *find(const struct weights_store *store, const void *data,
                                         const char *role, const struct layout *layout) {
    for (int i = 0; i < store->count; i++) {
        const struct packed_weights *entry = store->entries[i];
        if (entry->source == data && strcmp(entry->role, role) == 0 &&
            (!layout || layout_equal(entry->layout, layout)))
            return entry;
    }
    return NULL;
}

const struct packed_weights *weights_find(struct weights_store *store, const void *data, const char *role,
                                          const struct layout *layout) {
    store = owner_of(store, data);
    pthread_mutex_lock(&store->lock);
    const struct packed_weights *entry = find(store, data, role, layout);
    pthread_mutex_unlock(&store->lock);
    return entry;
}

/* A copy of the entry, with a role of its own. NULL where its layouts are, or memory is out. */
static struct packed_weights *add_entry(struct weights_store *store, const struct packed_weights *entry) {
    if (store->count == store->capacity) {
        int larger = store->capacity ? store->capacity * 2 : 64;
        void *fresh = realloc(store->entries, (size_t)larger * sizeof *store->entries);
        if (!fresh)
            return NULL;
        store->entries = fresh;
        store->capacity = larger;
    }

    struct packed_weights *added = arena_allocate(store->arena, sizeof *added);
    char *role = arena_copy_string(store->arena, entry->role, strlen(entry->role));
    if (!added || !role || !entry->layout || !entry->from)
        return NULL;

    *added = *entry;
    added->role = role;
    store->entries[store->count++] = added;

    return added;
}

/* Large weights lie on huge pages where the system has them: fewer misses while they stream by at every run.
 * The small ones don't: in a virtual machine whose host takes free memory back, a huge page is the dearest to
 * get, and a start would pay for it (ResNet-152: 0.45 s instead of 0.3). */
static void prefer_huge_pages(unsigned char *start, size_t size) {
    uintptr_t first = ((uintptr_t)start + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1),
              last = ((uintptr_t)start + size) & ~(HUGE_PAGE_BYTES - 1);

    if (size >= 2 * HUGE_PAGE_BYTES && last > first)
        madvise((void *)first, last - first, MADV_HUGEPAGE);
}

/* Packed weights lie one after the other in a few large chunks. */
static void *allocate_packed(struct weights_store *store, size_t size) {
    size_t wanted = size_align(size ? size : 1, 64);
    struct weights_chunk *chunk = store->chunks;

    if (!chunk || chunk->size - chunk->used < wanted) {
        size_t bytes = size_align(wanted > CHUNK_BYTES ? wanted : CHUNK_BYTES, HUGE_PAGE_BYTES);
        struct weights_chunk *fresh = arena_allocate(store->arena, sizeof *fresh);
        unsigned char *start = fresh ? aligned_alloc(HUGE_PAGE_BYTES, bytes) : NULL;
        if (!start)
            return NULL;
        *fresh = (struct weights_chunk){store->chunks, start, bytes, 0};
        store->chunks = chunk = fresh;
    }

    unsigned char *packed = chunk->start + chunk->used;
    chunk->used += wanted;
    prefer_huge_pages(packed, wanted);
    return packed;
}

/* `from_data`: the constant's elements, at their own address or restored. */
static struct packed_weights *pack(struct weights_store *store, const struct weights_request *request,
                                   const void *from_data, struct error *error) {
    size_t size = layout_bytes(request->layout);
    void *bytes = allocate_packed(store, size);
    struct packed_weights *entry = NULL;

    if (bytes && !primitive_reorder_now(request->from, from_data, request->layout, bytes, error))
        return NULL;

    if (bytes)
        entry = add_entry(store, &(struct packed_weights){.source = request->data,
                                                          .role = request->role,
                                                          .layout = layout_copy(store->pool, request->layout),
                                                          .from = layout_copy(store->pool, request->from),
                                                          .bytes = bytes,
                                                          .size = size});

    if (!entry)
        error_set(error, ERROR_MEMORY, "not enough memory for weights of %zu bytes", size);
    return entry;
}

bool packed_is_reversible(const struct packed_weights *packed) {
    /* int8 layouts hold sums after the weights, Winograd's are of another kind */
    return layout_dtype(packed->from) != DTYPE_I8 && layout_shape(packed->layout)->rank >= 0;
}

static bool restore(struct weights_store *store, const void *data, void **ret, struct error *error) {
    const struct packed_weights *packed = NULL;
    *ret = NULL;
    for (int i = 0; i < store->count && !packed; i++)
        if (store->entries[i]->source == data &&
            (store->entries[i]->adopted || store->entries[i]->source_gone) &&
            packed_is_reversible(store->entries[i]))
            packed = store->entries[i];

    if (!packed) /* the constant's own elements are there */
        return true;

    void *bytes = malloc(layout_bytes(packed->from));
    if (!bytes)
        return error_set(error, ERROR_MEMORY, "not enough memory to unpack weights of %zu bytes",
                         packed->size);
    if (!primitive_reorder_now(packed->layout, packed->bytes, packed->from, bytes, error)) {
        free(bytes);
        return false;
    }

    *ret = bytes;
    return true;
}

bool weights_restore(struct weights_store *store, const void *data, void **ret, struct error *error) {
    store = owner_of(store, data);
    pthread_mutex_lock(&store->lock);
    bool done = restore(store, data, ret, error);
    pthread_mutex_unlock(&store->lock);
    return done;
}

static const struct file_map *map_of(const struct graph *graph, const void *data, size_t bytes) {
    for (int i = 0; i < graph->map_count; i++) {
        const uint8_t *start = graph->maps[i].bytes;
        if ((const uint8_t *)data >= start && (const uint8_t *)data + bytes <= start + graph->maps[i].size)
            return &graph->maps[i];
    }
    return NULL;
}

/* Pages of a file can be read again, and those around go with them. A copy, the graph's own or of a file that
 * is not needed any more, keeps its address, by which it is known, and loses its own pages alone. */
static void discard_source(const struct weights_store *store, struct packed_weights *packed) {
    size_t bytes = layout_bytes(packed->from);
    const struct file_map *map = map_of(store->graph, packed->source, bytes);
    bool is_copy = map && store->is_detached;
    if (map && !is_copy) {
        file_map_discard_around(map, packed->source, bytes);
        return;
    }

    for (int i = 0; i < store->graph->owned_count && !is_copy; i++)
        is_copy = store->graph->owned[i] == packed->source;
    if (is_copy && packed_is_reversible(packed)) {
        packed->source_gone = true;
        file_map_discard(packed->source, bytes);
    }
}

const struct packed_weights *weights_pack(struct weights_store *store, const struct weights_request *request,
                                          struct error *error) {
    void *restored = NULL;
    store = owner_of(store, request->data);
    pthread_mutex_lock(&store->lock);

    const struct packed_weights *entry = find(store, request->data, request->role, request->layout);
    if (!entry && restore(store, request->data, &restored, error)) {
        struct packed_weights *packed = pack(store, request, restored ? restored : request->data, error);
        if (packed && request->discard && !restored)
            discard_source(store, packed);
        free(restored);
        entry = packed;
    }

    pthread_mutex_unlock(&store->lock);
    return entry;
}

/* ---- Without the files ---- */

/* Whether every packed form of the constant leads back to its elements. */
static bool is_restorable(const struct weights_store *store, const void *data) {
    bool packed = false;

    for (int i = 0; i < store->count; i++)
        if (store->entries[i]->source == data) {
            if (!packed_is_reversible(store->entries[i]))
                return false;
            packed = true;
        }
    return packed;
}

/* The parts of one map that are still wanted. */
struct wanted_ranges {
    const struct file_map *map;
    struct file_range *ranges;
    size_t count, capacity;
};

static bool want_tensor(struct weights_store *store, struct wanted_ranges *wanted,
                        const struct tensor *tensor) {
    const uint8_t *data = tensor ? tensor->data : NULL;
    uintptr_t start = (uintptr_t)data - (uintptr_t)wanted->map->bytes;
    if (!data || (uintptr_t)data < (uintptr_t)wanted->map->bytes || start >= wanted->map->size ||
        is_restorable(store, data))
        return true;

    if (wanted->count == wanted->capacity) {
        size_t larger = wanted->capacity ? wanted->capacity * 2 : 64;
        struct file_range *fresh = realloc(wanted->ranges, larger * sizeof *fresh);
        if (!fresh)
            return false;
        wanted->ranges = fresh;
        wanted->capacity = larger;
    }

    wanted->ranges[wanted->count++] = (struct file_range){start, start + tensor_bytes(tensor)};
    return true;
}

static bool want_node(struct weights_store *store, struct wanted_ranges *wanted, const struct node *node);

/* Of a branch or a loop, which is planned when it is first taken; NULL: none. */
static bool want_body(struct weights_store *store, struct wanted_ranges *wanted, const struct graph *body) {
    bool done = true;
    for (const struct node *node = body ? body->first : NULL; node && done; node = node->next)
        done = want_node(store, wanted, node);
    for (int i = 0; body && i < body->output_count && done; i++)
        done = want_tensor(store, wanted, body->outputs[i]->constant);
    return done;
}

static bool want_node(struct weights_store *store, struct wanted_ranges *wanted, const struct node *node) {
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] && !want_tensor(store, wanted, node->inputs[i]->constant))
            return false;

    for (int i = 0; i < node->attribute_count; i++)
        if (!want_tensor(store, wanted, node->attributes[i].tensor) ||
            !want_body(store, wanted, node->attributes[i].graph))
            return false;

    return true;
}

static bool detach_map(struct weights_store *store, const struct file_map *map) {
    const struct graph *graph = store->graph;
    struct wanted_ranges wanted = {.map = map};
    bool done = true;

    for (const struct node *node = graph->first; node && done; node = node->next)
        done = want_node(store, &wanted, node);
    for (int i = 0; i < graph->output_count && done; i++)
        done = want_tensor(store, &wanted, graph->outputs[i]->constant);
    done = done && file_map_detach(map, wanted.ranges, wanted.count);

    free(wanted.ranges);
    return done;
}

bool weights_store_detach(struct weights_store *store, struct error *error) {
    const struct graph *graph = store->graph;
    bool done = true;
    pthread_mutex_lock(&store->lock);

    for (int i = 0; i < store->count; i++)
        if (map_of(graph, store->entries[i]->source, 1) && is_restorable(store, store->entries[i]->source))
            store->entries[i]->source_gone = true;
    for (int i = 0; i < graph->map_count && done; i++)
        done = graph->maps[i].size == 0 || detach_map(store, &graph->maps[i]);
    store->is_detached = true;

    pthread_mutex_unlock(&store->lock);
    return done || error_set(error, ERROR_MEMORY, "not enough memory to keep what its files hold");
}

bool weights_adopt(struct weights_store *store, const struct weights_baked *baked, struct error *error) {
    struct packed_weights *entry = NULL;
    pthread_mutex_lock(&store->lock);

    const struct layout *layout = layout_from_record(store->pool, &baked->layout);
    const struct layout *from = layout_from_record(store->pool, &baked->from);
    if (layout && from && layout_bytes(layout) == baked->size && layout_bytes(from) == baked->data_bytes &&
        layout_is_dense(from) && shape_equal(layout_shape(layout), layout_shape(from)))
        entry = add_entry(store, &(struct packed_weights){.source = baked->data,
                                                          .role = baked->role,
                                                          .layout = layout,
                                                          .from = from,
                                                          .bytes = (void *)baked->bytes,
                                                          .size = baked->size,
                                                          .adopted = true});

    pthread_mutex_unlock(&store->lock);
    return entry || error_set(error, ERROR_MODEL, "packed weights of %zu bytes cannot be used", baked->size);
}

size_t weights_total_bytes(struct weights_store *store) {
    size_t total = 0;

    pthread_mutex_lock(&store->lock);
    for (int i = 0; i < store->count; i++)
        total += store->entries[i]->size;
    pthread_mutex_unlock(&store->lock);
    return total;
}

const struct packed_weights *weights_at(struct weights_store *store, int index) {
    return index < store->count ? store->entries[index] : NULL;
}
