/* Steps of gradient descent, and how long they are. Pure functions over arrays; OpenMP works inside. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum train_method {
    TRAIN_SGD,   /* with momentum (PyTorch's form: v = m·v + g, w -= rate·v) */
    TRAIN_ADAMW, /* Loshchilov and Hutter, https://arxiv.org/abs/1711.05101, algorithm 2 */
};

struct train_optimizer {
    enum train_method method;
    double rate;         /* the largest */
    double momentum;     /* SGD's; 0: none */
    double beta1, beta2; /* AdamW's; 0: 0.9 and 0.999 */
    double decay;        /* of weights: AdamW's is apart from the gradient, SGD's is added to it */
    int64_t warm_up;     /* steps over which the rate grows from 0 */
    int64_t steps;       /* after which it has fallen to 0, as half a cosine; 0: it stays */
};

/* The rate of step `step`, counted from 0. */
double train_rate(const struct train_optimizer *optimizer, int64_t step);

/* One parameter: `weights` change by `gradient`; `first` and `second` (AdamW's only) are its moments, zero at
 * first. All [count]. */
struct train_slot {
    float *weights, *first, *second;
    const float *gradient;
    int64_t count;
    bool decays;
};
void train_update(const struct train_optimizer *optimizer, int64_t step, const struct train_slot *slot);
