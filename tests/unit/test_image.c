/* src/image against sums of Pillow's pixels; tests/image/parity.py compares far more, where Pillow is
 * installed. */
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <png.h>

#include "base/file.h"
#include "base/limits.h"
#include "image/decode.h"
#include "image/image.h"
#include "image/resample.h"

static uint32_t bytes_hash(const uint8_t *bytes, size_t size) { /* FNV-1a */
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

/* 8-bit RGB, row-major. */
struct image {
    int width, height;
    uint8_t *pixels; /* [height, width, 3], with RESAMPLE_SLACK bytes behind */
};

static struct image image_make(int width, int height) {
    return (struct image){width, height, calloc(1, (size_t)width * (size_t)height * 3 + RESAMPLE_SLACK)};
}

static uint32_t image_hash(const struct image *image) {
    return bytes_hash(image->pixels, (size_t)image->width * (size_t)image->height * 3);
}

static struct image drawing(int width, int height) {
    struct image image = image_make(width, height);
    uint8_t *pixel = image.pixels;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++, pixel += 3) {
            pixel[0] = (uint8_t)(x * 5 + y * 3);
            pixel[1] = (uint8_t)(x * y);
            pixel[2] = (uint8_t)(x * x + 7 * y);
        }
    return image;
}

/* The bytes of a PNG of these pixels. */
static uint8_t *write_png(const struct image *image, size_t *ret_size) {
    png_image header = {.version = PNG_IMAGE_VERSION,
                        .width = (png_uint_32)image->width,
                        .height = (png_uint_32)image->height,
                        .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(header);
    uint8_t *bytes = malloc(size);
    assert_true(png_image_write_to_memory(&header, bytes, &size, 0, image->pixels, 0, NULL));
    *ret_size = size;
    return bytes;
}

/* Decoded in its own size, upright. */
static bool decode(const uint8_t *bytes, size_t size, struct image *ret, struct error *error) {
    struct image_info info;
    if (!image_read_info(bytes, size, &info, error))
        return false;

    struct resizing resize = {info.width,
                              info.height,
                              info.orientation,
                              info.width,
                              info.height,
                              IMAGE_BOX,
                              {0, 0, info.width, info.height}};
    struct image image = image_make(info.width, info.height);
    double spent = 0;
    bool done = image_read_resized(bytes, size, &info, &resize, image.pixels, &spent, error);
    if (done)
        *ret = image;
    else
        free(image.pixels);
    return done;
}

static void every_filter_resizes_as_pillow_does(void **state) {
    static const int sizes[4][2] = {{20, 11}, {90, 70}, {53, 12}, {9, 37}};
    static const uint32_t expected[6][4] = {
        {0xc465834f, 0x113583b1, 0x9912ed89, 0xb5baaa21}, {0x32239b3c, 0x4f8a7754, 0xe68ebafd, 0xadaa33cb},
        {0x72c9d85c, 0x10210805, 0x02da4f30, 0x0eb8d0a8}, {0xa610d9b5, 0xab03859f, 0x4c9b6285, 0x09a19336},
        {0x5f27c430, 0x113583b1, 0x91f3b839, 0xb2394f03}, {0x97b07229, 0x3c937c5a, 0xc883bff9, 0x254e749c},
    };
    struct image image = drawing(53, 37);
    struct error error;
    for (int filter = 0; filter < 6; filter++)
        for (int i = 0; i < 4; i++) {
            int width = sizes[i][0], height = sizes[i][1];
            struct resizing resize = {
                53, 37, 1, width, height, (enum image_filter)filter, {0, 0, width, height}};
            struct image resized = image_make(width, height);
            struct resizer *resizer = resizer_create(&resize, resized.pixels, &error);

            assert_non_null(resizer);
            resizer_push(resizer, image.pixels, 37);
            assert_int_equal(image_hash(&resized), expected[filter][i]);
            resizer_free(resizer);
            free(resized.pixels);
        }

    free(image.pixels);
}

static void fast_loops_equal_the_portable_ones(void **state) {
    struct image image = drawing(301, 16);
    uint8_t fast[903], plain[903];
    struct error error;
    for (int filter = 1; filter < 6; filter++)
        for (int to = 1; to <= 301; to += 43) {
            struct taps taps;
            assert_true(taps_create(301, to, (enum image_filter)filter, 0, to, &taps, &error));
            resample_row(image.pixels, 1000, &taps, fast);
            resample_row_portable(image.pixels, &taps, plain);
            assert_memory_equal(fast, plain, (size_t)to * 3);

            int rows = taps.counts[0] < 16 ? taps.counts[0] : 16;
            resample_column(image.pixels, 903, taps.weights, rows, fast, (size_t)to * 3);
            resample_column_portable(image.pixels, 903, taps.weights, rows, plain, (size_t)to * 3);
            assert_memory_equal(fast, plain, (size_t)to * 3);

            taps_release(&taps);
        }

    free(image.pixels);
}

static void files_decode_as_pillow_does(void **state) {
    static const struct {
        const char *name;
        int width, height;
        uint32_t hash;
    } files[] = {
        {"cmyk.jpg", 20, 14, 0xfbe260a2},        {"film.webp", 20, 14, 0x5a41fdc6},
        {"grey.jpg", 20, 14, 0xfbe260a2},        {"grey16.png", 20, 14, 0x65d128af},
        {"la.png", 20, 14, 0x65d128af},          {"lossless.webp", 20, 14, 0x65d128af},
        {"lossy.webp", 14, 20, 0xeab5b496},      {"palette.png", 20, 14, 0x73a1d858},
        {"progressive.jpg", 20, 14, 0xfbe260a2}, {"rgb.png", 20, 14, 0x65d128af},
        {"turned.jpg", 14, 20, 0x602be64e},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "tests/fuzz/corpus/image/%s", files[i].name);
        struct error error;
        struct image image;
        size_t size;

        char *bytes = file_read(path, 1 << 20, &size, &error);
        assert_non_null(bytes);

        assert_true(decode((uint8_t *)bytes, size, &image, &error));
        assert_int_equal(image.width, files[i].width);
        assert_int_equal(image.height, files[i].height);
        assert_int_equal(image_hash(&image), files[i].hash);
        free(image.pixels);

        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *copy = malloc(cut + 1); /* in its exact size, so that sanitizers detect overruns */
            copy = realloc(copy, cut ? cut : 1);
            memcpy(copy, bytes, cut);

            error = (struct error){0};
            assert_false(decode(copy, cut, &image, &error));
            assert_int_equal(error.code, ERROR_INVALID);
            free(copy);
        }
        free(bytes);
    }
}

