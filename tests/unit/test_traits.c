/* ops/: every operator runs against the traits that its entry claims, on small tensors: elementwise ones on
 * permuted and changed elements, movers on other numbers and types, those that keep samples apart on the
 * samples one by one, activations against their formula and fused to a convolution. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/engine.h"
#include "ops/operator.h"
#include "plan/plan.h"
#include "subject.h"

/* --- The traits: each function says what is wrong, or NULL --- */

static const char *check_elementwise(const struct subject *subject) {
    static const int axes[] = {2, 0, 1};
    struct tensor data[INPUTS], turned[INPUTS], y[OUTPUTS], z[OUTPUTS];
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    run(subject, data, y);
    if (!shape_equal(&y[0].shape, &subject->shape))
        fault = "the result has another shape";

    for (int i = 0; i < subject->data; i++)
        turned[i] = permute(&data[i], axes);
    run(subject, turned, z);
    struct tensor expected = permute(&y[0], axes);
    if (!fault && !tensors_equal(&z[0], &expected))
        fault = "a permuted input gives no permuted result";
    tensors_free(z, 1);
    tensors_free(turned, subject->data);
    free(expected.data);

    int64_t changed = 5, count = shape_elements(&subject->shape);
    for (int i = 0; i < subject->data; i++) {
        size_t size = dtype_size(data[i].dtype);
        memcpy((char *)data[i].data + (size_t)changed * size, (char *)data[i].data + 11 * size, size);
    }
    run(subject, data, z);
    for (int64_t i = 0; i < count && !fault; i++)
        if (i != changed && !elements_equal(&y[0], i, &z[0], i))
            fault = "a changed element changes its neighbours";
    tensors_free(z, 1);
    tensors_free(y, 1);
    tensors_free(data, subject->data);
    return fault;
}

/* The second operand broadcast, or written out. */
static const char *check_broadcast(const struct subject *subject) {
    struct shape row = {1, {subject->shape.dims[2]}};
    struct tensor data[INPUTS], y[OUTPUTS], z[OUTPUTS];
    if (subject->data < 2)
        return NULL;

    data_make(subject, &subject->shape, data);
    struct tensor whole = data[1], part = tensor_make(data_dtype(subject, 1), &row, 3);
    size_t bytes = tensor_bytes(&part);
    for (size_t at = 0; at < tensor_bytes(&whole); at += bytes)
        memcpy((char *)whole.data + at, part.data, bytes);
    run(subject, data, y);
    data[1] = part;
    run(subject, data, z);
    const char *fault = tensors_equal(&y[0], &z[0]) ? NULL : "a broadcast operand gives another result";

    data[1] = whole;
    free(part.data);
    tensors_free(y, 1);
    tensors_free(z, 1);
    tensors_free(data, subject->data);
    return fault;
}

static const char *check_range(const struct subject *subject) {
    struct tensor data[INPUTS], y[OUTPUTS];
    double low = 0, high = 0;
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    for (int k = 0; k < subject->data; k++)
        for (int64_t i = 0; i < shape_elements(&data[k].shape); i++) {
            low = fmin(low, tensor_get_f64(&data[k], i));
            high = fmax(high, tensor_get_f64(&data[k], i));
        }
    int count = run(subject, data, y);
    for (int k = 0; k < count; k++)
        for (int64_t i = 0; i < shape_elements(&y[k].shape); i++)
            if (!(tensor_get_f64(&y[k], i) >= low - 1e-6 && tensor_get_f64(&y[k], i) <= high + 1e-6))
                fault = "a result lies outside the input's range";

    tensors_free(y, count);
    tensors_free(data, subject->data);
    return fault;
}

/* Bytes give the bytes that their floats give as floats, although infer saw floats. */
static const char *check_values(const struct subject *subject) {
    struct tensor floats[INPUTS], bytes[INPUTS], inputs[INPUTS], y[OUTPUTS], z[OUTPUTS];
    const char *fault = NULL;
    struct error error;

    data_make(subject, &subject->shape, floats);
    for (int i = 0; i < subject->data; i++) {
        bytes[i] = tensor_make(DTYPE_U8, &floats[i].shape, (uint32_t)i + 5);
        elements_convert(DTYPE_U8, bytes[i].data, DTYPE_F32, floats[i].data,
                         shape_elements(&floats[i].shape));
    }
    int count = run(subject, floats, y);

    struct graph *graph = graph_create();
    struct node *node = node_make(subject, graph, floats);
    inputs_of(node, inputs);
    for (int i = 0; i < subject->data; i++) /* data comes first where values are kept */
        inputs[i] = bytes[i];
    for (int i = 0; i < count; i++) {
        z[i] = (struct tensor){DTYPE_U8, y[i].shape, NULL};
        z[i].data = malloc(tensor_bytes(&z[i]) + 8);
    }
    if (!operator_compute(node, inputs, z, &error))
        fault = "it does not compute on bytes";
    for (int k = 0; k < count && !fault; k++)
        for (int64_t i = 0; i < shape_elements(&y[k].shape); i++)
            if (!elements_equal(&y[k], i, &z[k], i))
                fault = "bytes come out as others than floats do";

    graph_free(graph);
    tensors_free(z, count);
    tensors_free(y, count);
    tensors_free(bytes, subject->data);
    tensors_free(floats, subject->data);
    return fault;
}

