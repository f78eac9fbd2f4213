/* The product's own way: the engine, in strict float32. */
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "engine/engine.h"

static void *load(const char *path, struct error *error) {
    struct engine_options options = {.precision = PRECISION_F32, .threads = 1, .no_baked = true};
    return engine_load(path, &options, error);
}

static void unload(void *model) {
    engine_free(model);
}

static int input_count_of(const void *model) {
    return engine_input_count(model);
}

static int output_count_of(const void *model) {
    return engine_output_count(model);
}

static enum dtype input_dtype_of(const void *model, int index) {
    return engine_input(model, index)->dtype;
}

static bool run(void *model, const struct tensor *inputs, int input_count, struct tensor *outputs,
                int output_count, struct error *error) {
    struct engine_context *context = engine_context_create(model, error);
    struct tensor views[CASE_TENSORS] = {0};
    bool done = context && engine_run(context, inputs, input_count, views, output_count, error);
    for (int i = 0; done && i < output_count; i++) {
        outputs[i] = views[i];
        outputs[i].data = malloc(tensor_bytes(&views[i]) + 1);
        memcpy(outputs[i].data, views[i].data, tensor_bytes(&views[i]));
    }
    engine_context_free(context);
    return done;
}

const struct runner engine_runner = {load, run, unload, input_count_of, output_count_of, input_dtype_of};