static void refused(const void *bytes, size_t size, const char *part) {
    struct image image = {0};
    struct error error = {0};
    assert_false(decode(bytes, size, &image, &error));
    assert_int_equal(error.code, ERROR_INVALID);
    if (!strstr(error.message, part))
        fail_msg("'%s' does not say '%s'", error.message, part);
    assert_null(image.pixels);
}

static void sizes_are_refused_from_the_header(void **state) {
    uint8_t png[40] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";

    memcpy(png + 16, "\0\1\x86\xa0\0\1\x86\xa0\x08\x02", 10);
    refused(png, sizeof png, "100000x100000");
    memset(png + 16, 0, 8);
    refused(png, sizeof png, "empty (0x0");

    uint8_t jpeg[] = "\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3\1\x11\0\2\x11\0\3\x11\0\xff\xd9";
    refused(jpeg, sizeof jpeg - 1, "65535x65535");
    memcpy(jpeg + 7, "\x20\0\x20", 3);
    refused(jpeg, sizeof jpeg - 1, "23 bytes cannot hold 8447x8192");
    memcpy(jpeg + 7, "\0\0\xff", 3);
    refused(jpeg, sizeof jpeg - 1, "empty (65535x0");
    jpeg[6] = 12;
    refused(jpeg, sizeof jpeg - 1, "12 bits");

    uint8_t webp[] = "RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff";
    refused(webp, sizeof webp - 1, "WebP");

    struct image image;
    struct error error;
    assert_false(decode(png, LIMIT_IMAGE_BYTES + 1, &image, &error));
    assert_int_equal(error.code, ERROR_TOO_LARGE);
}

