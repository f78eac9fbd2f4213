#include "quant/measure.h"

#include <math.h>

#define LEAST_SHARE 1e-9 /* keeps the logarithm of a vanished class finite */

void answers_normalise(float *values, int64_t classes) {
    double sum = 0, total = 0;
    float largest = -INFINITY;
    bool shares = true;
    for (int64_t i = 0; i < classes; i++) {
        sum += values[i];
        largest = values[i] > largest ? values[i] : largest;
        shares = shares && values[i] >= 0 && values[i] <= 1;
    }
    if (shares && fabs(sum - 1) < 0.01)
        return;
    for (int64_t i = 0; i < classes; i++)
        total += exp((double)values[i] - largest);
    for (int64_t i = 0; i < classes; i++)
        values[i] = (float)(exp((double)values[i] - largest) / total);
}

double answers_divergence(const float *p, const float *q, int64_t classes) {
    double divergence = 0;
    for (int64_t i = 0; i < classes; i++)
        if (p[i] > 0)
            divergence += p[i] * log(p[i] / fmax(q[i], LEAST_SHARE));
    return divergence > 0 ? divergence : 0;
}

int64_t answers_best(const float *values, int64_t classes) {
    int64_t best = 0;
    for (int64_t i = 1; i < classes; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

bool answers_hold(const float *values, int64_t classes, int64_t class, int top) {
    int better = 0;
    if (class < 0 || class >= classes)
        return false;
    for (int64_t i = 0; i < classes && better < top; i++)
        better += values[i] > values[class] || (values[i] == values[class] && i < class);
    return better < top;
}

struct likeness answers_compare(const struct answers *a, const struct answers *b) {
    struct likeness likeness = {.count = a->count};
    for (int i = 0; i < a->count; i++) {
        const float *p = a->values + i * a->classes, *q = b->values + i * a->classes;
        double divergence = answers_divergence(p, q, a->classes);
        likeness.same += answers_best(p, a->classes) == answers_best(q, a->classes);
        likeness.mean += divergence / a->count;
        if (divergence > likeness.worst) {
            likeness.worst = divergence;
            likeness.worst_at = i;
        }
    }
    return likeness;
}

struct hits answers_hits(const struct answers *answers, const int *classes) {
    struct hits hits = {0};
    for (int i = 0; i < answers->count; i++) {
        const float *values = answers->values + i * answers->classes;
        if (classes[i] < 0)
            continue;
        hits.count++;
        hits.first += answers_best(values, answers->classes) == classes[i];
        hits.five += answers_hold(values, answers->classes, classes[i], 5);
    }
    return hits;
}
