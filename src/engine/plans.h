/* The plans of an engine: one for each set of concrete input shapes, made on first use, kept, and shared by
 * the contexts that run it. Any thread; one lock in the cache covers the list and the making of a plan. */
#pragma once
#include "plan/plan.h"

struct stage; /* engine/stages.h */

/* A plan, and the inputs that it is right for. */
struct cached_plan {
    struct cached_plan *next;
    struct plan *plan;
    struct stage *stage;   /* what comes after the plan; NULL: nothing */
    int64_t parallel_rows; /* > 0: the plan is for one of so many rows, which run in parallel */
    int users;             /* run slots of contexts that hold a run of it; under the lock */
    uint64_t used_at;
    int input_count;
    struct shape *shapes;  /* [input_count] */
    struct tensor *values; /* [input_count] data NULL where the value determines no shape */
    struct arena *arena;
};

struct plan_cache_options {
    const struct graph *graph; /* simplified, for the precision; must live longer, as all below */
    struct weights_store *weights;
    const bool *plan_inputs; /* [graph->input_count] see passes_plan_inputs */
    enum dtype compute;      /* DTYPE_F32 or DTYPE_BF16 */
    int threads;             /* of one run */
    struct engine *engine;   /* for what comes after a plan */
    bool exact;              /* the plans are slow, and NaN and infinities pass: see lowering/lower.h */
    bool profile;            /* runs keep the time of every step: rows do not run in parallel */
};

struct plan_cache;
struct plan_cache *plan_cache_create(const struct plan_cache_options *options, struct error *error);
void plan_cache_free(struct plan_cache *cache); /* after every plan was given back */

/* The plan for these inputs (with data where the value determines a shape), made when there is none yet; it
 * gains a user, and stays until plan_cache_give_back. NULL where the inputs don't suit the model. Sets the
 * calling thread's number of OpenMP threads. */
struct cached_plan *plan_cache_take(struct plan_cache *cache, const struct tensor *inputs,
                                    struct error *error);
void plan_cache_give_back(struct plan_cache *cache, struct cached_plan *cached);
/* As engine_rows_are_apart has it; inputs[i].shape as they are wanted. */
bool plan_cache_rows_are_apart(struct plan_cache *cache, const struct tensor *inputs, int64_t rows);
bool cached_plan_fits(const struct cached_plan *cached, const struct tensor *inputs);
