/* Lets a script ask src/image for pixels. Commands on standard input, a line each, fields parted by tabs:
 *   decode PATH                           -> "image W H" and the RGB bytes
 *   resize PATH W H FILTER                -> the same
 *   window PATH W H FILTER X Y WW HH      -> that window of the resized picture
 *   tensor PATH WIDTH HEIGHT SHORT FILTER CROPW CROPH  -> "tensor W H" and [3, H, W] float32; SHORT 0:
 * exactly W x H; mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, factor 1/255
 *   time PATH COUNT                       -> "time DECODE_MS PREPROCESS_MS" (256, 224): the least of COUNT
 *   cost PATH                             -> "cost BYTES" of decoding and resizing (256, 224)
 * An error is one line "error TEXT". */
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

struct file {
    const uint8_t *bytes;
    size_t size;
    struct image_info info;
};

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

static void tensor(const struct file *file, const int *n) {
    struct preprocessing config = usual_preprocessing(n[0], n[1], n[2], n[3], n[4], n[5]);
    struct error error = {0};
    struct image_geometry geometry;
    double decode = 0;
    if (!image_geometry_find(&config, file->info.width, file->info.height, &geometry, &error))
        return answer_error(&error);

    size_t count = (size_t)geometry.width * (size_t)geometry.height * 3;
    float *values = calloc(count, sizeof *values);
    if (image_preprocess(file->bytes, file->size, &file->info, &config, &geometry, false, values, &decode,
                         &error)) {
        printf("tensor %d %d\n", geometry.width, geometry.height);
        fwrite(values, sizeof *values, count, stdout);
    } else {
        answer_error(&error);
    }
    free(values);
}

/* Without numbers the size that it has. */
static void resize(const char *verb, const struct file *file, const int *n) {
    const struct image_info *info = &file->info;
    struct resizing resize = {
        info->width,       info->height, info->orientation, n[0], n[1], (enum image_filter)n[2],
        {0, 0, n[0], n[1]}};
    struct error error = {0};
    double decode = 0;
    if (strcmp(verb, "window") == 0)
        resize.window = (struct crop_window){n[3], n[4], n[5], n[6]};
    if (strcmp(verb, "decode") == 0) {
        resize.width = resize.window.width = info->width;
        resize.height = resize.window.height = info->height;
    }

    size_t pixels = (size_t)resize.window.width * (size_t)resize.window.height;
    uint8_t *resized = malloc(pixels * 3);
    if (image_read_resized(file->bytes, file->size, info, &resize, resized, &decode, &error)) {
        printf("image %d %d\n", resize.window.width, resize.window.height);
        fwrite(resized, 3, pixels, stdout);
    } else {
        answer_error(&error);
    }
    free(resized);
}

static void measure(const char *verb, const struct file *file, int count) {
    double decode = 1e9, prepare = 1e9;
    struct preprocessing config = usual_preprocessing(0, 0, 256, IMAGE_BILINEAR, 224, 224);
    static float values[3 * 224 * 224];
    struct image_geometry geometry;
    struct error error = {0};
    if (!image_geometry_find(&config, file->info.width, file->info.height, &geometry, &error))
        return answer_error(&error);
    if (strcmp(verb, "cost") == 0) {
        printf("cost %lld\n", (long long)image_preprocess_cost(&file->info, &config, &geometry));
        return;
    }

    for (int i = 0; i < count; i++) {
        double start = clock_ms(), decoding = 0;
        struct image_info info;
        if (!image_read_info(file->bytes, file->size, &info, &error) ||
            !image_preprocess(file->bytes, file->size, &info, &config, &geometry, false, values, &decoding,
                              &error))
            return answer_error(&error);
        double rest = clock_ms() - start - decoding;
        decode = decoding < decode ? decoding : decode;
        prepare = rest < prepare ? rest : prepare;
    }
    printf("time %.3f %.3f\n", decode, prepare);
}

static void command(const char *verb, const char *path, const int *numbers) {
    struct error error = {0};
    struct file file = {0};
    char *bytes = file_read(path, 1u << 30, &file.size, &error);
    file.bytes = (const uint8_t *)bytes;
    if (!bytes || !image_read_info(file.bytes, file.size, &file.info, &error))
        answer_error(&error);
    else if (strcmp(verb, "time") == 0 || strcmp(verb, "cost") == 0)
        measure(verb, &file, numbers[0]);
    else if (strcmp(verb, "tensor") == 0)
        tensor(&file, numbers);
    else
        resize(verb, &file, numbers);
    free(bytes);
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
