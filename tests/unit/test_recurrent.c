/* RNN, GRU, LSTM in all their forms (direction, layout, lengths, initial state, clip, peepholes, functions),
 * against the formulas written out in double, one number after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ops/operator.h"

static uint32_t state = 7;

static int below(int count) {
    state = state * 1664525u + 1013904223u;
    return (int)((state >> 8) % (unsigned)count);
}

static struct value *random_floats(struct graph *graph, int rank, int64_t a, int64_t b, int64_t c) {
    struct shape shape = {rank, {a, b, c}};
    int64_t count = shape_elements(&shape);
    float *data = graph_own_memory(graph, (size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; i++)
        data[i] = (float)(below(2001) - 1000) / 900;
    return graph_add_constant(graph, "v", DTYPE_F32, &shape, data);
}

struct form {
    const char *op_type;
    int64_t steps, batch, input, hidden, gates;
    int directions;
    bool reverse, batch_first, reset_after, forget_by_input, hard;
    float clip;
    struct value *inputs[8]; /* X W R B lengths h c P */
};

static double number(const struct form *f, int input, int64_t index) {
    const struct value *value = f->inputs[input];
    return value ? (double)((const float *)value->constant->data)[index] : 0;
}

static double cut(const struct form *f, double x) {
    return f->clip > 0 ? fmin(fmax(x, -(double)f->clip), (double)f->clip) : x;
}

static double gate(const struct form *f, double x) {
    return f->hard ? fmin(fmax(0.3 * cut(f, x) + 0.4, 0), 1) : 1 / (1 + exp(-cut(f, x)));
}

/* W x + Wb of one gate's row, or R h + Rb. */
static double line(const struct form *f, int d, int64_t row, bool recurrent, const double *vector) {
    int64_t depth = recurrent ? f->hidden : f->input;
    double sum = number(f, 3, d * 2 * f->gates + (recurrent ? f->gates : 0) + row);
    for (int64_t k = 0; k < depth; k++)
        sum += number(f, recurrent ? 2 : 1, (d * f->gates + row) * depth + k) * vector[k];
    return sum;
}

static void step_lstm(const struct form *f, int d, const double *x, const double *before, double *h,
                      double *c) {
    int64_t n = f->hidden;
    for (int64_t i = 0; i < n; i++) {
        double sums[4];
        for (int g = 0; g < 4; g++)
            sums[g] = line(f, d, g * n + i, false, x) + line(f, d, g * n + i, true, before);
        double in = gate(f, sums[0] + number(f, 7, d * 3 * n + i) * c[i]);
        double kept =
            f->forget_by_input ? 1 - in : gate(f, sums[2] + number(f, 7, d * 3 * n + 2 * n + i) * c[i]);
        c[i] = kept * c[i] + in * tanh(cut(f, sums[3]));
        h[i] = gate(f, sums[1] + number(f, 7, d * 3 * n + n + i) * c[i]) * tanh(c[i]);
    }
}

static void step_gru(const struct form *f, int d, const double *x, const double *before, double *h) {
    int64_t n = f->hidden;
    double reset[32], scaled[32];
    for (int64_t i = 0; i < n; i++) {
        reset[i] = gate(f, line(f, d, n + i, false, x) + line(f, d, n + i, true, before));
        scaled[i] = reset[i] * before[i];
    }
    for (int64_t i = 0; i < n; i++) {
        double update = gate(f, line(f, d, i, false, x) + line(f, d, i, true, before));
        double recurrent = f->reset_after ? reset[i] * line(f, d, 2 * n + i, true, before)
                                          : line(f, d, 2 * n + i, true, scaled);
        double fresh = tanh(cut(f, line(f, d, 2 * n + i, false, x) + recurrent));
        h[i] = (1 - update) * fresh + update * before[i];
    }
}

static void step_rnn(const struct form *f, int d, const double *x, const double *before, double *h) {
    for (int64_t i = 0; i < f->hidden; i++)
        h[i] = tanh(cut(f, line(f, d, i, false, x) + line(f, d, i, true, before)));
}

