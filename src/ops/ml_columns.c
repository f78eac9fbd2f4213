/* The operators of ai.onnx.ml that change columns of a table: Scaler, Normalizer, Imputer, Binarizer,
 * LabelEncoder, OneHotEncoder, ArrayFeatureExtractor, FeatureVectorizer; and ZipMap, whose list of maps is
 * given as the tensor that it is made of. https://onnx.ai/onnx/operators/onnx_aionnxml_Scaler.html */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ops/ml.h"

/* Where element i of the input belongs to column i % columns. */
static int64_t columns_of(const struct tensor *x) {
    return x->shape.rank ? x->shape.dims[x->shape.rank - 1] : 1;
}

/* A list of one number for all columns, or of one for each. */
static bool check_count(const struct node *node, const char *name, size_t count, int64_t columns,
                        struct error *error) {
    return count <= 1 || count == (size_t)columns ||
           node_error(node, error, "attribute %s has %zu elements for %lld columns", name, count,
                      (long long)columns);
}

static double element_of(const float *list, size_t count, int64_t column, double fallback) {
    return !count ? fallback : (double)list[count == 1 ? 0 : column];
}

/* --- Scaler: (x - offset) * scale --- */

static bool scaler_infer(struct node *node, struct error *error) {
    const float *ignored;
    int64_t rows, columns;
    return ml_table(node, 0, &rows, &columns, error) &&
           check_count(node, "offset", ml_floats(node, "offset", &ignored), columns, error) &&
           check_count(node, "scale", ml_floats(node, "scale", &ignored), columns, error) &&
           infer_output(node, 0, DTYPE_F32, node_shape(node, 0), error);
}

static bool scaler_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    const float *offsets, *scales;
    size_t offset_count = ml_floats(node, "offset", &offsets),
           scale_count = ml_floats(node, "scale", &scales);
    int64_t columns = columns_of(&inputs[0]), count = shape_elements(&inputs[0].shape);
    float *y = outputs[0].data;
    (void)error;

    for (int64_t i = 0; i < count; i++)
        y[i] = (float)((tensor_get_f64(&inputs[0], i) - element_of(offsets, offset_count, i % columns, 0)) *
                       element_of(scales, scale_count, i % columns, 1));
    return true;
}

/* --- Normalizer --- */

static bool normalizer_infer(struct node *node, struct error *error) {
    const char *norm = node_string(node, "norm", "MAX");
    int64_t rows, columns;
    if (strcmp(norm, "MAX") != 0 && strcmp(norm, "L1") != 0 && strcmp(norm, "L2") != 0)
        return node_error(node, error, "norm '%.32s' is not supported", norm);
    return ml_table(node, 0, &rows, &columns, error) &&
           infer_output(node, 0, DTYPE_F32, node_shape(node, 0), error);
}

static bool normalizer_compute(const struct node *node, const struct tensor *inputs,
                               const struct tensor *outputs, struct error *error) {
    const char *norm = node_string(node, "norm", "MAX");
    int64_t columns = columns_of(&inputs[0]), count = shape_elements(&inputs[0].shape);
    (void)error;

    for (int64_t row = 0; row < count; row += columns) {
        float *y = (float *)outputs[0].data + row;
        double size = norm[0] == 'M' ? -INFINITY : 0;
        for (int64_t i = 0; i < columns; i++) {
            double x = tensor_get_f64(&inputs[0], row + i);
            size = norm[0] == 'M' ? fmax(size, x) : size + (norm[1] == '1' ? fabs(x) : x * x);
            y[i] = (float)x;
        }
        size = strcmp(norm, "L2") == 0 ? sqrt(size) : size;
        for (int64_t i = 0; i < columns && size != 0; i++)
            y[i] = (float)((double)y[i] / size);
    }
    return true;
}

/* --- Imputer: numbers instead of what is missing --- */

