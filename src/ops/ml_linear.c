/* LinearClassifier, LinearRegressor, SVMRegressor: products of a row with coefficients or support vectors.
 * https://onnx.ai/onnx/operators/onnx_aionnxml_LinearClassifier.html */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/ml.h"

/* Coefficients: [targets, columns]; intercepts: [targets], or none. */
struct linear_model {
    const float *coefficients, *intercepts;
    int64_t targets, columns;
    enum post_transform transform;
    const int64_t *labels;
};

static bool linear_read(const struct node *node, int64_t targets, struct linear_model *ret, int64_t *ret_rows,
                        struct error *error) {
    size_t count = ml_floats(node, "coefficients", &ret->coefficients);
    size_t intercepts = ml_floats(node, "intercepts", &ret->intercepts);

    if (!ml_table(node, 0, ret_rows, &ret->columns, error) ||
        !ml_read_transform(node, &ret->transform, error))
        return false;
    ret->targets = targets;
    if (targets < 1 || targets > INT32_MAX || ret->columns > INT32_MAX ||
        count != (size_t)(targets * ret->columns) || (intercepts && intercepts != (size_t)targets))
        return node_error(node, error,
                          "has %zu coefficients and %zu intercepts for %lld columns and %lld targets", count,
                          intercepts, (long long)ret->columns, (long long)targets);
    return true;
}

static double dot(const double *x, const float *w, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * (double)w[i];
    return sum;
}

/* The row's columns as doubles. */
static void row_load(const struct tensor *x, int64_t row, int64_t columns, double *ret) {
    elements_convert(x->dtype, (const char *)x->data + (size_t)(row * columns) * dtype_size(x->dtype),
                     DTYPE_F64, ret, columns);
}

static bool linear_rows(const struct node *node, const struct linear_model *m, int64_t rows,
                        const struct tensor *x, const struct tensor *labels, const struct tensor *scores,
                        struct error *error) {
    cleanup(freep) double *row = malloc((size_t)m->columns * sizeof *row + 1);
    cleanup(freep) double *made = malloc((size_t)m->targets * sizeof *made + 1);
    if (!row || !made)
        return node_memory_error(node, error);

    for (int64_t i = 0; i < rows; i++) {
        int64_t best = 0;
        row_load(x, i, m->columns, row);
        for (int64_t t = 0; t < m->targets; t++) {
            made[t] = dot(row, m->coefficients + t * m->columns, m->columns) +
                      (m->intercepts ? (double)m->intercepts[t] : 0);
            best = made[t] > made[best] ? t : best;
        }
        if (labels && labels->data)
            ((int64_t *)labels->data)[i] = m->labels[best];
        ml_transform(m->transform, made, m->targets);
        if (scores->data)
            elements_convert(DTYPE_F64, made, DTYPE_F32, (float *)scores->data + i * m->targets, m->targets);
    }
    return true;
}

/* --- LinearClassifier --- */

static bool linear_classifier_read(const struct node *node, struct linear_model *ret, int64_t *ret_rows,
                                   struct error *error) {
    int64_t classes;
    return ml_labels(node, &ret->labels, &classes, error) && linear_read(node, classes, ret, ret_rows, error);
}

static bool linear_classifier_infer(struct node *node, struct error *error) {
    struct linear_model m;
    int64_t rows;
    return linear_classifier_read(node, &m, &rows, error) &&
           infer_output(node, 0, DTYPE_I64, &(struct shape){1, {rows}}, error) &&
           infer_output(node, 1, DTYPE_F32, &(struct shape){2, {rows, m.targets}}, error);
}

static bool linear_classifier_compute(const struct node *node, const struct tensor *inputs,
                                      const struct tensor *outputs, struct error *error) {
    struct linear_model m;
    int64_t rows;
    struct tensor none = {0};
    return linear_classifier_read(node, &m, &rows, error) &&
           linear_rows(node, &m, rows, &inputs[0], &outputs[0], node->output_count > 1 ? &outputs[1] : &none,
                       error);
}

/* --- LinearRegressor --- */

static bool linear_regressor_infer(struct node *node, struct error *error) {
    struct linear_model m;
    int64_t rows;
    return linear_read(node, node_int(node, "targets", 1), &m, &rows, error) &&
           infer_output(node, 0, DTYPE_F32, &(struct shape){2, {rows, m.targets}}, error);
}

static bool linear_regressor_compute(const struct node *node, const struct tensor *inputs,
                                     const struct tensor *outputs, struct error *error) {
    struct linear_model m;
    int64_t rows;
    return linear_read(node, node_int(node, "targets", 1), &m, &rows, error) &&
           linear_rows(node, &m, rows, &inputs[0], NULL, &outputs[0], error);
}

