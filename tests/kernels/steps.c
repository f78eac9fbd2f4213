/* The program that tests the steps of a plan. Layouts differ from case to case, and so does what is fused. */
#include "step_case.h"

/* --- Parts of tensors ----------------------------------------------------------------------------------- */

/* Elements `first` to `first + count` of an axis. */
static struct value *part_of(struct value *x, int64_t axis, int64_t first, int64_t count) {
    const int64_t end = first + count, step = 1;

    return network_node(graph, "Slice", x, ints(1, &first), ints(1, &end), ints(1, &axis), ints(1, &step),
                        NULL);
}

/* A part of a tensor of the input's making, of the dimensions `dims` or such as are broadcast to them: a view
 * whose elements lie apart, as rows, as channels or as both. */
static struct value *random_part(int rank, const int64_t *dims) {
    const bool broadcast = random_chance(25);
    int64_t before[5] = {0}, own[5], whole[5];

    for (int i = 0; i < rank; i++) {
        own[i] = broadcast && random_chance(40) ? 1 : dims[i];
        whole[i] = own[i];
        if (random_chance(i == 1 ? 60 : 25)) {
            before[i] = random_between(0, 2);
            whole[i] += before[i] + random_between(0, 2);
        }
    }

    struct value *x = network_node(graph, "ReduceMax", graph->inputs[0], NULL); /* of one element */
    x = network_node(graph, "Mul", x, floats(1, rank, whole), NULL);
    if (rank == 4 && random_chance(40))
        x = pointwise(x, whole[1], whole[1]);
    if (random_chance(30))
        x = network_node(graph, "Tanh", x, NULL);
    for (int i = 0; i < rank; i++)
        if (whole[i] != own[i])
            x = part_of(x, i, before[i], own[i]);
    return x;
}

/* --- Convolutions --------------------------------------------------------------------------------------- */

/* A window of its own extent on each axis. */
struct window {
    int64_t kernel[2], strides[2], dilations[2];
};

static struct window random_window(int64_t most_kernel, int64_t most_dilation) {
    struct window window;

    for (int axis = 0; axis < 2; axis++) {
        bool same = axis && random_chance(60);
        window.kernel[axis] = same ? window.kernel[0] : random_between(1, most_kernel);
        window.strides[axis] = same ? window.strides[0] : random_between(1, 3);
        window.dilations[axis] = same ? window.dilations[0] : random_between(1, most_dilation);
    }
    return window;
}

/* How many elements of an axis the window covers. */
static int64_t window_reach(const struct window *window, int axis) {
    return (window->kernel[axis] - 1) * window->dilations[axis] + 1;
}

static void set_window(struct node *node, const struct window *window) {
    int64_t pads[4];

    for (int i = 0; i < 4; i++)
        pads[i] = random_between(0, window->kernel[i % 2] / 2);
    node_set_ints(graph, node, "strides", window->strides, 2);
    node_set_ints(graph, node, "dilations", window->dilations, 2);
    node_set_ints(graph, node, "pads", pads, 4);
}

/* A residual of the convolution's shape, from the same input. */
static struct value *with_residual(struct value *y, struct value *x, int64_t channels, int64_t outputs) {
    struct value *other = network_node(graph, "Tanh", pointwise(x, channels, outputs), NULL);
    return network_node(graph, "Add", random_chance(50) ? y : other, random_chance(50) ? other : y, NULL);
}

static void step_conv(void) {
    for (int i = 0; i < case_count(3 * CASES); i++) {
        struct window window = random_window(5, 2);
        int64_t groups = random_chance(70) ? 1 : random_extent(16);
        bool fours = groups > 1 && random_chance(40); /* blocks of four channels fit a group */
        int64_t inputs = groups * (fours ? 4 * random_between(1, 4) : random_extent(groups > 1 ? 5 : 65));
        int64_t outputs = groups * (fours ? 4 * random_between(1, 4) : random_extent(groups > 1 ? 5 : 65));
        struct value *x = begin_picture("Conv", inputs, window_reach(&window, 0) + random_extent(17) - 1,
                                        window_reach(&window, 1) + random_extent(17) - 1);
        const int64_t dims[4] = {outputs, inputs / groups, window.kernel[0], window.kernel[1]};
        float size = 2 / sqrtf((float)(inputs / groups * window.kernel[0] * window.kernel[1]));
        struct value *bias = random_chance(70) ? vector(0.5f, outputs) : NULL;
        struct value *y = network_node(graph, "Conv", x, floats(size, 4, dims), bias, NULL);

        node_set_int(graph, y->producer, "group", groups);
        set_window(y->producer, &window);
        finish_usual(followed(y));
    }
}

