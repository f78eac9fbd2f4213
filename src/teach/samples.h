/* Inside teach/: prepared photos in memory, from which batches are drawn. */
#pragma once
#include "data/photo_list.h"
#include "teach/features.h"

struct tune_samples {
    struct photo_input input;
    float *tensors; /* [count, elements] */
    int *classes;   /* [count] */
    int *features;  /* [count] which of the features each is */
    int count, width, height;
    int64_t elements;
};

#define TUNE_BYTES ((size_t)1 << 30) /* of tensors */

/* The photos that have features, evenly spread over them where TUNE_BYTES does not hold all. ERROR_MODEL: the
 * network takes no float32, or photos become tensors of several sizes; ERROR_UNAVAILABLE: stopped by
 * `report`. */
bool tune_samples_load(const struct model *model, const struct photo_list *list,
                       const struct teach_features *features, int threads, progress_report report,
                       void *context, struct tune_samples *ret, struct error *error);
void tune_samples_release(struct tune_samples *samples);

/* The samples of a batch are a function of the seed and its number alone, so that a training that is
 * interrupted goes on as it would have. `order`: [count] of those to draw from; each is drawn once before any
 * is drawn again. The photo is moved by up to a sixteenth of its side and perhaps mirrored. inputs: [size,
 * elements]; ret_classes: [size]. False: no memory. */
bool tune_samples_draw(const struct tune_samples *samples, const int *order, int count, uint64_t seed,
                       int64_t batch, int size, float *inputs, int *ret_classes);
