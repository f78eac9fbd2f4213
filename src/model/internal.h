/* Inside model/: a loaded model. */
#pragma once
#include "base/arena.h"
#include "model/head.h"
#include "model/labels.h"
#include "model/model.h"
#include "model/rejection.h"

struct model {
    struct arena *arena;
    char *name, *path;
    const char *folder; /* of its configuration */
    struct engine *engine;
    struct photo_input input;
    struct labels labels;
    const char *preprocessing_source; /* the file and field, or "assumed" */
    struct head head;
    struct rejection rejection;
    const char *card; /* the folder's README.md; NULL: there is none */
    struct onnx_metadata metadata;
    int output;               /* the one that scores the classes */
    int length;               /* model_length */
    struct error not_a_photo; /* .code ERROR_NONE: the network takes photos; else why it does not */
};
