/* A graph run over a photo set, batch by batch. One thread calls. */
#pragma once
#include "engine/engine.h"
#include "graph/graph.h"
#include "quant/measure.h"
#include "data/photo_set.h"

struct runner;

/* Takes over the graph (one float32 input), also on failure. `batch`: photos per run, where the network
 * leaves that free. Quantised layers run in integers, the rest strictly in float32. `share_weights_with` (may
 * be NULL): a runner of another version of this graph, whose packed weights are used where they are the same.
 * It and `set` must outlive this one. */
struct runner *runner_create(struct graph *graph, const struct photo_set *set, int batch, int threads,
                             struct runner *share_weights_with, struct error *error);
void runner_free(struct runner *runner);
void runner_set_batch(struct runner *runner, int batch);

/* The outputs of one batch: rows 0 to `count` - 1 are those of samples[i]; ignore the rows after them. */
typedef bool (*runner_visit)(void *context, const struct tensor *outputs, int output_count,
                             const int *samples, int count, struct error *error);
/* Samples: indices of photos; set->count + i is photo i mirrored. */
bool runner_run(struct runner *runner, const int *samples, int count, runner_visit visit, void *context,
                struct error *error);
/* The predictions for the first predictions->count samples, from the output that scores the classes.
 * ERROR_MODEL where that is of another size, or not finite. */
bool runner_collect(struct runner *runner, const int *samples, int output, struct predictions *predictions,
                    struct error *error);