static bool imputer_infer(struct node *node, struct error *error) {
    const float *floats;
    const int64_t *ints;
    int64_t rows, columns;
    if (!ml_table(node, 0, &rows, &columns, error))
        return false;

    bool integers = dtype_is_integer(node_dtype(node, 0));
    size_t count = integers ? node_ints(node, "imputed_value_int64s", &ints)
                            : ml_floats(node, "imputed_value_floats", &floats);
    if (!count)
        return node_error(node, error, "has no imputed values for %s", dtype_name(node_dtype(node, 0)));
    return node_want_types(node, 0, TYPE(F32) | TYPE(I64), error) &&
           check_count(node, "imputed_value", count, columns, error) && infer_same(node, error);
}

static bool imputer_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    const float *floats;
    const int64_t *ints;
    size_t count = inputs[0].dtype == DTYPE_I64 ? node_ints(node, "imputed_value_int64s", &ints)
                                                : ml_floats(node, "imputed_value_floats", &floats);
    int64_t columns = columns_of(&inputs[0]), elements = shape_elements(&inputs[0].shape);
    float missing = node_float(node, "replaced_value_float", 0);
    int64_t missing_int = node_int(node, "replaced_value_int64", 0);
    (void)error;

    for (int64_t i = 0; i < elements; i++) {
        size_t column = count == 1 ? 0 : (size_t)(i % columns);
        if (inputs[0].dtype == DTYPE_I64) {
            int64_t x = ((const int64_t *)inputs[0].data)[i];
            ((int64_t *)outputs[0].data)[i] = x == missing_int ? ints[column] : x;
        } else {
            float x = ((const float *)inputs[0].data)[i];
            bool is_missing = isnan(missing) ? isnan(x) : x == missing;
            ((float *)outputs[0].data)[i] = is_missing ? floats[column] : x;
        }
    }
    return true;
}

/* --- Binarizer --- */

static bool binarizer_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_TABLE, error) && infer_same(node, error);
}

static bool binarizer_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    double threshold = (double)node_float(node, "threshold", 0);
    int64_t count = shape_elements(&inputs[0].shape);
    size_t size = dtype_size(outputs[0].dtype);
    (void)error;

    for (int64_t i = 0; i < count; i++) {
        uint8_t above = tensor_get_f64(&inputs[0], i) > threshold;
        elements_convert(DTYPE_BOOL, &above, outputs[0].dtype, (char *)outputs[0].data + (size_t)i * size, 1);
    }
    return true;
}

/* --- LabelEncoder, from version 2 on: numbers for numbers --- */

static enum dtype encoder_side(const struct node *node, const char *side, int64_t *ret_count,
                               const struct attribute **ret) {
    static const char *const kinds[] = {"int64s", "floats", "tensor"};
    char name[40];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s_%s", side, kinds[i]);
        const struct attribute *attribute = node_attribute(node, name);
        if (!attribute || (attribute->kind != ATTRIBUTE_TENSOR && !attribute->count))
            continue;

        *ret = attribute;
        *ret_count = attribute->kind == ATTRIBUTE_TENSOR ? shape_elements(&attribute->tensor->shape)
                                                         : (int64_t)attribute->count;
        return attribute->kind == ATTRIBUTE_TENSOR ? attribute->tensor->dtype
               : attribute->kind == ATTRIBUTE_INTS ? DTYPE_I64
                                                   : DTYPE_F32;
    }
    return DTYPE_UNKNOWN;
}

#define TYPES_LABEL (TYPE(F32) | TYPE(F64) | TYPE(I64) | TYPE(I32) | TYPE(I16))

static bool encoder_infer(struct node *node, struct error *error) {
    const struct attribute *keys, *values;
    int64_t key_count = 0, value_count = 0;
    enum dtype from = encoder_side(node, "keys", &key_count, &keys);
    enum dtype to = encoder_side(node, "values", &value_count, &values);

    if (!(TYPES_LABEL >> from & 1) || !(TYPES_LABEL >> to & 1))
        return node_error(node, error, "only labels that are numbers are supported");
    if (key_count != value_count || node_dtype(node, 0) != from)
        return node_error(node, error, "has %lld keys of %s and %lld values, its input is %s",
                          (long long)key_count, dtype_name(from), (long long)value_count,
                          dtype_name(node_dtype(node, 0)));
    return infer_output(node, 0, to, node_shape(node, 0), error);
}

