/* A linear head by ridge regression: closed form, no learning rate, the same result every time.
 *
 * Scores are x·W + b for one-hot targets; all but the intercept is penalised. Leaving one photo out needs no
 * second fit: its residual is divided by 1 - its leverage (Allen's PRESS). The penalty and the temperature
 * that makes probabilities of scores are those with the best log-likelihood of the photos left out. One
 * thread calls; OpenMP works inside. */
#pragma once
#include <stdint.h>

#include "base/error.h"

struct ridge_samples {
    const float *features; /* [count, width] */
    const int *classes;    /* [count] 0 … class_count - 1 */
    int count, width, class_count;
};

struct ridge_head {
    float *weights;  /* [width, class_count]; logits = features·weights + bias: the temperature is in it */
    float *bias;     /* [class_count] */
    float *left_out; /* [count, class_count] probabilities of each photo by a head that never saw it */
    double penalty;  /* as a share of the mean squared length of the features */
    double temperature;
};

/* At least two samples of every class. ERROR_MEMORY; ERROR_INVALID: the features are no numbers. */
bool ridge_fit(const struct ridge_samples *samples, int threads, struct ridge_head *ret, struct error *error);
void ridge_head_release(struct ridge_head *head);
