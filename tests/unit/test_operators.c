/* ops/: every operator of the table against nodes made at random, as a hostile file would have them:
 * attributes of wrong values, lengths and kinds, inputs of shapes and types that do not fit. Each has to end
 * in an error or a result; the sanitizers see what goes wrong in between. And what messages say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "forms.h"
#include "ops/operator.h"

#define ROUNDS 1500         /* nodes an operator */
#define COMPUTE_LIMIT 20000 /* elements of all tensors of a node that is computed */
#define INPUTS 9

/* xorshift64*, so that a failing round can be found again. */
static uint64_t random_state;

static uint64_t random_next(void) {
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1d;
}

static int random_below(int limit) {
    return (int)((random_next() >> 33) % (uint64_t)limit);
}

#define PICK(array) array[random_below((int)(sizeof array / sizeof array[0]))]

static int64_t random_number(void) {
    static const int64_t tame[] = {0, 1, 1, 1, 2, 2, 3, 4, -1, -2};
    static const int64_t wild[] = {INT64_MAX, INT64_MIN,    1ll << 31, (1ll << 31) - 1, 1ll << 32,
                                   1ll << 62, -(1ll << 31), 100000,    -100000,         255};
    return random_below(12) ? PICK(tame) : PICK(wild);
}

static struct shape random_shape(void) {
    static const int64_t dims[] = {1, 1, 2, 2, 3, 4, 4, 5, 8};
    struct shape shape = {.rank = random_below(20) ? random_below(6) : LIMIT_TENSOR_RANK};

    for (int i = 0; i < shape.rank; i++)
        shape.dims[i] = shape.rank > 5 ? 1 + random_below(2) : PICK(dims);
    if (!random_below(25) && shape.rank)
        shape.dims[random_below(shape.rank)] = 0;
    if (!random_below(40) && shape.rank)
        shape.dims[random_below(shape.rank)] = 1ll << (10 + random_below(21));
    return shape;
}

/* Shapes that tend to fit a first one. */
static struct shape related_shape(const struct shape *base) {
    struct shape shape = *base;

    switch (random_below(6)) {
    case 0:
        return random_shape();
    case 1:
        return (struct shape){random_below(2), {1}};
    case 2: /* a vector of one of its dimensions, or of its rank */
        return (struct shape){
            1, {base->rank && random_below(2) ? base->dims[random_below(base->rank)] : base->rank}};
    case 3: /* weights */
        for (int i = 2; i < shape.rank; i++)
            shape.dims[i] = 1 + random_below(3);
        if (shape.rank > 1)
            shape.dims[0] = 4;
        return shape;
    default:
        return shape;
    }
}

static enum dtype random_dtype(enum dtype base) {
    static const enum dtype often[] = {DTYPE_I64, DTYPE_I64,  DTYPE_F32, DTYPE_U8,
                                       DTYPE_I8,  DTYPE_BOOL, DTYPE_I32};

    if (random_below(10) < 7)
        return base;
    return random_below(3) ? PICK(often) : (enum dtype)(1 + random_below(DTYPE_STRING - 1));
}

/* Small numbers, as doubles first; some constants hold extremes. */
static void fill(struct tensor *tensor, bool is_wild) {
    int64_t count = shape_elements(&tensor->shape);
    size_t size = dtype_size(tensor->dtype);

    for (int64_t i = 0; i < count; i++) {
        int64_t number = is_wild ? random_number() : random_below(5) - (random_below(4) == 0);
        elements_convert(DTYPE_I64, &number, tensor->dtype, (char *)tensor->data + (size_t)i * size, 1);
    }
}

static struct tensor *random_tensor(struct graph *graph, enum dtype dtype, const struct shape *shape,
                                    bool is_wild) {
    struct tensor *tensor = arena_allocate(graph->arena, sizeof *tensor);
    *tensor = (struct tensor){dtype, *shape, NULL};
    tensor->data = graph_own_memory(graph, tensor_bytes(tensor) ? tensor_bytes(tensor) : 1);

    fill(tensor, is_wild);
    return tensor;
}

