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

/* What the network takes for so many photos: [count, 3, height, width], or with the channels last. `data` may
 * be NULL; it stays the caller's. */
struct tensor model_input_tensor(const struct model *model, int64_t count, int64_t height, int64_t width,
                                 void *data);
