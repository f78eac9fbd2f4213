/* Scales and levels: of all scales that are tried, the one with the least weighted square of errors. */
#include "linear/encode.h"

#include <math.h>
#include <string.h>

#include "linear/encode_pack.h"
#include "tensor/tensor.h"

/* What the levels of a type are. */
struct block_form {
    int sub;                   /* weights that share a scale; 0: not written in blocks */
    int least, most;           /* levels */
    bool has_base;             /* levels count from a base; else from 0 */
    int scale_low, scale_high; /* whole numbers that a sub-block's scale may be; 0, 0: it has float16 */
};

static const struct block_form forms[BLOCK_TYPES] = {
    [BLOCK_Q8_0] = {32, -127, 127, false, 0, 0}, [BLOCK_Q4_0] = {32, -8, 7, false, 0, 0},
    [BLOCK_Q5_0] = {32, -16, 15, false, 0, 0},   [BLOCK_Q4_1] = {32, 0, 15, true, 0, 0},
    [BLOCK_Q5_1] = {32, 0, 31, true, 0, 0},      [BLOCK_Q2_K] = {16, 0, 3, true, 0, 15},
    [BLOCK_Q3_K] = {16, -4, 3, false, -32, 31},  [BLOCK_Q4_K] = {32, 0, 15, true, 0, 63},
    [BLOCK_Q5_K] = {32, 0, 31, true, 0, 63},     [BLOCK_Q6_K] = {16, -32, 31, false, -128, 127},
};

static bool is_float(enum block_type type) {
    return type == BLOCK_F32 || type == BLOCK_F16 || type == BLOCK_BF16;
}

bool block_type_is_written(enum block_type type) {
    return type < BLOCK_TYPES && (is_float(type) || forms[type].sub);
}

int block_sub_weights(enum block_type type) {
    return is_float(type) ? 1 : forms[type].sub;
}

/* --- One scale ------------------------------------------------------------------------------------------ */

/* A step, a base, and the error that they leave. */
struct fit {
    float step, base, error;
};

/* To the nearest whole number, halves to even: |x| < 2^22. */
static inline float nearest(float x) {
    return (x + 12582912.0f) - 12582912.0f;
}