static void step_conv_residual(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t inputs = random_extent(65), outputs = random_extent(65);
        struct value *x = begin_picture("Conv+Add", inputs, random_extent(33), random_extent(33));
        const int64_t dims[4] = {outputs, inputs, 3, 3}, pads[4] = {1, 1, 1, 1};
        float size = 2 / sqrtf((float)(inputs * 9));
        struct value *y = network_node(graph, "Conv", x, floats(size, 4, dims), vector(0.5f, outputs), NULL);

        node_set_ints(graph, y->producer, "pads", pads, 4);
        finish_usual(followed(with_residual(y, x, inputs, outputs)));
    }
}

/* A convolution over one to three axes, and a part of a tensor added or multiplied: often of one position and
 * several rows. */
static void step_conv_part(void) {
    for (int i = 0; i < case_count(4 * CASES); i++) {
        int rank = random_chance(70) ? 4 : (int)random_between(3, 5);
        int64_t size = random_chance(50) ? 1 : 9, most = random_chance(50) ? 1 : 5;
        int64_t groups = random_chance(60) ? 1 : random_extent(65 / most); /* depthwise where `most` is 1 */
        int64_t inputs = groups * random_extent(groups > 1 ? most : 33);
        int64_t outputs = groups * random_extent(groups > 1 ? most : 33);
        int64_t dims[5] = {random_between(1, 3), inputs}, results[5] = {dims[0], outputs};
        int64_t weights[5] = {outputs, inputs / groups}, pads[6], window = 1;

        for (int axis = 2; axis < rank; axis++) {
            int64_t kernel = random_between(1, 3), pad = random_between(0, kernel - 1);
            weights[axis] = kernel;
            results[axis] = random_extent(size);
            dims[axis] = results[axis] + kernel - 1;
            if (dims[axis] > pad)
                dims[axis] -= pad;
            else
                pad = 0;
            pads[axis - 2] = pad / 2;
            pads[axis - 2 + rank - 2] = pad - pad / 2;
            window *= kernel;
        }

        struct value *x = begin("Conv+part", rank, dims);
        struct value *kernel = floats(2 / sqrtf((float)(inputs / groups * window)), rank, weights);
        struct value *bias = random_chance(70) ? vector(0.5f, outputs) : NULL;
        struct value *y = network_node(graph, "Conv", x, kernel, bias, NULL);
        node_set_int(graph, y->producer, "group", groups);
        node_set_ints(graph, y->producer, "pads", pads, 2 * (rank - 2));
        y = network_node(graph, random_chance(70) ? "Add" : "Mul", y, random_part(rank, results), NULL);
        finish_usual(followed(y));
    }
}

/* Shapes that the plan takes Winograd's algorithm for. Its sums are less exact. */
static void step_conv_winograd(void) {
    for (int i = 0; i < case_count(CASES / 2); i++) {
        int64_t inputs = 32 + random_extent(33), outputs = 32 + random_extent(33);
        const int64_t weights[4] = {outputs, inputs, 3, 3}, pads[4] = {1, 1, 1, 1};
        struct value *x = begin_picture("Conv", inputs, 13 + random_extent(17), 14 + random_extent(17));
        float size = 2 / sqrtf((float)(inputs * 9));
        struct value *y = network_node(graph, "Conv", x, floats(size, 4, weights), NULL);

        node_set_ints(graph, y->producer, "pads", pads, 4);
        if (random_chance(50))
            y = with_residual(y, x, inputs, outputs);
        finish(followed(y), 10 * F32_DISTANCE, BF16_DISTANCE);
    }
}