/* f(g(x)) is g(f(x)) for a g that keeps no order. */
static const char *check_moves(const struct subject *subject) {
    struct tensor data[INPUTS], y[OUTPUTS], z[OUTPUTS];
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    int count = run(subject, data, y);
    for (int k = 0; k < subject->data; k++)
        for (int64_t i = 0; i < shape_elements(&data[k].shape); i++) {
            float *x = &((float *)data[k].data)[i];
            *x = cosf(*x * 9);
        }
    run(subject, data, z);
    for (int k = 0; k < count; k++)
        for (int64_t i = 0; i < shape_elements(&y[k].shape); i++)
            if (cosf(((float *)y[k].data)[i] * 9) != ((float *)z[k].data)[i])
                fault = "which element comes out depends on the values";

    tensors_free(z, count);
    tensors_free(y, count);
    tensors_free(data, subject->data);
    return fault;
}

/* Which of x's elements come out, in order: all of them once, or all at least once. */
static const char *check_all_come_out(const struct subject *subject, bool in_order) {
    struct tensor data[INPUTS], y[OUTPUTS];
    int64_t count = shape_elements(&subject->shape);
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    for (int64_t i = 0; i < count; i++)
        ((float *)data[0].data)[i] = (float)i;
    run(subject, data, y);

    bool *seen = calloc((size_t)count, sizeof *seen);
    int64_t results = shape_elements(&y[0].shape), missing = count;
    for (int64_t i = 0; i < results; i++) {
        int64_t number = tensor_get_i64(&y[0], i);
        missing -= !seen[number];
        seen[number] = true;
        if (in_order && number != i)
            fault = "the elements come out in another order";
    }
    if (missing || (in_order && results != count))
        fault = "elements are lost";

    free(seen);
    tensors_free(y, 1);
    tensors_free(data, subject->data);
    return fault;
}

static const char *check_reshapes(const struct subject *subject) {
    return check_all_come_out(subject, true);
}

/* Also: repeated once, everything stays as it is. */
static const char *check_repeats(const struct subject *subject) {
    static const struct recipe expand = {NULL, 1, NULL, {"x", "i 2 4 6 6"}};
    static const struct recipe tile = {NULL, 1, NULL, {"x", "i 1 1 1 1"}};
    struct subject once = *subject, many = *subject;
    once.recipe = strcmp(subject->entry->op_type, "Tile") == 0 ? &tile : &expand;
    many.shape.dims[1] = strcmp(subject->entry->op_type, "Tile") == 0 ? 4 : 1;
    many.shape.dims[0] = strcmp(subject->entry->op_type, "Tile") == 0 ? 2 : 3;
    many.shape.dims[2] = strcmp(subject->entry->op_type, "Tile") == 0 ? 6 : 4;

    const char *fault = check_all_come_out(&once, true);
    return fault ? fault : check_all_come_out(&many, false);
}

/* No element comes out twice, and each comes from the data. */
static const char *check_part(const struct subject *subject) {
    struct tensor data[INPUTS], y[OUTPUTS];
    int64_t count = shape_elements(&subject->shape);
    bool *seen = calloc((size_t)count, sizeof *seen);
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    for (int64_t i = 0; i < count; i++)
        ((float *)data[0].data)[i] = (float)i;
    int outputs = run(subject, data, y);
    for (int k = 0; k < outputs; k++)
        for (int64_t i = 0; i < shape_elements(&y[k].shape); i++) {
            int64_t number = tensor_get_i64(&y[k], i);
            if (seen[number])
                fault = "an element comes out twice";
            seen[number] = true;
        }

    free(seen);
    tensors_free(y, outputs);
    tensors_free(data, subject->data);
    return fault;
}

