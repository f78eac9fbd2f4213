/* RNN, GRU, LSTM: https://onnx.ai/onnx/operators/onnx__LSTM.html. The input's part of all gates is one matrix
 * product over many steps; what the state adds goes step by step. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "ops/family.h"
#include "ops/product.h"
#include "ops/recurrent_cell.h"

enum { INPUT_X, INPUT_W, INPUT_R, INPUT_B, INPUT_LENGTHS, INPUT_STATE, INPUT_MEMORY, INPUT_PEEPHOLES };

#define CHUNK_ELEMENTS (1ll << 20) /* gates' sums made at once */

static const int gate_counts[] = {[CELL_RNN] = 1, [CELL_GRU] = 3, [CELL_LSTM] = 4};
static const int function_counts[] = {[CELL_RNN] = 1, [CELL_GRU] = 2, [CELL_LSTM] = 3};

static enum cell_kind kind_of(const struct node *node) {
    return *(const enum cell_kind *)node->op->family;
}

/* All that shapes and attributes say. */
struct sequence {
    int64_t steps, batch, input, hidden, gates; /* gates: rows of a direction's weights */
    int directions;
    bool reverse, batch_first;
};

static int direction_count(const struct node *node) {
    const char *direction = node_string(node, "direction", "forward");
    return strcmp(direction, "bidirectional") == 0                                  ? 2
           : strcmp(direction, "forward") == 0 || strcmp(direction, "reverse") == 0 ? 1
                                                                                    : 0;
}

static bool recurrent_check(const struct node *node, struct error *error) {
    const struct attribute *names = node_attribute(node, "activations");
    int needed = function_counts[kind_of(node)] * direction_count(node);
    int64_t layout = node_int(node, "layout", 0);

    if (!direction_count(node))
        return node_error(node, error, "direction '%.32s' is not supported",
                          node_string(node, "direction", ""));
    if (layout != 0 && layout != 1)
        return node_error(node, error, "layout %lld is not supported", (long long)layout);
    if (!names)
        return true;
    if (names->kind != ATTRIBUTE_STRINGS || (names->count && names->count != (size_t)needed))
        return node_error(node, error, "attribute activations is not a list of %d names", needed);

    for (size_t i = 0; i < names->count; i++) {
        struct cell_function ignored;
        if (!cell_function_find(names->strings[i], &ignored))
            return node_error(node, error, "activation '%.32s' is not supported", names->strings[i]);
    }

    return true;
}

static void sequence_read(const struct node *node, const struct shape *x, const struct shape *r,
                          struct sequence *ret) {
    bool batch_first = node_int(node, "layout", 0) == 1;
    *ret = (struct sequence){.steps = x->dims[batch_first],
                             .batch = x->dims[!batch_first],
                             .input = x->dims[2],
                             .hidden = r->dims[2],
                             .gates = r->dims[2] * gate_counts[kind_of(node)],
                             .directions = direction_count(node),
                             .reverse = strcmp(node_string(node, "direction", "forward"), "reverse") == 0,
                             .batch_first = batch_first};
}

static bool want_dims(const struct node *node, int input, int rank, int64_t a, int64_t b, int64_t c,
                      struct error *error) {
    const struct shape *shape = node_shape(node, input);
    int64_t dims[3] = {a, b, c};
    if (!shape)
        return true;

    bool fits = shape->rank == rank;
    for (int i = 0; i < rank && i < 3 && fits; i++)
        fits = shape->dims[i] == dims[i];
    char text[SHAPE_TEXT];
    return fits || node_error(node, error, "input %d has shape %s, which does not fit", input,
                              shape_format(shape, text, sizeof text));
}

static bool check_shapes(const struct node *node, const struct sequence *s, struct error *error) {
    int64_t d = s->directions, states[3] = {d, s->batch, s->hidden};
    if (s->batch_first) {
        states[0] = s->batch;
        states[1] = d;
    }

    return want_dims(node, INPUT_W, 3, d, s->gates, s->input, error) &&
           want_dims(node, INPUT_R, 3, d, s->gates, s->hidden, error) &&
           want_dims(node, INPUT_B, 2, d, 2 * s->gates, 0, error) &&
           want_dims(node, INPUT_LENGTHS, 1, s->batch, 0, 0, error) &&
           want_dims(node, INPUT_STATE, 3, states[0], states[1], states[2], error) &&
           want_dims(node, INPUT_MEMORY, 3, states[0], states[1], states[2], error) &&
           want_dims(node, INPUT_PEEPHOLES, 2, d, 3 * s->hidden, 0, error);
}

