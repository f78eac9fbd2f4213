/* The backend's inside: backend.c, what each kind of model adds to it (network.c with model_thread.c and
 * jobs.c, language_model.c), and no others; handlers and protocols use the functions of backend.h. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>

#include "http/fetch.h"
#include "model/name.h"
#include "server/backend/backend.h"
#include "model/settings.h"
#include "server/backend/counts.h"
#include "server/backend/jobs.h"
#include "server/backend/language/language.h"
#include "server/backend/run.h"

/* What a kind of model does its own way. */
struct backend_kind {
    /* Its parts, before the server that uses them: the model is loaded on a thread of its own. */
    bool (*start)(struct backend *backend, struct error *error);
    bool (*wait_ready)(struct backend *backend, struct error *error);
    bool (*is_ready)(const struct backend *backend);
    /* Of a model that is loaded. */
    void (*describe)(const struct backend *backend, struct model_status *ret);
    void (*find_load)(const struct backend *backend, struct service_load *ret);
    /* Set the gauges. */
    void (*update_metrics)(struct backend *backend);
    /* After the server has stopped: finish, without a client, what is under way. Whatever was started. */
    void (*finish)(struct backend *backend);
    /* After the server is gone. */
    void (*release)(struct backend *backend);
};
extern const struct backend_kind backend_network, backend_language_model;

struct backend {
    const struct backend_kind *kind;
    struct backend_options options;
    char *model_path, *variant, name[MODEL_NAME_BYTES], description[768];
    struct model_settings settings; /* of the model's folder */
    struct http_loops *loops;
    struct server *server;
    struct service service;
    struct metrics *metrics;
    struct workers *workers;

    /* Of a language model; NULL, and it is one of a network. */
    struct language *language;

    /* Of a network. */
    struct fetcher *fetcher;
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