static struct tensor encoder_list(const struct attribute *list, enum dtype dtype, int64_t count) {
    struct shape shape = {1, {count}};
    if (list->kind == ATTRIBUTE_TENSOR)
        return *list->tensor;
    return (struct tensor){dtype, shape,
                           list->kind == ATTRIBUTE_INTS ? (void *)list->ints : (void *)list->floats};
}

static bool encoder_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    const struct attribute *key_list = NULL, *value_list = NULL,
                           *other = node_attribute(node, "default_tensor");
    int64_t keys = 0, ignored = 0, elements = shape_elements(&inputs[0].shape);
    enum dtype from = encoder_side(node, "keys", &keys, &key_list);
    enum dtype to = encoder_side(node, "values", &ignored, &value_list);
    if (!key_list || !value_list)
        return node_error(node, error, "it has no keys or no values");
    struct tensor key = encoder_list(key_list, from, keys), value = encoder_list(value_list, to, keys);
    double fallback = dtype_is_float(to) ? (double)node_float(node, "default_float", 0)
                                         : (double)node_int(node, "default_int64", -1);
    if (other && other->kind == ATTRIBUTE_TENSOR && shape_elements(&other->tensor->shape) == 1)
        fallback = tensor_get_f64(other->tensor, 0);
    size_t size = dtype_size(to);

    for (int64_t i = 0; i < elements; i++) {
        double x = tensor_get_f64(&inputs[0], i);
        int64_t at = 0;
        while (at < keys && tensor_get_f64(&key, at) != x && !(isnan(x) && isnan(tensor_get_f64(&key, at))))
            at++;
        char *y = (char *)outputs[0].data + (size_t)i * size;
        if (at < keys)
            memcpy(y, (const char *)value.data + (size_t)at * size, size);
        else
            elements_convert(DTYPE_F64, &fallback, to, y, 1);
    }
    return true;
}

/* --- OneHotEncoder --- */

static bool one_hot_infer(struct node *node, struct error *error) {
    const int64_t *categories;
    size_t count = node_ints(node, "cats_int64s", &categories);
    struct shape shape = *node_shape(node, 0);
    if (!count)
        return node_error(node, error, "only categories that are integers are supported");
    if (shape.rank >= LIMIT_TENSOR_RANK)
        return node_error(node, error, "its result would have too many axes");

    shape.dims[shape.rank++] = (int64_t)count;
    return node_want_types(node, 0, TYPES_TABLE, error) && infer_output(node, 0, DTYPE_F32, &shape, error);
}

static bool one_hot_compute(const struct node *node, const struct tensor *inputs,
                            const struct tensor *outputs, struct error *error) {
    const int64_t *categories;
    int64_t count = (int64_t)node_ints(node, "cats_int64s", &categories);
    int64_t elements = shape_elements(&inputs[0].shape);

    for (int64_t i = 0; i < elements; i++) {
        float *y = (float *)outputs[0].data + i * count;
        int64_t x = tensor_get_i64(&inputs[0], i);
        bool found = false;
        for (int64_t j = 0; j < count; j++) {
            y[j] = x == categories[j];
            found = found || x == categories[j];
        }
        if (!found && !node_int(node, "zeros", 1))
            return node_error(node, error, "%lld is none of its categories", (long long)x);
    }
    return true;
}

/* --- ArrayFeatureExtractor: chosen columns --- */

static bool extractor_infer(struct node *node, struct error *error) {
    const struct shape *x = node_shape(node, 0);
    struct shape shape = *x;
    int64_t chosen = shape_elements(node_shape(node, 1));
    if (!node_want_types(node, 0, TYPES_TABLE, error) || !node_want_types(node, 1, TYPE(I64), error) ||
        !node_want_rank(node, 0, 1, LIMIT_TENSOR_RANK, error))
        return false;
    if (chosen < 1)
        return node_error(node, error, "chooses no columns");

    shape.dims[shape.rank - 1] = chosen;
    if (shape.rank == 1)
        shape = (struct shape){2, {1, chosen}};
    return infer_output(node, 0, node_dtype(node, 0), &shape, error);
}

