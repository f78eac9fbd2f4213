/* For tests: a node of any operator of the table over data of a few shapes and types, run by the reference.
 * Headers of tests are for one program each: functions are static. */
#pragma once
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "networks.h"
#include "ops/operator.h"

#define INPUTS 6
#define OUTPUTS 2

/* How a node of an operator is made, from an opset on. An input is "x" (data), "f 4 3" (floats of that
 * shape), "i 1 -1" (a list of integers), "s 2" (one integer) or NULL (left out). Without a row: as many "x"
 * as the operator needs, and two where it takes any number. */
struct recipe {
    const char *op_type;
    int since;
    const char *attributes; /* "axis=1 perm=1,0,2 mode=edge"; a comma makes a list */
    const char *inputs[INPUTS];
    int outputs; /* 0: one */
};

static const struct recipe recipes[] = {
    {"ArgMax", 1, "axis=1"},
    {"ArgMin", 1, "axis=1"},
    {"AveragePool", 1, "kernel_shape=2,2 strides=2,2 pads=1,1,0,0 count_include_pad=1"},
    {"BatchNormalization", 1, NULL, {"x", "f 4", "f 4", "f 4", "p 4"}},
    {"BitShift", 1, "direction=LEFT"},
    {"Cast", 6, "to=7"},
    {"Cast", 1, "to=INT64"},
    {"CastLike", 1, NULL, {"x", "i 1"}},
    {"Clip", 11, NULL, {"x", "v -0.5", "v 0.75"}},
    {"Concat", 1, "axis=1"},
    {"Conv", 1, NULL, {"x", "f 3 4 2 3", "f 3"}},
    {"ConvTranspose", 1, NULL, {"x", "f 4 3 2 3", "f 3"}},
    {"CumSum", 1, NULL, {"x", "s -1"}},
    {"DepthToSpace", 1, "blocksize=2"},
    {"Einsum", 1, "equation=abcd->dcab"},
    {"Expand", 1, NULL, {"x", "i 3 1 4 1 6"}},
    {"Gather", 1, "axis=1", {"x", "i 3 0 -2"}},
    {"GatherElements", 1, "axis=2", {"x", "j 2 4 2 6"}},
    {"GatherND", 1, NULL, {"x", "k 3"}},
    {"Gemm", 1, "transB=1", {"x", "f 3 6", "f 3"}},
    {"GroupNormalization", 21, "num_groups=2", {"x", "f 4", "f 4"}},
    {"GroupNormalization", 1, "num_groups=2", {"x", "f 2", "f 2"}},
    {"InstanceNormalization", 1, NULL, {"x", "f 4", "f 4"}},
    {"LRN", 1, "size=3"},
    {"LayerNormalization", 1, "axis=2", {"x", "f 6 6", "f 6"}},
    {"LpNormalization", 1, "axis=2"},
    {"LpPool", 1, "kernel_shape=2,2"},
    {"MatMul", 1, NULL, {"x", "f 6 3"}},
    {"MaxPool", 1, "kernel_shape=2,3 strides=2,1 pads=1,0,0,1"},
    {"Pad", 11, NULL, {"x", "i 0 1 0 -1 0 0 2 1"}},
    {"Pad", 1, "pads=0,1,0,-1,0,0,2,1 paddings=0,1,0,-1,0,0,2,1"},
    {"QuantizeLinear", 1, NULL, {"x", "v 0.02"}},
    {"DequantizeLinear", 1, NULL, {"x", "v 0.02"}},
    {"Reshape", 5, NULL, {"x", "i 2 -1 9"}},
    {"Reshape", 1, "shape=2,-1,9"},
    {"Resize", 11, "mode=linear", {"x", NULL, "w 1 1 1.5 0.7"}},
    {"Resize", 1, NULL, {"x", "w 1 1 1.5 2"}},
    {"Upsample", 9, NULL, {"x", "w 1 1 1.5 2"}},
    {"ReverseSequence", 1, "batch_axis=0 time_axis=1", {"x", "i 3 2"}},
    {"Slice", 10, NULL, {"x", "i 0 -1", "i 3 0", "i 1 3", "i 2 -2"}},
    {"Slice", 1, "starts=0,1 ends=3,-1 axes=1,3"},
    {"Softmax", 1, "axis=2"},
    {"LogSoftmax", 1, "axis=2"},
    {"Hardmax", 1, "axis=2"},
    {"SpaceToDepth", 1, "blocksize=2"},
    {"Split", 13, "axis=1", {"x", "i 1 3"}, 2},
    {"Split", 1, "axis=1 split=1,3", {"x"}, 2},
    {"Squeeze", 13, NULL, {"x", "i"}},
    {"Tile", 1, NULL, {"x", "i 1 2 1 3"}},
    {"TopK", 10, NULL, {"x", "i 3"}, 2},
    {"TopK", 1, "k=3", {"x"}, 2},
    {"Transpose", 1, "perm=0,3,1,2"},
    {"Unsqueeze", 13, NULL, {"x", "i 0 -1"}},
    {"Unsqueeze", 1, "axes=0,3"},
};

