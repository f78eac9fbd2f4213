#include "ops/recurrent_cell.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/multiversion.h"

static const struct {
    const char *name;
    float alpha, beta;
    bool has_alpha, has_beta;
} functions[] = {
    [CELL_SIGMOID] = {"Sigmoid", 0, 0, false, false},
    [CELL_TANH] = {"Tanh", 0, 0, false, false},
    [CELL_RELU] = {"Relu", 0, 0, false, false},
    [CELL_AFFINE] = {"Affine", 1, 0, true, true},
    [CELL_LEAKY_RELU] = {"LeakyRelu", 0.01f, 0, true, false},
    [CELL_THRESHOLDED_RELU] = {"ThresholdedRelu", 1, 0, true, false},
    [CELL_SCALED_TANH] = {"ScaledTanh", 1, 1, true, true},
    [CELL_HARD_SIGMOID] = {"HardSigmoid", 0.2f, 0.5f, true, true},
    [CELL_ELU] = {"Elu", 1, 0, true, false},
    [CELL_SOFTSIGN] = {"Softsign", 0, 0, false, false},
    [CELL_SOFTPLUS] = {"Softplus", 0, 0, false, false},
};

bool cell_function_find(const char *name, struct cell_function *ret) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (strcasecmp(functions[i].name, name) == 0) {
            *ret = (struct cell_function){(enum cell_function_kind)i, functions[i].alpha, functions[i].beta};
            return true;
        }
    return false;
}

bool cell_function_takes(enum cell_function_kind kind, bool beta) {
    return beta ? functions[kind].has_beta : functions[kind].has_alpha;
}

/* e^x to within two units in the last place, in a form that the vectoriser takes: 2^n times a polynomial in
 * what is left, |r| <= ln 2 / 2 (its Taylor series to the sixth power). */
static inline float exponential(float x) {
    float bounded = x > 88 ? 88 : x < -87 ? -87 : x, shifted = bounded * 1.44269504f + 12582912.0f;
    float n = shifted - 12582912.0f, r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 0.16666667f;
    p = p * r + 0.5f;
    p = p * r + 1;
    p = p * r + 1;

    int32_t bits;
    float power;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int32_t)(((uint32_t)bits + 127u) << 23);
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float hyperbolic_tangent(float x) {
    float square = x * x, far = 1 - 2 / (exponential(2 * x) + 1);
    float near =
        x + x * square *
                (-0.33333333f + square * (0.13333333f + square * (-0.053968254f + square * 0.021869489f)));
    return square < 0.04f ? near : far;
}

MULTIVERSION static void apply_sigmoid(float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        x[i] = 1 / (1 + exponential(-x[i]));
}

MULTIVERSION static void apply_tanh(float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        x[i] = hyperbolic_tangent(x[i]);
}

static float evaluate(const struct cell_function *f, float x) {
    switch (f->kind) {
    case CELL_RELU:
        return x > 0 ? x : 0;
    case CELL_AFFINE:
        return f->alpha * x + f->beta;
    case CELL_LEAKY_RELU:
        return x < 0 ? f->alpha * x : x;
    case CELL_THRESHOLDED_RELU:
        return x > f->alpha ? x : 0;
    case CELL_SCALED_TANH:
        return f->alpha * tanhf(f->beta * x);
    case CELL_HARD_SIGMOID:
        return fminf(fmaxf(f->alpha * x + f->beta, 0), 1);
    case CELL_ELU:
        return x < 0 ? f->alpha * expm1f(x) : x;
    case CELL_SOFTSIGN:
        return x / (1 + fabsf(x));
    case CELL_SOFTPLUS:
        return x > 20 ? x : log1pf(expf(x));
    default:
        return x;
    }
}

void cell_apply(const struct cell_function *function, float clip, float *x, int64_t count) {
    if (isfinite(clip))
        for (int64_t i = 0; i < count; i++)
            x[i] = x[i] > clip ? clip : x[i] < -clip ? -clip : x[i];

    if (function->kind == CELL_SIGMOID)
        apply_sigmoid(x, count);
    else if (function->kind == CELL_TANH)
        apply_tanh(x, count);
    else
        for (int64_t i = 0; i < count; i++)
            x[i] = evaluate(function, x[i]);
}

MULTIVERSION static void add_rows(float *to, const float *from, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        to[i] += from[i];
}

MULTIVERSION static void multiply_add(float *to, const float *a, const float *b, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        to[i] += a[i] * b[i];
}

void cell_rnn_step(const struct cell *cell, float *sums, const float *from_hidden, float *state) {
    add_rows(sums, from_hidden, cell->hidden);
    cell_apply(&cell->functions[0], cell->clip, sums, cell->hidden);
    memcpy(state, sums, (size_t)cell->hidden * sizeof *state);
}