static const char *const int_names[] = {"axis",
                                        "group",
                                        "ceil_mode",
                                        "keepdims",
                                        "to",
                                        "blocksize",
                                        "k",
                                        "size",
                                        "batch_dims",
                                        "num_groups",
                                        "storage_order",
                                        "count_include_pad",
                                        "p",
                                        "transA",
                                        "transB",
                                        "broadcast",
                                        "noop_with_empty_axes",
                                        "allowzero",
                                        "start",
                                        "end",
                                        "exclusive",
                                        "reverse",
                                        "num_outputs",
                                        "fmod",
                                        "select_last_index",
                                        "largest",
                                        "upper",
                                        "batch_axis",
                                        "time_axis",
                                        "dtype",
                                        "antialias",
                                        "exclude_outside",
                                        "output_dtype",
                                        "is_test",
                                        "spatial"};
static const char *const ints_names[] = {
    "axes",  "pads",   "strides", "dilations",    "kernel_shape",   "perm",    "split",
    "shape", "starts", "ends",    "output_shape", "output_padding", "paddings"};
static const char *const float_names[] = {"alpha",
                                          "beta",
                                          "epsilon",
                                          "gamma",
                                          "bias",
                                          "lambd",
                                          "value",
                                          "min",
                                          "max",
                                          "cubic_coeff_a",
                                          "extrapolation_value",
                                          "value_float"};
static const char *const string_names[] = {
    "auto_pad",  "mode",      "equation",    "coordinate_transformation_mode", "nearest_mode",
    "direction", "reduction", "approximate", "keep_aspect_ratio_policy"};
static const char *const strings[] = {
    "SAME_UPPER",     "SAME_LOWER", "VALID",     "linear",     "cubic",         "nearest",
    "constant",       "reflect",    "edge",      "wrap",       "align_corners", "tf_crop_and_resize",
    "asymmetric",     "floor",      "LEFT",      "RIGHT",      "add",           "max",
    "tanh",           "CRD",        "ij,jk->ik", "...i,...i",  "ii->i",         "ab->ba",
    "a...,...->...a", "->",         "i",         "iiiiiiiiii", "not_larger",    ""};
static const float floats[] = {0, 1, -1, 0.5f, 2, 1e30f, -1e-30f, NAN, INFINITY};

static void random_attribute(struct graph *graph, struct attribute *attribute) {
    int64_t *ints = arena_allocate_array(graph->arena, 20, sizeof *ints);
    float *values = arena_allocate_array(graph->arena, 20, sizeof *values);

    for (int i = 0; i < 20; i++) {
        ints[i] = random_number();
        values[i] = PICK(floats);
    }

    int kind = random_below(8);
    *attribute = (struct attribute){.i = random_number(),
                                    .f = PICK(floats),
                                    .s = PICK(strings),
                                    .count = (size_t)random_below(random_below(4) ? 5 : 18),
                                    .ints = ints,
                                    .floats = values};

    if (kind < 3) {
        attribute->name = PICK(int_names);
        attribute->kind = ATTRIBUTE_INT;
    } else if (kind < 5) {
        attribute->name = PICK(ints_names);
        attribute->kind = ATTRIBUTE_INTS;
    } else if (kind < 6) {
        attribute->name = PICK(float_names);
        attribute->kind = ATTRIBUTE_FLOAT;
    } else if (kind < 7) {
        attribute->name = PICK(string_names);
        attribute->kind = ATTRIBUTE_STRING;
    } else {
        struct shape shape = random_shape();
        attribute->name = random_below(2) ? "value" : "scales";
        attribute->kind = random_below(2) ? ATTRIBUTE_TENSOR : ATTRIBUTE_FLOATS;
        attribute->tensor = shape_elements(&shape) < COMPUTE_LIMIT
                                ? random_tensor(graph, random_dtype(DTYPE_F32), &shape, false)
                                : NULL;
        if (!attribute->tensor)
            attribute->kind = ATTRIBUTE_INT;
    }

    if (!random_below(20)) /* of another kind than the operator expects */
        attribute->kind =
            (enum attribute_kind[]){ATTRIBUTE_INT,  ATTRIBUTE_FLOAT,  ATTRIBUTE_STRING,
                                    ATTRIBUTE_INTS, ATTRIBUTE_FLOATS, ATTRIBUTE_OTHER}[random_below(6)];
}

