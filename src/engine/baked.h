/* A model made ready, in a file: the simplified graph, and the weights as this processor's primitives want
 * them, to be mapped and used where they lie. It is right for one file, one precision, one processor and one
 * version of oneDNN, and says so.
 *
 * File: struct baked_header, then the graph as ONNX (weights that are packed appear as inputs named
 * "guichet.weights.<n>"), the model's files with their digests, then a table of entries with their layouts,
 * then the packed weights, each from a page boundary. Everything is covered by a checksum. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/file.h"
#include "engine/baked_sources.h"
#include "engine/engine.h"
#include "plan/weights.h"

/* Where the baked form of a model file lies: "model.onnx.bf16.baked". Returns `text`. */
const char *baked_path(const char *model_path, enum precision precision, char *text, size_t size);

/* Write the graph (simplified, its constants in `weights`' packed forms) for a model of these files, with
 * their digests, at `precision`. Atomic. */
bool baked_write(const char *path, const struct baked_sources *sources, enum precision precision,
                 const struct graph *graph, struct weights_store *weights, struct error *error);

struct baked {
    struct graph *graph; /* bound; its packed constants' data points into the map */
    struct weights_store *weights;
    struct baked_sources sources; /* with their digests */
    struct file_map map;          /* to be kept open as long as the weights are used */
};

/* Read it. ERROR_NOT_FOUND where there is none; ERROR_INVALID with the reason where it is not current
 * (another processor, another model file, damaged): the model is then read from its ONNX file. A missing ONNX
 * file is no reason. */
bool baked_read(const char *path, const char *model_path, enum precision precision, struct baked *ret,
                struct error *error);
