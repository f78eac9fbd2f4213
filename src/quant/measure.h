/* What networks predict for the same photos, and how far one's predictions are from another's. Pure
 * functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/outputs.h"
#include "tensor/tensor.h"

/* Of `count` photos. */
struct predictions {
    int count, classes;
    enum head_kind head;  /* how scores become probabilities */
    float *probabilities; /* [count, classes] */
    int *best;            /* [count] the class with the highest score */
};

/* Zeroed. ERROR_MEMORY. */
bool predictions_create(int count, int classes, enum head_kind head, struct predictions *ret,
                        struct error *error);
void predictions_release(struct predictions *predictions);

/* Set the prediction for photo `index` from row `row` of a network's output. ERROR_MODEL: not finite. */
bool predictions_set(struct predictions *predictions, int index, const struct tensor *output, int64_t row,
                     struct error *error);

/* Kullback-Leibler divergence of b's probabilities from a's for a photo, in nats: how much is lost by taking
 * b for a. Never negative. */
double predictions_divergence(const struct predictions *a, const struct predictions *b, int index);

struct agreement {
    int count, same;    /* photos; those with the same best class */
    double mean, worst; /* divergence of b from a */
    int worst_at;       /* which photo */
};

/* Of b with a on the first b->count photos; both have the same classes. */
struct agreement predictions_compare(const struct predictions *a, const struct predictions *b);
