/* The rows of a batch in parallel: each thread takes one row at a time through a plan for a single row.
 *
 * For small networks. Threads that share one row wait for each other at the end of every step, and the
 * activations of many rows at once leave the cache; here threads wait for each other once, after the last
 * row. */
#pragma once
#include "plan/plan.h"

struct row_parallel;

/* `plan` is for one row and one thread, and must live longer. NULL when memory is out. */
struct row_parallel *row_parallel_create(const struct plan *plan, int64_t row_count, int threads,
                                         struct error *error);
void row_parallel_free(struct row_parallel *rows);
/* As plan_run_execute, with inputs and outputs of all the rows; a row of input i has input_bytes[i]. One
 * thread at a time; runs on its OpenMP team. */
bool row_parallel_execute(struct row_parallel *rows, const void *const *inputs, const size_t *input_bytes,
                          const void **outputs, struct error *error);
