#include "engine/lanes.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

struct lane {
    struct plan_run *run;
    const void **inputs;  /* [input_count] of the row at hand */
    const void **outputs; /* [output_count] */
    struct error error;
};

struct lanes {
    const struct plan *plan;
    int64_t rows;
    struct lane *lanes; /* [count] */
    int count;
    unsigned char **results; /* [output_count][rows * the bytes of one] */
};

static bool lane_create(struct lane *lane, const struct plan *plan, struct error *error) {
    lane->run = plan_run_create(plan, false, error);
    lane->inputs = calloc((size_t)plan->input_count + 1, sizeof(void *));
    lane->outputs = calloc((size_t)plan->output_count + 1, sizeof(void *));
    return lane->run && lane->inputs && lane->outputs;
}

static void *rows_allocate(const struct plan_tensor *row, int64_t rows) {
    size_t bytes;
    if (__builtin_mul_overflow(plan_tensor_bytes(row), (size_t)rows, &bytes))
        return NULL;
    return aligned_alloc(64, size_align(bytes + 1, 64));
}

struct lanes *lanes_create(const struct plan *plan, int64_t rows, int threads, struct error *error) {
    struct lanes *lanes = calloc(1, sizeof *lanes);
    bool done = lanes != NULL;
    if (done) {
        lanes->plan = plan;
        lanes->rows = rows;
        lanes->results = calloc((size_t)plan->output_count + 1, sizeof *lanes->results);
        lanes->lanes = calloc((size_t)threads, sizeof *lanes->lanes);
        done = lanes->results && lanes->lanes;
    }
    for (int i = 0; done && i < plan->output_count; i++)
        done = (lanes->results[i] = rows_allocate(plan->outputs[i], rows)) != NULL;
    for (int i = 0; done && i < threads; i++) {
        lanes->count = i + 1;
        done = lane_create(&lanes->lanes[i], plan, error);
    }
    if (done)
        return lanes;
    lanes_free(lanes);
    error_set(error, ERROR_MEMORY, "no memory for a batch of %lld", (long long)rows);
    return NULL;
}

void lanes_free(struct lanes *lanes) {
    if (!lanes)
        return;
    for (int i = 0; i < lanes->count; i++) {
        plan_run_free(lanes->lanes[i].run);
        free(lanes->lanes[i].inputs);
        free(lanes->lanes[i].outputs);
    }
    for (int i = 0; lanes->results && i < lanes->plan->output_count; i++)
        free(lanes->results[i]);
    free(lanes->results);
    free(lanes->lanes);
    free(lanes);
}

static bool run_row(const struct lanes *lanes, struct lane *lane, const void *const *inputs,
                    const size_t *input_bytes, int64_t row) {
    const struct plan *plan = lanes->plan;
    for (int i = 0; i < plan->input_count; i++)
        lane->inputs[i] = (const char *)inputs[i] + (size_t)row * input_bytes[i];
    if (!plan_run_execute(lane->run, lane->inputs, lane->outputs, &lane->error))
        return false;
    for (int i = 0; i < plan->output_count; i++) {
        size_t bytes = plan_tensor_bytes(plan->outputs[i]);
        memcpy(lanes->results[i] + (size_t)row * bytes, lane->outputs[i], bytes);
    }
    return true;
}

bool lanes_execute(struct lanes *lanes, const void *const *inputs, const size_t *input_bytes,
                   const void **outputs, struct error *error) {
    int failed = -1;
#pragma omp parallel for schedule(dynamic) num_threads(lanes->count)
    for (int64_t row = 0; row < lanes->rows; row++) {
        int thread = omp_get_thread_num();
        if (!run_row(lanes, &lanes->lanes[thread], inputs, input_bytes, row))
#pragma omp atomic write
            failed = thread;
    }
    if (failed >= 0) {
        *error = lanes->lanes[failed].error;
        return false;
    }
    for (int i = 0; i < lanes->plan->output_count; i++)
        outputs[i] = lanes->results[i];
    return true;
}
