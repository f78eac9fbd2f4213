/* Lets a script ask src/image for pixels. Commands on standard input, a line each, fields parted by tabs:
 *   decode PATH                           -> "image W H" and the RGB bytes
 *   resize PATH W H FILTER                -> the same
 *   window PATH W H FILTER X Y WW HH      -> that window of the resized picture
 *   tensor PATH WIDTH HEIGHT SHORT FILTER CROPW CROPH  -> "tensor W H" and [3, H, W] float32; SHORT 0:
 * exactly W x H; mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, factor 1/255 time PATH COUNT -> "time
 * DECODE_MS PREPROCESS_MS" (256, 224): the least of COUNT An error is one line "error TEXT". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "image/image.h"
#include "image/resample.h"

static void answer_error(const struct error *error) {
    printf("error %s\n", error->message);
}

static void answer_image(const struct image *image) {
    printf("image %d %d\n", image->width, image->height);
    fwrite(image->pixels, 3, (size_t)image->width * (size_t)image->height, stdout);
}

static struct preprocessing usual_preprocessing(int width, int height, int shorter, int filter, int crop_w,
                                                int crop_h) {
    return (struct preprocessing){.do_resize = true,
                                  .resize_short = shorter,
                                  .resize_width = width,
                                  .resize_height = height,
                                  .filter = (enum image_filter)filter,
                                  .do_center_crop = crop_w > 0,
                                  .crop_width = crop_w,
                                  .crop_height = crop_h,
                                  .do_rescale = true,
                                  .rescale_factor = 1 / 255.0,
                                  .do_normalize = true,
                                  .mean = {0.485, 0.456, 0.406},
                                  .standard_deviation = {0.229, 0.224, 0.225}};
}

static void tensor(const struct image *image, const int *n) {
    struct preprocessing config = usual_preprocessing(n[0], n[1], n[2], n[3], n[4], n[5]);
    struct error error = {0};
    struct image_geometry geometry;
    if (!image_geometry_find(&config, image->width, image->height, &geometry, &error))
        return answer_error(&error);

    size_t count = (size_t)geometry.width * (size_t)geometry.height * 3;
    float *values = calloc(count, sizeof *values);
    if (image_preprocess(image, &config, &geometry, false, values, &error)) {
        printf("tensor %d %d\n", geometry.width, geometry.height);
        fwrite(values, sizeof *values, count, stdout);
    } else {
        answer_error(&error);
    }
    free(values);
}

static void resize(const char *verb, const struct image *image, const int *n) {
    struct error error = {0};
    struct crop_window window = {0, 0, n[0], n[1]};
    if (strcmp(verb, "window") == 0)
        window = (struct crop_window){n[3], n[4], n[5], n[6]};
    struct image resized = {window.width, window.height,
                            malloc((size_t)window.width * (size_t)window.height * 3)};
    if (image_resize_window(image, n[0], n[1], (enum image_filter)n[2], &window, resized.pixels, &error))
        answer_image(&resized);
    else
        answer_error(&error);
    image_release(&resized);
}

static void measure(const char *bytes, size_t size, int count) {
    double decode = 1e9, prepare = 1e9;
    struct preprocessing config = usual_preprocessing(0, 0, 256, IMAGE_BILINEAR, 224, 224);
    static float values[3 * 224 * 224];
    for (int i = 0; i < count; i++) {
        struct image image;
        struct error error = {0};
        double start = clock_ms();
        if (!image_decode((const uint8_t *)bytes, size, &image, &error))
            return answer_error(&error);
        double middle = clock_ms();
        struct image_geometry geometry;
        if (!image_geometry_find(&config, image.width, image.height, &geometry, &error))
            return answer_error(&error);
        image_preprocess(&image, &config, &geometry, false, values, &error);
        double end = clock_ms();
        decode = middle - start < decode ? middle - start : decode;
        prepare = end - middle < prepare ? end - middle : prepare;
        image_release(&image);
    }
    printf("time %.3f %.3f\n", decode, prepare);
}

static void command(const char *verb, const char *path, const int *numbers) {
    struct error error = {0};
    struct image image = {0};
    size_t size;
    char *bytes = file_read(path, 1u << 30, &size, &error);
    if (bytes && strcmp(verb, "time") == 0)
        measure(bytes, size, numbers[0]);
    else if (!bytes || !image_decode((const uint8_t *)bytes, size, &image, &error))
        answer_error(&error);
    else if (strcmp(verb, "decode") == 0)
        answer_image(&image);
    else if (strcmp(verb, "tensor") == 0)
        tensor(&image, numbers);
    else
        resize(verb, &image, numbers);
    free(bytes);
    image_release(&image);
}

int main(void) {
    char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        char *rest = line, *verb = strsep(&rest, "\t"), *path = rest ? strsep(&rest, "\t") : NULL;
        int numbers[8] = {0};
        for (int i = 0; i < 8 && rest; i++)
            numbers[i] = atoi(strsep(&rest, "\t"));
        if (path)
            command(verb, path, numbers);
        fflush(stdout);
    }
    return 0;
}
