/* The same elements in another shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity, Dropout. */
#include <string.h>

#include "ops/family.h"
#include "ops/gradient.h"

static bool copy_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    if (outputs[0].data)
        memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&outputs[0]));
    return true;
}

/* 0 keeps the input's dimension (unless allowzero), one -1 takes what is left. */
static bool reshape_to(const struct node *node, const int64_t *dims, int count, struct shape *ret,
                       struct error *error) {
    const struct shape *input = node_shape(node, 0);
    bool allow_zero = node_int(node, "allowzero", 0) != 0;
    int64_t known = 1;
    int free_dim = -1;
    struct shape shape = {.rank = count};

    for (int i = 0; i < count; i++) {
        int64_t dim = dims[i];
        if (dim == 0 && !allow_zero) {
            if (i >= input->rank)
                return node_error(node, error,
                                  "dimension %d of the new shape copies one that the input does not have", i);
            dim = input->dims[i];
        }
        if (dim < -1 || (dim == -1 && free_dim >= 0))
            return node_error(node, error, "the new shape has the value %lld for dimension %d",
                              (long long)dim, i);

        shape.dims[i] = dim;
        if (dim == -1)
            free_dim = i;
        else if (!extent_multiply(&known, dim))
            return node_error(node, error, "the new shape is too large");
    }

    int64_t elements = shape_elements(input);
    if (free_dim >= 0)
        shape.dims[free_dim] = known ? elements / known : 0;
    if (known * (free_dim >= 0 ? shape.dims[free_dim] : 1) != elements)
        return node_error(node, error, "%lld elements do not fill the new shape", (long long)elements);

    *ret = shape;

    return true;
}

