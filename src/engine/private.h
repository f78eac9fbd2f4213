/* What an engine holds. Used inside engine/ only. */
#pragma once
#include "engine/baked.h"
#include "engine/engine.h"
#include "engine/plans.h"

struct engine {
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