static void step_conv_transpose(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct window window = random_window(4, 1);
        int64_t inputs = random_extent(33), outputs = random_extent(33);
        const int64_t dims[4] = {inputs, outputs, window.kernel[0], window.kernel[1]};
        struct value *x = begin_picture("ConvTranspose", inputs, 1 + random_extent(9), 1 + random_extent(9));
        float size = 2 / sqrtf((float)(inputs * window.kernel[0]));
        struct value *bias = random_chance(70) ? vector(0.5f, outputs) : NULL;
        struct value *y = network_node(graph, "ConvTranspose", x, floats(size, 4, dims), bias, NULL);

        set_window(y->producer, &window);
        finish_usual(followed(y));
    }
}

/* --- Matrix products ------------------------------------------------------------------------------------ */

static void step_gemm(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        const int64_t dims[2] = {random_extent(65), random_extent(257)};
        int64_t columns = random_extent(129);
        bool transposed = random_chance(50);
        const int64_t weights[2] = {transposed ? columns : dims[1], transposed ? dims[1] : columns};
        struct value *x = begin("Gemm", 2, dims);
        struct value *y = network_node(graph, "Gemm", x, floats(2 / sqrtf((float)dims[1]), 2, weights),
                                       random_chance(70) ? vector(0.5f, columns) : NULL, NULL);

        node_set_int(graph, y->producer, "transB", transposed);
        finish_usual(followed(y));
    }
}

static void step_matmul(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        const int64_t dims[3] = {random_between(1, 3), random_extent(33), random_extent(129)};
        const int64_t weights[2] = {dims[2], random_extent(129)};
        struct value *x = begin("MatMul", 3, dims);
        struct value *y =
            network_node(graph, "MatMul", x, floats(2 / sqrtf((float)dims[2]), 2, weights), NULL);

        if (random_chance(60))
            y = network_node(graph, "Add", y, vector(0.5f, weights[1]), NULL);
        finish_usual(followed(y));
    }
}

/* A part of the batches, or all of them; maybe one that is repeated for every other. */
static struct value *some_batches(struct value *x, const int64_t dims[4]) {
    for (int axis = 0; axis < 2; axis++)
        if (random_chance(15))
            x = part_of(x, axis, random_between(0, dims[axis] - 1), 1);
    return x;
}

/* Both operands come from the input: x x', of views of it. */
static void step_matmul_batched(void) {
    for (int i = 0; i < case_count(2 * CASES); i++) {
        int64_t dims[4] = {random_between(1, 4), random_between(1, 3), random_extent(33), random_extent(33)};
        struct value *x = begin("MatMul", 4, dims), *a, *b;

        for (int axis = 0; axis < 3; axis++)
            if (random_chance(25)) {
                int64_t first = random_between(0, dims[axis] - 1);
                dims[axis] = random_between(1, dims[axis] - first);
                x = part_of(x, axis, first, dims[axis]);
            }
        a = random_chance(50) ? network_node(graph, "Tanh", x, NULL) : x;
        a = some_batches(a, dims);
        b = some_batches(x, dims);
        if (random_chance(30)) /* one row */
            a = part_of(a, 2, random_between(0, dims[2] - 1), 1);
        finish_usual(random_chance(70)
                         ? network_node(graph, "MatMul", a, network_permute(graph, b, 4, 0, 1, 3, 2), NULL)
                         : network_node(graph, "MatMul", network_permute(graph, a, 4, 0, 1, 3, 2), a, NULL));
    }
}

/* --- Element by element --------------------------------------------------------------------------------- */

static void step_elementwise(void) {
    static const char *const names[] = {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Elu",
                                        "Exp",  "Softplus",  "Sqrt",    "Abs",  "Erf",       "HardSigmoid"};
    for (int i = 0; i < case_count(2 * CASES); i++) {
        const char *name = names[random_between(0, 11)];
        struct value *x = begin_picture(name, random_extent(33), random_extent(17), random_extent(17));

        if (strcmp(name, "Sqrt") == 0)
            x = network_node(graph, "Mul", x, x, NULL);
        finish_usual(network_node(graph, name, x, NULL));
    }
}