static bool reshape_infer(struct node *node, struct error *error) {
    int64_t dims[LIMIT_TENSOR_RANK];
    int count;
    struct shape shape;
    bool read = node->opset < 5 ? node_attribute_ints(node, "shape", LIMIT_TENSOR_RANK, dims, &count, error)
                                : node_read_ints(node, 1, LIMIT_TENSOR_RANK, dims, &count, error);
    if (!read)
        return false;
    if (count < 0)
        return node_error(node, error, "the new shape is missing");

    return reshape_to(node, dims, count, &shape, error) &&
           infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool flatten_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    int64_t axis = node_int(node, "axis", 1);
    if (axis < -input->rank || axis > input->rank)
        return node_error(node, error, "axis %lld is out of range for rank %d", (long long)axis, input->rank);

    int split = (int)(axis < 0 ? axis + input->rank : axis);
    struct shape shape = {2, {shape_product(input, 0, split), shape_product(input, split, input->rank)}};
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* Axes are an attribute before opset 13, an input after. */
static int axes_input(const struct node *node) {
    return node->opset >= 13 ? 1 : -1;
}

static bool squeeze_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    bool axes[LIMIT_TENSOR_RANK], given;
    if (!node_read_axes(node, axes_input(node), input->rank, axes, &given, error))
        return false;

    struct shape shape = {0};
    for (int i = 0; i < input->rank; i++) {
        if (axes[i] && input->dims[i] != 1)
            return node_error(node, error, "dimension %d is %lld, not 1", i, (long long)input->dims[i]);
        if (given ? !axes[i] : input->dims[i] != 1)
            shape.dims[shape.rank++] = input->dims[i];
    }

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool unsqueeze_infer(struct node *node, struct error *error) {
    const struct shape *input = node_shape(node, 0);
    int64_t values[LIMIT_TENSOR_RANK];
    int count, input_index = axes_input(node);
    bool read = input_index < 0 ? node_attribute_ints(node, "axes", LIMIT_TENSOR_RANK, values, &count, error)
                                : node_read_ints(node, input_index, LIMIT_TENSOR_RANK, values, &count, error);
    if (!read)
        return false;
    if (count < 0)
        return node_error(node, error, "the axes are missing");

    bool axes[LIMIT_TENSOR_RANK], given;
    struct shape shape = {.rank = input->rank + count};
    if (shape.rank > LIMIT_TENSOR_RANK)
        return node_error(node, error, "the result has rank %d, the limit is %d", shape.rank,
                          LIMIT_TENSOR_RANK);
    if (!node_read_axes(node, input_index, shape.rank, axes, &given, error))
        return false;

    for (int i = 0, from = 0; i < shape.rank; i++)
        shape.dims[i] = axes[i] ? 1 : input->dims[from++];

    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

/* Dropout at inference keeps everything; training is refused. */
static bool dropout_check(const struct node *node, struct error *error) {
    if (node->opset < 7 && node_int(node, "is_test", 0) == 0)
        return node_error(node, error, "dropout in training (is_test 0) is not supported");
    return true;
}

static bool dropout_infer(struct node *node, struct error *error) {
    const struct value *training = node_input(node, 2);
    if (training && (shape_elements(&training->shape) != 1 || training->dtype != DTYPE_BOOL))
        return node_error(node, error, "training_mode is not a bool");

    /* A ratio of zero drops nothing, in training either. */
    const struct value *ratio = node_input(node, 1);
    bool none = ratio && ratio->constant && shape_elements(&ratio->shape) == 1 &&
                tensor_get_f64(ratio->constant, 0) == 0;
    const struct tensor *mode = training ? node_constant(node, 2, error) : NULL;
    if (training && !mode)
        return false;
    if (mode && tensor_get_i64(mode, 0) && !none)
        return node_error(node, error, "dropout in training mode is not supported");

    enum dtype mask = node->opset < 10 ? node_dtype(node, 0) : DTYPE_BOOL;
    return node_want_types(node, 0, TYPES_FLOAT, error) && infer_same(node, error) &&
           infer_output(node, 1, mask, node_shape(node, 0), error);
}

static bool dropout_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    if (node->output_count > 1 && outputs[1].data) { /* the mask of what is kept */
        int64_t count = shape_elements(&outputs[1].shape);
        for (int64_t i = 0; i < count; i++)
            elements_convert(DTYPE_BOOL, &(uint8_t){1}, outputs[1].dtype,
                             (char *)outputs[1].data + (size_t)i * dtype_size(outputs[1].dtype), 1);
    }
    return copy_compute(node, inputs, outputs, error);
}

const struct op_def reshape_operators[] = {
    {.op_type = "Reshape",
     .since = 1,
     .until = 4,
     .inputs = {1, 1},
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = reshape_infer,
     .compute = copy_compute},
    {.op_type = "Reshape",
     .since = 5,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = reshape_infer,
     .compute = copy_compute},
    {.op_type = "Flatten",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = flatten_infer,
     .compute = copy_compute},
    {.op_type = "Squeeze",
     .since = 1,
     .until = 12,
     .inputs = {1, 1},
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = squeeze_infer,
     .compute = copy_compute},
    {.op_type = "Squeeze",
     .since = 13,
     .inputs = {1, 2},
     .plan_inputs = 1u << 1,
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = squeeze_infer,
     .compute = copy_compute},
    {.op_type = "Unsqueeze",
     .since = 1,
     .until = 12,
     .inputs = {1, 1},
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = unsqueeze_infer,
     .compute = copy_compute},
    {.op_type = "Unsqueeze",
     .since = 13,
     .inputs = {2, 2},
     .plan_inputs = 1u << 1,
     .traits = OP_RESHAPES,
     .types = NAMES_ALL,
     .infer = unsqueeze_infer,
     .compute = copy_compute},
    {.op_type = "Identity",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_RESHAPES | OP_ELEMENTWISE,
     .types = NAMES_ALL,
     .infer = infer_same,
     .compute = copy_compute},
    {.op_type = "Dropout",
     .differentiate = gradient_reshape,
     .since = 1,
     .until = 11,
     .inputs = {1, 1},
     .outputs = {1, 2},
     .traits = OP_ELEMENTWISE,
     .types = NAMES_FLOAT,
     .check = dropout_check,
     FUNCTIONS(dropout)},
    {.op_type = "Dropout",
     .differentiate = gradient_reshape,
     .since = 12,
     .inputs = {1, 3},
     .outputs = {1, 2},
     .plan_inputs = 1u << 1 | 1u << 2,
     .traits = OP_ELEMENTWISE,
     .types = NAMES_FLOAT,
     FUNCTIONS(dropout)},
    {0},
};
