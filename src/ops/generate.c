/* Tensors made from attributes, shapes and a few numbers: Constant, ConstantOfShape, Shape, Size, Range,
 * EyeLike. */
#include <math.h>
#include <string.h>

#include "ops/family.h"

/* --- Constant --- */

static const char *const constant_names[] = {"value", "value_float", "value_floats", "value_int",
                                             "value_ints"};

static const struct attribute *constant_attribute(const struct node *node) {
    for (size_t i = 0; i < sizeof constant_names / sizeof constant_names[0]; i++) {
        const struct attribute *attribute = node_attribute(node, constant_names[i]);
        if (attribute)
            return attribute;
    }
    return NULL;
}

/* A view of the attribute's value; DTYPE_UNKNOWN if we do not compute with its kind. */
static struct tensor constant_view(const struct node *node) {
    const struct attribute *attribute = constant_attribute(node);
    struct tensor view = {0};
    if (!attribute)
        return view;

    struct shape list = {1, {(int64_t)attribute->count}}, scalar = {0};
    switch (attribute->kind) {

    case ATTRIBUTE_TENSOR:
        return *attribute->tensor;
    case ATTRIBUTE_FLOAT:
        return (struct tensor){DTYPE_F32, scalar, (void *)&attribute->f};
    case ATTRIBUTE_FLOATS:
        return (struct tensor){DTYPE_F32, list, (void *)attribute->floats};
    case ATTRIBUTE_INT:
        return (struct tensor){DTYPE_I64, scalar, (void *)&attribute->i};
    case ATTRIBUTE_INTS:
        return (struct tensor){DTYPE_I64, list, (void *)attribute->ints};
    default:
        return view;
    }
}

static bool constant_check(const struct node *node, struct error *error) {
    struct tensor view = constant_view(node);
    return dtype_size(view.dtype) != 0 ||
           node_error(node, error, "its value is neither a tensor nor a number (strings are not supported)");
}

static bool constant_infer(struct node *node, struct error *error) {
    struct tensor view = constant_view(node);
    return infer_output(node, 0, view.dtype, &view.shape, error);
}

static bool constant_compute(const struct node *node, const struct tensor *inputs,
                             const struct tensor *outputs, struct error *error) {
    struct tensor view = constant_view(node);
    if (view.data && tensor_bytes(&view))
        memcpy(outputs[0].data, view.data, tensor_bytes(&view));
    return true;
}

/* --- ConstantOfShape --- */

static struct tensor fill_value(const struct node *node) {
    static const float zero;
    const struct attribute *attribute = node_attribute(node, "value");
    if (attribute && attribute->kind == ATTRIBUTE_TENSOR)
        return *attribute->tensor;

    return (struct tensor){DTYPE_F32, {1, {1}}, (void *)&zero};
}

static bool fill_check(const struct node *node, struct error *error) {
    struct tensor value = fill_value(node);
    return (dtype_size(value.dtype) && shape_elements(&value.shape) == 1) ||
           node_error(node, error, "attribute value is not one number");
}

static bool fill_infer(struct node *node, struct error *error) {
    struct shape shape;
    if (!node_read_ints(node, 0, LIMIT_TENSOR_RANK, shape.dims, &shape.rank, error))
        return false;
    if (!shape_is_known(&shape))
        return node_error(node, error, "the shape has a negative dimension");

    return infer_output(node, 0, fill_value(node).dtype, &shape, error);
}

static bool fill_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    struct tensor value = fill_value(node);
    size_t size = dtype_size(value.dtype);
    int64_t count = shape_elements(&outputs[0].shape);

    for (int64_t i = 0; i < count; i++)
        memcpy((char *)outputs[0].data + (size_t)i * size, value.data, size);

    return true;
}

/* --- Shape and Size --- */

/* From opset 15 on, attributes choose a part of the shape. */
static void shape_part(const struct node *node, int rank, int *ret_start, int *ret_end) {
    int64_t start = node->opset >= 15 ? node_int(node, "start", 0) : 0;
    int64_t end = node->opset >= 15 ? node_int(node, "end", rank) : rank;
    start = start < -rank ? 0 : start < 0 ? start + rank : start > rank ? rank : start;
    end = end < -rank ? 0 : end < 0 ? end + rank : end > rank ? rank : end;
    *ret_start = (int)start;
    *ret_end = (int)(end < start ? start : end);
}

static bool shape_infer(struct node *node, struct error *error) {
    int start, end;
    shape_part(node, node_shape(node, 0)->rank, &start, &end);
    return infer_output(node, 0, DTYPE_I64, &(struct shape){1, {end - start}}, error);
}

static bool shape_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    int start, end;
    shape_part(node, inputs[0].shape.rank, &start, &end);
    memcpy(outputs[0].data, inputs[0].shape.dims + start, (size_t)(end - start) * sizeof(int64_t));

    return true;
}

