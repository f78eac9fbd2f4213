/* The program that tests kernels one by one. */
#include "kernels.h"

#include "harness.h"

const struct kernel_test *const kernel_test_lists[] = {
    row_tests, attention_tests, quantized_tests, conversion_tests, resample_tests, sharing_tests, NULL};
