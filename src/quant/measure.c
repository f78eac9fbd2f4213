#include "quant/measure.h"

#include <math.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "model/outputs.h"

#define LEAST_PROBABILITY 1e-9 /* keeps the logarithm of a vanished class finite */

bool predictions_create(int count, int classes, enum head_kind head, struct predictions *ret,
                        struct error *error) {
    struct predictions predictions = {.count = count, .classes = classes, .head = head};
    predictions.probabilities =
        calloc((size_t)count + 1, (size_t)classes * sizeof *predictions.probabilities);
    predictions.best = calloc((size_t)count + 1, sizeof *predictions.best);
    if (!predictions.probabilities || !predictions.best) {
        predictions_release(&predictions);
        return error_set(error, ERROR_MEMORY, "not enough memory for the predictions of %d photos", count);
    }

    *ret = predictions;
    return true;
}

void predictions_release(struct predictions *predictions) {
    free(predictions->probabilities);
    free(predictions->best);
    *predictions = (struct predictions){0};
}

bool predictions_set(struct predictions *predictions, int index, const struct tensor *output, int64_t row,
                     struct error *error) {
    int classes = predictions->classes;
    float *probabilities = predictions->probabilities + (int64_t)index * classes;
    cleanup(freep) double *scores = calloc((size_t)classes, sizeof *scores);
    if (!scores)
        return error_set(error, ERROR_MEMORY, "not enough memory for the scores of %d classes", classes);

    scores_read(output, row, classes, scores);
    scores_find_best(scores, classes, 1, &predictions->best[index]);
    if (!scores_to_probabilities(scores, classes, predictions->head))
        return error_set(error, ERROR_MODEL, "the network's output holds values that are not finite");

    for (int i = 0; i < classes; i++)
        probabilities[i] = (float)scores[i];
    return true;
}

double predictions_divergence(const struct predictions *a, const struct predictions *b, int index) {
    const float *p = a->probabilities + (int64_t)index * a->classes;
    const float *q = b->probabilities + (int64_t)index * b->classes;
    double divergence = 0;

    for (int i = 0; i < a->classes; i++) {
        if (p[i] > 0)
            divergence += p[i] * log(p[i] / fmax(q[i], LEAST_PROBABILITY));
        if (head_is_independent(a->head) && p[i] < 1)
            divergence += (1 - p[i]) * log((1 - p[i]) / fmax(1 - q[i], LEAST_PROBABILITY));
    }

    return divergence > 0 ? divergence : 0;
}

struct agreement predictions_compare(const struct predictions *a, const struct predictions *b) {
    struct agreement agreement = {.count = b->count};
    for (int i = 0; i < b->count; i++) {
        double divergence = predictions_divergence(a, b, i);
        agreement.same += a->best[i] == b->best[i];
        agreement.mean += divergence / b->count;
        if (divergence > agreement.worst) {
            agreement.worst = divergence;
            agreement.worst_at = i;
        }
    }

    return agreement;
}