static void foreign_files_are_named(void **state) {
    refused("", 0, "empty");
    refused("hello, world", 12, "neither JPEG, PNG, WebP, GIF, BMP nor TIFF");
    refused("<!doctype html><html></html>", 28, "a web page");
    refused("GIF89a....", 10, "the GIF is truncated");
    refused("\0\0\0\x18"
            "ftypheic....",
            16, "a HEIC");
    refused("\xff\xd8\xff", 3, "ends before");
    refused("\xff\xd8\xff\xd9", 4, "ends before");
    refused("\x89PNG\r\n\x1a\n", 8, "no header");
}

static void orientation_is_read_within_bounds(void **state) {
    uint8_t big[] = "Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0";
    uint8_t little[] = "II*\0\x08\0\0\0\1\0\x12\1\4\0\1\0\0\0\3\0\0\0";

    assert_int_equal(exif_orientation(big, sizeof big - 1), 6);
    assert_int_equal(exif_orientation(little, sizeof little - 1), 3);
    for (size_t cut = 0; cut < 26; cut++)
        assert_int_equal(exif_orientation(big, cut), 1);

    big[25] = 9;
    assert_int_equal(exif_orientation(big, sizeof big - 1), 1);
    memset(little + 4, 0xff, 4);
    assert_int_equal(exif_orientation(little, sizeof little - 1), 1);
}

/* Where pixel (x, y) of the upright image is stored: EXIF 2.32, tag 0x0112. */
static void stored_place(int orientation, int width, int height, int x, int y, int *ret_x, int *ret_y) {
    bool from_right = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    int a = from_right ? width - 1 - x : x, b = from_bottom ? height - 1 - y : y;
    *ret_x = orientation >= 5 ? b : a;
    *ret_y = orientation >= 5 ? a : b;
}

static void turned_rows_resize_as_upright_ones_do(void **state) {
    static const int sizes[][2] = {{20, 11}, {90, 70}, {53, 12}, {9, 37}, {53, 37}};
    struct image upright = drawing(53, 37);
    struct error error;
    for (int orientation = 2; orientation <= 8; orientation++) {
        int stored_width = orientation >= 5 ? 37 : 53;
        struct image stored = image_make(stored_width, 53 * 37 / stored_width);
        for (int y = 0; y < 37; y++)
            for (int x = 0; x < 53; x++) {
                int sx, sy;
                stored_place(orientation, 53, 37, x, y, &sx, &sy);
                memcpy(stored.pixels + 3 * (sy * stored_width + sx), upright.pixels + 3 * (y * 53 + x), 3);
            }

        for (int filter = 0; filter < 6; filter++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                int width = sizes[i][0], height = sizes[i][1];
                struct crop_window window = {width / 3, height / 4, width / 2, height / 2};
                struct resizing resize = {53, 37, 1, width, height, (enum image_filter)filter, window};
                struct image expected = image_make(window.width, window.height);
                struct image actual = image_make(window.width, window.height);
                struct resizer *plain = resizer_create(&resize, expected.pixels, &error);
                resize.orientation = orientation;
                struct resizer *turned = resizer_create(&resize, actual.pixels, &error);

                resizer_push(plain, upright.pixels, 37);
                for (int row = 0; row < stored.height; row++)
                    resizer_push(turned, stored.pixels + row * stored.width * 3, 1);
                assert_int_equal(image_hash(&expected), image_hash(&actual));

                resizer_free(plain);
                resizer_free(turned);
                free(expected.pixels);
                free(actual.pixels);
            }
        free(stored.pixels);
    }
    free(upright.pixels);
}

static bool preprocess(const struct image *image, const struct preprocessing *config, bool channels_last,
                       float *tensor) {
    struct image_geometry geometry;
    struct image_info info;
    struct error error;
    double spent = 0;
    size_t size;
    uint8_t *png = write_png(image, &size);
    bool done = image_read_info(png, size, &info, &error) &&
                image_geometry_find(config, image->width, image->height, &geometry, &error) &&
                image_preprocess(png, size, &info, config, &geometry, channels_last, tensor, &spent, &error);
    free(png);
    return done;
}