static const char *check_unit_range(const struct subject *subject) {
    struct tensor data[INPUTS], y[OUTPUTS];
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    for (int64_t i = 0; i < shape_elements(&subject->shape); i++)
        ((float *)data[0].data)[i] *= 20;
    run(subject, data, y);
    for (int64_t i = 0; i < shape_elements(&y[0].shape); i++)
        if (!(tensor_get_f64(&y[0], i) >= 0 && tensor_get_f64(&y[0], i) <= 1))
            fault = "a result lies outside [0, 1]";

    tensors_free(y, 1);
    tensors_free(data, subject->data);
    return fault;
}

static const char *check_variadic(const struct subject *subject) {
    struct subject single = *subject;
    struct tensor data[INPUTS], y[OUTPUTS];
    single.data = 1;

    data_make(&single, &subject->shape, data);
    run(&single, data, y);
    const char *fault = tensors_equal(&data[0], &y[0]) ? NULL : "a single input does not pass unchanged";

    tensors_free(y, 1);
    tensors_free(data, 1);
    return fault;
}

/* Row `row` of every output is what row `row` of the data gives by itself. */
static const char *check_rows(const struct subject *subject) {
    struct tensor data[INPUTS], alone[INPUTS], y[OUTPUTS], z[OUTPUTS];
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    int count = run(subject, data, y);
    for (int64_t row = 0; row < subject->shape.dims[0]; row++) {
        for (int i = 0; i < subject->data; i++) {
            alone[i] = data[i];
            alone[i].shape.dims[0] = 1;
            alone[i].data = (char *)data[i].data + (size_t)row * tensor_bytes(&alone[i]);
        }
        if (run(subject, alone, z) != count)
            return "a single row does not suit it";
        for (int k = 0; k < count; k++) {
            struct tensor part = y[k];
            part.shape.dims[0] = 1;
            part.data = (char *)part.data + (size_t)row * tensor_bytes(&part);
            if (y[k].shape.dims[0] != subject->shape.dims[0] || tensor_distance(&part, &z[k]) > 1e-6)
                fault = "a row by itself gives another result";
        }
        tensors_free(z, count);
    }

    tensors_free(y, count);
    tensors_free(data, subject->data);
    return fault;
}

/* Where the operator answers for itself, it has to say that the recipe's node keeps rows apart, and be right.
 */
static const char *check_rows_apart(const struct subject *subject) {
    struct graph *graph = graph_create();
    struct tensor data[INPUTS];
    data_make(subject, &subject->shape, data);
    struct node *node = node_make(subject, graph, data);
    bool apart = node->op->axis_kept(node, 0) == 0;
    graph_free(graph);
    tensors_free(data, subject->data);

    return apart ? check_rows(subject) : "it does not say that rows are apart";
}

static const char *check_reads_shape(const struct subject *subject) {
    struct tensor data[INPUTS], y[OUTPUTS], z[OUTPUTS], nothing = {subject->dtype, subject->shape, NULL};
    struct graph *graph = graph_create();
    struct error error;

    data_make(subject, &subject->shape, data);
    run(subject, data, y);
    struct node *node = node_make(subject, graph, data);
    outputs_allocate(node, z);
    bool computed = operator_compute(node, &nothing, z, &error);
    const char *fault = computed && tensors_equal(&y[0], &z[0]) ? NULL : "it needs more than the shape";

    graph_free(graph);
    tensors_free(y, 1);
    tensors_free(z, 1);
    tensors_free(data, subject->data);
    return fault;
}

/* What prepare has read may change afterwards. */
static const char *check_prepare(const struct subject *subject) {
    struct tensor data[INPUTS], inputs[INPUTS], y[OUTPUTS], z[OUTPUTS];
    struct graph *graph = graph_create();
    const char *fault = NULL;
    struct error error;

    data_make(subject, &subject->shape, data);
    int count = run(subject, data, y);
    struct node *node = node_make(subject, graph, data);
    inputs_of(node, inputs);
    outputs_allocate(node, z);
    if (!operator_prepare(node, graph->arena, &error) || !node->parameters)
        fault = "nothing is prepared";

    for (int i = 0; i < node->input_count; i++)
        for (int j = 0; node->inputs[i] && strcmp(node->inputs[i]->name, "parameter") == 0 && j < 1; j++)
            memset(inputs[i].data, 0x5a, tensor_bytes(&inputs[i]));
    if (!fault && !node->op->compute(node, inputs, z, &error))
        fault = "it does not compute once its parameters are gone";
    for (int k = 0; k < count && !fault; k++)
        if (!tensors_equal(&y[k], &z[k]))
            fault = "it reads its parameters at each run";

    graph_free(graph);
    tensors_free(y, count);
    tensors_free(z, count);
    tensors_free(data, subject->data);
    return fault;
}

