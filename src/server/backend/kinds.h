/* The kinds of requests that one model has had: those of one kind, with inputs of one shape but for the
 * number of rows, may be run together, photos and tensors alike. A kind's number is its key in the batcher.
 *
 * Tensors are joined where it is certain that no row depends on another. A classifier's photos are joined in
 * any case: its classes are those of one photo. */
#pragma once
#include <pthread.h>

#include "model/model.h"
#include "server/backend/batcher.h"
#include "server/backend/protocol/inference.h"

struct request_kind {
    int input_count;
    struct tensor inputs[INFERENCE_PORTS]; /* of one row; no data */
    bool apart;                            /* no row depends on another */
};

struct kinds {
    pthread_mutex_t lock;
    int count;
    struct request_kind list[BATCHER_KEYS]; /* what is in it does not change any more */
};

void kinds_init(struct kinds *kinds);
void kinds_release(struct kinds *kinds);
/* The key of such inputs; -1: they run alone. The first time it looks at the network, for milliseconds. Any
 * thread, once the model is loaded. */
int kinds_find(struct kinds *kinds, const struct model *model, const struct tensor *inputs, int input_count,
               bool are_photos);
/* `rows` rows of a kind, as engine_prepare takes them. */
void kind_inputs(const struct request_kind *kind, int64_t rows, struct tensor *ret);
