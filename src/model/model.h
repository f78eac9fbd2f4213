/* A model as a person knows it: a folder with a network, labels, and the recipe for its photos.
 *
 * Folder layout is Hugging Face's: model.onnx (or onnx/model.onnx), config.json (id2label),
 * preprocessor_config.json; beside it, ours: labels_<language>.json (["…", …]) and other precisions
 * (model_int8.onnx). A loaded model is immutable and shared by all threads; a classifier is one thread's. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"
#include "image/image.h"

struct model;
struct model_classifier;

struct model_options {
    struct engine_options engine;
    const char *variant; /* NULL: model.onnx; "int8": model_int8.onnx */
};

/* `path`: a folder, or an .onnx file (its folder then gives labels and recipe, where there are any).
 * Without preprocessor_config.json: ImageNet's usual recipe for the input size. Without labels: "class 17".
 */
struct model *model_load(const char *path, const struct model_options *options, struct error *error);
void model_free(struct model *model);

const char *model_name(
    const struct model *model); /* the folder's name, ":variant" behind it where there is one */
struct engine *model_engine(const struct model *model);
const struct image_recipe *model_recipe(const struct model *model);
int model_class_count(const struct model *model);
/* The network's output that classifies: [n, class_count]. */
int model_output(const struct model *model);
/* Short, human: the text before the first comma of id2label. `language`: "en", "fr", …; English where there
 * is none. Never NULL for 0 <= index < class_count. */
const char *model_label(const struct model *model, int index, const char *language);

/* The class that a folder of photos is named after: a short or full label, one of its synonyms, or a WordNet
 * id (config.json's id2wnid). -1 where there is none. */
int model_class_find(const struct model *model, const char *name);
/* The ONNX file that was loaded. */
const char *model_path(const struct model *model);

struct prediction {
    int index;
    const char *label; /* English; belongs to the model */
    float probability; /* softmax of the logits (or as is, where the model ends in a softmax) */
};

struct timing { /* milliseconds; 0 where a stage did not happen */
    double fetch, decode, preprocess, infer;
};

struct model_classifier *model_classifier_create(struct model *model, struct error *error);
void model_classifier_free(struct model_classifier *classifier);

/* Bytes of a photo -> the top `top` predictions, best first, ties by index. *ret_count <= top. Adds to
 * timing. */
bool model_classify(struct model_classifier *classifier, const uint8_t *bytes, size_t size, int top,
                    struct prediction *ret, int *ret_count, struct timing *timing, struct error *error);
/* Tensors ready made: [count, 3, h, w] -> predictions [count, min(top, class_count)]. */
bool model_classify_tensors(struct model_classifier *classifier, const float *tensors, int count, int height,
                            int width, int top, struct prediction *ret, struct error *error);
