/* The rows of a batch side by side: each thread takes one at a time through a plan for a single row.
 *
 * For small networks. Threads that share one row wait for each other at the end of every step, and the
 * activations of many rows at once leave the cache; here nobody waits until the last row. */
#pragma once
#include "plan/plan.h"

struct lanes;

/* `plan` is for one row and one thread, and lives longer. NULL when memory is out. */
struct lanes *lanes_create(const struct plan *plan, int64_t rows, int threads, struct error *error);
void lanes_free(struct lanes *lanes);
/* As plan_run_execute, with inputs and outputs of all the rows; a row of input i has input_bytes[i]. One
 * thread at a time; uses its OpenMP team. */
bool lanes_execute(struct lanes *lanes, const void *const *inputs, const size_t *input_bytes,
                   const void **outputs, struct error *error);