/* Axes of a reduction, which all read alike. */
static const struct recipe reduce_by_input = {NULL, 1, NULL, {"x", "i 1 -1"}};
static const struct recipe reduce_by_attribute = {NULL, 1, "axes=1,-1", {"x"}};
static const struct recipe usual = {NULL, 1, NULL, {NULL}};

static const struct recipe *recipe_find(const struct op_def *entry) {
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++)
        if (strcmp(recipes[i].op_type, entry->op_type) == 0 && recipes[i].since <= entry->until)
            return &recipes[i];
    if (strncmp(entry->op_type, "Reduce", 6) == 0)
        return entry->inputs.most > 1 ? &reduce_by_input : &reduce_by_attribute;

    return &usual;
}

/* --- Making and running a node --- */

/* An operator, and how it is tried. */
struct subject {
    const struct op_def *entry;
    const struct recipe *recipe;
    enum dtype dtype; /* of the data */
    struct shape shape;
    int data; /* inputs that are data */
};

static inline void attributes_add(struct graph *graph, struct node *node, const char *text) {
    char copy[200], *rest = copy;
    snprintf(copy, sizeof copy, "%s", text ? text : "");

    for (char *word; (word = strtok_r(rest, " ", &rest));) {
        char *value = strchr(word, '=');
        int64_t ints[16];
        size_t count = 0;
        *value++ = 0;
        if (strspn(value, "0123456789,-") != strlen(value)) {
            struct attribute *list =
                arena_allocate_array(graph->arena, (size_t)node->attribute_count + 1, sizeof *list);
            if (node->attribute_count)
                memcpy(list, node->attributes, (size_t)node->attribute_count * sizeof *list);
            list[node->attribute_count++] =
                (struct attribute){.name = arena_copy_string(graph->arena, word, strlen(word)),
                                   .kind = ATTRIBUTE_STRING,
                                   .s = arena_copy_string(graph->arena, value, strlen(value))};
            node->attributes = list;
        } else if (strchr(value, ',')) {
            for (char *number; (number = strtok_r(value, ",", &value));)
                ints[count++] = atoll(number);
            node_set_ints(graph, node, word, ints, count);
        } else {
            node_set_int(graph, node, word, atoll(value));
        }
    }
}

