/* Plans as text and JSON: their steps, and where the time goes. One thread at a time. */
#pragma once
#include <jansson.h>
#include <stdint.h>

#include "plan/plan.h"

/* Measured times of a plan. */
struct plan_times {
    const struct plan *plan;
    double *step_ms; /* [plan->step_count] mean of one run; malloc'ed */
    double run_ms;   /* mean of a whole run, as its caller saw it */
};

/* `before`, `after`: [step_count] nanoseconds in all, before and after `runs` runs. False when memory is out.
 */
bool plan_times_init(struct plan_times *times, const struct plan *plan, const int64_t *before,
                     const int64_t *after, int runs, double run_ms);
void plan_times_release(struct plan_times *times);

/* Print a line for each action, the slowest steps, and the time compared with convolutions and matrix
 * products alone.
 */
void plan_times_print(const struct plan_times *times);
/* {"run_ms", "products_ms", "above_percent", "actions": […], "steps": […]}; NULL when memory is out. */
json_t *plan_times_to_json(const struct plan_times *times);

/* Print what was fused, which kernels run and how much memory they need; with `every_step` also each step and
 * its layouts. */
void plan_print(const struct plan *plan, bool every_step);
