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
