/* What an engine holds. Used inside engine/ only. */
#pragma once
#include <pthread.h>

#include "engine/baked.h"
#include "engine/engine.h"
#include "engine/plans.h"

/* The engine of a branch's or a loop's body, made when it is first needed. */
struct engine_body {
    const struct graph *graph;
    struct engine *engine;
    struct engine_body *next;
};

struct engine {
    struct engine *parent; /* of a part or a body: the engine that it belongs to; NULL for a whole model */
    int depth;             /* how many parents */
    struct engine_body *bodies; /* of a whole model; under the lock */
    pthread_mutex_t lock;
    struct engine_options options;
    enum precision precision;
    bool quantized;
    char *path;                   /* of the ONNX file; NULL without one */
    char baked_state[256];        /* see engine_baked_state */
    struct baked_sources sources; /* of a model that was read from its ONNX file */
    struct file_map baked_map;    /* the weights lie in it, where a baked file is used */
    struct graph *graph;
    struct weights_store *weights;
    struct engine_port *inputs, *outputs;
    bool *plan_inputs; /* [input_count] the value decides shapes */
    struct plan_cache *plans;
    struct plan_cache *exact_plans; /* for runs that met NaN or infinities; NULL: none are needed */
};