/* --- Activations --- */

static double post_apply(const struct post_op *post, double x) {
    double a = (double)post->alpha, b = (double)post->beta;

    switch (post->kind) {
    case POST_RELU:
        return x < 0 ? a * x : x;
    case POST_CLIP:
        return fmin(fmax(x, a), b);
    case POST_SIGMOID:
        return 1 / (1 + exp(-x));
    case POST_TANH:
        return tanh(x);
    case POST_ELU:
        return x < 0 ? a * expm1(x) : x;
    case POST_HARDSWISH:
        return x * fmin(fmax(x / 6 + 0.5, 0), 1);
    case POST_HARDSIGMOID:
        return fmin(fmax(a * x + b, 0), 1);
    case POST_SWISH:
        return x / (1 + exp(-a * x));
    case POST_GELU_ERF:
        return x * (1 + erf(x * M_SQRT1_2)) / 2;
    case POST_GELU_TANH:
        return x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))) / 2;
    case POST_EXP:
        return exp(x);
    case POST_SQRT:
        return sqrt(x);
    case POST_ABS:
        return fabs(x);
    default:
        return NAN;
    }
}

static const char *check_activation(const struct subject *subject) {
    struct tensor data[INPUTS], y[OUTPUTS];
    struct graph *graph = graph_create();
    struct post_op post;
    const char *fault = NULL;

    data_make(subject, &subject->shape, data);
    struct node *node = node_make(subject, graph, data);
    run(subject, data, y);
    if (!node_post_op(node, &post))
        fault = "it says that it is no post-op";
    for (int64_t i = 0; i < shape_elements(&subject->shape) && !fault; i++) {
        double expected = post_apply(&post, tensor_get_f64(&data[0], i)), actual = tensor_get_f64(&y[0], i);
        if (!(isnan(expected) && isnan(actual)) && !(fabs(expected - actual) <= 1e-5 * (1 + fabs(expected))))
            fault = "its post-op computes something else";
    }

    graph_free(graph);
    tensors_free(y, 1);
    tensors_free(data, subject->data);
    return fault;
}

/* x, or a convolution of it, then the subject, as a network. */
static struct graph *network_of(const struct subject *subject, bool convolve, struct shape shape) {
    const struct op_def *entry = subject->entry;
    struct graph *graph = graph_create();
    struct value *x = graph_add_value(graph, "x"), *values[INPUTS], *y = graph_add_value(graph, "y");
    int count = 1;
    graph_add_import(graph, entry->domain, entry->until);
    graph_add_import(graph, "", *entry->domain ? 13 : entry->until);
    x->dtype = DTYPE_F32;
    x->shape = shape;
    graph_add_input(graph, x);

    values[0] = convolve ? network_conv(graph, x, 4, 8, 3, 1, 1) : x;
    for (; count < INPUTS && subject->recipe->inputs[count]; count++)
        values[count] = parameter_add(graph, subject->recipe->inputs[count]);
    struct node *node =
        graph_add_node(graph, NULL, entry->domain, entry->op_type, NULL, values, count, &y, 1);
    attributes_add(graph, node, subject->recipe->attributes);
    graph_add_output(graph, y);
    struct error error;
    if (!operators_bind(graph, &error))
        fail_msg("%s", error.message);
    return graph;
}

/* By itself and after a convolution, one step of the plan gives what the reference gives. */
static const char *check_step(const struct subject *subject, bool convolve) {
    const struct engine_options options = {.precision = PRECISION_F32, .threads = 1};
    struct tensor x = tensor_make(DTYPE_F32, &subject->shape, 17), y;
    struct graph *graph = network_of(subject, convolve, subject->shape);
    struct error error;
    struct graph *expected = interpret(graph, &x, &error);
    struct engine *engine =
        engine_load_graph(network_of(subject, convolve, subject->shape), &options, &error);
    struct engine_context *context = engine ? engine_context_create(engine, &error) : NULL;
    if (!expected || !context || !engine_run(context, &x, 1, &y, 1, &error))
        fail_msg("%s: %s", subject->entry->op_type, error.message);

    const char *fault = NULL;
    const struct plan *plan = engine_context_plan(context);
    for (int i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].kind == STEP_REFERENCE)
            fault = "it has no step of its own";
        if (convolve && strcmp(plan->steps[i].action, subject->entry->op_type) == 0)
            fault = "it is not fused to the convolution";
    }
    if (tensor_distance(expected->outputs[0]->constant, &y) > 1e-5)
        fault = "its step computes something else";

    engine_context_free(context);
    engine_free(engine);
    graph_free(expected);
    graph_free(graph);
    free(x.data);
    return fault;
}