void cell_lstm_step(const struct cell *cell, float *sums, const float *from_hidden, float *state,
                    float *memory) {
    int64_t n = cell->hidden;
    float *input = sums, *output = sums + n, *forget = sums + 2 * n, *fresh = sums + 3 * n;
    const struct cell_function *f = &cell->functions[0], *g = &cell->functions[1], *h = &cell->functions[2];

    add_rows(sums, from_hidden, 4 * n);
    if (cell->peepholes) {
        multiply_add(input, cell->peepholes, memory, n);
        multiply_add(forget, cell->peepholes + 2 * n, memory, n);
    }
    cell_apply(f, cell->clip, input, n);
    cell_apply(f, cell->clip, forget, n);
    cell_apply(g, cell->clip, fresh, n);

    for (int64_t i = 0; i < n; i++) {
        float kept = cell->input_forget ? 1 - input[i] : forget[i];
        memory[i] = kept * memory[i] + input[i] * fresh[i];
    }

    if (cell->peepholes)
        multiply_add(output, cell->peepholes + n, memory, n);
    cell_apply(f, cell->clip, output, n);
    memcpy(fresh, memory, (size_t)n * sizeof *fresh);
    cell_apply(h, INFINITY, fresh, n);
    for (int64_t i = 0; i < n; i++)
        state[i] = output[i] * fresh[i];
}

void cell_gru_gates(const struct cell *cell, float *sums, const float *from_hidden) {
    add_rows(sums, from_hidden, 2 * cell->hidden);
    cell_apply(&cell->functions[0], cell->clip, sums, 2 * cell->hidden);
}

void cell_gru_step(const struct cell *cell, float *sums, const float *from_hidden, float *state) {
    int64_t n = cell->hidden;
    float *update = sums, *reset = sums + n, *fresh = sums + 2 * n;

    for (int64_t i = 0; i < n; i++) {
        float recurrent = from_hidden[i] + (cell->hidden_bias ? cell->hidden_bias[i] : 0);
        fresh[i] += cell->linear_before_reset ? reset[i] * recurrent : recurrent;
    }
    cell_apply(&cell->functions[1], cell->clip, fresh, n);
    for (int64_t i = 0; i < n; i++)
        state[i] = (1 - update[i]) * fresh[i] + update[i] * state[i];
}

/* Four rows of w, so that the sums do not wait for each other. */
MULTIVERSION static void four_dots(int64_t depth, const float *h, const float *w, float *y) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    const float *w1 = w + depth, *w2 = w1 + depth, *w3 = w2 + depth;

#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t k = 0; k < depth; k++) {
        s0 += h[k] * w[k];
        s1 += h[k] * w1[k];
        s2 += h[k] * w2[k];
        s3 += h[k] * w3[k];
    }

    y[0] = s0;
    y[1] = s1;
    y[2] = s2;
    y[3] = s3;
}

/* The same for two rows of h, which share what is read of w. */
MULTIVERSION static void eight_dots(int64_t depth, const float *h, const float *w, float *y,
                                    int64_t y_stride) {
    float s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
    const float *w1 = w + depth, *w2 = w1 + depth, *w3 = w2 + depth, *h1 = h + depth;

#pragma omp simd reduction(+ : s0, s1, s2, s3, t0, t1, t2, t3)
    for (int64_t k = 0; k < depth; k++) {
        s0 += h[k] * w[k];
        s1 += h[k] * w1[k];
        s2 += h[k] * w2[k];
        s3 += h[k] * w3[k];
        t0 += h1[k] * w[k];
        t1 += h1[k] * w1[k];
        t2 += h1[k] * w2[k];
        t3 += h1[k] * w3[k];
    }

    float *y1 = y + y_stride;
    y[0] = s0, y[1] = s1, y[2] = s2, y[3] = s3;
    y1[0] = t0, y1[1] = t1, y1[2] = t2, y1[3] = t3;
}

/* Fewer than four rows of w. */
static void last_dots(int64_t rows, int64_t depth, const float *h, const float *w, float *y) {
    for (int64_t i = 0; i < rows; i++) {
        float sum = 0;
        for (int64_t k = 0; k < depth; k++)
            sum += h[k] * w[i * depth + k];
        y[i] = sum;
    }
}

void cell_times_weights(int64_t batch, int64_t rows, int64_t depth, const float *h, const float *w, float *y,
                        int64_t y_stride) {
#pragma omp parallel for schedule(static) if (batch * rows * depth > 1 << 18)
    for (int64_t r = 0; r < rows; r += 4) {
        int64_t b = 0;
        for (; b + 2 <= batch && r + 4 <= rows; b += 2)
            eight_dots(depth, h + b * depth, w + r * depth, y + b * y_stride + r, y_stride);
        for (; b < batch; b++)
            if (r + 4 <= rows)
                four_dots(depth, h + b * depth, w + r * depth, y + b * y_stride + r);
            else
                last_dots(rows - r, depth, h + b * depth, w + r * depth, y + b * y_stride + r);
    }
}