static bool recurrent_infer(struct node *node, struct error *error) {
    struct sequence s;
    for (int i = 0; i < node->input_count; i++)
        if (i != INPUT_LENGTHS &&
            (!node_want_types(node, i, TYPES_F32, error) || !node_want_same_type(node, i, INPUT_X, error)))
            return false;
    if (!node_want_types(node, INPUT_LENGTHS, TYPE(I32), error) ||
        !node_want_rank(node, INPUT_X, 3, 3, error) || !node_want_rank(node, INPUT_R, 3, 3, error))
        return false;

    sequence_read(node, node_shape(node, INPUT_X), node_shape(node, INPUT_R), &s);
    int64_t hidden = node_int(node, "hidden_size", s.hidden);
    if (hidden != s.hidden || s.hidden < 1)
        return node_error(node, error, "hidden_size is %lld, the weights have %lld", (long long)hidden,
                          (long long)s.hidden);
    if (!check_shapes(node, &s, error))
        return false;

    struct shape all = {4, {s.steps, s.directions, s.batch, s.hidden}};
    struct shape last = {3, {s.directions, s.batch, s.hidden}};
    if (s.batch_first) {
        all = (struct shape){4, {s.batch, s.steps, s.directions, s.hidden}};
        last = (struct shape){3, {s.batch, s.directions, s.hidden}};
    }

    enum dtype dtype = node_dtype(node, INPUT_X);
    return infer_output(node, 0, dtype, &all, error) && infer_output(node, 1, dtype, &last, error) &&
           infer_output(node, 2, dtype, &last, error);
}

/* --- Computing --- */

/* The functions of a direction, with the parameters that the attributes give them, in order. */
static void read_functions(const struct node *node, int direction, struct cell *cell) {
    static const char *const usual[][3] = {
        [CELL_RNN] = {"Tanh"}, [CELL_GRU] = {"Sigmoid", "Tanh"}, [CELL_LSTM] = {"Sigmoid", "Tanh", "Tanh"}};
    const struct attribute *names = node_attribute(node, "activations"),
                           *alphas = node_attribute(node, "activation_alpha"),
                           *betas = node_attribute(node, "activation_beta");
    int count = function_counts[cell->kind];
    size_t alpha = 0, beta = 0;

    for (int i = 0; i < count * (direction + 1); i++) {
        struct cell_function function;
        bool given = names && names->count;
        cell_function_find(given ? names->strings[i] : usual[cell->kind][i % count], &function);
        if (cell_function_takes(function.kind, false) && alphas && alphas->kind == ATTRIBUTE_FLOATS &&
            alpha < alphas->count)
            function.alpha = alphas->floats[alpha++];
        if (cell_function_takes(function.kind, true) && betas && betas->kind == ATTRIBUTE_FLOATS &&
            beta < betas->count)
            function.beta = betas->floats[beta++];
        cell->functions[i % count] = function;
    }
}

/* One direction being computed. */
struct pass {
    const struct sequence *s;
    struct cell cell;
    int direction;
    bool backward;
    const struct tensor *inputs, *outputs;
    const float *w, *r;
    float *bias;                   /* [gates] */
    float *state, *memory, *reset; /* [batch, hidden]; reset: the state times the reset gate */
    float *rows, *sums,
        *products; /* of a chunk: [steps, batch, input], [steps, batch, gates]; [batch, gates] */
    int64_t chunk; /* steps */
};

static const float *floats_of(const struct pass *pass, int input, int64_t size) {
    const float *data = pass->inputs[input].data;
    return data ? data + pass->direction * size : NULL;
}

static int64_t length_of(const struct pass *pass, int64_t row) {
    const int32_t *lengths = pass->inputs[INPUT_LENGTHS].data;
    int64_t steps = pass->s->steps, length = lengths ? lengths[row] : steps;
    return length < 0 ? 0 : length > steps ? steps : length;
}

/* Where step `step` of a row is in time; -1 after the row's end. */
static int64_t time_of(const struct pass *pass, int64_t step, int64_t row) {
    int64_t length = length_of(pass, row);
    return step >= length ? -1 : pass->backward ? length - 1 - step : step;
}

/* Initial state, or the last: [directions, batch, hidden] or [batch, directions, hidden]. */
static int64_t state_offset(const struct pass *pass, int64_t row) {
    const struct sequence *s = pass->s;
    int64_t place = s->batch_first ? row * s->directions + pass->direction : pass->direction * s->batch + row;
    return place * s->hidden;
}

static void load_states(struct pass *pass) {
    size_t bytes = (size_t)pass->s->hidden * sizeof(float);
    for (int64_t row = 0; row < pass->s->batch; row++) {
        const float *state = pass->inputs[INPUT_STATE].data, *memory = pass->inputs[INPUT_MEMORY].data;
        int64_t to = row * pass->s->hidden, from = state_offset(pass, row);
        if (state)
            memcpy(pass->state + to, state + from, bytes);
        if (memory)
            memcpy(pass->memory + to, memory + from, bytes);
    }
}

