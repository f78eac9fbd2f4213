/* Inside model/: a loaded model. */
#pragma once
#include "base/arena.h"
#include "model/labels.h"
#include "model/model.h"

struct model {
    struct arena *arena;
    char *name, *path;
    struct engine *engine;
    struct image_recipe recipe;
    struct labels labels;
    enum dtype input_dtype;
    bool channels_last;    /* the input is [n, h, w, 3] */
    int64_t batch;         /* of the input; -1: free */
    int64_t height, width; /* of the input; -1: free */
    int output;            /* which output holds the classes */
};
