/* Quantised blocks written, GGUF files written, and rounding that feeds errors forward. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "gguf/writer.h"
#include "linear/encode.h"
#include "quant/estimate.h"
#include "quant/language_continue.h"
#include "quant/language_target.h"
#include "quant/second_order.h"

static uint32_t random_state = 1;

static float next(void) { /* in (-1, 1) */
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(random_state >> 8) / 8388608.0f - 1;
}

/* Nearly normal. */
static float normal(void) {
    return next() + next() + next() + next();
}

static double relative_error(const float *x, const float *y, size_t count) {
    double error = 0, square = 0;
    for (size_t i = 0; i < count; i++) {
        error += pow((double)x[i] - (double)y[i], 2);
        square += pow((double)x[i], 2);
    }
    return sqrt(error / square);
}

/* --- Blocks --- */

static const struct {
    enum block_type type;
    double most; /* relative error of weights that are about normal */
} types[] = {{BLOCK_F32, 0},     {BLOCK_F16, 5e-4},  {BLOCK_BF16, 4e-3},  {BLOCK_Q8_0, 7e-3},
             {BLOCK_Q6_K, 0.02}, {BLOCK_Q5_K, 0.04}, {BLOCK_Q5_1, 0.04},  {BLOCK_Q5_0, 0.05},
             {BLOCK_Q4_K, 0.08}, {BLOCK_Q4_1, 0.08}, {BLOCK_Q4_0, 0.095}, {BLOCK_Q3_K, 0.2},
             {BLOCK_Q2_K, 0.33}};

enum { TYPES = sizeof types / sizeof *types, COUNT = 32 * 256 };

static void weights_are_near_what_they_were(void **state) {
    static float x[COUNT], y[COUNT];
    static uint8_t blocks[COUNT * 4];
    for (int i = 0; i < COUNT; i++)
        x[i] = 0.02f * normal();

    for (int i = 0; i < TYPES; i++) {
        assert_true(block_type_is_written(types[i].type));
        blocks_quantize(types[i].type, x, NULL, COUNT, blocks);
        blocks_dequantize(types[i].type, blocks, COUNT, y);
        double error = relative_error(x, y, COUNT);
        if (error > types[i].most)
            fail_msg("%s: %g", block_type_name(types[i].type), error);
    }
    assert_false(block_type_is_written(BLOCK_IQ4_XS));
}

/* What a file of that type can say is written as it is, or nearly. */
static void a_second_rounding_changes_little(void **state) {
    static float x[COUNT], y[COUNT];
    static uint8_t blocks[COUNT * 4];
    for (int i = 0; i < TYPES; i++) {
        for (int j = 0; j < COUNT; j++)
            x[j] = normal();
        blocks_quantize(types[i].type, x, NULL, COUNT, blocks);
        blocks_dequantize(types[i].type, blocks, COUNT, x);
        blocks_quantize(types[i].type, x, NULL, COUNT, blocks);
        blocks_dequantize(types[i].type, blocks, COUNT, y);
        double error = relative_error(x, y, COUNT);
        if (error > 0.25 * types[i].most + 1e-9)
            fail_msg("%s: %g", block_type_name(types[i].type), error);
    }
}

static void odd_weights_do_no_harm(void **state) {
    static const float odd[] = {0, 1e-40f, -1e-30f, 3e38f, -3e38f, INFINITY, -INFINITY, NAN, 65504, 1};
    float x[256], y[256];
    uint8_t blocks[1024];
    for (int i = 0; i < TYPES; i++)
        for (int kind = 0; kind < 12; kind++) {
            for (int j = 0; j < 256; j++)
                x[j] = kind < 10 ? odd[kind] : odd[(j * 7 + kind) % 10];
            blocks_quantize(types[i].type, x, NULL, 256, blocks);
            blocks_dequantize(types[i].type, blocks, 256, y);
            for (int j = 0; kind == 0 && j < 256; j++)
                assert_true(y[j] == 0);
        }
}

static void important_weights_are_nearer(void **state) {
    float x[32], y[32], weights[32];
    uint8_t block[18];
    double plain = 0, weighted = 0;
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 32; i++) {
            x[i] = normal();
            weights[i] = i % 8 == 0 ? 100 : 1;
        }
        blocks_quantize(BLOCK_Q4_0, x, NULL, 32, block);
        blocks_dequantize(BLOCK_Q4_0, block, 32, y);
        for (int i = 0; i < 32; i += 8)
            plain += pow((double)(x[i] - y[i]), 2);
        blocks_quantize(BLOCK_Q4_0, x, weights, 32, block);
        blocks_dequantize(BLOCK_Q4_0, block, 32, y);
        for (int i = 0; i < 32; i += 8)
            weighted += pow((double)(x[i] - y[i]), 2);
    }
    assert_true(weighted < 0.7 * plain);
}

