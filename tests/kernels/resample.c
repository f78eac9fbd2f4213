/* The inner loops of image resizing: the fast ones equal the plain ones, to the bit. */
#include "kernels.h"

#include "image/resample.h"

#define CASES 200

static const enum image_filter filters[] = {IMAGE_BILINEAR, IMAGE_BICUBIC, IMAGE_LANCZOS, IMAGE_BOX,
                                            IMAGE_HAMMING};

static void test_row(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int from = (int)random_extent(1025), to = (int)random_extent(513);
        int first = (int)random_between(0, to - 1), outputs = (int)random_between(1, to - first);
        int slack = (int)random_between(0, 2 * RESAMPLE_SLACK), filter = (int)random_between(0, 4);
        case_begin("filter %d, %d pixels to %d of %d from %d on, slack %d", filter, from, outputs, to, first,
                   slack);

        struct taps taps;
        struct error error;
        if (!taps_create(from, to, filters[filter], first, outputs, &taps, &error))
            case_fail("%s", error.message);
        size_t bytes = (size_t)outputs * 3;
        uint8_t *source = input_take((size_t)from * 3 + (size_t)slack, 1);
        uint8_t *target = output_take(bytes, 1), *expected = expected_take(target, bytes);
        random_fill(DTYPE_U8, source, from * 3 + slack, 0);
        resample_row_portable(source, &taps, expected);

        case_seal();
        resample_row(source, (size_t)slack, &taps, target);
        taps_release(&taps);
        case_check();
        expect_bytes(target, expected, bytes, 3);
    }
}

static void test_column(void) {
    for (int i = 0; i < case_count(CASES); i++) {
        int count = (int)random_extent(33);
        size_t bytes = (size_t)random_extent(1025), stride = bytes + (size_t)random_between(0, 17);
        case_begin("%d rows of %zu bytes, stride %zu", count, bytes, stride);

        int32_t *weights = input_take((size_t)count * sizeof *weights, sizeof *weights);
        size_t span = (size_t)(count - 1) * stride + bytes;
        uint8_t *source = input_take(span, 1);
        uint8_t *target = output_take(bytes, 1), *expected = expected_take(target, bytes);
        random_fill(DTYPE_U8, source, (int64_t)span, 0);
        for (int j = 0; j < count; j++)
            weights[j] = (int32_t)random_between(-(1 << 17), (1 << 22) / count);
        resample_column_portable(source, stride, weights, count, expected, bytes);

        case_seal();
        resample_column(source, stride, weights, count, target, bytes);
        case_check();
        expect_bytes(target, expected, bytes, 1);
    }
}

const struct kernel_test resample_tests[] = {
    {"resample_row", test_row},
    {"resample_column", test_column},
    {NULL, NULL},
};
