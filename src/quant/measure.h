/* How far a model's answers are from another's, and how often each is right. Pure functions: any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "quant/photos.h"

/* A network's output for one photo as probabilities: softmax, unless the values are shares of one already. In
 * place. */
void answers_normalise(float *values, int64_t classes);
/* Kullback-Leibler divergence of q from p, in nats: how much is lost by taking q for p. Never negative. */
double answers_divergence(const float *p, const float *q, int64_t classes);
int64_t answers_best(const float *values, int64_t classes); /* the first of the largest */
/* Is `class` among the `top` largest? Ties count for the lower index. */
bool answers_hold(const float *values, int64_t classes, int64_t class, int top);

struct answers {
    const float *values; /* [count, classes] probabilities */
    int count;
    int64_t classes;
};

struct likeness {
    int count, same;    /* photos; those with the same best class */
    double mean, worst; /* divergence of b from a */
    int worst_at;       /* which photo */
};
/* Of b from a, photo by photo; both have the same count and classes. */
struct likeness answers_compare(const struct answers *a, const struct answers *b);

struct hits {
    int count, first, five; /* photos with a known class; right at first; right among the best five */
};
/* classes [count]: -1 where it is not known. */
struct hits answers_hits(const struct answers *answers, const int *classes);
