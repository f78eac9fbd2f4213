/* Inside model/: what the scores of a network mean, from the model's files. Any thread. */
#pragma once
#include "base/arena.h"
#include "engine/engine.h"
#include "model/outputs.h"
#include "onnx/metadata.h"

struct head {
    enum head_kind kind;
    const char *source; /* where that comes from: "config.json: problem_type", "the network's last operators",
                           "assumed"; in the arena */
    const char *reason; /* of HEAD_NONE: why the network is no classifier */
};

/* From problem_type, architectures and id2label of the folder's config.json, the network's metadata
 * (problem_type, task), the name of its output and its last operators. ERROR_MODEL names the file and a field
 * that is wrong. */
bool head_find(const char *folder, const struct onnx_metadata *metadata, const struct engine *engine,
               int output, int classes, struct arena *arena, struct head *ret, struct error *error);
