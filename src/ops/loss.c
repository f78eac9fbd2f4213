/* NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss:
 * https://onnx.ai/onnx/operators/onnx__SoftmaxCrossEntropyLoss.html. Scores [n, classes, d1, …], labels [n,
 * d1, …], weights [classes]. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/family.h"

enum loss_reduction { LOSS_NONE, LOSS_SUM, LOSS_MEAN };

static bool reduction_of(const struct node *node, enum loss_reduction *ret) {
    static const char *const names[] = {"none", "sum", "mean"};
    const char *name = node_string(node, "reduction", "mean");
    for (int i = 0; i < 3; i++)
        if (strcmp(names[i], name) == 0) {
            *ret = (enum loss_reduction)i;
            return true;
        }
    return false;
}

static bool loss_check(const struct node *node, struct error *error) {
    enum loss_reduction ignored;
    return reduction_of(node, &ignored) ||
           node_error(node, error, "reduction '%.32s' is not supported", node_string(node, "reduction", ""));
}

static bool loss_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0), *labels = node_shape(node, 1),
                       *weights = node_shape(node, 2);
    if (!node_want_types(node, 0, TYPES_FLOAT, error) || !node_want_types(node, 1, TYPES_INDEX, error) ||
        !node_want_same_type(node, 2, 0, error) || !node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error))
        return false;

    bool fits = labels->rank == x->rank - 1 && labels->dims[0] == x->dims[0];
    for (int i = 1; i < labels->rank && fits; i++)
        fits = labels->dims[i] == x->dims[i + 1];
    if (!fits || (weights && (weights->rank != 1 || weights->dims[0] != x->dims[1])))
        return node_error(node, error, "the shapes of scores, labels and weights do not fit");

    enum loss_reduction reduction = LOSS_MEAN;
    reduction_of(node, &reduction);
    struct shape scalar = {0};
    return infer_output(node, 0, node_dtype(node, 0), reduction == LOSS_NONE ? labels : &scalar, error) &&
           infer_output(node, 1, node_dtype(node, 0), x, error);
}

static void store(const struct tensor *to, int64_t index, double value) {
    elements_convert(DTYPE_F64, &value, to->dtype, (char *)to->data + (size_t)index * dtype_size(to->dtype),
                     1);
}

/* The logarithm of the sum of exponentials over the classes of one place. */
static double log_sum(const struct tensor *x, int64_t first, int64_t classes, int64_t stride) {
    double most = -INFINITY, sum = 0;
    for (int64_t c = 0; c < classes; c++)
        most = fmax(most, tensor_get_f64(x, first + c * stride));
    for (int64_t c = 0; c < classes; c++)
        sum += exp(tensor_get_f64(x, first + c * stride) - most);
    return most + log(sum);
}

static bool loss_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    const struct tensor *x = &inputs[0], *weights = node->input_count > 2 ? &inputs[2] : NULL;
    bool is_softmax = *(const bool *)node->op->family, has_ignored = node_attribute(node, "ignore_index");
    int64_t classes = x->shape.dims[1], inner = shape_product(&x->shape, 2, x->shape.rank);
    int64_t places = x->shape.dims[0] * inner, ignored = node_int(node, "ignore_index", 0);
    enum loss_reduction reduction = LOSS_MEAN;
    double sum = 0, weight_sum = 0;
    reduction_of(node, &reduction);

    for (int64_t i = 0; i < places; i++) {
        int64_t first = i / inner * classes * inner + i % inner, label = tensor_get_i64(&inputs[1], i);
        double shift = is_softmax ? log_sum(x, first, classes, inner) : 0, weight = 1, loss = 0;
        bool counts = !has_ignored || label != ignored;
        if (counts && (label < 0 || label >= classes))
            return node_error(node, error, "label %lld is none of %lld classes", (long long)label,
                              (long long)classes);

        if (counts) {
            weight = weights && weights->data ? tensor_get_f64(weights, label) : 1;
            loss = -(tensor_get_f64(x, first + label * inner) - shift) * weight;
            weight_sum += weight;
        }
        if (reduction == LOSS_NONE)
            store(&outputs[0], i, loss);
        sum += loss;
        for (int64_t c = 0; node->output_count > 1 && outputs[1].data && c < classes; c++)
            store(&outputs[1], first + c * inner, tensor_get_f64(x, first + c * inner) - shift);
    }

    if (reduction != LOSS_NONE)
        store(&outputs[0], 0, reduction == LOSS_MEAN ? sum / weight_sum : sum);
    return true;
}

const struct op_def loss_operators[] = {
    {.op_type = "NegativeLogLikelihoodLoss",
     .since = 12,
     .inputs = {2, 3},
     .types = NAMES_FLOAT,
     .family = &(const bool){false},
     .check = loss_check,
     FUNCTIONS(loss)},
    {.op_type = "SoftmaxCrossEntropyLoss",
     .since = 12,
     .inputs = {2, 3},
     .outputs = {1, 2},
     .types = NAMES_FLOAT,
     .family = &(const bool){true},
     .check = loss_check,
     FUNCTIONS(loss)},
    {0},
};
