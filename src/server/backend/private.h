/* The backend's inside, for backend.c, jobs.c and model_thread.c alone; handlers and protocols use the
 * functions below. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "http/fetch.h"
#include "model/name.h"
#include "server/backend/backend.h"
#include "server/backend/counts.h"
#include "server/backend/jobs.h"
#include "server/backend/run.h"

struct backend {
    struct backend_options options;
    char *model_path, *variant, name[MODEL_NAME_BYTES], description[768];
    struct http_loops *loops;
    struct server *server;
    struct service service;
    struct fetcher *fetcher;
    struct workers *workers;
    struct batcher *batcher;
    struct backend_counts counts;
    atomic_bool ready;
    atomic_int pending; /* predictions under way */
    /* Made on the model's thread before `ready`; the model is immutable from then on, the rest is that
     * thread's. */
    struct model *model;
    struct batch_runner runner;
    struct kinds kinds;  /* any thread */
    pthread_t detaching; /* copies what the baked file holds, so that nothing of it is needed any more */
    bool is_detaching;
};

/* model_thread.c: the batcher's callbacks. */
bool backend_model_start(void *context, struct error *error);
bool backend_model_run(void *context, struct batcher_item **items, int count, struct error *error);
bool backend_model_prepare(void *context, int key, int rows);
bool backend_model_is_wanted(void *context, struct batcher_item *item);
void backend_model_done(void *context, struct batcher_item *item, const struct error *error);
void backend_model_end(void *context);
