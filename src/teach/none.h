/* Inside teach/: does a photo resemble those that were taught at all?
 *
 * Features, less their mean, have a direction; how far a photo's is from the nearest of the taught ones
 * (their cosine) tells foreign photos where scores of classes do not. The threshold is where one in
 * twenty-five of the taught photos, each compared with the others, would be refused. */
#pragma once
#include "teach/ridge.h"

#define TEACH_NONE_KNOWN 2000 /* photos to compare with, at the most */

struct teach_none {
    float *mean;  /* [width] */
    float *known; /* [width, count] directions */
    int count;
    /* Added to the best score of a class: shift + slope * cosine is 0 at the threshold. */
    float slope, shift;
    double threshold;
};

/* ERROR_MEMORY; ERROR_INVALID: all photos look alike. */
bool teach_none_fit(const struct ridge_samples *samples, int threads, struct teach_none *ret,
                    struct error *error);
void teach_none_release(struct teach_none *none);
