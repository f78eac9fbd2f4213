#include "model/outputs.h"

#include <math.h>
#include <string.h>

#include "base/limits.h"

#define SUM_TOLERANCE 0.01 /* of probabilities that the network rounded, to bfloat16 at the worst */

int output_class_count(const struct shape *shape, enum dtype dtype) {
    bool known = shape->rank >= 0;
    if ((dtype != DTYPE_UNKNOWN && !dtype_is_float(dtype)) || shape->rank == 0 || shape->rank == 1)
        return 0;

    for (int i = 1; i < shape->rank; i++) {
        if (i > 1 && shape->dims[i] >= 0 && shape->dims[i] != 1)
            return 0;
        known = known && shape->dims[i] >= 0;
    }

    if (!known)
        return -1;
    return shape->dims[1] <= LIMIT_CLASSES ? (int)shape->dims[1] : 0;
}

bool outputs_find_scores(const struct engine *engine, int *ret_output, int *ret_classes,
                         struct error *error) {
    enum { CANNOT_BE, MAY_BE, HAS_CLASSES, NAMED } best = CANNOT_BE, rank;

    for (int i = 0; i < engine_output_count(engine); i++) {
        const struct engine_port *output = engine_output(engine, i);
        int classes = output_class_count(&output->shape, output->dtype);
        if (classes == 0)
            continue;

        rank = strcmp(output->name, "logits") == 0 ? NAMED : classes > 0 ? HAS_CLASSES : MAY_BE;
        if (rank <= best)
            continue;
        best = rank;
        *ret_output = i;
        *ret_classes = classes;
    }

    return best != CANNOT_BE ||
           error_set(error, ERROR_MODEL, "no output has the shape [n, classes] of a classifier");
}

void scores_read(const struct tensor *output, int64_t row, int64_t classes, double *ret) {
    const char *data = output->data;
    elements_convert(output->dtype, data + (size_t)(row * classes) * dtype_size(output->dtype), DTYPE_F64,
                     ret, classes);
}

void scores_find_best(const double *scores, int64_t count, int top, int *ret) {
    int kept = 0;

    for (int64_t i = 0; i < count; i++) {
        if (kept == top && !(scores[i] > scores[ret[kept - 1]]))
            continue;

        int position = kept < top ? kept++ : top - 1;
        for (; position > 0 && scores[ret[position - 1]] < scores[i]; position--)
            ret[position] = ret[position - 1];
        ret[position] = (int)i;
    }
}

static bool are_probabilities(const double *scores, int64_t count, double sum) {
    if (fabs(sum - 1) >= SUM_TOLERANCE)
        return false;

    for (int64_t i = 0; i < count; i++)
        if (scores[i] < 0 || scores[i] > 1)
            return false;
    return true;
}

const char *head_kind_name(enum head_kind kind) {
    static const char *const names[] = {
        [HEAD_BY_VALUES] = "softmax, unless they share 1",
        [HEAD_SOFTMAX] = "softmax",
        [HEAD_SIGMOID] = "sigmoid of each",
        [HEAD_PROBABILITIES] = "probabilities",
        [HEAD_LOG_PROBABILITIES] = "logarithms of probabilities",
        [HEAD_INDEPENDENT] = "probabilities, each by itself",
        [HEAD_NONE] = "no classes",
    };
    return names[kind];
}

bool head_is_independent(enum head_kind kind) {
    return kind == HEAD_SIGMOID || kind == HEAD_INDEPENDENT;
}

static void apply_softmax(double *scores, int64_t count, double largest) {
    double total = 0;
    for (int64_t i = 0; i < count; i++) {
        scores[i] = exp(scores[i] - largest);
        total += scores[i];
    }

    double scale = 1 / total;
    for (int64_t i = 0; i < count; i++)
        scores[i] *= scale;
}

/* Rounding may leave what the network computed a little outside. */
static double clamp(double value) {
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

static double probability_of(double score, enum head_kind kind) {
    switch (kind) {
    case HEAD_SIGMOID:
        return 1 / (1 + exp(-score));
    case HEAD_LOG_PROBABILITIES:
        return clamp(exp(score));
    default:
        return clamp(score);
    }
}

bool scores_to_probabilities(double *scores, int64_t count, enum head_kind kind) {
    double sum = 0, largest = -INFINITY;
    for (int64_t i = 0; i < count; i++) {
        if (isnan(scores[i]) || scores[i] == (double)INFINITY)
            return false;
        sum += scores[i];
        largest = scores[i] > largest ? scores[i] : largest;
    }

    if (kind == HEAD_NONE)
        return false;

    if (kind == HEAD_BY_VALUES)
        kind = are_probabilities(scores, count, sum) ? HEAD_PROBABILITIES : HEAD_SOFTMAX;
    bool shares_one = kind == HEAD_SOFTMAX || kind == HEAD_LOG_PROBABILITIES;

    if (shares_one && largest == (double)-INFINITY)
        return false;

    if (kind == HEAD_SOFTMAX)
        apply_softmax(scores, count, largest);
    for (int64_t i = 0; kind != HEAD_SOFTMAX && i < count; i++)
        scores[i] = probability_of(scores[i], kind);
    return true;
}
