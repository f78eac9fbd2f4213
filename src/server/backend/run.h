/* A batch through the model: photos and tensors of several requests gathered, run, and their answers handed
 * back. On the model's thread. */
#pragma once
#include "server/backend/kinds.h"

struct backend;
struct job;

/* What the runs of a backend keep. */
struct runner {
    struct model_classifier *classifier;
    struct tensor *outputs; /* [engine_output_count] of the last run */
    struct {
        void *bytes;
        size_t size;
    } staging[INFERENCE_PORTS]; /* the rows of a batch one after the other, for each input */
};

bool runner_init(struct runner *runner, struct model *model, struct error *error);
void runner_release(struct runner *runner);
/* The batcher's `run`. Where several cannot be run together, each is run alone: what is wrong with one is
 * told to that one (job->failure). */
bool backend_model_run(void *context, struct batcher_item **items, int count, struct error *error);
/* What a job is to the batcher: its key and its rows. On the thread that made its tensors. */
void job_classify(struct job *job);