/* --- The tests --- */

/* Every operator of the table for which `applies`. */
static void each(bool (*applies)(const struct op_def *), struct shape shape,
                 const char *(*check)(const struct subject *)) {
    int count, tried = 0, faults = 0;
    const struct op_def *entries = operator_table(&count);

    for (int i = 0; i < count; i++) {
        struct subject subject;
        if (!applies(&entries[i]))
            continue;
        const char *fault = subject_init(&subject, &entries[i], shape) ? check(&subject) : "no node suits it";
        if (fault)
            printf("# %s (since %d): %s\n", entries[i].op_type, entries[i].since, fault);
        faults += fault != NULL;
        tried++;
    }

    assert_true(tried > 0);
    assert_int_equal(faults, 0);
}

#define SMALL ((struct shape){3, {2, 3, 4}})
#define IMAGES ((struct shape){4, {2, 4, 6, 6}})
#define MATRIX ((struct shape){2, {5, 6}})

#define HAS(name, trait)                             \
    static bool name(const struct op_def *entry) {   \
        return (entry->traits & (trait)) == (trait); \
    }

HAS(is_elementwise, OP_ELEMENTWISE)
HAS(keeps_range, OP_KEEPS_RANGE)
HAS(keeps_values, OP_KEEPS_VALUES)
HAS(moves, OP_MOVES)
HAS(reshapes, OP_RESHAPES)
HAS(takes_part, OP_TAKES_PART)
HAS(repeats, OP_REPEATS)
HAS(has_unit_range, OP_UNIT_RANGE)
HAS(is_variadic, OP_VARIADIC)
HAS(is_samplewise, OP_SAMPLEWISE)
HAS(is_along_axis, OP_ALONG_AXIS)
HAS(reads_shape, OP_READS_SHAPE)

static void elementwise_operators_look_at_one_element(void **state) {
    each(is_elementwise, SMALL, check_elementwise);
    each(is_elementwise, SMALL, check_broadcast);
}

static void ranges_are_kept(void **state) {
    each(keeps_range, IMAGES, check_range);
}

static void kept_values_are_those_of_bytes_too(void **state) {
    each(keeps_values, IMAGES, check_values);
}

static void movers_do_not_look_at_values(void **state) {
    each(moves, IMAGES, check_moves);
}

static void reshapes_keep_every_element_in_order(void **state) {
    each(reshapes, IMAGES, check_reshapes);
}

static void parts_have_no_element_twice(void **state) {
    each(takes_part, IMAGES, check_part);
}

static void repetitions_lose_nothing(void **state) {
    each(repeats, IMAGES, check_repeats);
}

static void unit_ranges_are_not_left(void **state) {
    each(has_unit_range, IMAGES, check_unit_range);
}

static void single_inputs_pass_unchanged(void **state) {
    each(is_variadic, IMAGES, check_variadic);
}

static void samples_do_not_see_each_other(void **state) {
    each(is_samplewise, IMAGES, check_rows);
}

static void nothing_looks_along_an_axis_before_its_own(void **state) {
    each(is_along_axis, IMAGES, check_rows);
}

static bool has_rows_apart(const struct op_def *entry) {
    return entry->axis_kept && strcmp(entry->op_type, "Gemm") != 0;
}

static bool is_gemm(const struct op_def *entry) {
    return strcmp(entry->op_type, "Gemm") == 0;
}

static void operators_that_answer_for_their_rows_are_right(void **state) {
    each(has_rows_apart, IMAGES, check_rows_apart);
    each(is_gemm, MATRIX, check_rows_apart);
}

static bool reads_matrix(const struct op_def *entry) {
    return reads_shape(entry) && strcmp(entry->op_type, "EyeLike") == 0;
}

static bool reads_any(const struct op_def *entry) {
    return reads_shape(entry) && !reads_matrix(entry);
}

static void shapes_suffice_where_it_is_said(void **state) {
    each(reads_any, IMAGES, check_reads_shape);
    each(reads_matrix, MATRIX, check_reads_shape);
}

