/* A model as its users know it: a network with the names of its classes and the preprocessing of its photos.
 *
 * The folder is laid out as Hugging Face does: model.onnx (or onnx/model.onnx), config.json (id2label) and
 * preprocessor_config.json. Our own additions: labels_<language>.json (["…", …]) and variants
 * (model_int8.onnx). A loaded model is immutable, and any thread may use it; a classifier belongs to one
 * thread at a time. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"
#include "model/outputs.h"
#include "model/prepare.h"

struct model;
struct model_classifier;

struct model_options {
    struct engine_options engine;
    const char *variant; /* NULL: model.onnx; "int8": model_int8.onnx */
    bool any_network;    /* what takes no photo is loaded, too: see model_takes_photos */
};

/* `path`: a folder, or an .onnx file whose folder has the configuration. Without preprocessor_config.json,
 * photos are preprocessed as is usual for ImageNet; without labels, classes are called "class 17".
 * ERROR_MODEL names what is wrong: file, node or field.
 *
 * The precision is what the caller asks for, else what the folder's guichet.json says, else PRECISION_AUTO's;
 * bfloat16 by itself for classifiers only, whose answers it hardly changes: numbers that are used as such
 * stay in float32. */
struct model *model_load(const char *path, const struct model_options *options, struct error *error);
void model_free(struct model *model);

/* NAME or NAME:VARIANT, NAME being the folder's. */
const char *model_name(const struct model *model);
/* The ONNX file that was loaded. */
const char *model_path(const struct model *model);
/* The default length of free dimensions, from guichet.json; 0: none. */
int model_length(const struct model *model);
struct engine *model_engine(const struct model *model);
/* False, with the reason, for a network that was loaded with any_network and takes no photo, or whose folder
 * does not say how: nothing below is for it. */
bool model_takes_photos(const struct model *model, struct error *error);
/* What the network takes for photos. */
const struct photo_input *model_input(const struct model *model);
/* The same for a network that makes pictures of photos, whether or not it classifies them: where no file says
 * how, the whole photo with values from 0 to 1 (uint8: 0 to 255), in the network's size, or in its own where
 * that is free. *ret_source: the file, or what is assumed; the model's. One thread. ERROR_MODEL: it takes no
 * photo. */
bool model_picture_input(struct model *model, struct photo_input *ret, const char **ret_source,
                         struct error *error);
int model_class_count(const struct model *model);
/* The network's output that scores the classes: [n, class_count]. */
int model_output(const struct model *model);
/* The name of a class: id2label's; of ImageNet's lists of synonyms the first. `language`: "en", "fr", …;
 * English where the model has no such names. Never NULL for 0 <= index < class_count. */
const char *model_label(const struct model *model, int index, const char *language);

/* The class with this short or full name, synonym, or WordNet id (config.json's id2wnid). -1: there is none.
 */
int model_class_find(const struct model *model, const char *name);

/* Is what the photo shows among the classes? Judged where the folder has a rule for it (rejection.h); the
 * probabilities are the same in any case. */
enum model_knows {
    MODEL_KNOWS_UNJUDGED, /* there is no rule */
    MODEL_KNOWS_NOT,
    MODEL_KNOWS_PERHAPS,
    MODEL_KNOWS,
};
/* "no", "perhaps", "yes"; NULL where it was not judged. */
const char *model_knows_name(enum model_knows knows);

/* What a class is, whatever it is called: "imagenet:281" for a class of ImageNet (its list, or config.json's
 * id2imagenet), else its WordNet id. Two models mean the same by the same identity. NULL: not known. */
const char *model_class_identity(const struct model *model, int index, char ret[24]);
/* The text of the folder's README.md; NULL where there is none. */
const char *model_card(const struct model *model);
bool model_has_rejection(const struct model *model);

struct prediction {
    int index;
    const char *label;      /* English; belongs to the model */
    float probability;      /* of this class; all classes share 1 unless head_is_independent */
    enum model_knows knows; /* of the photo: the same in all of its predictions */
};

/* ERROR_INVALID, with the reason, where the network is no classifier: its outputs are tensors, not classes.
 */
bool model_check_classifier(const struct model *model, struct error *error);
/* Where a model's meaning comes from: the file and field, or what is assumed ("assumed: ImageNet's"). */
struct model_description {
    const char *preprocessing, *labels;
    const char *head, *head_source; /* how scores become probabilities, or why there are none */
};
void model_describe(const struct model *model, struct model_description *ret);
/* How the scores of this model become probabilities. */
enum head_kind model_head(const struct model *model);

struct model_classifier *model_classifier_create(struct model *model, struct error *error);
void model_classifier_free(struct model_classifier *classifier);

/* The bytes of a photo -> the best `top` predictions, best first, equal ones by index. *ret_count <= top.
 * Adds to timing. */
bool model_classify(struct model_classifier *classifier, const uint8_t *bytes, size_t size, int top,
                    struct prediction *ret, int *ret_count, struct timing *timing, struct error *error);
/* The same for `count` photos that photo_prepare made, one after another in `tensors`: [count, 3, height,
 * width] or [count, height, width, 3] of the network's type -> predictions [count, min(top, class_count)]. */
bool model_classify_prepared(struct model_classifier *classifier, const void *tensors, int count, int width,
                             int height, int top, struct prediction *ret, struct error *error);
/* The same in steps, for who runs photos together with other things. The context runs the network; [outputs]
 * are what engine_run gave for `rows` photos: the predictions of photo `row`, [min(top, class_count)].
 * ERROR_MODEL: the scores of that photo are no numbers (NaN, +infinity). */
struct engine_context *model_classifier_context(struct model_classifier *classifier);
bool model_classifier_read(struct model_classifier *classifier, const struct tensor *outputs, int64_t rows,
                           int64_t row, int top, struct prediction *ret, struct error *error);
/* Run `count` photos of zeros; what comes out is not looked at. */
bool model_classifier_warm_up(struct model_classifier *classifier, int count, struct error *error);
/* The same, and the probabilities of all classes: ret_probabilities [count, class_count]. */
bool model_classify_fully(struct model_classifier *classifier, const void *tensors, int count, int width,
                          int height, int top, struct prediction *ret, float *ret_probabilities,
                          struct error *error);