static void a_small_picture_is_padded_with_black(void **state) {
    struct preprocessing config = {.do_center_crop = true, .crop_width = 4, .crop_height = 3};
    struct image image = {1, 5, (uint8_t[]){1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};
    float tensor[36], expected[36] = {0}, last[36];

    for (int c = 0; c < 3; c++)
        for (int y = 0; y < 3; y++) /* one column of four: padding is two on the left, one on the right */
            expected[c * 12 + y * 4 + 2] = (float)(4 + 3 * y + c);

    assert_true(preprocess(&image, &config, false, tensor));
    assert_memory_equal(tensor, expected, sizeof tensor);
    assert_true(preprocess(&image, &config, true, last));
    for (int i = 0; i < 36; i++)
        assert_true(last[i % 12 * 3 + i / 12] == expected[i]);

    config.flip_channels = true;
    assert_true(preprocess(&image, &config, false, tensor));
    assert_true(tensor[2] == 6 && tensor[26] == 4);
}

static void values_are_scaled_and_normalized_in_order(void **state) {
    struct preprocessing config = {.do_rescale = true,
                                   .rescale_factor = 1 / 127.5,
                                   .rescale_offset = 1,
                                   .do_normalize = true,
                                   .mean = {0.5, 0.25, 0},
                                   .standard_deviation = {0.5, 2, 0.229},
                                   .divide_again = true};
    struct image image = drawing(19, 3);
    float tensor[3 * 19 * 3], last[3 * 19 * 3];

    assert_true(preprocess(&image, &config, true, last));
    assert_true(preprocess(&image, &config, false, tensor));

    for (int i = 0; i < 57; i++)
        for (int c = 0; c < 3; c++) {
            volatile float value = (float)(image.pixels[3 * i + c] * config.rescale_factor);
            volatile float deviation = (float)config.standard_deviation[c];
            value = value - 1;
            value = value - (float)config.mean[c];
            value = value / deviation;
            value = value / deviation;
            assert_true(tensor[57 * c + i] == value && last[3 * i + c] == value);
        }

    config = (struct preprocessing){0};
    assert_true(preprocess(&image, &config, false, tensor));
    for (int i = 0; i < 57; i++)
        assert_true(tensor[57 + i] == image.pixels[3 * i + 1]);

    free(image.pixels);
}

static void the_longer_side_is_rounded_down(void **state) {
    struct preprocessing config = {.do_resize = true, .resize_short = 256};
    struct image_geometry geometry;
    struct error error = {0};
    assert_true(image_geometry_find(&config, 500, 333, &geometry, &error));
    assert_true(geometry.width == 384 && geometry.height == 256);
    assert_true(image_geometry_find(&config, 333, 500, &geometry, &error));
    assert_true(geometry.width == 256 && geometry.height == 384);
    assert_false(image_geometry_find(&config, 30000, 1, &geometry, &error)); /* 7,680,000 x 256 */
    assert_int_equal(error.code, ERROR_INVALID);
    assert_non_null(strstr(error.message, "30000x1"));

    config.do_center_crop = true;
    config.crop_width = config.crop_height = 224;
    assert_true(image_geometry_find(&config, 30000, 1, &geometry, &error));
    assert_true(geometry.resized_width == 7680000 && geometry.width == 224 && geometry.height == 224);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_filter_resizes_as_pillow_does),
        cmocka_unit_test(fast_loops_equal_the_portable_ones),
        cmocka_unit_test(files_decode_as_pillow_does),
        cmocka_unit_test(sizes_are_refused_from_the_header),
        cmocka_unit_test(foreign_files_are_named),
        cmocka_unit_test(orientation_is_read_within_bounds),
        cmocka_unit_test(turned_rows_resize_as_upright_ones_do),
        cmocka_unit_test(a_small_picture_is_padded_with_black),
        cmocka_unit_test(values_are_scaled_and_normalized_in_order),
        cmocka_unit_test(the_longer_side_is_rounded_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