/* --- Rounding by a text --- */

/* Inputs that go together: few directions, and noise. */
static void fill_inputs(float *x, int64_t rows, int64_t columns) {
    enum { DIRECTIONS = 8 };
    float *directions = calloc((size_t)(DIRECTIONS * columns), sizeof *directions);
    for (int64_t i = 0; i < DIRECTIONS * columns; i++)
        directions[i] = normal();
    for (int64_t r = 0; r < rows; r++) {
        float amounts[DIRECTIONS];
        for (int d = 0; d < DIRECTIONS; d++)
            amounts[d] = normal();
        for (int64_t i = 0; i < columns; i++) {
            x[r * columns + i] = 0.3f * normal();
            for (int d = 0; d < DIRECTIONS; d++)
                x[r * columns + i] += amounts[d] * directions[d * columns + i];
        }
    }
    free(directions);
}

/* U'U (X'X + damping) = 1 */
static void the_triangle_is_the_inverse(void **state) {
    static const int sizes[] = {1, 3, 17, 64, 65, 130};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int64_t n = sizes[s], rows = 500;
        float *x = calloc((size_t)(rows * n), sizeof *x);
        double *h = calloc((size_t)(n * n), sizeof *h), mean = 0;
        struct covariance covariance;
        fill_inputs(x, rows, n);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                for (int64_t r = 0; r < rows; r++)
                    h[i * n + j] += (double)x[r * n + i] * (double)x[r * n + j];
        for (int64_t i = 0; i < n; i++)
            mean += h[i * n + i] / (double)n;
        for (int64_t i = 0; i < n; i++)
            h[i * n + i] += 0.01 * mean;

        assert_true(covariance_init(&covariance, n));
        covariance_add(&covariance, x, 200);
        covariance_add(&covariance, x + 200 * n, rows - 200);
        assert_true(covariance_invert(&covariance, 0.01));
        const float *u = covariance.sums[0];
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) { /* U H U' = 1 */
                double sum = 0;
                for (int64_t a = 0; a < n; a++)
                    for (int64_t b = 0; b < n; b++)
                        sum += (double)u[i * n + a] * h[a * n + b] * (double)u[j * n + b];
                if (fabs(sum - (i == j)) > 2e-2)
                    fail_msg("%d columns: %g at %d, %d", (int)n, sum, (int)i, (int)j);
            }
        covariance_release(&covariance);
        free(x);
        free(h);
    }
}

static double product_error(const float *x, int64_t rows, const float *w, const float *v, int64_t outputs,
                            int64_t columns) {
    double sum = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outputs; o++) {
            double error = 0;
            for (int64_t i = 0; i < columns; i++)
                error +=
                    (double)x[r * columns + i] * ((double)w[o * columns + i] - (double)v[o * columns + i]);
            sum += error * error;
        }
    return sum / (double)(rows * outputs);
}

static void products_change_less_than_by_plain_rounding(void **state) {
    enum { OUTPUTS = 13, INPUTS = 512, INPUT_ROWS = 400, OTHERS = 50 };
    float *x = calloc((INPUT_ROWS + OTHERS) * INPUTS, sizeof *x), *w = calloc(OUTPUTS * INPUTS, sizeof *w),
          *v = calloc(OUTPUTS * INPUTS, sizeof *v);
    uint8_t *blocks = calloc(OUTPUTS * INPUTS, 4);
    fill_inputs(x, INPUT_ROWS + OTHERS, INPUTS);
    for (int i = 0; i < OUTPUTS * INPUTS; i++)
        w[i] = 0.05f * normal();

    for (int i = 3; i < TYPES; i++) {
        struct covariance covariance;
        assert_true(covariance_init(&covariance, INPUTS));
        covariance_add(&covariance, x, INPUT_ROWS);
        assert_true(covariance_invert(&covariance, 0.01));
        blocks_quantize(types[i].type, w, NULL, OUTPUTS * INPUTS, blocks);
        blocks_dequantize(types[i].type, blocks, OUTPUTS * INPUTS, v);
        double plain = product_error(x + INPUT_ROWS * INPUTS, OTHERS, w, v, OUTPUTS, INPUTS);
        double said = second_order_round(&covariance, types[i].type, w, OUTPUTS, blocks);
        blocks_dequantize(types[i].type, blocks, OUTPUTS * INPUTS, v);
        double seen = product_error(x, INPUT_ROWS, w, v, OUTPUTS, INPUTS),
               unseen = product_error(x + INPUT_ROWS * INPUTS, OTHERS, w, v, OUTPUTS, INPUTS);
        if (unseen > 0.5 * plain || said < 0.9 * seen || said > 3 * seen) /* it counts the damping */
            fail_msg("%s: plain %g, seen %g (said %g), unseen %g", block_type_name(types[i].type), plain,
                     seen, said, unseen);
        covariance_release(&covariance);
    }
    free(x);
    free(w);
    free(v);
    free(blocks);
}

