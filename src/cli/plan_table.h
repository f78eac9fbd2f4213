/* A plan as tables for people and as JSON: what it is made of, and where its time goes. */
#pragma once
#include <jansson.h>
#include <stdint.h>

#include "plan/plan.h"

/* What was measured of a plan. */
struct plan_times {
    const struct plan *plan;
    double *step_ms; /* [plan->step_count] mean of one run; malloc'ed */
    double run_ms;   /* mean of a whole run, as its caller saw it */
};

/* The mean over `runs` runs: nanoseconds after, less those before. False when memory is out. */
bool plan_times_init(struct plan_times *times, const struct plan *plan, const int64_t *before,
                     const int64_t *after, int runs, double run_ms);
void plan_times_release(struct plan_times *times);

/* A line for each kind of action, the slowest steps, and the time beside that of convolutions and matrix
 * products. */
void plan_times_print(const struct plan_times *times);
/* {"run_ms", "products_ms", "above_percent", "actions": […], "steps": […]}; NULL when memory is out. */
json_t *plan_times_to_json(const struct plan_times *times);

/* What was fused, which kernels, and memory; with `every_step` also each step and its layouts. */
void plan_print(const struct plan *plan, bool every_step);