static struct value *random_value(struct graph *graph, struct shape *base, enum dtype base_dtype, int index,
                                  bool is_plan_input) {
    struct value *value = graph_add_value(graph, "x");
    value->dtype = is_plan_input && random_below(4) ? DTYPE_I64 : random_dtype(base_dtype);
    value->shape = index == 0 ? *base : related_shape(base);

    if (is_plan_input && random_below(3))
        value->shape =
            (struct shape){1, {random_below(3) ? base->rank : random_below(2 * LIMIT_TENSOR_RANK + 2)}};

    if (!random_below(60) && value->shape.rank)
        value->shape.dims[0] = -1;

    if (shape_elements(&value->shape) >= 0 && shape_elements(&value->shape) < COMPUTE_LIMIT &&
        random_below(30))
        value->constant = random_tensor(graph, value->dtype, &value->shape, is_plan_input);
    return value;
}

/* What half of an operator's nodes are given, so that they get past the first check. Inputs, a letter each: x
 * as the base, b the base of bytes, s a scale, z a byte, w weights, c a vector of the channels, n a vector of
 * the first dimension, i indices, t two tuples of an index, u their updates, g a grid of
 * points; anything else: at random. */
static const struct hint {
    const char *op_type, *inputs, *attribute;
    enum attribute_kind kind;
    int64_t value;
    int rank; /* of the base; 0: any */
} hints[] = {
    {"Conv", "xw?", NULL, 0, 0, 4},
    {"ConvTranspose", "xw?", NULL, 0, 0, 4},
    {"ConvInteger", "bvzz", NULL, 0, 0, 4},
    {"QLinearConv", "bszvszsz", NULL, 0, 0, 4},
    {"QLinearMatMul", "bszbszsz", NULL, 0, 0, 2},
    {"QLinearAdd", "bszbszsz", NULL, 0, 0, 0},
    {"QLinearMul", "bszbszsz", NULL, 0, 0, 0},
    {"QLinearSigmoid", "bszsz", NULL, 0, 0, 0},
    {"QLinearLeakyRelu", "bszsz", NULL, 0, 0, 0},
    {"QLinearGlobalAveragePool", "bszsz", NULL, 0, 0, 4},
    {"QLinearConcat", "szbszbsz", NULL, 0, 0, 0},
    {"BitShift", "bb", "direction", ATTRIBUTE_STRING, 0, 0},
    {"MaxPool", "x", "kernel_shape", ATTRIBUTE_INTS, 2, 4},
    {"AveragePool", "x", "kernel_shape", ATTRIBUTE_INTS, 2, 4},
    {"LpPool", "x", "kernel_shape", ATTRIBUTE_INTS, 2, 4},
    {"MaxUnpool", "xi", "kernel_shape", ATTRIBUTE_INTS, 2, 4},
    {"DepthToSpace", "x", "blocksize", ATTRIBUTE_INT, 2, 4},
    {"SpaceToDepth", "x", "blocksize", ATTRIBUTE_INT, 2, 4},
    {"GroupNormalization", "xcc", "num_groups", ATTRIBUTE_INT, 1, 4},
    {"BatchNormalization", "xcccc", NULL, 0, 0, 4},
    {"InstanceNormalization", "xcc", NULL, 0, 0, 4},
    {"SkipLayerNormalization", "xxccc", NULL, 0, 0, 2},
    {"ReverseSequence", "xn", "batch_axis", ATTRIBUTE_INT, 0, 3},
    {"ScatterND", "xtu", NULL, 0, 0, 1},
    {"ScatterElements", "xix", NULL, 0, 0, 0},
    {"GatherND", "xi", NULL, 0, 0, 1},
    {"Slice", "x", "starts", ATTRIBUTE_INTS, 1, 2},
    {"GridSample", "xg", NULL, 0, 0, 4},
    {"NegativeLogLikelihoodLoss", "xn", NULL, 0, 0, 2},
    {"NonMaxSuppression", "DS", NULL, 0, 0, 0},
    {"RoiAlign", "xBE", NULL, 0, 0, 4},
    {"Adagrad", "sTxxx", NULL, 0, 0, 0},
    {"Adam", "sTxxxx", NULL, 0, 0, 0},
    {"Momentum", "sTxxx", NULL, 0, 0, 0},
    {"RNN", "xRN", NULL, 0, 0, 3},
    {"GRU", "xRG", NULL, 0, 0, 3},
    {"LSTM", "xRL", NULL, 0, 0, 3},
};