static bool extractor_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    const int64_t *chosen = inputs[1].data;
    int64_t columns = columns_of(&inputs[0]), count = shape_elements(&inputs[1].shape);
    int64_t total = shape_elements(&outputs[0].shape);
    size_t size = dtype_size(inputs[0].dtype);

    for (int64_t j = 0; j < count; j++)
        if (chosen[j] < 0 || chosen[j] >= columns)
            return node_error(node, error, "column %lld is out of range for %lld", (long long)chosen[j],
                              (long long)columns);
    for (int64_t i = 0; i < total; i++)
        memcpy((char *)outputs[0].data + (size_t)i * size,
               (const char *)inputs[0].data + (size_t)(i / count * columns + chosen[i % count]) * size, size);
    return true;
}

/* --- FeatureVectorizer: tables side by side --- */

static bool vectorizer_infer(struct node *node, struct error *error) {
    const int64_t *lengths;
    size_t count = node_ints(node, "inputdimensions", &lengths);
    int64_t total = 0, first = 0;
    if (count && count != (size_t)node->input_count)
        return node_error(node, error, "inputdimensions has %zu elements for %d inputs", count,
                          node->input_count);

    for (int i = 0; i < node->input_count; i++) {
        int64_t rows, columns;
        if (!node_has_input(node, i))
            return node_error(node, error, "input %d is missing", i);
        if (!ml_table(node, i, &rows, &columns, error))
            return false;
        first = i ? first : rows;
        if (rows != first || (count && lengths[i] != columns))
            return node_error(node, error, "input %d does not have the rows and columns of the others", i);
        total += columns;
        if (total > LIMIT_TENSOR_ELEMENTS)
            return node_error(node, error, "its result would be too large");
    }
    return infer_output(node, 0, DTYPE_F32, &(struct shape){2, {first, total}}, error);
}

static bool vectorizer_compute(const struct node *node, const struct tensor *inputs,
                               const struct tensor *outputs, struct error *error) {
    int64_t rows = outputs[0].shape.dims[0], total = outputs[0].shape.dims[1], at = 0;
    (void)error;

    for (int i = 0; i < node->input_count; i++) {
        int64_t columns = columns_of(&inputs[i]);
        size_t size = dtype_size(inputs[i].dtype);
        for (int64_t row = 0; row < rows; row++)
            elements_convert(inputs[i].dtype, (const char *)inputs[i].data + (size_t)(row * columns) * size,
                             DTYPE_F32, (float *)outputs[0].data + row * total + at, columns);
        at += columns;
    }
    return true;
}

/* --- ZipMap --- */

static bool zip_infer(struct node *node, struct error *error) {
    return node_want_types(node, 0, TYPES_TABLE, error) && infer_same(node, error);
}

static bool zip_compute(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                        struct error *error) {
    (void)node, (void)error;
    memcpy(outputs[0].data, inputs[0].data, tensor_bytes(&inputs[0]));
    return true;
}

const struct op_def ml_column_operators[] = {
    ML("Scaler", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(scaler)),
    ML("Normalizer", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(normalizer)),
    ML("Imputer", .inputs = {1, 1}, .types = "float32, int64", FUNCTIONS(imputer)),
    ML("Binarizer", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(binarizer)),
    {.domain = ML_DOMAIN,
     .op_type = "LabelEncoder",
     .since = 2,
     .until = ML_LATEST,
     .inputs = {1, 1},
     .types = "float32, float64, int64, int32, int16",
     FUNCTIONS(encoder)},
    ML("OneHotEncoder", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(one_hot)),
    ML("ArrayFeatureExtractor", .inputs = {2, 2}, .types = NAMES_TABLE, FUNCTIONS(extractor)),
    ML("FeatureVectorizer", .inputs = {1, -1}, .types = NAMES_TABLE, FUNCTIONS(vectorizer)),
    ML("ZipMap", .inputs = {1, 1}, .types = NAMES_TABLE, FUNCTIONS(zip)),
    {0},
};
