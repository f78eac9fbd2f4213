#include "engine/plans.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/stages.h"
#include "lowering/lower.h"
#include "ops/operator.h"
#include "passes/passes.h"

#define KEPT_PLANS 32 /* the least recently used goes first */
#define KEPT_PLAN_BYTES ((size_t)128 << 20)
/* The rows of a batch run in parallel where every thread's weights stay in the processor's cache. */
#define ROW_PARALLEL_CONSTANT_BYTES ((size_t)32 << 20)

struct plan_cache {
    struct plan_cache_options options;
    pthread_mutex_t lock;
    struct cached_plan *plans;
    uint64_t clock;
};

static void cached_plan_free(struct cached_plan *cached) {
    if (!cached)
        return;

    plan_free(cached->plan);
    stage_free(cached->stage);
    arena_free(cached->arena);
    free(cached);
}

struct plan_cache *plan_cache_create(const struct plan_cache_options *options, struct error *error) {
    struct plan_cache *cache = calloc(1, sizeof *cache);
    if (!cache) {
        error_set(error, ERROR_MEMORY, "not enough memory for plans");
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
        struct cached_plan *next = cache->plans->next;
        cached_plan_free(cache->plans);
        cache->plans = next;
    }

    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

bool cached_plan_fits(const struct cached_plan *cached, const struct tensor *inputs) {
    for (int i = 0; i < cached->input_count; i++) {
        if (!shape_equal(&cached->shapes[i], &inputs[i].shape))
            return false;
        if (cached->values[i].data &&
            memcmp(cached->values[i].data, inputs[i].data, tensor_bytes(&inputs[i])) != 0)
            return false;
    }
    return true;
}

/* A graph with every shape known; NULL where the inputs don't suit it. */
static struct graph *specialized_graph(struct plan_cache *cache, const struct tensor *inputs,
                                       struct error *error) {
    struct graph *graph = graph_clone(cache->options.graph);
    if (!graph)
        error_set(error, ERROR_MEMORY, "not enough memory to plan the model");
    else if (passes_specialize(graph, inputs, cache->options.graph->input_count, error))
        return graph;

    graph_free(graph);
    return NULL;
}

/* Takes the graph over. */
static struct plan *lower_specialized(struct plan_cache *cache, struct graph *graph, struct error *error) {
    if (!cache->options.exact && !passes_fuse(graph, error)) {
        graph_free(graph);
        return NULL;
    }

    const struct lower_options options = {.compute = cache->options.compute, .exact = cache->options.exact};
    return lower_graph(graph, cache->options.weights, &options, error);
}

/* A branch may look at how many rows there are. */
static bool has_control(const struct graph *graph) {
    for (const struct node *node = graph->first; node; node = node->next)
        if (node_has(node, OP_CONTROL))
            return true;
    return false;
}

static bool suits_row_parallel(const struct plan_cache *cache, const struct graph *graph, int64_t rows) {
    int threads = cache->options.threads;
    int64_t rounds = (rows + threads - 1) / threads;

    return threads > 1 && rows > 1 && !cache->options.exact && rounds * threads * 8 <= rows * 9 &&
           !cache->options.profile && graph_constant_bytes(graph) <= ROW_PARALLEL_CONSTANT_BYTES &&
           !has_control(cache->options.graph) && passes_batch_is_separable(graph, rows);
}

/* Lock held, as in all that makes a plan. The plan for a single row on one thread; NULL where the network is
 * for one batch size. */
static struct plan *make_row_plan(struct plan_cache *cache, const struct tensor *inputs) {
    int count = cache->options.graph->input_count;
    struct tensor *row = calloc((size_t)count + 1, sizeof *row);
    struct plan *plan = NULL;
    struct error ignored;

    for (int i = 0; row && i < count; i++) {
        row[i] = inputs[i];
        row[i].shape.dims[0] = 1;
    }

    struct graph *graph = row ? specialized_graph(cache, row, &ignored) : NULL;
    if (graph && passes_batch_is_separable(graph, 1)) {
        omp_set_num_threads(1);
        plan = lower_specialized(cache, graph, &ignored);
        omp_set_num_threads(cache->options.threads);
    } else {
        graph_free(graph);
    }