/* The axes in another order; `dims` follows. */
static struct value *permuted(struct value *x, int64_t dims[4]) {
    int64_t order[4] = {0, 1, 2, 3}, given[4];

    for (int i = 0; i < 3; i++) {
        int other = (int)random_between(i, 3);
        int64_t swap = order[i];
        order[i] = order[other];
        order[other] = swap;
    }
    memcpy(given, dims, sizeof given);
    for (int i = 0; i < 4; i++)
        dims[i] = given[order[i]];

    x = network_node(graph, "Transpose", x, NULL);
    node_set_ints(graph, x->producer, "perm", order, 4);
    return x;
}

/* An operand that is broadcast to a result of these dimensions: its last axes, each of 1 or whole. */
static struct value *broadcast_operand(const int64_t dims[4]) {
    int rank = (int)random_between(0, 4);
    int64_t own[4];

    for (int i = 0; i < rank; i++)
        own[i] = random_chance(50) ? 1 : dims[4 - rank + i];
    return floats(2, rank, own);
}

static void step_binary(void) {
    static const char *const names[] = {"Add", "Mul", "Sub", "Div"};

    for (int i = 0; i < case_count(3 * CASES); i++) {
        const char *name = names[random_between(0, 3)];
        int64_t channels = random_extent(33), dims[4];
        struct value *x = begin_picture(name, channels, random_extent(17), random_extent(17)), *other;

        memcpy(dims, input.shape.dims, sizeof dims);
        if (random_chance(30))
            other = pointwise(x, channels, channels);
        else {
            if (random_chance(50))
                x = permuted(x, dims);
            if (random_chance(50))
                x = network_node(graph, "Tanh", x, NULL);
            other = broadcast_operand(dims);
        }
        finish_usual(
            followed(network_node(graph, name, x, network_node(graph, "Sigmoid", other, NULL), NULL)));
    }
}

/* --- Normalization -------------------------------------------------------------------------------------- */

static void step_batch_norm(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t channels = random_extent(65);
        struct value *x = begin_picture("BatchNormalization", channels, random_extent(17), random_extent(17));
        struct value *variance = vector(0.4f, channels);

        for (int64_t c = 0; c < channels; c++)
            ((float *)variance->constant->data)[c] += 1;
        finish_usual(followed(network_node(graph, "BatchNormalization", x, vector(1, channels),
                                           vector(0.5f, channels), vector(0.5f, channels), variance, NULL)));
    }
}

static void step_layer_norm(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        const int64_t dims[3] = {random_between(1, 3), random_extent(65), 1 + random_extent(257)};
        struct value *x = begin("LayerNormalization", 3, dims);

        finish(network_node(graph, "LayerNormalization", x, vector(1, dims[2]),
                            random_chance(50) ? vector(0.5f, dims[2]) : NULL, NULL),
               5 * F32_DISTANCE, BF16_DISTANCE);
    }
}

static void step_group_norm(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t groups = random_extent(8), channels = groups * random_extent(8);
        struct value *x =
            begin_picture("GroupNormalization", channels, 1 + random_extent(9), random_extent(9));
        struct value *y =
            network_node(graph, "GroupNormalization", x, vector(1, groups), vector(0.5f, groups), NULL);

        node_set_int(graph, y->producer, "num_groups", groups);
        finish(followed(y), 10 * F32_DISTANCE, 2 * BF16_DISTANCE);
    }
}

static void step_softmax(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t axis = random_between(-1, 3);
        struct value *x = begin_picture("Softmax", random_extent(17), random_extent(17), random_extent(65));
        struct value *y = network_node(graph, "Softmax", x, NULL);

        node_set_int(graph, y->producer, "axis", axis);
        finish_usual(y);
    }
}

/* --- Windows -------------------------------------------------------------------------------------------- */