static bool size_infer(struct node *node, struct error *error) {
    return infer_output(node, 0, DTYPE_I64, &(struct shape){0}, error);
}

static bool size_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                         struct error *error) {
    *(int64_t *)outputs[0].data = shape_elements(&inputs[0].shape);
    return true;
}

/* --- Range --- */

static bool range_infer(struct node *node, struct error *error) {
    double limits[3];
    for (int i = 0; i < 3; i++) {
        if (!node_want_types(node, i, TYPE(F32) | TYPE(F64) | TYPES_SIGNED, error) ||
            !node_want_same_type(node, i, 0, error))
            return false;
        if (shape_elements(node_shape(node, i)) != 1)
            return node_error(node, error, "input %d is not a scalar", i);

        const struct tensor *constant = node_constant(node, i, error);
        if (!constant)
            return false;

        limits[i] = tensor_get_f64(constant, 0);
    }

    double count = limits[2] == 0 ? NAN : ceil((limits[1] - limits[0]) / limits[2]);
    if (!(count <= (double)LIMIT_TENSOR_ELEMENTS))
        return node_error(node, error, "the range from %g to %g in steps of %g is endless or too long",
                          limits[0], limits[1], limits[2]);

    return infer_output(node, 0, node_dtype(node, 0), &(struct shape){1, {count > 0 ? (int64_t)count : 0}},
                        error);
}

static bool range_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                          struct error *error) {
    int64_t count = shape_elements(&outputs[0].shape);
    enum dtype dtype = outputs[0].dtype;
    size_t size = dtype_size(dtype);

    for (int64_t i = 0; i < count; i++) {
        void *to = (char *)outputs[0].data + (size_t)i * size;
        if (dtype == DTYPE_F32)
            *(float *)to = *(const float *)inputs[0].data + (float)i * *(const float *)inputs[2].data;
        else if (dtype == DTYPE_F64)
            *(double *)to = *(const double *)inputs[0].data + (double)i * *(const double *)inputs[2].data;
        else {
            uint64_t value = (uint64_t)tensor_get_i64(&inputs[0], 0) +
                             (uint64_t)i * (uint64_t)tensor_get_i64(&inputs[2], 0);
            elements_convert(DTYPE_I64, &value, dtype, to, 1);
        }
    }

    return true;
}

/* --- EyeLike --- */

static bool eye_infer(struct node *node, struct error *error) {
    enum dtype dtype = dtype_from_onnx(node_int(node, "dtype", 0));
    if (!node_attribute(node, "dtype"))
        dtype = node_dtype(node, 0);
    if (!dtype_size(dtype))
        return node_error(node, error, "attribute dtype has the value %lld",
                          (long long)node_int(node, "dtype", 0));

    return node_want_rank(node, 0, 2, 2, error) && infer_output(node, 0, dtype, node_shape(node, 0), error);
}

static bool eye_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    int64_t rows = outputs[0].shape.dims[0], columns = outputs[0].shape.dims[1], k = node_int(node, "k", 0);
    size_t size = dtype_size(outputs[0].dtype);
    memset(outputs[0].data, 0, tensor_bytes(&outputs[0]));

    for (int64_t i = 0; i < rows && k > -LIMIT_TENSOR_ELEMENTS && k < LIMIT_TENSOR_ELEMENTS; i++)
        if (i + k >= 0 && i + k < columns)
            elements_convert(DTYPE_BOOL, &(uint8_t){1}, outputs[0].dtype,
                             (char *)outputs[0].data + (size_t)(i * columns + i + k) * size, 1);

    return true;
}

const struct op_def generate_operators[] = {
    {.op_type = "Constant",
     .since = 1,
     .inputs = {0, 0},
     .types = NAMES_ALL,
     .check = constant_check,
     FUNCTIONS(constant)},
    {.op_type = "ConstantOfShape",
     .since = 9,
     .inputs = {1, 1},
     .plan_inputs = 1u << 0,
     .types = NAMES_ALL,
     .check = fill_check,
     FUNCTIONS(fill)},
    {.op_type = "Shape",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_READS_SHAPE,
     .types = NAMES_ALL,
     FUNCTIONS(shape)},
    {.op_type = "Size",
     .since = 1,
     .inputs = {1, 1},
     .traits = OP_READS_SHAPE,
     .types = NAMES_ALL,
     FUNCTIONS(size)},
    {.op_type = "Range",
     .since = 11,
     .inputs = {3, 3},
     .plan_inputs = 1u << 0 | 1u << 1 | 1u << 2,
     .types = "float32, float64, int8, int16, int32, int64",
     FUNCTIONS(range)},
    {.op_type = "EyeLike",
     .since = 9,
     .inputs = {1, 1},
     .traits = OP_READS_SHAPE,
     .types = NAMES_ALL,
     FUNCTIONS(eye)},
    {0},
};