static const struct hint *hint_find(const char *op_type) {
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (strcmp(hints[i].op_type, op_type) == 0)
            return random_below(2) ? &hints[i] : NULL;
    return NULL;
}

static void value_hint(struct graph *graph, struct value *value, char letter, const struct shape *base,
                       enum dtype dtype) {
    if (!value || !letter || letter == '?')
        return;

    struct shape shape = *base;
    if (letter == 's' || letter == 'z')
        shape = (struct shape){0};
    else if (letter == 'c' || letter == 'n')
        shape = (struct shape){1, {base->rank > 1 ? base->dims[letter == 'c'] : 1}};
    else if (letter == 't')
        shape = (struct shape){2, {2, 1}};
    else if (letter == 'u')
        shape = (struct shape){1, {2}};
    else if (letter == 'g')
        shape = (struct shape){4, {base->dims[0], 1 + random_below(3), 1 + random_below(4), 2}};
    else if (letter == 'T')
        shape = (struct shape){0};
    else if (letter == 'D' || letter == 'S') /* boxes and their scores */
        shape = (struct shape){3, {1, letter == 'D' ? 5 : 2, letter == 'D' ? 4 : 5}};
    else if (letter == 'B' || letter == 'E') /* regions and their pictures */
        shape = (struct shape){letter == 'B' ? 2 : 1, {2, 4}};
    else if (strchr("RNGL", letter)) /* twelve rows: gates of so many numbers */
        shape = (struct shape){3,
                               {1, 12,
                                letter == 'R'   ? base->dims[2]
                                : letter == 'N' ? 12
                                : letter == 'G' ? 4
                                                : 3}};
    else if (letter == 'w' || letter == 'v') {
        shape.dims[0] = 4;
        for (int i = 2; i < shape.rank; i++)
            shape.dims[i] = 1 + random_below(2);
    }

    value->shape = shape;
    value->dtype = strchr("sDS", letter)                             ? DTYPE_F32
                   : letter == 'b' || letter == 'z' || letter == 'v' ? DTYPE_U8
                   : strchr("intTE", letter)                         ? DTYPE_I64
                                                                     : dtype;

    value->constant = shape_elements(&shape) >= 0 && shape_elements(&shape) < COMPUTE_LIMIT
                          ? random_tensor(graph, value->dtype, &shape, false)
                          : NULL;
}

static void attribute_hint(struct graph *graph, struct node *node, const struct hint *hint, int rank) {
    if (!hint->attribute)
        return;

    int64_t *ints = arena_allocate_array(graph->arena, LIMIT_TENSOR_RANK, sizeof *ints);
    for (int i = 0; i < LIMIT_TENSOR_RANK; i++)
        ints[i] = hint->value;

    node->attributes[0] = (struct attribute){.name = hint->attribute,
                                             .kind = hint->kind,
                                             .i = hint->value,
                                             .s = "LEFT",
                                             .ints = ints,
                                             .count = (size_t)(rank > 2 ? rank - 2 : 1)};
    node->attribute_count += node->attribute_count == 0;
}