static void step_pooling(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        const char *name = random_chance(50) ? "MaxPool" : "AveragePool";
        int64_t kernel = random_between(1, 4);
        struct value *x =
            begin_picture(name, random_extent(65), kernel + random_extent(17), kernel + random_extent(17));
        struct value *y = network_node(graph, name, x, NULL);
        const int64_t window[2] = {kernel, kernel}, strides[2] = {random_between(1, 3), random_between(1, 3)};
        int64_t begin_pad = random_between(0, kernel / 2), end_pad = random_between(0, kernel / 2);
        const int64_t pads[4] = {begin_pad, end_pad, end_pad, begin_pad};

        node_set_ints(graph, y->producer, "kernel_shape", window, 2);
        node_set_ints(graph, y->producer, "strides", strides, 2);
        node_set_ints(graph, y->producer, "pads", pads, 4);
        node_set_int(graph, y->producer, "ceil_mode", random_chance(30));
        if (strcmp(name, "AveragePool") == 0)
            node_set_int(graph, y->producer, "count_include_pad", random_chance(50));
        finish_usual(y);
    }
}

static void step_global_pooling(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        const char *name = random_chance(50) ? "GlobalAveragePool" : "GlobalMaxPool";
        struct value *x = begin_picture(name, random_extent(65), random_extent(33), random_extent(33));
        finish_usual(network_node(graph, name, x, NULL));
    }
}

static void step_lrn(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct value *x = begin_picture("LRN", random_extent(33), random_extent(17), random_extent(17));
        struct value *y = network_node(graph, "LRN", x, NULL);

        node_set_int(graph, y->producer, "size", 2 * random_between(0, 3) + 1);
        finish_usual(y);
    }
}

static void set_string(struct node *node, const char *name, const char *text) {
    node_set_int(graph, node, name, 0);
    struct attribute *attribute = (struct attribute *)node_attribute(node, name);
    attribute->kind = ATTRIBUTE_STRING;
    attribute->s = text;
}

static void step_resize(void) {
    static const char *const modes[] = {"nearest", "linear", "cubic"};

    for (int i = 0; i < case_count(CASES); i++) {
        struct value *x =
            begin_picture("Resize", random_extent(17), 1 + random_extent(17), 1 + random_extent(17));
        struct value *sizes = network_ints(graph, 4, (int)input.shape.dims[0], (int)input.shape.dims[1],
                                           (int)random_extent(33), (int)random_extent(33));
        struct value *inputs[4] = {x, NULL, NULL, sizes}, *y = graph_add_value(graph, "resized");
        struct node *node = graph_add_node(graph, NULL, "", "Resize", NULL, inputs, 4, &y, 1);

        set_string(node, "mode", modes[random_between(0, 2)]);
        finish_usual(y);
    }
}

/* --- Moving --------------------------------------------------------------------------------------------- */

/* As a depthwise convolution leaves it, in blocks of channels, with the axes in another order. */
static struct value *turned_blocks(struct value *x, int64_t channels) {
    const int64_t weights[4] = {channels, 1, 3, 3}, pads[4] = {1, 1, 1, 1};
    int64_t dims[4];

    x = network_node(graph, "Conv", x, floats(0.7f, 4, weights), NULL);
    node_set_int(graph, x->producer, "group", channels);
    node_set_ints(graph, x->producer, "pads", pads, 4);
    memcpy(dims, input.shape.dims, sizeof dims);
    return permuted(x, dims);
}

static void step_concat(void) {
    for (int i = 0; i < case_count(2 * CASES); i++) {
        int axis = (int)random_between(0, 3), count = (int)random_between(1, 3);
        int64_t channels = random_chance(50) ? 16 * random_between(1, 3) : random_extent(33);
        struct value *x = begin_picture("Concat", channels, random_extent(17), random_extent(17));
        struct value *other = pointwise(x, channels, channels);
        if (random_chance(40))
            other = x = turned_blocks(x, channels);
        struct value *parts[3] = {x, other, network_node(graph, "Tanh", x, NULL)};
        struct value *y = graph_add_value(graph, "joined");
        struct node *node = graph_add_node(graph, NULL, "", "Concat", NULL, parts, count, &y, 1);

        node_set_int(graph, node, "axis", axis);
        finish_usual(followed(y));
    }
}

