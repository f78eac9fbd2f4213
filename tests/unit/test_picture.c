/* model/picture.h: outputs of networks as pictures, over shapes, types and values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "model/picture.h"

static struct tensor floats(int rank, const int64_t *dims, float *values) {
    struct tensor tensor = {.dtype = DTYPE_F32, .shape = {.rank = rank}, .data = values};
    memcpy(tensor.shape.dims, dims, (size_t)rank * sizeof *dims);
    return tensor;
}

static void refuse(int rank, const int64_t *dims, float *values, int width, int height) {
    struct tensor tensor = floats(rank, dims, values);
    struct picture picture = {0};
    struct error error;
    assert_false(picture_make(&tensor, width, height, &picture, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    assert_null(picture.pixels);
}

/* Both layouts of [height, width] = [3, 2], with a value of its own in each place. */
static void every_value_has_its_place(void **state) {
    float first[18], last[18];
    uint8_t expected[18];
    for (int y = 0; y < 3; y++)
        for (int x = 0; x < 2; x++)
            for (int c = 0; c < 3; c++) {
                int at = (y * 2 + x) * 3 + c;
                expected[at] = (uint8_t)(at * 15);
                last[at] = first[(c * 3 + y) * 2 + x] = (float)(at * 15);
            }

    const struct tensor both[] = {floats(4, (int64_t[]){1, 3, 3, 2}, first),
                                  floats(4, (int64_t[]){1, 2, 3, 3}, last)};
    struct picture picture;
    struct error error;
    assert_true(picture_make(&both[0], 2, 3, &picture, &error));
    assert_int_equal(picture.width, 2);
    assert_int_equal(picture.height, 3);
    assert_memory_equal(picture.pixels, expected, sizeof expected);
    picture_release(&picture);

    assert_true(picture_make(&both[1], 3, 2, &picture, &error)); /* the same bytes, as two rows of three */
    assert_int_equal(picture.width, 3);
    assert_memory_equal(picture.pixels, expected, sizeof expected);
    picture_release(&picture);
}

static void ranges_keep_to_a_byte(void **state) {
    static const struct {
        float low, high;
        uint8_t first, second;
    } cases[] = {
        {0, 1, 0, 255},          {0.5F, 0.5F, 128, 128}, {-0.04F, 1.04F, 0, 255}, {-1, 1, 0, 255},
        {0, -1, 128, 0},         {0, 255, 0, 255},       {-12, 200, 0, 200},      {300, 700, 0, 255},
        {-3e38F, 3e38F, 0, 255}, {900, 900, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        float values[] = {cases[i].low, cases[i].high};
        struct tensor tensor = floats(4, (int64_t[]){1, 1, 1, 2}, values);
        struct picture picture;
        struct error error;
        assert_true(picture_make(&tensor, 2, 1, &picture, &error));
        assert_int_equal(picture.channels, 1);
        assert_int_equal(picture.pixels[0], cases[i].first);
        assert_int_equal(picture.pixels[1], cases[i].second);
        picture_release(&picture);
    }
}

static void masks_count_their_classes(void **state) {
    int64_t numbers[] = {0, 255, 255, 7};
    struct tensor tensor = {DTYPE_I64, {3, {1, 2, 2}}, numbers};
    struct picture picture;
    struct error error;
    uint8_t color[3];
    assert_true(picture_make(&tensor, 2, 2, &picture, &error));
    assert_true(picture.is_mask);
    assert_int_equal(picture.counts[255], 2);
    picture_class_color(7, color);
    assert_memory_equal(picture.pixels + 9, color, 3);
    picture_release(&picture);

    numbers[3] = 256; /* no class number: values */
    assert_true(picture_make(&tensor, 2, 2, &picture, &error));
    assert_false(picture.is_mask);
    picture_release(&picture);

    float equal[8] = {0};
    struct tensor scores = floats(4, (int64_t[]){1, 2, 2, 2}, equal);
    assert_true(picture_make(&scores, 2, 2, &picture, &error));
    assert_int_equal(picture.counts[0], 4);
    picture_release(&picture);
}

static void classes_have_colors_of_their_own(void **state) {
    uint8_t colors[PICTURE_CLASSES][3];
    for (int i = 0; i < PICTURE_CLASSES; i++) {
        picture_class_color(i, colors[i]);
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(colors[i], colors[j], 3);
    }
}

static void what_is_no_picture_is_refused(void **state) {
    float values[64] = {0};
    refuse(2, (int64_t[]){1, 64}, values, 8, 8);
    refuse(3, (int64_t[]){1, 4, 16}, values, 8, 8); /* boxes */
    refuse(3, (int64_t[]){2, 4, 8}, values, 8, 4);
    refuse(4, (int64_t[]){2, 1, 4, 8}, values, 8, 4);
    refuse(4, (int64_t[]){1, 16, 2, 2}, values, 2, 2); /* features */
    refuse(4, (int64_t[]){1, 3, 0, 8}, values, 8, 8);
    refuse(4, (int64_t[]){1, 0, 8, 8}, values, 8, 8);
    refuse(4, (int64_t[]){1, 1, 1, LIMIT_IMAGE_SIDE + 1}, values, 8, 8);
    values[63] = NAN;
    refuse(4, (int64_t[]){1, 1, 8, 8}, values, 8, 8);
    values[63] = -INFINITY;
    refuse(4, (int64_t[]){1, 1, 8, 8}, values, 8, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_has_its_place),     cmocka_unit_test(ranges_keep_to_a_byte),
        cmocka_unit_test(masks_count_their_classes),     cmocka_unit_test(classes_have_colors_of_their_own),
        cmocka_unit_test(what_is_no_picture_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
