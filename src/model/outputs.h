/* What a network's outputs mean: which one scores the classes, and what the scores say. Pure functions: any
 * thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/engine.h"

/* The classes of an output of shape [n, classes], perhaps with ones after them; 0: its shape or type is
 * another, -1: its shape is not known yet. */
int output_class_count(const struct shape *shape, enum dtype dtype);

/* The output called "logits", else the first that has classes, else the first that may have. *ret_classes as
 * output_class_count has it, never 0. ERROR_MODEL: no output can be it. */
bool outputs_find_scores(const struct engine *engine, int *ret_output, int *ret_classes, struct error *error);

/* Scores of one photo: row `row` of an output of any type, [classes]. */
void scores_read(const struct tensor *output, int64_t row, int64_t classes, double *ret);

/* Indices of the largest `top` (<= count) scores, largest first, equal ones by index. */
void scores_find_best(const double *scores, int64_t count, int top, int *ret);

/* How scores become probabilities. */
enum head_kind {
    HEAD_BY_VALUES, /* softmax, unless the values of a photo are probabilities that share 1 already */
    HEAD_SOFTMAX,
    HEAD_SIGMOID,           /* each by itself */
    HEAD_PROBABILITIES,     /* already: classes share 1 */
    HEAD_LOG_PROBABILITIES, /* their logarithms */
    HEAD_INDEPENDENT,       /* already: each by itself */
    HEAD_NONE,              /* the network is no classifier */
};

/* "softmax", "sigmoid" …: for people. */
const char *head_kind_name(enum head_kind kind);
/* Is each class's probability its own, rather than a share of 1? */
bool head_is_independent(enum head_kind kind);

/* In place. -infinity is a probability of 0. False, and nothing is changed, where a score is NaN or
 * +infinity, all are -infinity and share 1, or the network is no classifier. */
bool scores_to_probabilities(double *scores, int64_t count, enum head_kind kind);