static inline float clamp(float x, float low, float high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

static float half(float x) {
    return f16_to_f32(f32_to_f16(clamp(x, -65504, 65504)));
}

/* Multiples of a step: levels at 1/step, then the step that suits them best. */
static void try_scale(const struct block_form *form, const float *x, const float *w, float inverse,
                      struct fit *best) {
    float product = 0, square = 0;
    for (int i = 0; i < form->sub; i++) {
        float q = clamp(nearest(x[i] * inverse), (float)form->least, (float)form->most);
        product += w[i] * x[i] * q;
        square += w[i] * q * q;
    }
    if (square > 0 && product * product / square > -best->error)
        *best = (struct fit){product / square, 0, -product * product / square};
}

/* The step of the largest number in either direction, and steps about it: clipping the largest may serve the
 * others. The error is less the sum of squares. */
static struct fit fit_scale(const struct block_form *form, const float *x, const float *w) {
    struct fit best = {0};
    float most = 0, low = (float)-form->least;
    for (int i = 0; i < form->sub; i++)
        most = fmaxf(most, fabsf(x[i]));
    if (most < 1e-30f)
        return best;

    int tries = form->most > 31 ? 3 : 28;
    for (int i = 0; i < tries; i++) {
        float inverse = (low * (1 + ((float)i - (float)tries / 4) * (tries == 3 ? 0.002f : 0.02f))) / most;
        try_scale(form, x, w, inverse, &best);
        if (form->most < 31)
            try_scale(form, x, w, -inverse, &best);
    }
    return best;
}

/* Levels from a base on: those of `inverse` and `from`, then the line that suits them best. */
static void try_line(const struct block_form *form, const float *x, const float *w, float inverse, float from,
                     bool below_zero, struct fit *best) {
    float sw = 0, sx = 0, sq = 0, sxq = 0, sqq = 0, sxx = 0;
    for (int i = 0; i < form->sub; i++) {
        float q = clamp(nearest((x[i] - from) * inverse), 0, (float)form->most);
        sw += w[i];
        sx += w[i] * x[i];
        sq += w[i] * q;
        sxq += w[i] * x[i] * q;
        sqq += w[i] * q * q;
        sxx += w[i] * x[i] * x[i];
    }

    float determinant = sw * sqq - sq * sq;
    if (!(determinant > 1e-12f * sw * sqq))
        return;
    float step = (sw * sxq - sq * sx) / determinant, base = (sqq * sx - sq * sxq) / determinant;
    if (below_zero && base > 0) {
        step = sxq / sqq;
        base = 0;
    }
    float error =
        sxx - 2 * step * sxq - 2 * base * sx + step * step * sqq + 2 * step * base * sq + base * base * sw;
    if (step > 0 && error < best->error)
        *best = (struct fit){step, base, error};
}

static struct fit fit_line(const struct block_form *form, const float *x, const float *w) {
    bool below_zero = form->scale_high > 0;
    float low = x[0], high = x[0];
    for (int i = 1; i < form->sub; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    if (below_zero && low > 0)
        low = 0;

    struct fit best = {0, low, INFINITY};
    if (high - low < 1e-30f)
        return best;
    best.step = (high - low) / (float)form->most;
    for (int i = 0; i < 20; i++)
        try_line(form, x, w, ((float)form->most + 0.12f * ((float)i - 5)) / (high - low), low, below_zero,
                 &best);
    return best;
}

/* --- Blocks --------------------------------------------------------------------------------------------- */

void block_code_begin(struct block_code *code, enum block_type type, const float *values,
                      const float *importances) {
    const struct block_form *form = &forms[type];
    memset(code, 0, sizeof *code);
    code->type = type;
    if (!form->scale_high)
        return;

    float most = 0, base = 0;
    for (int i = 0; i < block_weights(type); i += form->sub) {
        struct fit fit = form->has_base ? fit_line(form, values + i, importances + i)
                                        : fit_scale(form, values + i, importances + i);
        if (fabsf(fit.step) > fabsf(most))
            most = fit.step;
        base = fmaxf(base, -fit.base);
    }
    /* The largest step is the scale number that is furthest from 0. */
    code->scale = half(most / (float)(form->scale_low < 0 ? form->scale_low : form->scale_high));
    code->least = half(base / (float)form->scale_high);
}

/* The error of sub-block j with these whole numbers. */
static float numbers_error(const struct block_code *code, const float *x, const float *w, int scale,
                           int least) {
    const struct block_form *form = &forms[code->type];
    float step = code->scale * (float)scale, base = -code->least * (float)least, sum = 0;
    float inverse = step != 0 ? 1 / step : 0;
    for (int i = 0; i < form->sub; i++) {
        float q = clamp(nearest((x[i] - base) * inverse), (float)form->least, (float)form->most);
        float error = x[i] - base - step * q;
        sum += w[i] * error * error;
    }
    return sum;
}

static int number(float part, float whole, int low, int high) {
    return whole != 0 ? (int)clamp(nearest(clamp(part / whole, -1e6f, 1e6f)), (float)low, (float)high) : 0;
}

/* The whole numbers next to what fits best, and their neighbours. */
static void choose_numbers(struct block_code *code, int j, struct fit fit, const float *x, const float *w) {
    const struct block_form *form = &forms[code->type];
    int scale = number(fit.step, code->scale, form->scale_low, form->scale_high),
        least = number(-fit.base, code->least, 0, form->scale_high),
        reach = form->has_base && code->least > 0;
    float best = INFINITY;

    for (int s = scale - 1; s <= scale + 1; s++)
        for (int m = least - reach; m <= least + reach; m++) {
            if (s < form->scale_low || s > form->scale_high || m < 0 || m > form->scale_high)
                continue;
            float error = numbers_error(code, x, w, s, m);
            if (error < best) {
                best = error;
                code->scales[j] = s;
                code->leasts[j] = m;
            }
        }
    code->step[j] = code->scale * (float)code->scales[j];
    code->base[j] = -code->least * (float)code->leasts[j];
}

void block_code_choose(struct block_code *code, int j, const float *values, const float *importances) {
    const struct block_form *form = &forms[code->type];
    struct fit fit =
        form->has_base ? fit_line(form, values, importances) : fit_scale(form, values, importances);
    if (form->scale_high) {
        choose_numbers(code, j, fit, values, importances);
        return;
    }
    code->scale = code->step[j] = half(fit.step);
    code->least = code->base[j] = half(fit.base);
}

bool block_code_vary(struct block_code *code, const struct block_code *from, int j, int way) {
    static const float factors[BLOCK_WAYS] = {0.86f, 0.9f, 0.94f, 0.97f, 1.03f, 1.06f, 1.1f, 1.14f};
    static const int8_t numbers[BLOCK_WAYS][2] = {{-1, 0}, {1, 0}, {-2, 0},  {2, 0},
                                                  {0, -1}, {0, 1}, {-1, -1}, {1, 1}};
    const struct block_form *form = &forms[from->type];

    if (!form->scale_high) {
        float least = (float)form->least + (float)form->most;
        code->scale = code->step[j] = half(from->step[j] * factors[way]);
        /* about the middle of the levels */
        if (form->has_base)
            code->least = code->base[j] = half(from->base[j] + (from->step[j] - code->step[j]) * least / 2);
        return true;
    }

    int scale = from->scales[j] + numbers[way][0], minimum = from->leasts[j] + numbers[way][1];
    if (scale < form->scale_low || scale > form->scale_high || minimum < 0 || minimum > form->scale_high ||
        (numbers[way][1] && !form->has_base))
        return false;
    code->scales[j] = scale;
    code->leasts[j] = minimum;
    code->step[j] = code->scale * (float)scale;
    code->base[j] = -code->least * (float)minimum;
    return true;
}

int block_code_level(const struct block_code *code, int j, float value) {
    const struct block_form *form = &forms[code->type];
    if (code->step[j] == 0)
        return 0;
    float at = clamp((value - code->base[j]) / code->step[j], (float)form->least, (float)form->most);
    return (int)nearest(at);
}

float block_code_value(const struct block_code *code, int j, int level) {
    return code->step[j] * (float)level + code->base[j];
}

void block_code_pack(const struct block_code *code, void *ret) {
    encode_pack(code, ret);
}

/* --- Rows ----------------------------------------------------------------------------------------------- */

static void write_floats(enum block_type type, const float *values, size_t count, uint8_t *ret) {
    if (type == BLOCK_F32) {
        memcpy(ret, values, count * sizeof *values);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = type == BLOCK_F16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
        memcpy(ret + 2 * i, &bits, sizeof bits);
    }
}

void blocks_quantize(enum block_type type, const float *values, const float *importances, size_t count,
                     void *ret) {
    float same[BLOCK_MOST];
    struct block_code code;
    if (is_float(type)) {
        write_floats(type, values, count, ret);
        return;
    }

    int weights = block_weights(type), sub = forms[type].sub;
    for (int i = 0; i < BLOCK_MOST; i++)
        same[i] = 1;
    for (size_t at = 0; at < count; at += (size_t)weights) {
        const float *w = importances ? importances + at : same;
        block_code_begin(&code, type, values + at, w);
        for (int i = 0; i < weights; i++) {
            if (i % sub == 0)
                block_code_choose(&code, i / sub, values + at + i, w + i);
            code.levels[i] = (int8_t)block_code_level(&code, i / sub, values[at + (size_t)i]);
        }
        block_code_pack(&code, (uint8_t *)ret + at / (size_t)weights * block_bytes(type));
    }
}