static struct node *random_node(struct graph *graph, const struct op_def *entry) {
    static const enum dtype bases[] = {DTYPE_F32, DTYPE_F32,  DTYPE_F32, DTYPE_F32, DTYPE_U8,   DTYPE_I8,
                                       DTYPE_I64, DTYPE_BOOL, DTYPE_F16, DTYPE_F64, DTYPE_BF16, DTYPE_U32};
    struct shape base = random_shape();
    enum dtype dtype = PICK(bases);
    const struct hint *hint = hint_find(entry->op_type);
    while (hint && hint->rank && base.rank != hint->rank)
        base = random_shape();

    struct value *inputs[INPUTS] = {0}, *outputs[INPUTS] = {0};
    int most = entry->inputs.most < 0 || entry->inputs.most > INPUTS ? INPUTS : entry->inputs.most;
    int input_count = entry->inputs.least + random_below(most - entry->inputs.least + 1);

    for (int i = 0; i < input_count; i++)
        if (i < entry->inputs.least || random_below(5))
            inputs[i] = random_value(graph, &base, dtype, i, entry->plan_inputs >> i & 1);
    for (int i = 0; hint && i < input_count && hint->inputs[i]; i++)
        value_hint(graph, inputs[i], hint->inputs[i], &base, dtype);

    int output_most = entry->outputs.most < 0 ? 4 : entry->outputs.most;
    int output_count = entry->outputs.least + random_below(output_most - entry->outputs.least + 1);
    for (int i = 0; i < output_count; i++)
        if (i < entry->outputs.least || random_below(5))
            outputs[i] = graph_add_value(graph, "y");

    struct node *node = graph_add_node(graph, NULL, entry->domain, entry->op_type, "fuzzed", inputs,
                                       input_count, outputs, output_count);

    node->opset = entry->since + random_below(entry->until - entry->since + 1);
    node->attribute_count = random_below(7);
    node->attributes = arena_allocate_array(graph->arena, 8, sizeof *node->attributes);
    for (int i = 0; i < node->attribute_count; i++)
        random_attribute(graph, &node->attributes[i]);

    if (hint)
        attribute_hint(graph, node, hint, base.rank);
    form_apply(graph, node, INPUTS, random_below, random_tensor);
    return node;
}

/* Outputs have their exact size, so that sanitizers detect overruns. */
static bool node_run(struct node *node, struct error *error) {
    struct tensor inputs[INPUTS] = {0}, outputs[INPUTS] = {0};
    int64_t total = 0;

    for (int i = 0; i < node->input_count; i++) {
        if (node->inputs[i] && !node->inputs[i]->constant)
            return false;
        if (node->inputs[i])
            inputs[i] = *node->inputs[i]->constant;
    }

    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i]) {
            outputs[i] = (struct tensor){node->outputs[i]->dtype, node->outputs[i]->shape, NULL};
            assert_true(shape_elements(&outputs[i].shape) >= 0);
            assert_true(dtype_size(outputs[i].dtype) > 0);
            total += shape_elements(&outputs[i].shape);
        }

    if (total > COMPUTE_LIMIT)
        return false;
    for (int i = 0; i < node->output_count; i++)
        if (node->outputs[i])
            outputs[i].data = malloc(tensor_bytes(&outputs[i]) ? tensor_bytes(&outputs[i]) : 1);

    bool done = operator_compute(node, inputs, outputs, error);
    if (!done)
        assert_true(error->code != ERROR_NONE && error->message[0]);

    for (int i = 0; i < node->output_count; i++)
        free(outputs[i].data);
    return done;
}