/* One row of a batch in one direction, compared with what the operator made. */
static void check_row(const struct form *f, int d, int64_t row, const struct tensor *outputs) {
    double h[32] = {0}, c[32] = {0}, before[32], x[32];
    int64_t length = f->inputs[4] ? tensor_get_i64(f->inputs[4]->constant, row) : f->steps;
    int64_t place = (f->batch_first ? row * f->directions + d : d * f->batch + row) * f->hidden;
    for (int64_t i = 0; i < f->hidden; i++) {
        h[i] = number(f, 5, place + i);
        c[i] = number(f, 6, place + i);
    }

    for (int64_t step = 0; step < f->steps; step++) {
        int64_t time = step < length && (f->reverse || d == 1) ? length - 1 - step : step;
        for (int64_t k = 0; k < f->input; k++)
            x[k] =
                number(f, 0, (f->batch_first ? row * f->steps + time : time * f->batch + row) * f->input + k);
        memcpy(before, h, sizeof before);
        if (step < length && f->gates == 4 * f->hidden)
            step_lstm(f, d, x, before, h, c);
        else if (step < length && f->gates == 3 * f->hidden)
            step_gru(f, d, x, before, h);
        else if (step < length)
            step_rnn(f, d, x, before, h);

        int64_t at = f->batch_first ? (row * f->steps + time) * f->directions + d
                                    : (time * f->directions + d) * f->batch + row;
        for (int64_t i = 0; i < f->hidden; i++) {
            double made = (double)((const float *)outputs[0].data)[at * f->hidden + i];
            assert_true(fabs(made - (step < length ? h[i] : 0)) < 2e-5);
        }
    }

    for (int64_t i = 0; i < f->hidden; i++) {
        assert_true(fabs((double)((const float *)outputs[1].data)[place + i] - h[i]) < 2e-5);
        if (f->gates == 4 * f->hidden)
            assert_true(fabs((double)((const float *)outputs[2].data)[place + i] - c[i]) < 2e-5);
    }
}

static void form_choose(struct form *f, struct graph *graph, int round) {
    static const char *const names[] = {"RNN", "GRU", "LSTM"};
    static const int gates[] = {1, 3, 4};
    int kind = round % 3;
    *f = (struct form){.op_type = names[kind],
                       .steps = 1 + below(5),
                       .batch = below(8) ? 1 + below(3) : 64 + below(2),
                       .input = 1 + below(6),
                       .hidden = 1 + below(11),
                       .directions = 1 + below(2),
                       .batch_first = below(2),
                       .reset_after = below(2),
                       .forget_by_input = below(4) == 0,
                       .hard = kind > 0 && below(3) == 0,
                       .clip = below(3) ? 0 : 0.5f};
    f->gates = gates[kind] * f->hidden;
    f->reverse = f->directions == 1 && below(2);

    int64_t d = f->directions, b = f->batch, first = f->batch_first ? b : d, second = f->batch_first ? d : b;
    f->inputs[0] =
        random_floats(graph, 3, f->batch_first ? b : f->steps, f->batch_first ? f->steps : b, f->input);
    f->inputs[1] = random_floats(graph, 3, d, f->gates, f->input);
    f->inputs[2] = random_floats(graph, 3, d, f->gates, f->hidden);
    f->inputs[3] = below(4) ? random_floats(graph, 2, d, 2 * f->gates, 0) : NULL;
    f->inputs[5] = below(2) ? random_floats(graph, 3, first, second, f->hidden) : NULL;
    f->inputs[6] = kind == 2 && below(2) ? random_floats(graph, 3, first, second, f->hidden) : NULL;
    f->inputs[7] = kind == 2 && below(2) ? random_floats(graph, 2, d, 3 * f->hidden, 0) : NULL;
    if (below(2)) {
        int32_t *lengths = graph_own_memory(graph, (size_t)b * sizeof *lengths);
        for (int64_t i = 0; i < b; i++)
            lengths[i] = 1 + below((int)f->steps);
        f->inputs[4] = graph_add_constant(graph, "n", DTYPE_I32, &(struct shape){1, {b}}, lengths);
    }
}

