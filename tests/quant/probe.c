/* Photos as a model wants them, and its answers: quant_probe MODEL DIR PHOTOS.f32 ANSWERS.f32. The parity
 * test shows the same tensors to another runtime. Prints the count of photos, height, width and classes. */
#include <stdio.h>
#include <stdlib.h>

#include "model/model.h"
#include "quant/runner.h"

static bool write_floats(const char *path, const float *values, size_t count) {
    FILE *file = fopen(path, "wb");
    bool done = file && fwrite(values, sizeof *values, count, file) == count;
    return file && fclose(file) == 0 && done;
}

static bool probe(char **argv, struct error *error) {
    const struct model_options options = {.engine = {.precision = PRECISION_AUTO}};
    struct model *model = model_load(argv[1], &options, error);
    if (!model)
        return false;
    const struct photo_request request = {.folder = argv[2], .recipe = model_recipe(model), .threads = 2};
    struct photo_set set;
    if (!photo_set_load(&request, &set, error))
        return false;
    struct runner *runner = runner_create_for(model_engine(model), &set, 1, error);
    int output;
    int64_t classes;
    if (!runner || !runner_classes(runner, 0, &output, &classes, error))
        return false;
    float *answers = calloc((size_t)(set.count * classes), sizeof *answers);
    int *samples = calloc((size_t)set.count, sizeof *samples);
    for (int i = 0; samples && i < set.count; i++)
        samples[i] = i;
    bool done = answers && samples &&
                runner_collect(runner, samples, set.count, output, classes, answers, error) &&
                write_floats(argv[3], set.tensors, (size_t)(set.count * set.elements)) &&
                write_floats(argv[4], answers, (size_t)(set.count * classes));
    printf("%d %d %d %lld %s\n", set.count, set.height, set.width, (long long)classes,
           engine_precision_used(model_engine(model)));
    free(answers);
    free(samples);
    runner_free(runner);
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
