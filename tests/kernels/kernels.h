/* The tests of kernels, a list for each file. Constants: any thread. */
#pragma once
#include "harness.h"

extern const struct kernel_test row_tests[], attention_tests[], quantized_tests[], conversion_tests[],
    resample_tests[], sharing_tests[];
