/* Products with quantised weights: prompts bit for bit the same on every instruction set, everything within
 * the bounds that rounding allows of a computation in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "linear.h"

#define CASES 12

const struct linear_kernels *const *linear_tables(void) {
    static const struct linear_kernels *tables[6];
    static struct linear_kernels emulated, tiles;
    int count = 0;

    emulated = linear_kernels_with_tiles(&linear_kernels_portable, "tiles", &linear_tiles_emulated);
    tables[count++] = &linear_kernels_portable;
    tables[count++] = &emulated;
#if defined(__x86_64__)
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2)
        tables[count++] = &linear_kernels_avx2;
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        tables[count++] = &linear_kernels_avx512;
    tiles = linear_kernels_with_tiles(&linear_kernels_portable, "amx", &linear_tiles_amx);
    if (linear_tiles_usable())
        tables[count++] = &tiles;
#endif
    return tables;
}

/* A finite float16 of a usual size. */
static uint16_t half(void) {
    return f32_to_f16((float)random_between(-1000, 1000) * 1e-4f);
}

/* Where a block has float16 numbers; -1: no more. */
static const int *half_places(enum block_type type) {
    static const int first[] = {0, -1}, two[] = {0, 2, -1}, q6[] = {208, -1}, q3[] = {108, -1},
                     q2[] = {80, 82, -1};
    switch (type) {
    case BLOCK_Q4_1:
    case BLOCK_Q5_1:
    case BLOCK_Q4_K:
    case BLOCK_Q5_K:
        return two;
    case BLOCK_Q6_K:
        return q6;
    case BLOCK_Q3_K:
        return q3;
    case BLOCK_Q2_K:
        return q2;
    default:
        return first;
    }
}

static void fill_weights(enum block_type type, uint8_t *blocks, size_t bytes) {
    size_t size = block_bytes(type);
    for (size_t i = 0; i < bytes; i++)
        blocks[i] = (uint8_t)random_bits();

    for (uint8_t *block = blocks; block < blocks + bytes; block += size) {
        if (type == BLOCK_F32 || type == BLOCK_BF16) {
            float value = random_float(2);
            uint16_t upper = f32_to_bf16(value);
            memcpy(block, type == BLOCK_F32 ? (void *)&value : &upper, size);
            continue;
        }
        for (const int *at = half_places(type); *at >= 0; at++) {
            uint16_t bits = half();
            memcpy(block + *at, &bits, sizeof bits);
        }
    }
}

struct linear_case {
    struct linear weights;
    int64_t prompts, steps;
    float *x, *bias;
    double *expected, *bounds; /* [rows, outputs] */
};

/* y in double, and how far rounding of weights and activations may move it. */
static void find_expected(struct linear_case *test) {
    int64_t inputs = test->weights.inputs, outputs = test->weights.outputs;
    float *weights = malloc((size_t)inputs * sizeof *weights);

    for (int64_t output = 0; output < outputs; output++) {
        linear_row(&test->weights, output, weights);
        for (int64_t row = 0; row < test->prompts + test->steps; row++) {
            const float *x = test->x + row * inputs;
            double sum = (double)test->bias[output], bound = 1e-6, row_most = 0;

            for (int64_t i = 0; i < inputs; i++)
                row_most = fmax(row_most, fabs((double)x[i]));
            for (int64_t start = 0; start < inputs; start += LINEAR_CHUNK) {
                double w_sum = 0, w_most = 0, x_sum = 0, x_most = 0;
                for (int64_t i = start; i < inputs && i < start + LINEAR_CHUNK; i++) {
                    double w = (double)weights[i], a = (double)x[i];
                    sum += w * a;
                    w_sum += fabs(w);
                    x_sum += fabs(a);
                    w_most = fmax(w_most, fabs(w));
                    x_most = fmax(x_most, fabs(a));
                }
                bound += row < test->prompts ? (w_most / 4096 * x_sum + x_most / 2047 * 0.6 * w_sum) * 2
                                             : row_most / 16383 * 0.6 * w_sum + 1e-5 * w_most * x_sum;
            }
            test->expected[row * outputs + output] = sum;
            test->bounds[row * outputs + output] = bound;
        }
    }
    free(weights);
}

static void *take(size_t count, size_t size) {
    return aligned_alloc(64, (count * size + 127) / 64 * 64);
}