static bool prepares(const struct op_def *entry) {
    return entry->prepare && strcmp(entry->domain, "ai.onnx.ml") != 0 &&   /* they decode attributes */
           (entry->until != 8 || strcmp(entry->op_type, "Upsample") != 0); /* a list of floats */
}

static void constant_inputs_are_read_once(void **state) {
    each(prepares, IMAGES, check_prepare);
}

static bool is_activation(const struct op_def *entry) {
    return post_op_is_activation(entry->post);
}

static const char *check_alone(const struct subject *subject) {
    return check_step(subject, false);
}

static const char *check_fused(const struct subject *subject) {
    return check_step(subject, true);
}

static void activations_are_their_post_ops(void **state) {
    each(is_activation, IMAGES, check_activation);
    each(is_activation, IMAGES, check_alone);
    each(is_activation, IMAGES, check_fused);
}

static void entries_say_nothing_that_cannot_be(void **state) {
    int count;
    const struct op_def *entries = operator_table(&count);

    for (int i = 0; i < count; i++) {
        const struct op_def *entry = &entries[i];
        assert_string_not_equal(entry->domain, OPERATORS_OWN);
        assert_true(entry->inputs.most < 0 || entry->inputs.least <= entry->inputs.most);
        assert_true(entry->outputs.least >= 1 ||
                    entry->outputs.most > 1); /* any of several may be left out */
        assert_true(entry->inputs.most < 0 || entry->data_inputs <= entry->inputs.most);
        assert_true(!entry->bias_input || entry->bias_input < entry->inputs.most);
        assert_true(entry->post != POST_NONE || !entry->post_parameters ||
                    (entry->traits & OP_ELEMENTWISE)); /* a family's, for those that have one */
        if (entry->post != POST_NONE)
            assert_true(entry->traits & OP_ELEMENTWISE);
        if (entry->integer_form)
            assert_non_null(operator_find(OPERATORS_OWN, entry->integer_form, 0));
    }
}

static void files_cannot_hold_our_own_operators(void **state) {
    struct graph *graph = graph_create();
    struct value *x = graph_add_value(graph, "x"), *y = graph_add_value(graph, "y");
    struct error error;
    x->dtype = DTYPE_F32;
    graph_add_input(graph, x);
    graph_add_node(graph, NULL, OPERATORS_OWN, "Swish", "here", &x, 1, &y, 1);

    assert_false(operators_bind(graph, &error));
    assert_non_null(strstr(error.message, "operator guichet.Swish"));
    graph_free(graph);
}

/* Before opset 7 an attribute could say which axes the second operand has. */
static void operands_placed_by_an_attribute_are_not_elementwise(void **state) {
    struct graph *graph = graph_create();
    struct value *values[2] = {graph_add_value(graph, "a"), graph_add_value(graph, "b")},
                 *y = graph_add_value(graph, "y");
    struct node *node = graph_add_node(graph, NULL, "", "Add", NULL, values, 2, &y, 1);
    struct error error;
    node->opset = 6;
    assert_true(operators_bind(graph, &error));
    assert_true(node_is_elementwise(node));
    node_set_int(graph, node, "axis", 1);
    assert_false(node_is_elementwise(node));
    node->opset = 7;
    assert_true(node_is_elementwise(node));
    graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_say_nothing_that_cannot_be),
        cmocka_unit_test(elementwise_operators_look_at_one_element),
        cmocka_unit_test(ranges_are_kept),
        cmocka_unit_test(kept_values_are_those_of_bytes_too),
        cmocka_unit_test(movers_do_not_look_at_values),
        cmocka_unit_test(reshapes_keep_every_element_in_order),
        cmocka_unit_test(parts_have_no_element_twice),
        cmocka_unit_test(repetitions_lose_nothing),
        cmocka_unit_test(unit_ranges_are_not_left),
        cmocka_unit_test(single_inputs_pass_unchanged),
        cmocka_unit_test(samples_do_not_see_each_other),
        cmocka_unit_test(nothing_looks_along_an_axis_before_its_own),
        cmocka_unit_test(operators_that_answer_for_their_rows_are_right),
        cmocka_unit_test(shapes_suffice_where_it_is_said),
        cmocka_unit_test(constant_inputs_are_read_once),
        cmocka_unit_test(activations_are_their_post_ops),
        cmocka_unit_test(files_cannot_hold_our_own_operators),
        cmocka_unit_test(operands_placed_by_an_attribute_are_not_elementwise),
    };
    return cmocka_run_group_tests_name("traits", tests, NULL, NULL);
}
