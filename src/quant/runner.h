/* A network run over a photo set, batch by batch. One thread calls. */
#pragma once
#include "engine/engine.h"
#include "graph/graph.h"
#include "quant/photos.h"

struct runner;

/* Takes the graph (one float32 input) over, also on failure. `batch`: photos a run, where the network leaves
 * that free. Computes in integers what is quantised, and everything else strictly in float32. `set` must live
 * longer, and so must `beside` (may be NULL), of whose graph this one is a variation: what is the same in
 * both is packed once. */
struct runner *runner_create(struct graph *graph, const struct photo_set *set, int batch, int threads,
                             struct runner *beside, struct error *error);
/* The same for an engine that is there; it stays the caller's, and must live longer. */
struct runner *runner_create_for(struct engine *engine, const struct photo_set *set, int batch,
                                 struct error *error);
void runner_free(struct runner *runner);
void runner_set_batch(struct runner *runner, int batch);

/* Outputs of one batch: row i of the first `count` is sample samples[i]'s; more rows may follow, which mean
 * nothing. */
typedef bool (*runner_visit)(void *context, const struct tensor *outputs, int output_count,
                             const int *samples, int count, struct error *error);
/* Samples are numbers of photos; set->count + i is photo i mirrored, which is a photo as good as another. */
bool runner_run(struct runner *runner, const int *samples, int count, runner_visit visit, void *context,
                struct error *error);
/* One output alone, as rows of `row` values: ret [count, row]. ERROR_MODEL where its size is another. */
bool runner_collect(struct runner *runner, const int *samples, int count, int output, int64_t row, float *ret,
                    struct error *error);
/* The output that holds the classes: "logits", else the first; and its values for one photo, after a run of
 * `sample`. */
bool runner_classes(struct runner *runner, int sample, int *ret_output, int64_t *ret_row,
                    struct error *error);
