#include "train/optimizer.h"

#include <math.h>

#include "base/multiversion.h"

#define EPSILON 1e-8
#define PARALLEL_COUNT 65536

double train_rate(const struct train_optimizer *optimizer, int64_t step) {
    if (step < optimizer->warm_up)
        return optimizer->rate * (double)(step + 1) / (double)optimizer->warm_up;
    if (!optimizer->steps)
        return optimizer->rate;

    double done =
        (double)(step - optimizer->warm_up) / fmax((double)(optimizer->steps - optimizer->warm_up), 1);
    return optimizer->rate * 0.5 * (1 + cos(M_PI * fmin(done, 1)));
}

struct update {
    float rate, momentum, decay; /* SGD */
    float beta1, beta2, keep, step,
        root; /* AdamW: 1 - rate·decay, rate / bias of first, 1 / √bias of second */
};

MULTIVERSION static void update_sgd(const struct update *u, float *restrict w, float *restrict v,
                                    const float *restrict g, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        v[i] = u->momentum * v[i] + (g[i] + u->decay * w[i]);
        w[i] -= u->rate * v[i];
    }
}

MULTIVERSION static void update_adamw(const struct update *u, float *restrict w, float *restrict m,
                                      float *restrict v, const float *restrict g, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        m[i] = u->beta1 * m[i] + (1 - u->beta1) * g[i];
        v[i] = u->beta2 * v[i] + (1 - u->beta2) * g[i] * g[i];
        w[i] = w[i] * u->keep - u->step * m[i] / (__builtin_sqrtf(v[i]) * u->root + (float)EPSILON);
    }
}

void train_update(const struct train_optimizer *optimizer, int64_t step, const struct train_slot *slot) {
    double rate = train_rate(optimizer, step), decay = slot->decays ? optimizer->decay : 0;
    double beta1 = optimizer->beta1 ? optimizer->beta1 : 0.9,
           beta2 = optimizer->beta2 ? optimizer->beta2 : 0.999;
    double steps = (double)step + 1;
    const struct update update = {.rate = (float)rate,
                                  .momentum = (float)optimizer->momentum,
                                  .decay = (float)decay,
                                  .beta1 = (float)beta1,
                                  .beta2 = (float)beta2,
                                  .keep = (float)(1 - rate * decay),
                                  .step = (float)(rate / (1 - pow(beta1, steps))),
                                  .root = (float)(1 / sqrt(1 - pow(beta2, steps)))};
    enum { PIECE = 16384 };

#pragma omp parallel for schedule(static) if (slot->count > PARALLEL_COUNT)
    for (int64_t from = 0; from < slot->count; from += PIECE) {
        int64_t count = slot->count - from < PIECE ? slot->count - from : PIECE;
        if (optimizer->method == TRAIN_SGD)
            update_sgd(&update, slot->weights + from, slot->first + from, slot->gradient + from, count);
        else
            update_adamw(&update, slot->weights + from, slot->first + from, slot->second + from,
                         slot->gradient + from, count);
    }
}