static void set_attributes(struct graph *graph, struct node *node, const struct form *f) {
    static const char *const hard[] = {"HardSigmoid", "tanh", "Tanh", "HardSigmoid", "tanh", "Tanh"};
    static const char *const hard_gru[] = {"HardSigmoid", "tanh", "HardSigmoid", "tanh"};
    static const float alphas[] = {0.3f, 0.3f}, betas[] = {0.4f, 0.4f};
    bool lstm = f->gates == 4 * f->hidden;
    size_t count = (size_t)(lstm ? 3 : 2) * (size_t)f->directions, pairs = (size_t)f->directions;
    struct attribute more[] = {
        {.name = "direction",
         .kind = ATTRIBUTE_STRING,
         .s = f->directions == 2 ? "bidirectional"
              : f->reverse       ? "reverse"
                                 : "forward"},
        {.name = "activations", .kind = ATTRIBUTE_STRINGS, .count = count, .strings = lstm ? hard : hard_gru},
        {.name = "activation_alpha", .kind = ATTRIBUTE_FLOATS, .count = pairs, .floats = alphas},
        {.name = "activation_beta", .kind = ATTRIBUTE_FLOATS, .count = pairs, .floats = betas},
    };
    node->attribute_count = f->hard ? 4 : 1;
    node->attributes = arena_allocate_array(graph->arena, 4, sizeof *node->attributes);
    memcpy(node->attributes, more, sizeof more);
    node_set_int(graph, node, "layout", f->batch_first);
    node_set_int(graph, node, "hidden_size", f->hidden);
    node_set_int(graph, node, "linear_before_reset", f->reset_after);
    node_set_int(graph, node, "input_forget", f->forget_by_input);
    if (f->clip > 0)
        node_set_float(graph, node, "clip", f->clip);
}

static void every_form_is_as_the_formulas_say(void **unused) {
    for (int round = 0; round < 600; round++) {
        struct graph *graph = graph_create();
        struct form f;
        struct error error = {0};
        form_choose(&f, graph, round);
        int count = strcmp(f.op_type, "LSTM") == 0 ? 3 : 2;
        struct value *outputs[3];
        struct tensor given[8] = {0}, made[3] = {0};
        for (int i = 0; i < count; i++)
            outputs[i] = graph_add_value(graph, "y");

        struct node *node =
            graph_add_node(graph, NULL, "", f.op_type, "n", f.inputs, count == 3 ? 8 : 6, outputs, count);
        node->opset = 14;
        set_attributes(graph, node, &f);
        bool bound = operators_bind(graph, &error) && operator_infer(node, &error);
        if (!bound)
            fail_msg("%s", error.message);
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i])
                given[i] = *node->inputs[i]->constant;
        for (int i = 0; i < count; i++) {
            made[i] = (struct tensor){DTYPE_F32, outputs[i]->shape, NULL};
            made[i].data = malloc(tensor_bytes(&made[i]));
        }
        assert_true(operator_compute(node, given, made, &error));
        for (int d = 0; d < f.directions; d++)
            for (int64_t row = 0; row < f.batch; row++)
                check_row(&f, d, row, made);
        for (int i = 0; i < count; i++)
            free(made[i].data);
        graph_free(graph);
    }
}

static void what_does_not_fit_is_refused(void **unused) {
    static const struct {
        const char *name, *value, *said;
    } wrong[] = {{"direction", "sideways", "direction 'sideways' is not supported"}};
    struct graph *graph = graph_create();
    struct error error = {0};
    struct value *y = graph_add_value(graph, "y"),
                 *inputs[] = {random_floats(graph, 3, 2, 1, 3), random_floats(graph, 3, 1, 8, 3),
                              random_floats(graph, 3, 1, 8, 3)};
    struct node *node = graph_add_node(graph, NULL, "", "LSTM", "n", inputs, 3, &y, 1);
    node->opset = 14;
    assert_true(operators_bind(graph, &error));
    assert_false(operator_infer(node, &error)); /* 8 rows are no four gates of 3 */
    assert_non_null(strstr(error.message, "input 1 has shape 1x8x3, which does not fit"));

    struct attribute attribute = {.name = wrong[0].name, .kind = ATTRIBUTE_STRING, .s = wrong[0].value};
    node->attributes = &attribute;
    node->attribute_count = 1;
    assert_false(operators_bind(graph, &error));
    assert_non_null(strstr(error.message, wrong[0].said));
    graph_free(graph);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_is_as_the_formulas_say),
        cmocka_unit_test(what_does_not_fit_is_refused),
    };
    return cmocka_run_group_tests_name("recurrent", tests, NULL, NULL);
}
