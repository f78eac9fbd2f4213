/* A classifier's weights, trained step by step on batches of inputs and what should come out.
 *
 * A training step is a graph like any other: the network with its weights as inputs, the loss, and the
 * gradients (differentiate.h), lowered to a plan. Weights, moments and sums are float32. Batch norm keeps its
 * statistics. The same calls with as many threads on the same processor give the same weights. One thread at
 * a time for each trainer; OpenMP works inside. */
#pragma once
#include "graph/graph.h"
#include "tensor/tensor.h"
#include "train/optimizer.h"

struct trainer;

struct trainer_options {
    struct train_optimizer optimizer;
    struct shape input; /* of a part of a batch that is run at once: [n, …] */
    int parts;          /* of a batch, whose gradients are added up; 0 stands for 1 */
    int threads;
};

/* `graph`: bound, with one float32 input [n, …] and one output [n, classes], the logits. It must outlive the
 * trainer. Trained are the float32 constants that convolutions, matrix products, normalisations and sums read
 * as weights. ERROR_MODEL: nothing to train, or a node without a gradient. */
struct trainer *trainer_create(const struct graph *graph, const struct trainer_options *options,
                               struct error *error);
void trainer_free(struct trainer *trainer);

int64_t trainer_parameter_count(const struct trainer *trainer); /* numbers that are trained */
int64_t trainer_step_count(const struct trainer *trainer);      /* steps done */

/* One step. inputs: [parts * n, …]; targets: [parts * n, classes], for each row shares that add up to 1.
 * *ret_loss: the mean cross-entropy of the batch before the step. ERROR_MODEL: it is no number any more. */
bool trainer_step(struct trainer *trainer, const float *inputs, const float *targets, double *ret_loss,
                  struct error *error);

/* The network with the weights as they are now: a clone that owns them, bound. The graph that was given must
 * outlive it. */
struct graph *trainer_graph(const struct trainer *trainer, struct error *error);

/* All that the next steps depend on, written atomically; and read back into a trainer that was made alike.
 * ERROR_INVALID: the file is of another network or other options, or is damaged. */
bool trainer_save(const struct trainer *trainer, const char *path, struct error *error);
bool trainer_restore(struct trainer *trainer, const char *path, struct error *error);