/* A parameter as the recipe writes it. */
static inline struct value *parameter_add(struct graph *graph, const char *text) {
    struct shape shape = {0};
    double numbers[16];
    int count = 0;
    char kind = *text++;

    for (int used; sscanf(text, "%lf%n", &numbers[count], &used) == 1; text += used)
        count++;
    if (strchr("fpj", kind)) {
        shape.rank = count;
        for (int i = 0; i < count; i++)
            shape.dims[i] = (int64_t)numbers[i];
    } else if (kind == 'k') {
        shape = (struct shape){2, {(int64_t)numbers[0], 2}};
    } else if (kind == 'i' || kind == 'w') {
        shape = (struct shape){1, {count}};
    }

    bool floats = strchr("fpvw", kind) != NULL;
    int64_t elements = shape_elements(&shape);
    void *data = graph_own_memory(graph, (size_t)elements * 8 + 8);
    if (kind == 'f' || kind == 'p')
        fill_floats(data, elements, 7);
    for (int64_t i = 0; i < elements; i++) {
        if (kind == 'p')
            ((float *)data)[i] = fabsf(((float *)data)[i]) + 0.5f;
        else if (kind == 'v' || kind == 'w')
            ((float *)data)[i] = (float)numbers[i];
        else if (kind == 'j' || kind == 'k')
            ((int64_t *)data)[i] = i % 2;
        else if (kind != 'f')
            ((int64_t *)data)[i] = (int64_t)numbers[i];
    }

    return graph_add_constant(graph, "parameter", floats ? DTYPE_F32 : DTYPE_I64, &shape, data);
}

/* The subject's node over constant data, its types and shapes inferred. NULL where they do not suit it. */
static inline struct node *node_make(const struct subject *subject, struct graph *graph,
                                     const struct tensor *data) {
    const struct op_def *entry = subject->entry;
    const char *const *inputs = subject->recipe->inputs;
    struct value *values[INPUTS] = {0}, *outputs[OUTPUTS];
    int count = 0, used = 0, output_count = subject->recipe->outputs ? subject->recipe->outputs : 1;

    if (!inputs[0])
        for (; count < subject->data; count++)
            values[count] =
                graph_add_constant(graph, "x", data[count].dtype, &data[count].shape, data[count].data);
    for (int i = 0; i < INPUTS && inputs[0]; i++) {
        if (!inputs[i])
            continue;
        values[i] = *inputs[i] == 'x'
                        ? graph_add_constant(graph, "x", data[used].dtype, &data[used].shape, data[used].data)
                        : parameter_add(graph, inputs[i]);
        used += *inputs[i] == 'x';
        count = i + 1;
    }
    for (int i = 0; i < output_count; i++)
        outputs[i] = graph_add_value(graph, "y");

    struct node *node = graph_add_node(graph, NULL, entry->domain, entry->op_type, NULL, values, count,
                                       outputs, output_count);
    node->opset = entry->until;
    attributes_add(graph, node, subject->recipe->attributes);

    struct error error;
    return operators_bind(graph, &error) && operator_infer(node, &error) ? node : NULL;
}

/* The node's inputs as compute takes them. */
static inline void inputs_of(const struct node *node, struct tensor *ret) {
    memset(ret, 0, INPUTS * sizeof *ret);
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i])
            ret[i] = *node->inputs[i]->constant;
}

static inline void outputs_allocate(const struct node *node, struct tensor *ret) {
    for (int i = 0; i < node->output_count; i++) {
        ret[i] = (struct tensor){node->outputs[i]->dtype, node->outputs[i]->shape, NULL};
        ret[i].data = calloc(tensor_bytes(&ret[i]) + 8, 1);
    }
}

static inline void tensors_free(struct tensor *tensors, int count) {
    for (int i = 0; i < count; i++)
        free(tensors[i].data);
}

/* Outputs, malloc'ed; returns how many, 0 where the data does not suit the operator. */
static inline int run(const struct subject *subject, const struct tensor *data, struct tensor *ret) {
    struct graph *graph = graph_create();
    struct node *node = node_make(subject, graph, data);
    struct tensor inputs[INPUTS];
    struct error error;
    int count = node ? node->output_count : 0;

    if (node) {
        inputs_of(node, inputs);
        outputs_allocate(node, ret);
        if (!operator_compute(node, inputs, ret, &error))
            fail_msg("%s", error.message);
    }
    graph_free(graph);
    return count;
}

static inline void tensor_fill(struct tensor *tensor, uint32_t seed) {
    int64_t count = shape_elements(&tensor->shape);
    float *floats = malloc((size_t)count * sizeof *floats);
    fill_floats(floats, count, seed);
    for (int64_t i = 0; i < count; i++)
        floats[i] = tensor->dtype == DTYPE_F32    ? floats[i] * 2
                    : tensor->dtype == DTYPE_BOOL ? floats[i] > 0
                                                  : roundf(fabsf(floats[i]) * 20);
    elements_convert(DTYPE_F32, floats, tensor->dtype, tensor->data, count);
    free(floats);
}

