/* Det: https://onnx.ai/onnx/operators/onnx__Det.html. x [batch…, m, m] to [batch…]. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

static bool det_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    char text[SHAPE_TEXT];

    if (!node_want_types(node, 0, TYPES_FLOAT, error) ||
        !node_want_rank(node, 0, 2, LIMIT_TENSOR_RANK, error))
        return false;
    if (x->dims[x->rank - 1] != x->dims[x->rank - 2])
        return node_error(node, error, "the matrices of an input of shape %s are not square",
                          shape_format(x, text, sizeof text));

    struct shape shape = *x;
    shape.rank -= 2;

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static void rows_swap(double *a, double *b, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        double swap = a[i];
        a[i] = b[i];
        b[i] = swap;
    }
}

/* The determinant of a [m, m], which is overwritten: the product of the pivots of Gaussian elimination with
 * partial pivoting. 1 of an empty matrix. */
static double determinant(double *a, int64_t m) {
    double product = 1;

    for (int64_t k = 0; k < m; k++) {
        int64_t pivot = k;
        for (int64_t i = k + 1; i < m; i++)
            if (fabs(a[i * m + k]) > fabs(a[pivot * m + k]))
                pivot = i;

        if (a[pivot * m + k] == 0)
            return 0;

        if (pivot != k) {
            rows_swap(a + pivot * m, a + k * m, m);
            product = -product;
        }

        product *= a[k * m + k];
        for (int64_t i = k + 1; i < m; i++) {
            double factor = a[i * m + k] / a[k * m + k];
            for (int64_t j = k + 1; j < m; j++)
                a[i * m + j] -= factor * a[k * m + j];
        }
    }

    return product;
}

static bool det_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    const struct shape *x = &inputs[0].shape;
    int64_t m = x->dims[x->rank - 1], matrices = shape_elements(&outputs[0].shape);
    size_t from = dtype_size(inputs[0].dtype), to = dtype_size(outputs[0].dtype);
    cleanup(freep) double *matrix = malloc((size_t)(m * m) * sizeof *matrix + 1);
    if (!matrix)
        return node_memory_error(node, error);

    for (int64_t i = 0; i < matrices; i++) {
        elements_convert(inputs[0].dtype, (const char *)inputs[0].data + (size_t)(i * m * m) * from,
                         DTYPE_F64, matrix, m * m);
        double result = determinant(matrix, m);
        elements_convert(DTYPE_F64, &result, outputs[0].dtype, (char *)outputs[0].data + (size_t)i * to, 1);
    }

    return true;
}

const struct op_def det_operators[] = {
    {.op_type = "Det",
     .since = 11,
     .inputs = {1, 1},
     .types = NAMES_FLOAT,
     .traits = OP_SAMPLEWISE | OP_HEAVY,
     FUNCTIONS(det)},
    {0},
};