static void store_states(const struct pass *pass) {
    size_t bytes = (size_t)pass->s->hidden * sizeof(float);
    for (int64_t row = 0; row < pass->s->batch; row++) {
        int64_t from = row * pass->s->hidden, to = state_offset(pass, row);
        if (pass->outputs[1].data)
            memcpy((float *)pass->outputs[1].data + to, pass->state + from, bytes);
        if (pass->outputs[2].data)
            memcpy((float *)pass->outputs[2].data + to, pass->memory + from, bytes);
    }
}

/* The input's rows of some steps, in the order in which they are used, and what they add to all gates. */
static bool make_sums(struct pass *pass, int64_t first, int64_t steps) {
    const struct sequence *s = pass->s;
    const float *x = pass->inputs[INPUT_X].data;
    size_t bytes = (size_t)s->input * sizeof(float);
    int64_t rows = steps * s->batch;

    for (int64_t i = 0; i < rows; i++) {
        int64_t row = i % s->batch, time = time_of(pass, first + i / s->batch, row);
        float *to = pass->rows + i * s->input;
        if (time < 0 || !x)
            memset(to, 0, bytes);
        else
            memcpy(to, x + (s->batch_first ? row * s->steps + time : time * s->batch + row) * s->input,
                   bytes);
    }

    if (!product_f32(rows, s->input, s->gates, 1, pass->rows, &(int64_t){0}, pass->w, &(int64_t){0}, true,
                     pass->sums))
        return false;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < s->gates; j++)
            pass->sums[i * s->gates + j] += pass->bias[j];
    return true;
}

static bool times_weights(const struct pass *pass, const float *h, int64_t first, int64_t count) {
    const struct sequence *s = pass->s;
    const float *w = pass->r + first * s->hidden;
    if (s->batch < 64 || count != s->gates) {
        cell_times_weights(s->batch, count, s->hidden, h, w, pass->products + first, s->gates);
        return true;
    }
    return product_f32(s->batch, s->hidden, count, 1, h, &(int64_t){0}, w, &(int64_t){0}, true,
                       pass->products);
}

static void store_row(const struct pass *pass, int64_t row, int64_t time) {
    const struct sequence *s = pass->s;
    int64_t place = s->batch_first ? (row * s->steps + time) * s->directions + pass->direction
                                   : (time * s->directions + pass->direction) * s->batch + row;
    if (pass->outputs[0].data)
        memcpy((float *)pass->outputs[0].data + place * s->hidden, pass->state + row * s->hidden,
               (size_t)s->hidden * sizeof(float));
}

/* GRU, where the reset gate works on the state before the product: the state times the gate. */
static bool gru_reset(struct pass *pass, float *sums) {
    const struct sequence *s = pass->s;
    for (int64_t row = 0; row < s->batch; row++) {
        float *gates = sums + row * s->gates;
        cell_gru_gates(&pass->cell, gates, pass->products + row * s->gates);
        for (int64_t i = 0; i < s->hidden; i++)
            pass->reset[row * s->hidden + i] = gates[s->hidden + i] * pass->state[row * s->hidden + i];
    }
    return pass->cell.linear_before_reset || times_weights(pass, pass->reset, 2 * s->hidden, s->hidden);
}

static bool run_step(struct pass *pass, int64_t step, float *sums) {
    const struct sequence *s = pass->s;
    const struct cell *cell = &pass->cell;
    bool partial = cell->kind == CELL_GRU && !cell->linear_before_reset;
    if (!times_weights(pass, pass->state, 0, partial ? 2 * s->hidden : s->gates) ||
        (cell->kind == CELL_GRU && !gru_reset(pass, sums)))
        return false;

    for (int64_t row = 0; row < s->batch; row++) {
        int64_t time = time_of(pass, step, row);
        float *own = sums + row * s->gates, *state = pass->state + row * s->hidden;
        const float *products = pass->products + row * s->gates;
        if (time < 0)
            continue;

        if (cell->kind == CELL_LSTM)
            cell_lstm_step(cell, own, products, state, pass->memory + row * s->hidden);
        else if (cell->kind == CELL_GRU)
            cell_gru_step(cell, own, products + 2 * s->hidden, state);
        else
            cell_rnn_step(cell, own, products, state);
        store_row(pass, row, time);
    }

    return true;
}