/* More columns than a group has. */
static void wide_matrices_are_cut_into_groups(void **state) {
    enum { INPUTS = 2048 + 256, OUTPUTS = 9 };
    struct covariance covariance;
    float *x = calloc(4 * INPUTS, sizeof *x), *w = calloc(OUTPUTS * INPUTS, sizeof *w),
          *v = calloc(OUTPUTS * INPUTS, sizeof *v);
    uint8_t *blocks = calloc(OUTPUTS * INPUTS, 1);
    for (int i = 0; i < 4 * INPUTS; i++)
        x[i] = normal();
    for (int i = 0; i < OUTPUTS * INPUTS; i++)
        w[i] = normal();

    assert_true(covariance_init(&covariance, INPUTS));
    assert_int_equal(covariance.groups, 2);
    covariance_add(&covariance, x, 4);
    assert_true(covariance_invert(&covariance, 0.01));
    second_order_round(&covariance, BLOCK_Q4_K, w, OUTPUTS, blocks);
    blocks_dequantize(BLOCK_Q4_K, blocks, OUTPUTS * INPUTS, v);
    assert_true(relative_error(w, v, OUTPUTS * INPUTS) < 0.12);
    assert_true(product_error(x, 4, w, v, OUTPUTS, INPUTS) < 1);
    covariance_release(&covariance);
    free(x);
    free(w);
    free(v);
    free(blocks);
}

/* --- Files --- */

static void a_file_has_what_was_written(void **state) {
    char path[] = "/tmp/guichet-gguf-XXXXXX", part[64];
    struct error error;
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    snprintf(part, sizeof part, "%s.part", path);

    struct gguf_writer *writer = gguf_writer_create(path, &error);
    const struct gguf_tensor a = {.name = {"a", 1}, .rank = 2, .dims = {3, 5, 1, 1}, .type = BLOCK_F32},
                             b = {.name = {"b", 1}, .rank = 1, .dims = {32, 1, 1, 1}, .type = BLOCK_Q8_0};
    float numbers[15];
    uint8_t block[34] = {1, 2, 3};
    for (int i = 0; i < 15; i++)
        numbers[i] = (float)i;
    gguf_writer_text(writer, "general.architecture", "none", 4);
    gguf_writer_integer(writer, "one", 1);
    gguf_writer_real(writer, "half", 0.5f);
    gguf_writer_bool(writer, "yes", true);
    gguf_writer_array(writer, "words", GGUF_STRING, 2);
    gguf_writer_element(writer, GGUF_STRING, "first", 5);
    gguf_writer_element(writer, GGUF_STRING, "", 0);
    assert_int_equal(gguf_writer_tensor(writer, &a), 0);
    assert_int_equal(gguf_writer_tensor(writer, &b), 1);
    assert_true(gguf_writer_begin(writer, &error));
    assert_true(gguf_writer_put(writer, 1, 0, block, sizeof block, &error));
    assert_true(gguf_writer_put(writer, 0, 20, numbers + 5, 40, &error));
    assert_true(gguf_writer_put(writer, 0, 0, numbers, 20, &error));
    assert_false(gguf_writer_put(writer, 0, 41, numbers, 20, &error));
    assert_int_equal(access(part, F_OK), 0);
    assert_true(gguf_writer_finish(writer, &error));
    gguf_writer_free(writer);
    assert_int_equal(access(part, F_OK), -1);

    struct gguf *gguf = gguf_open(path, &error);
    assert_non_null(gguf);
    assert_int_equal(gguf_value_count(gguf), 5);
    assert_true(gguf_text_is(gguf_find(gguf, "general.architecture")->text, "none"));
    assert_int_equal(gguf_find(gguf, "one")->integer, 1);
    assert_true(gguf_find(gguf, "half")->real == 0.5 && gguf_find(gguf, "yes")->integer == 1);
    const struct gguf_array *words = &gguf_find(gguf, "words")->array;
    const uint8_t *at = words->bytes;
    assert_int_equal(words->count, 2);
    assert_true(gguf_text_is(gguf_next_text(&at), "first") && gguf_text_is(gguf_next_text(&at), ""));
    assert_memory_equal(gguf_find_tensor(gguf, "a")->bytes, numbers, sizeof numbers);
    assert_memory_equal(gguf_find_tensor(gguf, "b")->bytes, block, sizeof block);
    gguf_free(gguf);
    unlink(path);
}