static void hostile_nodes_end_in_errors_or_results(void **state) {
    int count, computed_operators = 0;
    const struct op_def *entries = operator_table(&count);
    for (int i = 0; i < count; i++) {
        /* The engine computes those with graphs inside, test_ml.c those with lists that must fit each other.
         */
        int computed = entries[i].traits & OP_CONTROL || strcmp(entries[i].domain, "ai.onnx.ml") == 0 ||
                       strcmp(entries[i].op_type, "MelWeightMatrix") == 0 ||
                       strcmp(entries[i].op_type, "TfIdfVectorizer") == 0;
        for (int round = 0; round < ROUNDS; round++) {
            random_state = (uint64_t)i * 1000003 + (uint64_t)round * 7919 + 1;
            struct graph *graph = graph_create();
            struct error error = {0};
            struct node *node = random_node(graph, &entries[i]);
            bool bound = operators_bind(graph, &error);
            if (bound && operator_infer(node, &error))
                computed += node_run(node, &error);
            else
                assert_true(error.code != ERROR_NONE && error.message[0]);
            graph_free(graph);
        }
        computed_operators += computed > 0;
        if (!computed)
            printf("# %s (since %d): none of the nodes could be computed\n", entries[i].op_type,
                   entries[i].since);
    }
    printf("# %d of %d operators were computed\n", computed_operators, count);
    /* Else the nodes are too hostile to reach the operator: it needs a row in `hints`. */
    assert_int_equal(computed_operators, count);
}

static void missing_operators_are_named(void **state) {
    struct graph *graph = graph_create();
    struct error error = {0};
    for (int i = 0; i < 3; i++) {
        struct value *y = graph_add_value(graph, "y");
        graph_add_node(graph, NULL, "", "Frobnicate", "here", NULL, 0, &y, 1)->opset = 13;
    }
    assert_false(operators_bind(graph, &error));
    assert_non_null(strstr(error.message, "operator Frobnicate (opset 13) is not supported: node here"));
    assert_non_null(strstr(error.message, "2 other"));
    graph_free(graph);
    assert_null(operator_find("", "Squeeze", 0));
    assert_int_equal(operator_find("ai.onnx", "Squeeze", 13)->plan_inputs, 2);
    assert_int_equal(operator_find("", "Squeeze", 12)->plan_inputs, 0);
}

static void entries_do_not_overlap(void **state) {
    int count;
    const struct op_def *entries = operator_table(&count);
    for (int i = 0; i < count; i++) {
        assert_true(entries[i].since <= entries[i].until);
        assert_non_null(entries[i].infer);
        assert_non_null(entries[i].compute);
        assert_non_null(entries[i].types);
        for (int j = 0; j < i; j++)
            if (strcmp(entries[i].op_type, entries[j].op_type) == 0 &&
                strcmp(entries[i].domain, entries[j].domain) == 0)
                assert_true(entries[i].since > entries[j].until || entries[i].until < entries[j].since);
    }
}