/* --- SVMRegressor --- */

enum svm_kernel { KERNEL_LINEAR, KERNEL_POLY, KERNEL_RBF, KERNEL_SIGMOID };

struct svm_model {
    enum svm_kernel kernel;
    double gamma, offset, degree;
    const float *vectors, *coefficients, *rho;
    int64_t vector_count, columns; /* no vectors: the coefficients are the one */
    bool one_class;
};

static bool svm_read(const struct node *node, struct svm_model *ret, int64_t *ret_rows, struct error *error) {
    static const char *const names[] = {"LINEAR", "POLY", "RBF", "SIGMOID"};
    const char *kernel = node_string(node, "kernel_type", "LINEAR");
    const float *parameters;
    size_t vectors = ml_floats(node, "support_vectors", &ret->vectors);
    size_t coefficients = ml_floats(node, "coefficients", &ret->coefficients);
    size_t parameter_count = ml_floats(node, "kernel_params", &parameters);
    int found = -1;
    enum post_transform transform;

    for (int i = 0; i < 4; i++)
        found = strcmp(names[i], kernel) == 0 ? i : found;
    if (found < 0)
        return node_error(node, error, "kernel_type '%.32s' is not supported", kernel);
    if (!ml_table(node, 0, ret_rows, &ret->columns, error) || !ml_read_transform(node, &transform, error))
        return false;
    if (transform != TRANSFORM_NONE)
        return node_error(node, error, "a post_transform is not supported here");

    ret->kernel = (enum svm_kernel)found;
    ret->gamma = parameter_count == 3 ? (double)parameters[0] : 0;
    ret->offset = parameter_count == 3 ? (double)parameters[1] : 0;
    ret->degree = parameter_count == 3 ? (double)parameters[2] : 0;
    ret->vector_count = node_int(node, "n_supports", 0);
    ret->one_class = node_int(node, "one_class", 0) != 0;
    if (!ret->vector_count) { /* the coefficients are one vector, of weight 1 */
        ret->vectors = ret->coefficients;
        static const float one = 1;
        ret->coefficients = &one;
        vectors = coefficients;
        coefficients = 1;
    }

    int64_t count = ret->vector_count ? ret->vector_count : 1, needed = count;
    if (!ml_floats(node, "rho", &ret->rho) || count < 0 || !extent_multiply(&needed, ret->columns) ||
        vectors != (size_t)needed || coefficients != (size_t)count)
        return node_error(node, error,
                          "has %zu numbers of support vectors and %zu coefficients, which do not fit",
                          vectors, coefficients);
    ret->vector_count = count;
    return true;
}

static double svm_kernel(const struct svm_model *m, const double *x, const float *vector) {
    double sum = 0;
    if (m->kernel == KERNEL_RBF) {
        for (int64_t i = 0; i < m->columns; i++)
            sum += (x[i] - (double)vector[i]) * (x[i] - (double)vector[i]);
        return exp(-m->gamma * sum);
    }

    sum = dot(x, vector, m->columns);
    if (m->kernel == KERNEL_POLY)
        return pow(m->gamma * sum + m->offset, m->degree);
    return m->kernel == KERNEL_SIGMOID ? tanh(m->gamma * sum + m->offset) : sum;
}

static bool svm_regressor_infer(struct node *node, struct error *error) {
    struct svm_model m;
    int64_t rows;
    return svm_read(node, &m, &rows, error) &&
           infer_output(node, 0, DTYPE_F32, &(struct shape){2, {rows, 1}}, error);
}

static bool svm_regressor_compute(const struct node *node, const struct tensor *inputs,
                                  const struct tensor *outputs, struct error *error) {
    struct svm_model m;
    int64_t rows;
    if (!svm_read(node, &m, &rows, error))
        return false;

    cleanup(freep) double *row = malloc((size_t)m.columns * sizeof *row + 1);
    if (!row)
        return node_memory_error(node, error);

    for (int64_t i = 0; i < rows; i++) {
        double sum = (double)m.rho[0];
        row_load(&inputs[0], i, m.columns, row);
        for (int64_t j = 0; j < m.vector_count; j++)
            sum += (double)m.coefficients[j] * svm_kernel(&m, row, m.vectors + j * m.columns);
        ((float *)outputs[0].data)[i] = m.one_class ? (sum > 0 ? 1 : -1) : (float)sum;
    }
    return true;
}

const struct op_def ml_linear_operators[] = {
    ML("LinearClassifier", .inputs = {1, 1}, .outputs = {1, 2}, .types = NAMES_TABLE,
       FUNCTIONS(linear_classifier)),
    ML("LinearRegressor", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(linear_regressor)),
    ML("SVMRegressor", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(svm_regressor)),
    {0},
};