static void read_parameters(const struct node *node, struct pass *pass) {
    const struct sequence *s = pass->s;
    struct cell *cell = &pass->cell;
    float clip = node_float(node, "clip", 0);
    const float *b = floats_of(pass, INPUT_B, 2 * s->gates);

    *cell = (struct cell){.kind = kind_of(node),
                          .hidden = s->hidden,
                          .clip = clip > 0 ? clip : INFINITY,
                          .input_forget = node_int(node, "input_forget", 0) != 0,
                          .linear_before_reset = node_int(node, "linear_before_reset", 0) != 0,
                          .peepholes = floats_of(pass, INPUT_PEEPHOLES, 3 * s->hidden)};
    read_functions(node, pass->direction, cell);

    /* The last gate's recurrence bias of a GRU is multiplied by the reset gate, where that comes after. */
    bool apart = cell->kind == CELL_GRU && cell->linear_before_reset && b;
    cell->hidden_bias = apart ? b + s->gates + 2 * s->hidden : NULL;
    for (int64_t j = 0; j < s->gates; j++)
        pass->bias[j] = b ? b[j] + (apart && j >= 2 * s->hidden ? 0 : b[s->gates + j]) : 0;
}

static bool run_direction(const struct node *node, const struct sequence *s, int direction,
                          const struct tensor *inputs, const struct tensor *outputs) {
    int64_t chunk = CHUNK_ELEMENTS / (s->batch * (s->gates > s->input ? s->gates : s->input) + 1) + 1;
    chunk = chunk > s->steps ? s->steps : chunk;
    int64_t states = s->batch * s->hidden, rows = chunk * s->batch;
    size_t total = (size_t)(s->gates + 3 * states + rows * s->input + rows * s->gates + s->batch * s->gates);
    cleanup(freep) float *memory = calloc(total + 1, sizeof *memory);
    if (!memory)
        return false;

    struct pass pass = {.s = s,
                        .direction = direction,
                        .backward = s->reverse || direction == 1,
                        .inputs = inputs,
                        .outputs = outputs,
                        .bias = memory,
                        .chunk = chunk};
    pass.state = pass.bias + s->gates;
    pass.memory = pass.state + states;
    pass.reset = pass.memory + states;
    pass.rows = pass.reset + states;
    pass.sums = pass.rows + rows * s->input;
    pass.products = pass.sums + rows * s->gates;
    pass.w = floats_of(&pass, INPUT_W, s->gates * s->input);
    pass.r = floats_of(&pass, INPUT_R, s->gates * s->hidden);
    read_parameters(node, &pass);
    load_states(&pass);

    for (int64_t first = 0; first < s->steps; first += chunk) {
        int64_t steps = s->steps - first < chunk ? s->steps - first : chunk;
        if (!make_sums(&pass, first, steps))
            return false;
        for (int64_t i = 0; i < steps; i++)
            if (!run_step(&pass, first + i, pass.sums + i * s->batch * s->gates))
                return false;
    }

    store_states(&pass);
    return true;
}

static bool recurrent_wide(const struct node *node, const struct tensor *inputs, const struct tensor *outputs,
                           struct error *error) {
    struct tensor given[INPUT_PEEPHOLES + 1] = {0}, wanted[3] = {0};
    struct sequence s;
    bool done[2] = {true, true};

    for (int i = 0; i < node->input_count; i++)
        given[i] = inputs[i];
    for (int i = 0; i < node->output_count; i++)
        wanted[i] = outputs[i];
    sequence_read(node, &inputs[INPUT_X].shape, &inputs[INPUT_R].shape, &s);
    if (wanted[0].data) /* what lies after a row's end is zero */
        memset(wanted[0].data, 0, tensor_bytes(&wanted[0]));

#pragma omp parallel for schedule(static) if (s.directions > 1)
    for (int direction = 0; direction < s.directions; direction++)
        done[direction] = run_direction(node, &s, direction, given, wanted);

    return (done[0] && done[1]) || node_memory_error(node, error);
}

static bool recurrent_compute(const struct node *node, const struct tensor *inputs,
                              const struct tensor *outputs, struct error *error) {
    return compute_widened(node, inputs, outputs, error, recurrent_wide);
}

#define RECURRENT(name, kind, most_inputs, most_outputs)                                       \
    {                                                                                          \
        .op_type = name, .since = 7, .inputs = {3, most_inputs}, .outputs = {1, most_outputs}, \
        .traits = OP_HEAVY, .types = NAMES_F32, .family = &(const enum cell_kind){kind},       \
        .check = recurrent_check, FUNCTIONS(recurrent)                                         \
    }

const struct op_def recurrent_operators[] = {
    RECURRENT("RNN", CELL_RNN, 6, 2),
    RECURRENT("GRU", CELL_GRU, 6, 2),
    RECURRENT("LSTM", CELL_LSTM, 8, 3),
    {0},
};
