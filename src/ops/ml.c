#include "ops/ml.h"

#include <math.h>
#include <string.h>

bool ml_read_transform(const struct node *node, enum post_transform *ret, struct error *error) {
    static const char *const names[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
    const char *name = node_string(node, "post_transform", "NONE");

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (enum post_transform)i;
            return true;
        }
    return node_error(node, error, "post_transform '%.32s' is not supported", name);
}

/* The inverse of the normal distribution's error function (Winitzki's approximation, as the reference has
 * it). */
static double probit(double x) {
    double y = 2 * x - 1, sign = y < 0 ? -1 : 1, part = log((1 - y) * (1 + y));
    double first = 2 / (M_PI * 0.147) + 0.5 * part, second = part / 0.147;
    return M_SQRT2 * sign * sqrt(-first + sqrt(first * first - second));
}

/* softmax_zero: scores of zero stay zero. */
static void softmax(double *scores, int64_t count, bool keep_zeros) {
    double most = -INFINITY, sum = 0;
    for (int64_t i = 0; i < count; i++)
        most = scores[i] > most ? scores[i] : most;

    for (int64_t i = 0; i < count; i++) {
        bool zero = keep_zeros && fabs(scores[i]) <= 1e-7;
        scores[i] = zero ? scores[i] * exp(-most) : exp(scores[i] - most);
        sum += scores[i];
    }
    for (int64_t i = 0; i < count && sum != 0; i++)
        scores[i] /= sum;
}

void ml_transform(enum post_transform transform, double *scores, int64_t count) {
    if (transform == TRANSFORM_SOFTMAX || transform == TRANSFORM_SOFTMAX_ZERO)
        softmax(scores, count, transform == TRANSFORM_SOFTMAX_ZERO);
    else if (transform == TRANSFORM_LOGISTIC)
        for (int64_t i = 0; i < count; i++)
            scores[i] = 1 / (1 + exp(-scores[i]));
    else if (transform == TRANSFORM_PROBIT)
        for (int64_t i = 0; i < count; i++)
            scores[i] = probit(scores[i]);
}

bool ml_table(const struct node *node, int input, int64_t *ret_rows, int64_t *ret_columns,
              struct error *error) {
    const struct shape *shape = node_shape(node, input);
    if (!node_want_types(node, input, TYPES_TABLE, error) || !node_want_rank(node, input, 1, 2, error))
        return false;

    *ret_rows = shape->rank == 2 ? shape->dims[0] : 1;
    *ret_columns = shape->dims[shape->rank - 1];
    return true;
}

size_t ml_floats(const struct node *node, const char *name, const float **ret) {
    const struct attribute *attribute = node_attribute(node, name);
    bool given = attribute && attribute->kind == ATTRIBUTE_FLOATS;

    *ret = given ? attribute->floats : NULL;
    return given ? attribute->count : 0;
}

bool ml_labels(const struct node *node, const int64_t **ret, int64_t *ret_count, struct error *error) {
    const char *const names[] = {"classlabels_int64s", "classlabels_ints"};
    const struct attribute *strings = node_attribute(node, "classlabels_strings");
    size_t count = 0;

    if (strings && strings->count)
        return node_error(node, error, "class labels that are strings are not supported");
    for (int i = 0; i < 2 && !count; i++)
        count = node_ints(node, names[i], ret);
    *ret_count = (int64_t)count;
    return count || node_error(node, error, "has no class labels");
}
