#include "cli/engine_options.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "model/find.h"

bool cli_engine_options(const struct command *command, const char *precision, int threads,
                        struct engine_options *ret, int *ret_exit) {
    *ret = (struct engine_options){.precision = PRECISION_AUTO, .threads = threads};
    if (!precision || precision_parse(precision, &ret->precision))
        return true;
    *ret_exit = cli_usage(command, "--precision is auto, f32, bf16 or int8, not '%s'", precision);
    return false;
}

static struct model *load(const char *name, struct model_options options, struct error *error) {
    cleanup(freep) char *path = NULL;
    cleanup(freep) char *variant = NULL;
    if (!model_find(name, &path, &variant, error))
        return NULL;
    options.variant = variant;
    return model_load(path, &options, error);
}

struct model *cli_model_load(const char *name, const struct engine_options *options, struct error *error) {
    return load(name, (struct model_options){.engine = *options}, error);
}

struct model *cli_network_load(const char *name, const struct engine_options *options, struct error *error) {
    return load(name, (struct model_options){.engine = *options, .any_network = true}, error);
}

struct shape cli_input_shape(const struct engine_port *port, int batch, int size) {
    struct shape shape = port->shape;
    for (int d = 0; d < shape.rank; d++)
        if (shape.dims[d] < 0)
            shape.dims[d] = d == 0 ? batch : d == 1 && shape.rank == 4 ? 3 : size;
    return shape;
}

struct tensor *cli_inputs(const struct engine *engine, int size, struct error *error) {
    int count = engine_input_count(engine);
    struct tensor *inputs = calloc((size_t)count + 1, sizeof *inputs);
    if (!inputs)
        error_set(error, ERROR_MEMORY, "not enough memory for %d inputs", count);

    for (int i = 0; inputs && i < count; i++) {
        const struct engine_port *port = engine_input(engine, i);
        inputs[i] = (struct tensor){port->dtype, cli_input_shape(port, 1, size), NULL};
    }
    return inputs;
}

void cli_refresh_baked(struct model *model) {
    struct engine *engine = model_engine(model);
    const char *state = engine_baked_state(engine);
    struct error error;
    if (!*state || strcmp(state, "used") == 0)
        return;

    if (engine_bake(engine, NULL, &error))
        cli_warn("%s; made again", state);
    else
        cli_warn("%s; it cannot be made again: %s", state, error.message);
}