static void run_table(const struct linear_kernels *kernels, const struct linear_case *test, float *y) {
    const struct linear *weights = &test->weights;
    int64_t groups = (test->prompts + LINEAR_GROUP - 1) / LINEAR_GROUP;
    size_t all = (size_t)groups * LINEAR_GROUP, stride = (size_t)(weights->inputs + 255) / 256 * 256;
    struct linear_prompt prompt = {test->prompts, weights->inputs, test->x, take(all * stride, 2),
                                   take(all * stride / 256, 4)};
    struct linear_steps steps = {.rows = test->steps,
                                 .inputs = weights->inputs,
                                 .stride = stride,
                                 .values = test->x + test->prompts * weights->inputs,
                                 .words = take((size_t)test->steps * stride, 2),
                                 .scales = take((size_t)test->steps, 4),
                                 .sums16 = take((size_t)test->steps * stride / 16, 4),
                                 .sums32 = take((size_t)test->steps * stride / 32, 4)};
    float *sums = take(all * LINEAR_PANEL, sizeof *sums);
    int16_t *panel = take(LINEAR_PANEL_WORDS, sizeof *panel);

    memset(prompt.words, 0, all * stride * sizeof *prompt.words);
    memset(prompt.scales, 0, all * stride / 256 * sizeof *prompt.scales);
    for (int64_t row = 0; row < test->prompts; row++)
        kernels->prepare_prompt(&prompt, row);
    for (int64_t row = 0; row < test->steps; row++)
        kernels->prepare_step(&steps, row);

    for (int64_t first = 0; first < weights->outputs; first += LINEAR_PANEL) {
        kernels->multiply_panel(weights, first, &prompt, 0, (int64_t)all, sums, panel);
        for (int64_t row = 0; row < test->prompts; row++)
            for (int64_t i = 0; i < LINEAR_PANEL && first + i < weights->outputs; i++)
                y[row * weights->outputs + first + i] = sums[row * LINEAR_PANEL + i] + test->bias[first + i];
    }
    int64_t cut = weights->outputs / 2;
    kernels->multiply_steps(weights, 0, cut, &steps, test->bias, y + test->prompts * weights->outputs);
    kernels->multiply_steps(weights, cut, weights->outputs, &steps, test->bias,
                            y + test->prompts * weights->outputs);

    free(prompt.words);
    free(prompt.scales);
    free(steps.words);
    free(steps.scales);
    free(steps.sums16);
    free(steps.sums32);
    free(sums);
    free(panel);
}

static void run_case(enum block_type type) {
    int64_t unit = block_weights(type),
            inputs = unit == 1 ? random_between(1, 600) : random_between(1, 1100 / unit) * unit,
            outputs = random_extent(40);
    struct linear_case test = {.weights = {type, inputs, outputs},
                               random_between(0, 9) * random_between(1, 6),
                               random_between(0, 17)};
    int64_t rows = test.prompts + test.steps;
    if (rows == 0)
        rows = test.steps = 1;

    case_begin("%s: %lld x %lld, %lld prompts, %lld steps", block_type_name(type), (long long)outputs,
               (long long)inputs, (long long)test.prompts, (long long)test.steps);
    block_row_bytes(type, (uint64_t)inputs, &test.weights.row_bytes);
    size_t bytes = test.weights.row_bytes * (size_t)outputs, results = (size_t)(rows * outputs);
    uint8_t *blocks = input_take(bytes, type == BLOCK_F32 ? 4 : 2);
    test.weights.blocks = blocks;
    test.x = input_take((size_t)(rows * inputs) * sizeof(float), 4);
    test.bias = input_take((size_t)outputs * sizeof(float), 4);
    float *first = output_take(results * sizeof *first, 4), *other = output_take(results * sizeof *other, 4);
    fill_weights(type, blocks, bytes);
    random_fill(DTYPE_F32, test.x, rows * inputs, 3);
    random_fill(DTYPE_F32, test.bias, outputs, 1);
    test.expected = calloc(results, sizeof *test.expected);
    test.bounds = calloc(results, sizeof *test.bounds);
    find_expected(&test);

    case_seal();
    for (int i = 0; linear_tables()[i]; i++) {
        float *y = i == 0 ? first : other;
        run_table(linear_tables()[i], &test, y);
        for (size_t k = 0; k < results; k++)
            expect_near((int64_t)k, (double)y[k], test.expected[k], test.bounds[k]);
        if (i > 0)
            expect_bytes(other, first,
                         type == BLOCK_F32 ? 0 : (size_t)(test.prompts * outputs) * sizeof *first, 4);
    }
    case_check();
    free(test.expected);
    free(test.bounds);
}

static void run_types(void) {
    for (uint32_t type = 0; type < BLOCK_TYPES; type++)
        for (int i = 0; block_type_is_known(type) && i < case_count(CASES); i++)
            run_case(type);
}

/* A step gives the same beside any number of others, however they are tiled. */
static void run_company(void) {
    enum { MOST = 17 };
    for (uint32_t type = 0; type < BLOCK_TYPES; type++) {
        if (!block_type_is_known(type))
            continue;
        struct linear_case test = {.weights = {type, 512, 9}, .steps = MOST};
        case_begin("%s", block_type_name(type));
        block_row_bytes(type, 512, &test.weights.row_bytes);
        uint8_t *blocks = input_take(test.weights.row_bytes * 9, 4);
        test.weights.blocks = blocks;
        test.x = input_take(sizeof(float) * MOST * 512, 4);
        test.bias = input_take(sizeof(float) * 9, 4);
        float *all = output_take(sizeof(float) * MOST * 9, 4),
              *alone = output_take(sizeof(float) * MOST * 9, 4);
        fill_weights(type, blocks, test.weights.row_bytes * 9);
        random_fill(DTYPE_F32, test.x, MOST * 512, 3);
        random_fill(DTYPE_F32, test.bias, 9, 1);

        case_seal();
        for (int i = 0; linear_tables()[i]; i++) {
            run_table(linear_tables()[i], &test, all);
            for (int first = 0, count = 1; first < MOST; first += count, count = count % 7 + 1) {
                struct linear_case part = test;
                part.steps = MOST - first < count ? MOST - first : count;
                part.x = test.x + first * 512;
                run_table(linear_tables()[i], &part, alone + (size_t)first * 9);
            }
            expect_bytes(alone, all, sizeof(float) * MOST * 9, 4);
        }
        case_check();
    }
}

static const struct kernel_test tests[] = {
    {"linear: every type", run_types}, {"linear: steps in any company", run_company}, {0}};
extern const struct kernel_test paged_tests[];
const struct kernel_test *const kernel_test_lists[] = {tests, paged_tests, NULL};
