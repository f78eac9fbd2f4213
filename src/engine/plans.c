#include "engine/plans.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "lowering/lower.h"
#include "passes/passes.h"

#define KEPT_PLANS 32 /* the least recently used goes first */
/* The rows of a batch run side by side where every thread's weights stay in the cache. */
#define LANES_CONSTANT_BYTES ((size_t)32 << 20)

struct plan_cache {
    struct plan_cache_options options;
    pthread_mutex_t lock;
    struct prepared *plans;
    uint64_t clock;
};

static void prepared_free(struct prepared *prepared) {
    plan_free(prepared->plan);
    arena_free(prepared->arena);
    free(prepared);
}

struct plan_cache *plan_cache_create(const struct plan_cache_options *options, struct error *error) {
    struct plan_cache *cache = calloc(1, sizeof *cache);
    if (!cache) {
        error_set(error, ERROR_MEMORY, "no memory for plans");
        return NULL;
    }
    cache->options = *options;
    pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

void plan_cache_free(struct plan_cache *cache) {
    if (!cache)
        return;
    while (cache->plans) {
        struct prepared *next = cache->plans->next;
        prepared_free(cache->plans);
        cache->plans = next;
    }
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

bool prepared_fits(const struct prepared *prepared, const struct tensor *inputs) {
    for (int i = 0; i < prepared->input_count; i++) {
        if (!shape_equal(&prepared->shapes[i], &inputs[i].shape))
            return false;
        if (prepared->values[i].data &&
            memcmp(prepared->values[i].data, inputs[i].data, tensor_bytes(&inputs[i])) != 0)
            return false;
    }
    return true;
}

/* A graph with every shape known; NULL where the inputs don't suit it. */
static struct graph *specialised_graph(struct plan_cache *cache, const struct tensor *inputs,
                                       struct error *error) {
    struct graph *graph = graph_clone(cache->options.graph);
    if (!graph)
        error_set(error, ERROR_MEMORY, "no memory to plan the model");
    else if (passes_specialise(graph, inputs, cache->options.graph->input_count, error))
        return graph;
    graph_free(graph);
    return NULL;
}

/* Takes the graph over. */
static struct plan *lower_specialised(struct plan_cache *cache, struct graph *graph, struct error *error) {
    if (!passes_fuse(graph, error)) {
        graph_free(graph);
        return NULL;
    }
    const struct lower_options options = {.compute = cache->options.compute};
    return lower_graph(graph, cache->options.weights, &options, error);
}

static bool suits_lanes(const struct plan_cache *cache, const struct graph *graph, int64_t rows) {
    int threads = cache->options.threads;
    int64_t rounds = (rows + threads - 1) / threads;
    return threads > 1 && rows > 1 && rounds * threads * 8 <= rows * 9 && !cache->options.profile &&
           graph_constant_bytes(graph) <= LANES_CONSTANT_BYTES && passes_batch_is_separable(graph, rows);
}

/* The plan for a single row on one thread; NULL where the network insists on its batch. */
static struct plan *make_row_plan(struct plan_cache *cache, const struct tensor *inputs) {
    int count = cache->options.graph->input_count;
    struct tensor *row = calloc((size_t)count + 1, sizeof *row);
    struct plan *plan = NULL;
    struct error ignored;
    for (int i = 0; row && i < count; i++) {
        row[i] = inputs[i];
        row[i].shape.dims[0] = 1;
    }
    struct graph *graph = row ? specialised_graph(cache, row, &ignored) : NULL;
    if (graph && passes_batch_is_separable(graph, 1)) {
        omp_set_num_threads(1);
        plan = lower_specialised(cache, graph, &ignored);
        omp_set_num_threads(cache->options.threads);
    } else {
        graph_free(graph);
    }
    free(row);
    return plan;
}

static bool make_plan(struct plan_cache *cache, struct prepared *prepared, struct error *error) {
    struct graph *graph = specialised_graph(cache, prepared->values, error);
    if (!graph)
        return false;
    int64_t rows = cache->options.graph->input_count > 0 && prepared->shapes[0].rank > 0
                       ? prepared->shapes[0].dims[0]
                       : 0;
    if (suits_lanes(cache, graph, rows) && (prepared->plan = make_row_plan(cache, prepared->values))) {
        prepared->lane_rows = rows;
        graph_free(graph);
        return true;
    }
    prepared->plan = lower_specialised(cache, graph, error);
    return prepared->plan != NULL;
}

static struct prepared *prepared_create(struct plan_cache *cache, const struct tensor *inputs,
                                        struct error *error) {
    struct prepared *prepared = calloc(1, sizeof *prepared);
    size_t count = (size_t)cache->options.graph->input_count;
    bool done = prepared && (prepared->arena = arena_create()) != NULL;
    if (done) {
        prepared->input_count = cache->options.graph->input_count;
        prepared->shapes = arena_allocate_array(prepared->arena, count + 1, sizeof *prepared->shapes);
        prepared->values = arena_allocate_array(prepared->arena, count + 1, sizeof *prepared->values);
        done = prepared->shapes && prepared->values;
    }
    for (size_t i = 0; done && i < count; i++) {
        prepared->shapes[i] = inputs[i].shape;
        prepared->values[i] = inputs[i];
        prepared->values[i].data = NULL;
        if (!cache->options.plan_inputs[i])
            continue;
        prepared->values[i].data = arena_allocate(prepared->arena, tensor_bytes(&inputs[i]) + 1);
        done = prepared->values[i].data != NULL;
        if (done)
            memcpy(prepared->values[i].data, inputs[i].data, tensor_bytes(&inputs[i]));
    }
    if (!done)
        error_set(error, ERROR_MEMORY, "no memory to plan the model");
    if (done && make_plan(cache, prepared, error))
        return prepared;
    if (prepared)
        prepared_free(prepared);
    return NULL;
}

/* Under the lock: forget the plan that was used longest ago and that no context holds, when there are many.
 */
static void evict_plan(struct plan_cache *cache) {
    int count = 0;
    struct prepared **oldest = NULL;
    for (struct prepared **place = &cache->plans; *place; place = &(*place)->next, count++)
        if (!(*place)->users && (!oldest || (*place)->used_at < (*oldest)->used_at))
            oldest = place;
    if (count < KEPT_PLANS || !oldest)
        return;
    struct prepared *gone = *oldest;
    *oldest = gone->next;
    prepared_free(gone);
}

struct prepared *plan_cache_take(struct plan_cache *cache, const struct tensor *inputs, struct error *error) {
    pthread_mutex_lock(&cache->lock);
    struct prepared *prepared = cache->plans;
    while (prepared && !prepared_fits(prepared, inputs))
        prepared = prepared->next;
    if (!prepared) {
        evict_plan(cache);
        prepared = prepared_create(cache, inputs, error);
        if (prepared) {
            prepared->next = cache->plans;
            cache->plans = prepared;
        }
    }
    if (prepared) {
        prepared->users++;
        prepared->used_at = ++cache->clock;
    }
    pthread_mutex_unlock(&cache->lock);
    return prepared;
}

void plan_cache_give_back(struct plan_cache *cache, struct prepared *prepared) {
    pthread_mutex_lock(&cache->lock);
    prepared->users--;
    pthread_mutex_unlock(&cache->lock);
}
