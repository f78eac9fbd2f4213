/* The plans of an engine: one for each set of concrete input shapes, made on first use, kept, and shared by
 * the contexts that run it. Safe for use from any thread. */
#pragma once
#include "plan/plan.h"

/* A plan, and the inputs that it is right for. */
struct prepared {
    struct prepared *next;
    struct plan *plan;
    int64_t lane_rows; /* > 0: the plan is for one of so many rows, and they run side by side */
    int users;         /* contexts that hold a run of it */
    uint64_t used_at;
    int input_count;
    struct shape *shapes;  /* [input_count] */
    struct tensor *values; /* [input_count] data NULL where the value decides nothing */
    struct arena *arena;
};

struct plan_cache_options {
    const struct graph *graph; /* simplified, and made ready for the precision; lives longer, as all below */
    struct weights_store *weights;
    const bool *plan_inputs; /* [graph->input_count] see passes_plan_inputs */
    enum dtype compute;      /* DTYPE_F32 or DTYPE_BF16 */
    int threads;             /* of one run */
    bool profile;            /* runs keep the time of every step: no rows side by side */
};

struct plan_cache;
struct plan_cache *plan_cache_create(const struct plan_cache_options *options, struct error *error);
void plan_cache_free(struct plan_cache *cache); /* after everything was given back */

/* The plan for these inputs (with data where it decides a shape), made when there is none yet; one user more.
 * NULL where the inputs don't suit the model. Sets the calling thread's number of OpenMP threads. */
struct prepared *plan_cache_take(struct plan_cache *cache, const struct tensor *inputs, struct error *error);
void plan_cache_give_back(struct plan_cache *cache, struct prepared *prepared);
bool prepared_fits(const struct prepared *prepared, const struct tensor *inputs);
