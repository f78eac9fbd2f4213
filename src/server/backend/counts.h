/* What a backend counts and measures of its predictions. Any thread. */
#pragma once
#include "server/backend/jobs.h"
#include "server/edge/metrics.h"

/* Metrics that every prediction touches. */
struct backend_counts {
    struct metrics *registry;
    struct metric *fetch, *queue, *decode, *preprocess, *infer, *total, *batch, *length, *pending, *ready,
        *loads, *load_seconds;
    /* Under the names that dashboards for other servers of V2 look for. */
    struct metric *success, *failure, *inferences, *executions;
    struct metric *request_us, *queue_us, *input_us, *infer_us, *output_us;
};

/* `model`: a label of each. */
void backend_counts_init(struct backend_counts *counts, struct metrics *metrics, const char *model);
/* A job was run (`good`), or failed. */
void backend_counts_add(const struct backend_counts *counts, const struct job *job, bool good);
/* A prediction was refused before it became a job. */
void backend_counts_refuse(const struct backend_counts *counts);
/* The model ran once for `size` jobs. */
void backend_counts_add_batch(const struct backend_counts *counts, int size);
/* The model was loaded and has answered. */
void backend_counts_set_ready(const struct backend_counts *counts, double seconds);
/* Before they are written: `length` jobs wait, `pending` are under way. */
void backend_counts_set_length(const struct backend_counts *counts, int length, int pending);