static void an_unfinished_file_leaves_nothing(void **state) {
    char path[] = "/tmp/guichet-gguf-XXXXXX", part[64];
    struct error error;
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    unlink(path);
    snprintf(part, sizeof part, "%s.part", path);
    struct gguf_writer *writer = gguf_writer_create(path, &error);
    assert_true(gguf_writer_begin(writer, &error));
    gguf_writer_free(writer);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(part, F_OK), -1);
}

static void a_path_has_one_writer(void **state) {
    char path[] = "/tmp/guichet-gguf-XXXXXX", part[64];
    struct error error;
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    unlink(path);

    /* What a run that was killed left: longer than the file, and not locked. */
    snprintf(part, sizeof part, "%s.part", path);
    file = open(part, O_WRONLY | O_CREAT, 0666);
    assert_true(file >= 0 && ftruncate(file, 100000) == 0);
    close(file);

    struct gguf_writer *first = gguf_writer_create(path, &error), *second = gguf_writer_create(path, &error);
    assert_true(gguf_writer_begin(first, &error));
    assert_false(gguf_writer_begin(second, &error));
    assert_non_null(strstr(error.message, "by another run"));
    gguf_writer_free(second);
    assert_int_equal(access(part, F_OK), 0);
    assert_true(gguf_writer_finish(first, &error));
    gguf_writer_free(first);
    assert_int_equal(access(part, F_OK), -1);

    struct stat written;
    assert_true(stat(path, &written) == 0 && written.st_size < 100000);
    unlink(path);
}

/* --- Types --- */

static enum block_type type_of(const char *target, const char *name, uint64_t columns, bool tied) {
    const struct language_shape shape = {16, tied};
    const struct gguf_tensor tensor = {
        .name = {name, strlen(name)}, .rank = 2, .dims = {columns, 64, 1, 1}, .type = BLOCK_F16};
    const char *why;
    return language_target_type(language_target_find(target), &shape, &tensor, &why);
}

static void mixes_are_the_usual_ones(void **state) {
    assert_null(language_target_find("Q4_X"));
    assert_string_equal(language_target_find("q4_k")->name, "Q4_K_M");
    assert_int_equal(type_of("Q4_0", "blk.3.attn_q.weight", 512, false), BLOCK_Q4_0);
    assert_int_equal(type_of("Q4_0", "output.weight", 512, false), BLOCK_Q6_K);
    assert_int_equal(type_of("Q4_0", "token_embd.weight", 512, false), BLOCK_Q4_0);
    assert_int_equal(type_of("Q4_0", "token_embd.weight", 512, true), BLOCK_Q6_K);
    assert_int_equal(type_of("Q4_K_M", "blk.0.ffn_down.weight", 512, false), BLOCK_Q6_K);
    assert_int_equal(type_of("Q4_K_M", "blk.2.ffn_down.weight", 512, false), BLOCK_Q4_K);
    assert_int_equal(type_of("Q4_K_M", "blk.4.attn_v.weight", 512, false), BLOCK_Q6_K);
    assert_int_equal(type_of("Q4_K_S", "blk.9.attn_v.weight", 512, false), BLOCK_Q4_K);
    assert_int_equal(type_of("Q4_K_M", "blk.2.attn_q.weight", 576, false), BLOCK_Q5_0);
    assert_int_equal(type_of("Q6_K", "blk.2.attn_q.weight", 576, false), BLOCK_Q8_0);
    assert_int_equal(type_of("Q4_0", "blk.2.attn_q.weight", 172, false), BLOCK_F16);
    assert_int_equal(type_of("Q4_0", "blk.2.attn_q.bias", 172, false), BLOCK_F16);
}

/* --- What the report says --- */