static inline struct tensor tensor_make(enum dtype dtype, const struct shape *shape, uint32_t seed) {
    struct tensor tensor = {dtype, *shape, NULL};
    tensor.data = malloc(tensor_bytes(&tensor) + 8);
    tensor_fill(&tensor, seed);
    return tensor;
}

/* Where: a bool, then two of the others. */
static inline enum dtype data_dtype(const struct subject *subject, int input) {
    return strcmp(subject->entry->op_type, "Where") == 0 && input == 0 ? DTYPE_BOOL : subject->dtype;
}

static inline void data_make(const struct subject *subject, const struct shape *shape, struct tensor *ret) {
    for (int i = 0; i < subject->data; i++)
        ret[i] = tensor_make(data_dtype(subject, i), shape, (uint32_t)i * 31 + 1);
}

/* The first type that the operator takes. False where there is none. */
static inline bool subject_init(struct subject *subject, const struct op_def *entry, struct shape shape) {
    static const enum dtype dtypes[] = {DTYPE_F32, DTYPE_BOOL, DTYPE_U8, DTYPE_U32, DTYPE_I64};
    *subject = (struct subject){.entry = entry, .recipe = recipe_find(entry), .shape = shape};
    for (int i = 0; i < INPUTS; i++)
        subject->data += subject->recipe->inputs[i] && *subject->recipe->inputs[i] == 'x';
    if (!subject->data)
        subject->data = entry->inputs.most < 0 ? 2 : entry->inputs.least;

    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        struct tensor data[INPUTS], outputs[OUTPUTS];
        subject->dtype = dtypes[i];
        data_make(subject, &shape, data);
        int count = run(subject, data, outputs);
        tensors_free(outputs, count);
        tensors_free(data, subject->data);
        if (count)
            return true;
    }

    return false;
}

/* --- Comparing --- */

static inline bool elements_equal(const struct tensor *a, int64_t i, const struct tensor *b, int64_t j) {
    double x = tensor_get_f64(a, i), y = tensor_get_f64(b, j);

    return (isnan(x) && isnan(y)) || x == y;
}

/* Element i of the permuted tensor lies where in the tensor itself. */
static inline int64_t permuted_index(const struct shape *permuted, const int *axes, const struct shape *shape,
                                     int64_t i) {
    int64_t index = 0, coordinates[LIMIT_TENSOR_RANK] = {0};

    for (int d = permuted->rank - 1; d >= 0; d--) {
        coordinates[axes[d]] = i % permuted->dims[d];
        i /= permuted->dims[d];
    }
    for (int d = 0; d < shape->rank; d++)
        index = index * shape->dims[d] + coordinates[d];

    return index;
}

static inline struct tensor permute(const struct tensor *tensor, const int *axes) {
    struct tensor permuted = {tensor->dtype, {.rank = tensor->shape.rank}, NULL};
    size_t size = dtype_size(tensor->dtype);
    for (int d = 0; d < permuted.shape.rank; d++)
        permuted.shape.dims[d] = tensor->shape.dims[axes[d]];
    permuted.data = malloc(tensor_bytes(&permuted) + 8);

    for (int64_t i = 0; i < shape_elements(&permuted.shape); i++)
        memcpy((char *)permuted.data + (size_t)i * size,
               (const char *)tensor->data +
                   (size_t)permuted_index(&permuted.shape, axes, &tensor->shape, i) * size,
               size);

    return permuted;
}

static inline bool tensors_equal(const struct tensor *a, const struct tensor *b) {
    if (a->dtype != b->dtype || !shape_equal(&a->shape, &b->shape))
        return false;
    for (int64_t i = 0; i < shape_elements(&a->shape); i++)
        if (!elements_equal(a, i, b, i))
            return false;

    return true;
}
