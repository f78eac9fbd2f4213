#include "engine/row_parallel.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* What one thread of the team has for itself. */
struct row_thread {
    struct plan_run *run;
    const void **inputs;  /* [input_count] of the current row */
    const void **outputs; /* [output_count] */
    struct error error;
};

struct row_parallel {
    const struct plan *plan;
    int64_t row_count;
    struct row_thread *threads; /* [thread_count] */
    int thread_count;
    unsigned char **results; /* [output_count][row_count * the bytes of one] */
};

static bool row_thread_init(struct row_thread *thread, const struct plan *plan, struct error *error) {
    thread->run = plan_run_create(plan, false, error);
    thread->inputs = calloc((size_t)plan->input_count + 1, sizeof(void *));
    thread->outputs = calloc((size_t)plan->output_count + 1, sizeof(void *));
    return thread->run && thread->inputs && thread->outputs;
}

static void row_thread_release(struct row_thread *thread) {
    plan_run_free(thread->run);
    free(thread->inputs);
    free(thread->outputs);
}

static void *result_allocate(const struct plan_tensor *row, int64_t row_count) {
    size_t bytes;
    if (__builtin_mul_overflow(plan_tensor_bytes(row), (size_t)row_count, &bytes))
        return NULL;
    return aligned_alloc(64, size_align(bytes + 1, 64));
}

static bool row_parallel_allocate(struct row_parallel *rows, int threads, struct error *error) {
    const struct plan *plan = rows->plan;
    rows->results = calloc((size_t)plan->output_count + 1, sizeof *rows->results);
    rows->threads = calloc((size_t)threads, sizeof *rows->threads);
    if (!rows->results || !rows->threads)
        return false;

    for (int i = 0; i < plan->output_count; i++) {
        rows->results[i] = result_allocate(plan->outputs[i], rows->row_count);
        if (!rows->results[i])
            return false;
    }

    for (int i = 0; i < threads; i++) {
        rows->thread_count = i + 1;
        if (!row_thread_init(&rows->threads[i], plan, error))
            return false;
    }
    return true;
}

struct row_parallel *row_parallel_create(const struct plan *plan, int64_t row_count, int threads,
                                         struct error *error) {
    struct row_parallel *rows = calloc(1, sizeof *rows);
    if (rows) {
        rows->plan = plan;
        rows->row_count = row_count;
        if (row_parallel_allocate(rows, threads, error))
            return rows;
    }

    row_parallel_free(rows);
    error_set(error, ERROR_MEMORY, "not enough memory for a batch of %lld", (long long)row_count);
    return NULL;
}

void row_parallel_free(struct row_parallel *rows) {
    if (!rows)
        return;

    for (int i = 0; i < rows->thread_count; i++)
        row_thread_release(&rows->threads[i]);
    for (int i = 0; rows->results && i < rows->plan->output_count; i++)
        free(rows->results[i]);

    free(rows->results);
    free(rows->threads);
    free(rows);
}

static bool run_row(const struct row_parallel *rows, struct row_thread *thread, const void *const *inputs,
                    const size_t *input_bytes, int64_t row) {
    const struct plan *plan = rows->plan;
    for (int i = 0; i < plan->input_count; i++)
        thread->inputs[i] = (const char *)inputs[i] + (size_t)row * input_bytes[i];
    if (!plan_run_execute(thread->run, thread->inputs, thread->outputs, &thread->error))
        return false;

    for (int i = 0; i < plan->output_count; i++) {
        size_t bytes = plan_tensor_bytes(plan->outputs[i]);
        memcpy(rows->results[i] + (size_t)row * bytes, thread->outputs[i], bytes);
    }
    return true;
}

bool row_parallel_execute(struct row_parallel *rows, const void *const *inputs, const size_t *input_bytes,
                          const void **outputs, struct error *error) {
    int failed = -1;

#pragma omp parallel for schedule(dynamic) num_threads(rows->thread_count)
    for (int64_t row = 0; row < rows->row_count; row++) {
        int thread = omp_get_thread_num();
        if (!run_row(rows, &rows->threads[thread], inputs, input_bytes, row))
#pragma omp atomic write
            failed = thread;
    }

    if (failed >= 0) {
        *error = rows->threads[failed].error;
        return false;
    }
    for (int i = 0; i < rows->plan->output_count; i++)
        outputs[i] = rows->results[i];
    return true;
}
