/* Photos as a model wants them, and its answers: quant_probe MODEL DIR PHOTOS.f32 ANSWERS.f32. The parity
 * test shows the same tensors to another runtime. Prints the count of photos, height, width and classes. */
#include <stdio.h>
#include <stdlib.h>

#include "data/photo_set.h"
#include "model/model.h"

static bool write_floats(const char *path, const float *values, size_t count) {
    FILE *file = fopen(path, "wb");
    bool done = file && fwrite(values, sizeof *values, count, file) == count;
    return file && fclose(file) == 0 && done;
}

/* The raw output that scores the classes, photo by photo: [set->count, classes]. */
static bool run_photos(const struct model *model, const struct photo_set *set, float *ret,
                       struct error *error) {
    struct engine *engine = model_engine(model);
    struct engine_context *context = engine_context_create(engine, error);
    int64_t classes = model_class_count(model);
    struct tensor outputs[8];
    bool done = context && engine_output_count(engine) <= 8;
    for (int i = 0; done && i < set->count; i++) {
        struct tensor input =
            photo_input_tensor(&set->input, 1, set->width, set->height, set->tensors + i * set->elements);
        done = engine_run(context, &input, 1, outputs, engine_output_count(engine), error);
        if (done)
            elements_convert(outputs[model_output(model)].dtype, outputs[model_output(model)].data, DTYPE_F32,
                             ret + i * classes, classes);
    }
    engine_context_free(context);
    return done;
}

static bool probe(char **argv, struct error *error) {
    const struct model_options options = {.engine = {.precision = PRECISION_AUTO}};
    struct model *model = model_load(argv[1], &options, error);
    if (!model)
        return false;
    const struct photo_request request = {.source = {.folder = argv[2]}, .threads = 2};
    struct photo_set set;
    if (!photo_set_load(&request, model, &set, error))
        return false;
    int classes = model_class_count(model);
    float *outputs = calloc((size_t)set.count * (size_t)classes, sizeof *outputs);
    bool done = outputs && run_photos(model, &set, outputs, error) &&
                write_floats(argv[3], set.tensors, (size_t)(set.count * set.elements)) &&
                write_floats(argv[4], outputs, (size_t)set.count * (size_t)classes);
    printf("%d %d %d %d %s\n", set.count, set.height, set.width, classes,
           engine_precision_used(model_engine(model)));
    free(outputs);
    photo_set_release(&set);
    model_free(model);
    return done;
}

int main(int argc, char **argv) {
    struct error error = {0};
    if (argc == 5 && probe(argv, &error))
        return 0;
    fprintf(stderr, "%s\n",
            argc == 5 ? error.message : "usage: quant_probe MODEL DIR PHOTOS.f32 ANSWERS.f32");
    return 1;
}