static void step_split(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t first = random_extent(33), second = random_extent(33);
        struct value *x = begin_picture("Split", first + second, random_extent(17), random_extent(17));
        struct value *inputs[2] = {x, network_ints(graph, 2, (int)first, (int)second)};
        struct value *halves[2] = {graph_add_value(graph, "left"), graph_add_value(graph, "right")};
        struct node *node = graph_add_node(graph, NULL, "", "Split", NULL, inputs, 2, halves, 2);

        node_set_int(graph, node, "axis", 1);
        struct value *y = network_node(graph, "Concat", halves[1], halves[0], NULL);
        node_set_int(graph, y->producer, "axis", 1);
        finish_usual(followed(y));
    }
}

static void step_slice(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct value *x =
            begin_picture("Slice", random_extent(33), 2 + random_extent(17), 2 + random_extent(17));
        int64_t axis = random_between(0, 3), size = input.shape.dims[axis];
        int64_t start = random_between(0, size - 1), end = random_between(start + 1, size);
        int64_t step = random_between(1, 3);
        if (random_chance(20)) { /* backwards */
            start = end - 1;
            end = -size - 1;
            step = -step;
        }
        struct value *inputs[5] = {x, ints(1, &start), ints(1, &end), ints(1, &axis), ints(1, &step)};
        struct value *y = graph_add_value(graph, "slice");

        graph_add_node(graph, NULL, "", "Slice", NULL, inputs, 5, &y, 1);
        finish_usual(followed(y));
    }
}

static void step_gather(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct value *x = begin_picture("Gather", random_extent(33), random_extent(17), random_extent(17));
        int64_t axis = random_between(0, 3), size = input.shape.dims[axis], count = random_extent(5);
        struct shape shape = {.rank = random_chance(50) ? 0 : 1, .dims = {count}};
        int64_t *indices = graph_own_memory(graph, (size_t)count * sizeof *indices);
        for (int64_t j = 0; j < count; j++)
            indices[j] = random_between(-size, size - 1);
        struct value *index = graph_add_constant(graph, "indices", DTYPE_I64, &shape, indices);
        struct value *y = network_node(graph, "Gather", x, index, NULL);

        node_set_int(graph, y->producer, "axis", axis);
        finish_usual(followed(y));
    }
}

static void step_transpose(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        struct value *x = begin_picture("Transpose", random_extent(33), random_extent(17), random_extent(17));
        int64_t dims[4];

        memcpy(dims, input.shape.dims, sizeof dims);
        finish_usual(followed(permuted(x, dims)));
    }
}

static void step_reshape(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int64_t channels = random_extent(33);
        struct value *x = begin_picture("Reshape", channels, random_extent(17), random_extent(17));
        const int64_t shapes[4][4] = {{0, -1}, {0, channels, -1}, {-1, 1, channels, 1}, {-1}};
        static const int ranks[4] = {2, 3, 4, 1};
        int shape = (int)random_between(0, 3);

        finish_usual(followed(network_node(graph, "Reshape", x, ints(ranks[shape], shapes[shape]), NULL)));
    }
}

static const struct kernel_test step_tests[] = {
    {"step_conv", step_conv},
    {"step_conv_residual", step_conv_residual},
    {"step_conv_part", step_conv_part},
    {"step_conv_winograd", step_conv_winograd},
    {"step_conv_transpose", step_conv_transpose},
    {"step_gemm", step_gemm},
    {"step_matmul", step_matmul},
    {"step_matmul_batched", step_matmul_batched},
    {"step_elementwise", step_elementwise},
    {"step_binary", step_binary},
    {"step_batch_norm", step_batch_norm},
    {"step_layer_norm", step_layer_norm},
    {"step_group_norm", step_group_norm},
    {"step_softmax", step_softmax},
    {"step_pooling", step_pooling},
    {"step_global_pooling", step_global_pooling},
    {"step_lrn", step_lrn},
    {"step_resize", step_resize},
    {"step_concat", step_concat},
    {"step_split", step_split},
    {"step_slice", step_slice},
    {"step_gather", step_gather},
    {"step_transpose", step_transpose},
    {"step_reshape", step_reshape},
    {NULL, NULL},
};

const struct kernel_test *const kernel_test_lists[] = {step_tests, quantized_step_tests, NULL};
