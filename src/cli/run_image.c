#include "cli/run_image.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "cli/cli.h"
#include "model/picture.h"

/* The colors of a mask, and how much of the picture has each. */
static void print_classes(const struct picture *picture) {
    double all = (double)picture->width * picture->height;
    char text[CLI_PERCENT_TEXT];
    uint8_t color[3];
    for (int i = 0; i < PICTURE_CLASSES; i++) {
        if (!picture->counts[i])
            continue;
        picture_class_color(i, color);
        printf("  class %d  #%02x%02x%02x  %s\n", i, color[0], color[1], color[2],
               cli_percent((double)picture->counts[i] / all, true, text));
    }
}

static bool write_picture(const struct engine *engine, const struct tensor *results,
                          const struct prepared_photo *photo, const char *path, struct error *error) {
    struct picture picture = {0};
    struct error problem;
    int index = 0, count = engine_output_count(engine);
    while (index < count &&
           !picture_make(&results[index], photo->width, photo->height, &picture, index ? &problem : error))
        index++;
    if (index == count)
        return error_prefix(error, "output '%s'", engine_output(engine, 0)->name);

    bool done = image_write_png(path, picture.pixels, picture.width, picture.height, picture.channels, error);
    if (done) {
        printf("%s: %dx%d, output '%s': %s\n", path, picture.width, picture.height,
               engine_output(engine, index)->name, picture.meaning);
        if (picture.is_mask)
            print_classes(&picture);
    }
    picture_release(&picture);
    return done;
}

static bool run_prepared(struct engine *engine, const struct photo_input *input,
                         const struct prepared_photo *photo, const char *path, struct error *error) {
    struct tensor tensor = photo_input_tensor(input, 1, photo->width, photo->height, photo->tensor);
    int count = engine_output_count(engine);
    cleanup(freep) struct tensor *results = calloc((size_t)count + 1, sizeof *results);
    struct engine_context *context = NULL;
    if (!results)
        return error_set(error, ERROR_MEMORY, "not enough memory for the tensors");

    bool done = (context = engine_context_create(engine, error)) &&
                engine_run(context, &tensor, 1, results, count, error) &&
                write_picture(engine, results, photo, path, error);
    engine_context_free(context);
    return done;
}

bool run_image(struct model *model, const char *photo, const char *path, struct error *error) {
    struct photo_input input;
    struct prepared_photo prepared;
    struct buffer bytes = {0};
    struct timing timing = {0};
    const char *source;
    if (!model_picture_input(model, &input, &source, error) ||
        !photo_read(photo, &bytes, &timing.fetch, error))
        return false;

    bool made = photo_prepare(&input, (const uint8_t *)bytes.bytes, bytes.size, &prepared, &timing, error) ||
                error_prefix(error, "%s", photo);
    free(bytes.bytes);
    if (!made)
        return false;

    printf("%s: put in as %dx%d (%s)\n", photo, prepared.width, prepared.height, source);
    bool done = run_prepared(model_engine(model), &input, &prepared, path, error);
    free(prepared.tensor);
    return done;
}
