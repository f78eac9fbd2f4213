/* What a recurrent cell does with the sums of its gates. Internal to ops/; pure functions, any thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum cell_kind { CELL_RNN, CELL_GRU, CELL_LSTM };

enum cell_function_kind {
    CELL_SIGMOID,
    CELL_TANH,
    CELL_RELU,
    CELL_AFFINE,
    CELL_LEAKY_RELU,
    CELL_THRESHOLDED_RELU,
    CELL_SCALED_TANH,
    CELL_HARD_SIGMOID,
    CELL_ELU,
    CELL_SOFTSIGN,
    CELL_SOFTPLUS,
};

struct cell_function {
    enum cell_function_kind kind;
    float alpha, beta;
};

/* One direction of a node: shapes and parameters. Gates in ONNX's order: i o f c, or z r h. */
struct cell {
    enum cell_kind kind;
    int64_t hidden;
    struct cell_function functions[3]; /* f, g, h */
    float clip;               /* sums are cut to [-clip, clip] before the functions; infinity: never */
    bool input_forget;        /* LSTM: the forget gate is 1 - input gate */
    bool linear_before_reset; /* GRU */
    const float *peepholes;   /* LSTM: [3 * hidden], i o f; NULL: none */
    const float *hidden_bias; /* GRU, linear_before_reset: [hidden], of the last gate; NULL: zeros */
};

/* "Tanh" in any case; the kind with ONNX's own alpha and beta. False where it is none of them. */
bool cell_function_find(const char *name, struct cell_function *ret);
/* Does the function have the parameter? */
bool cell_function_takes(enum cell_function_kind kind, bool beta);

/* In place over `count` sums. */
void cell_apply(const struct cell_function *function, float clip, float *x, int64_t count);

/* One row, one step. `sums`: the input's part with all biases, [gates * hidden]; `from_hidden`: state times
 * the recurrence weights, likewise. Both are overwritten. state and memory: [hidden], updated. */
void cell_rnn_step(const struct cell *cell, float *sums, const float *from_hidden, float *state);
void cell_lstm_step(const struct cell *cell, float *sums, const float *from_hidden, float *state,
                    float *memory);
/* GRU in two parts: gates z and r; then, with the last gate's sums complete, the state. */
void cell_gru_gates(const struct cell *cell, float *sums, const float *from_hidden);
void cell_gru_step(const struct cell *cell, float *sums, const float *from_hidden, float *state);

/* y[b][r] = sum of h[b][k] w[r][k]: rows of w against `batch` rows of h. */
void cell_times_weights(int64_t batch, int64_t rows, int64_t depth, const float *h, const float *w, float *y,
                        int64_t y_stride);
