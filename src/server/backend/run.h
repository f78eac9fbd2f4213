/* A batch through the model: photos and tensors of several requests gathered, run, and their answers handed
 * back. On the model's thread. */
#pragma once
#include "server/backend/kinds.h"

struct job;

/* What the runs of a model keep. */
struct batch_runner {
    struct model *model;
    int most_rows;                       /* of one run; more are run in pieces, where they may be */
    struct model_classifier *classifier; /* NULL: the network takes no photos */
    struct engine_context *context;      /* the classifier's, or our own */
    struct tensor *outputs;              /* [engine_output_count] of the last run */
    struct {
        void *bytes;
        size_t size;
    } staging[INFERENCE_PORTS]; /* the rows of a batch one after the other, for each input */
};

bool batch_runner_start(struct batch_runner *runner, struct model *model, int most_rows, struct error *error);
void batch_runner_end(struct batch_runner *runner);
/* The items are jobs. Where several cannot be run together, each is run alone: what is wrong with one is told
 * to that one (job->failure). */
bool batch_run(struct batch_runner *runner, struct batcher_item **items, int count, struct error *error);
/* What a job is to the batcher: its key and its rows. On the thread that made its tensors. */
void batch_classify(struct kinds *kinds, const struct model *model, struct job *job);