/* A mean of few numbers lies in its interval about as often as it should. */
static void intervals_hold(void **state) {
    int means = 0, medians = 0, shares = 0;
    enum { TRIES = 2000, NUMBERS = 9 };
    for (int i = 0; i < TRIES; i++) {
        double numbers[NUMBERS], heads = 0;
        for (int j = 0; j < NUMBERS; j++)
            numbers[j] = 3 + (double)normal();
        for (int j = 0; j < 100; j++)
            heads += next() < -0.9f; /* 5 % */
        struct estimate mean = estimate_mean(numbers, NUMBERS), median = estimate_median(numbers, NUMBERS),
                        share = estimate_share(heads / 100, 100);
        means += mean.low <= 3 && 3 <= mean.high;
        medians += median.low <= 3 && 3 <= median.high;
        shares += share.low <= 0.05 && 0.05 <= share.high;
        assert_true(median.low <= median.value && median.value <= median.high);
    }
    if (means < 0.93 * TRIES || means > 0.97 * TRIES || medians < 0.93 * TRIES || shares < 0.92 * TRIES)
        fail_msg("of %d: means %d, medians %d, shares %d", TRIES, means, medians, shares);
    struct estimate one = estimate_mean((double[]){1}, 1);
    assert_true(one.value == 1 && isinf(one.low) && isinf(one.high));
}

static void differing_words_are_found(void **state) {
    struct error error;
    bool *a, *b;
    assert_true(language_words_differ("the cat sat  on a mat", "the dog sat on\nthe mat", &a, &b, &error));
    const bool wanted[] = {false, true, false, false, true, false};
    assert_memory_equal(a, wanted, sizeof wanted);
    assert_memory_equal(b, wanted, sizeof wanted);
    free(a);
    free(b);
    assert_true(language_words_differ("", " x ", &a, &b, &error));
    assert_true(b[0]);
    free(a);
    free(b);
}

static struct language_comparison comparison_of(double divergence, double width, double ratio, double speed) {
    struct language_comparison c = {.sides = {{.bytes = 100}, {.bytes = 40}}, .tokens = 1000};
    c.divergence = (struct estimate){divergence, divergence - width, divergence + width};
    c.ratio = estimate_exact(ratio);
    c.step_speedup = estimate_exact(speed);
    return c;
}

static enum language_verdict verdict_of(struct language_comparison c) {
    char english[300], french[300];
    return language_judge(&c, english, french, sizeof english);
}

static void verdicts_go_by_what_is_certain(void **state) {
    assert_int_equal(verdict_of(comparison_of(0.01, 0.005, 1.01, 1.5)), LANGUAGE_TAKE);
    assert_int_equal(verdict_of(comparison_of(0.04, 0.02, 1.01, 1.5)), LANGUAGE_MAYBE);
    assert_int_equal(verdict_of(comparison_of(0.01, 0.5, 1.01, 1.5)), LANGUAGE_MAYBE);
    assert_int_equal(verdict_of(comparison_of(0.01, 0.005, 1.01, 0.5)), LANGUAGE_MAYBE);
    assert_int_equal(verdict_of(comparison_of(0.5, 0.1, 1.01, 1.5)), LANGUAGE_LEAVE);
    assert_int_equal(verdict_of(comparison_of(0.01, 0.005, 1.3, 1.5)), LANGUAGE_LEAVE);
    struct language_comparison same = comparison_of(0, 0, 1, 1);
    same.sides[1].bytes = 99;
    assert_int_equal(verdict_of(same), LANGUAGE_LEAVE);
}

static void the_verdict_says_whose_text_judged(void **state) {
    char english[300], french[300];
    struct language_comparison c = comparison_of(0.01, 0.5, 1.01, 1.5);
    c.tokens = SIZE_MAX; /* the longest sentence */
    language_judge(&c, english, french, sizeof english);
    assert_null(strstr(english, "wrote itself"));
    c.is_sampled = true;
    language_judge(&c, english, french, sizeof english);
    assert_non_null(strstr(english, "wrote itself; --text judges by yours."));
    assert_non_null(strstr(french, "lui-même ; --text juge sur les vôtres."));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_near_what_they_were),
        cmocka_unit_test(a_second_rounding_changes_little),
        cmocka_unit_test(odd_weights_do_no_harm),
        cmocka_unit_test(important_weights_are_nearer),
        cmocka_unit_test(the_triangle_is_the_inverse),
        cmocka_unit_test(products_change_less_than_by_plain_rounding),
        cmocka_unit_test(wide_matrices_are_cut_into_groups),
        cmocka_unit_test(a_file_has_what_was_written),
        cmocka_unit_test(an_unfinished_file_leaves_nothing),
        cmocka_unit_test(a_path_has_one_writer),
        cmocka_unit_test(mixes_are_the_usual_ones),
        cmocka_unit_test(intervals_hold),
        cmocka_unit_test(differing_words_are_found),
        cmocka_unit_test(verdicts_go_by_what_is_certain),
        cmocka_unit_test(the_verdict_says_whose_text_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