/* ONNX's own cases try each mode and padding, but not all pairs of them. The numbers are ONNX Runtime's. */
static const struct grid_case {
    const char *mode, *padding;
    int corners;
    float expected[6];
} grid_cases[] = {
    {"nearest", "zeros", 0, {1, 21, 0, 0, 13, 0}},
    {"nearest", "zeros", 1, {8, 21, 34, 0, 13, 0}},
    {"nearest", "border", 0, {1, 21, 34, 3, 13, 3}},
    {"nearest", "border", 1, {8, 21, 34, 3, 13, 3}},
    {"nearest", "reflection", 0, {1, 21, 34, 89, 13, 3}},
    {"nearest", "reflection", 1, {8, 21, 34, 89, 13, 3}},
    {"bilinear", "zeros", 0, {4.06, 37.94501, 0, 0, 10.5, 0}},
    {"bilinear", "zeros", 1, {5.88, 27.585, 17.105, 0, 10.5, 0}},
    {"bilinear", "border", 0, {4.06, 37.94501, 34, 3, 10.5, 3}},
    {"bilinear", "border", 1, {5.88, 27.585, 31.1, 3, 10.5, 7.5}},
    {"bilinear", "reflection", 0, {4.06, 37.94501, 36.1, 72.06998, 10.5, 3}},
    {"bilinear", "reflection", 1, {5.88, 27.585, 39.73999, 50.75999, 10.5, 6.46875}},
    {"bicubic", "zeros", 0, {0.5196552, 41.48314, -1.573201, 0, 10.03125, 0}},
    {"bicubic", "zeros", 1, {0.3753576, 31.57738, 16.63043, 0.02395578, 10.03125, 0}},
    {"bicubic", "border", 0, {0.3969665, 37.03486, 37.21628, 2.999999, 10.03125, 1.708008}},
    {"bicubic", "border", 1, {0.285501, 27.36644, 29.66109, 3, 10.03125, 2.753906}},
    {"bicubic", "reflection", 0, {0.3969665, 37.03486, 40.65906, 69.29127, 10.03125, 1.523438}},
    {"bicubic", "reflection", 1, {-0.2709174, 29.35825, 37.67668, 56.06516, 10.03125, 0.8371868}},
    {"cubic", "border", 1, {0.285501, 27.36644, 29.66109, 3, 10.03125, 2.753906}},
};

static struct attribute string_attribute(const char *name, const char *value) {
    return (struct attribute){.name = name, .kind = ATTRIBUTE_STRING, .s = value};
}

static void check_grid_case(const struct grid_case *grid_case, enum dtype dtype) {
    const float image[] = {0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144};
    const float points[] = {-0.2f, -0.4f, 0.7f, 0.1f, -1.3f, 0.9f, 1.9f, -2.6f, 0, 0, 5.25f, -0.75f};
    struct graph *graph = graph_create();
    double x[12], at[12], y[6];
    struct tensor inputs[] = {{dtype, {4, {1, 1, 3, 4}}, x}, {dtype, {4, {1, 6, 1, 2}}, at}};
    struct value *values[2], *output = graph_add_value(graph, "y");
    for (int i = 0; i < 2; i++) {
        elements_convert(DTYPE_F32, i ? points : image, dtype, inputs[i].data, 12);
        values[i] = graph_add_constant(graph, "x", dtype, &inputs[i].shape, inputs[i].data);
    }

    struct attribute attributes[] = {
        string_attribute("mode", grid_case->mode),
        string_attribute("padding_mode", grid_case->padding),
        {.name = "align_corners", .kind = ATTRIBUTE_INT, .i = grid_case->corners}};
    struct node *node = graph_add_node(graph, NULL, "", "GridSample", "sample", values, 2, &output, 1);
    node->opset = strncmp(grid_case->mode, "bi", 2) == 0 ? 16 : 20;
    node->attributes = attributes;
    node->attribute_count = 3;

    struct error error = {0};
    struct tensor result = {dtype, {4, {1, 1, 6, 1}}, y};
    if (!operators_bind(graph, &error) || !operator_infer(node, &error) ||
        !operator_compute(node, inputs, &result, &error))
        fail_msg("%s", error.message);
    assert_true(shape_equal(&output->shape, &(struct shape){4, {1, 1, 6, 1}}));
    for (int i = 0; i < 6; i++)
        assert_float_equal(tensor_get_f64(&result, i), grid_case->expected[i], 1e-4);
    graph_free(graph);
}

static void grids_are_sampled_as_onnx_runtime_does(void **state) {
    for (size_t i = 0; i < sizeof grid_cases / sizeof grid_cases[0]; i++) {
        check_grid_case(&grid_cases[i], DTYPE_F32);
        check_grid_case(&grid_cases[i], DTYPE_F64);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_do_not_overlap),
        cmocka_unit_test(missing_operators_are_named),
        cmocka_unit_test(grids_are_sampled_as_onnx_runtime_does),
        cmocka_unit_test(hostile_nodes_end_in_errors_or_results),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
