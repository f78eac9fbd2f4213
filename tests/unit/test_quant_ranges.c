/* quant/: ranges of activations, rounding of weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "quant/weights.h"
#include "small_network.h"

/* --- Ranges
 * ----------------------------------------------------------------------------------------------------- */

static void a_histogram_grows_and_loses_nothing(void **state) {
    struct histogram *histogram = calloc(1, sizeof *histogram);
    float first[] = {0, 1, 2, 3}, later[] = {-100, 50, 2.5f};

    assert_true(histogram_add(histogram, first, 4, 1));
    assert_true(histogram_add(histogram, later, 3, 1));
    assert_true(histogram->low == -100 && histogram->high == 50);
    assert_int_equal(histogram->total, 7);

    uint64_t sum = 0;
    for (int i = 0; i < HISTOGRAM_BINS; i++)
        sum += histogram->bins[i];
    assert_int_equal(sum, 7);
    assert_true(histogram_quantile(histogram, 0.1) < -99 && histogram_quantile(histogram, 1) > 49);

    float bad[] = {1, NAN, 2}, endless[] = {INFINITY};
    assert_false(histogram_add(histogram, bad, 3, 1));
    assert_false(histogram_add(histogram, endless, 1, 1));
    assert_int_equal(histogram->total, 7);
    free(histogram);
}

static void constant_values_have_a_range(void **state) {
    struct histogram *histogram = calloc(1, sizeof *histogram);
    float zeros[3] = {0}, fours[3] = {4, 4, 4};

    assert_true(histogram_add(histogram, zeros, 3, 1));
    for (int method = QUANT_MINMAX; method < QUANT_METHODS; method++) {
        struct quant_range range = histogram_range(histogram, (enum quant_method)method);
        assert_true(range.low <= 0 && range.high >= 0 && range.high < 1);
    }

    assert_true(histogram_add(histogram, fours, 3, 1));
    assert_true(histogram_range(histogram, QUANT_MINMAX).high == 4);
    free(histogram);
}

static void methods_differ_on_outliers(void **state) {
    struct histogram *histogram = calloc(1, sizeof *histogram);
    float *values = malloc(100000 * sizeof *values), far = 20;

    for (int i = 0; i < 100000; i++)
        values[i] = noise();
    assert_true(histogram_add(histogram, values, 100000, 1));
    assert_true(histogram_add(histogram, &far, 1, 1));

    struct quant_range all = histogram_range(histogram, QUANT_MINMAX),
                       share = histogram_range(histogram, QUANT_PERCENTILE);
    struct quant_range square = histogram_range(histogram, QUANT_MSE),
                       information = histogram_range(histogram, QUANT_ENTROPY);

    assert_true(all.high == 20 && all.low < -2);
    assert_true(share.high < 6 && share.low > all.low - 1e-3f && share.low < -2);
    assert_true(square.high < 19 && square.high > 3 && square.low < -2);
    assert_true(information.high < 20 && information.high > 2);

    for (int i = 0; i < 100000; i++)
        values[i] = fabsf(values[i]) + 1;
    memset(histogram, 0, sizeof *histogram);
    assert_true(histogram_add(histogram, values, 100000, 1));
    for (int method = QUANT_MINMAX; method < QUANT_METHODS; method++)
        assert_true(histogram_range(histogram, (enum quant_method)method).low == 0);
    free(values);
    free(histogram);
}

static void zero_is_exact(void **state) {
    struct quant_parameters relu = quant_parameters_choose((struct quant_range){0, 6}, DTYPE_U8);
    assert_int_equal(relu.zero, 0);
    assert_float_equal(relu.scale, 6.0 / 255, 1e-7);

    struct quant_parameters both = quant_parameters_choose((struct quant_range){-1, 3}, DTYPE_U8);
    assert_int_equal(both.zero, 64);
    both = quant_parameters_choose((struct quant_range){-1, 3}, DTYPE_I8);
    assert_int_equal(both.zero, -64);

    assert_int_equal(quant_parameters_choose((struct quant_range){2, 3}, DTYPE_U8).zero, 0);
    assert_int_equal(quant_parameters_choose((struct quant_range){-3, -2}, DTYPE_U8).zero, 255);
    assert_true(quant_parameters_choose((struct quant_range){0, 0}, DTYPE_U8).scale > 0);
}

static void names_of_methods(void **state) {
    enum quant_method method;
    assert_true(quant_method_parse("entropy", &method) && method == QUANT_ENTROPY);
    assert_false(quant_method_parse("best", &method));
    assert_string_equal(quant_method_name(QUANT_MSE), "mse");
}

/* --- Weights
 * ---------------------------------------------------------------------------------------------------- */

static void weights_round_by_channel(void **state) {
    float values[] = {1, -2, 0.5f, 10, 20, -40, 0, 0, 0}, scales[3];
    struct tensor weights = {DTYPE_F32, {.rank = 2, .dims = {3, 3}}, values};
    int8_t integers[9];

    assert_int_equal(weights_channels(&weights, 0), 3);
    weights_choose_scales(&weights, 0, NULL, 1, scales);
    assert_float_equal(scales[0], 2.0 / 127, 1e-7);
    assert_float_equal(scales[1], 40.0 / 127, 1e-6);
    assert_true(scales[2] > 0);

    weights_round(&weights, 0, scales, integers);
    assert_int_equal(integers[1], -127);
    assert_int_equal(integers[5], -127);
    assert_int_equal(integers[4], 64);
    assert_int_equal(integers[8], 0);

    weights_choose_scales(&weights, -1, NULL, 1, scales);
    assert_float_equal(scales[0], 40.0 / 127, 1e-6);
    weights_choose_scales(&weights, 1, NULL, 1, scales);
    assert_float_equal(scales[2], 40.0 / 127, 1e-6);
}

static void a_large_bias_widens_the_step(void **state) {
    float values[] = {1e-6f, 1}, scales[2];
    struct tensor weights = {DTYPE_F32, {.rank = 2, .dims = {2, 1}}, values};
    double bias[] = {1000, 1};
    int32_t integers[2];

    weights_choose_scales(&weights, 0, bias, 0.01, scales);
    bias_round(bias, 2, scales, false, 0.01f, integers);
    assert_true(abs(integers[0]) <= QUANT_BIAS_TOP + 1);
    assert_float_equal(integers[0] * (double)(scales[0] * 0.01f), 1000, 0.01);
    assert_float_equal(integers[1] * (double)(scales[1] * 0.01f), 1, 0.001);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_histogram_grows_and_loses_nothing),
        cmocka_unit_test(constant_values_have_a_range),
        cmocka_unit_test(methods_differ_on_outliers),
        cmocka_unit_test(zero_is_exact),
        cmocka_unit_test(names_of_methods),
        cmocka_unit_test(weights_round_by_channel),
        cmocka_unit_test(a_large_bias_widens_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