    free(row);
    return plan;
}

/* The head as the plan, the rest as a stage. Takes the graphs over. */
static bool make_parts(struct plan_cache *cache, struct cached_plan *cached, struct graph *whole,
                       struct graph_parts *parts, struct error *error) {
    cached->stage = stage_create(cache->options.engine, whole, parts, error);
    if (!cached->stage) {
        graph_free(parts->head);
        return false;
    }
    cached->plan = lower_specialized(cache, parts->head, error);
    return cached->plan != NULL;
}

static bool make_plan(struct plan_cache *cache, struct cached_plan *cached, struct error *error) {
    struct graph *graph = graph_clone(cache->options.graph);
    struct graph_parts parts;
    if (!graph)
        return error_set(error, ERROR_MEMORY, "not enough memory to plan the model");
    if (!passes_specialize_parts(graph, cached->values, cached->input_count, &parts, error)) {
        graph_free(graph);
        return false;
    }
    if (parts.head)
        return make_parts(cache, cached, graph, &parts, error);

    int64_t rows =
        cache->options.graph->input_count > 0 && cached->shapes[0].rank > 0 ? cached->shapes[0].dims[0] : 0;
    if (suits_row_parallel(cache, graph, rows) && (cached->plan = make_row_plan(cache, cached->values))) {
        cached->parallel_rows = rows;
        graph_free(graph);
        return true;
    }

    cached->plan = lower_specialized(cache, graph, error);
    return cached->plan != NULL;
}

/* The shapes, and copies of the values that determine shapes. */
static bool keep_inputs(const struct plan_cache *cache, struct cached_plan *cached,
                        const struct tensor *inputs) {
    size_t count = (size_t)cache->options.graph->input_count;
    cached->input_count = cache->options.graph->input_count;
    cached->shapes = arena_allocate_array(cached->arena, count + 1, sizeof *cached->shapes);
    cached->values = arena_allocate_array(cached->arena, count + 1, sizeof *cached->values);
    if (!cached->shapes || !cached->values)
        return false;

    for (size_t i = 0; i < count; i++) {
        cached->shapes[i] = inputs[i].shape;
        cached->values[i] = inputs[i];
        cached->values[i].data = NULL;
        if (!cache->options.plan_inputs[i])
            continue;
        cached->values[i].data = arena_allocate(cached->arena, tensor_bytes(&inputs[i]) + 1);
        if (!cached->values[i].data)
            return false;
        memcpy(cached->values[i].data, inputs[i].data, tensor_bytes(&inputs[i]));
    }
    return true;
}

static struct cached_plan *cached_plan_create(struct plan_cache *cache, const struct tensor *inputs,
                                              struct error *error) {
    struct cached_plan *cached = calloc(1, sizeof *cached);
    if (!cached || !(cached->arena = arena_create()) || !keep_inputs(cache, cached, inputs))
        error_set(error, ERROR_MEMORY, "not enough memory to plan the model");
    else if (make_plan(cache, cached, error))
        return cached;

    cached_plan_free(cached);
    return NULL;
}

/* Lock held. Where there are many plans, or large ones, free the least recently used without a user. */
static void evict_plans(struct plan_cache *cache) {
    for (;;) {
        struct cached_plan **oldest = NULL;
        size_t bytes = 0;
        int count = 0;

        for (struct cached_plan **link = &cache->plans; *link; link = &(*link)->next, count++) {
            bytes += plan_bytes((*link)->plan);
            if (!(*link)->users && (!oldest || (*link)->used_at < (*oldest)->used_at))
                oldest = link;
        }
        if ((count < KEPT_PLANS && bytes < KEPT_PLAN_BYTES) || !oldest)
            return;

        struct cached_plan *gone = *oldest;
        *oldest = gone->next;
        cached_plan_free(gone);
    }
}

struct cached_plan *plan_cache_take(struct plan_cache *cache, const struct tensor *inputs,
                                    struct error *error) {
    pthread_mutex_lock(&cache->lock);
    struct cached_plan *cached = cache->plans;
    while (cached && !cached_plan_fits(cached, inputs))
        cached = cached->next;

    if (!cached) {
        evict_plans(cache);
        cached = cached_plan_create(cache, inputs, error);
        if (cached) {
            cached->next = cache->plans;
            cache->plans = cached;
        }
    }

    if (cached) {
        cached->users++;
        cached->used_at = ++cache->clock;
    }

    pthread_mutex_unlock(&cache->lock);
    return cached;
}

void plan_cache_give_back(struct plan_cache *cache, struct cached_plan *cached) {
    pthread_mutex_lock(&cache->lock);
    cached->users--;
    pthread_mutex_unlock(&cache->lock);
}

bool plan_cache_rows_are_apart(struct plan_cache *cache, const struct tensor *inputs, int64_t rows) {
    struct error ignored;

    pthread_mutex_lock(&cache->lock);
    struct graph *graph = specialized_graph(cache, inputs, &ignored);
    bool apart = graph && !has_control(cache->options.graph) && passes_batch_is_separable(graph, rows);
    graph_free(graph);
    pthread_mutex_unlock(&cache->lock);

    return apart;
}
