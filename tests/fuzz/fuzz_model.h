/* The model of targets that need one. One thread. */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "model/model.h"

/* Loaded once; ends the program where it cannot be. */
static const struct model *model_get(void) {
    static struct model *model;
    struct model_options options = {.engine = {.precision = PRECISION_F32, .threads = 1, .no_baked = true}};
    struct error error;
    if (!model && !(model = model_load(FUZZ_MODEL, &options, &error))) {
        fprintf(stderr, "%s\n", error.message);
        exit(1);
    }
    return model;
}
