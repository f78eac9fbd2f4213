/* A model from the network into the model folder: whole, or not at all. Blocking.
 *
 * Files come into `.pull-NAME` inside the model folder (nothing reads names that begin with a dot), are
 * checked, get what their source lacks, and appear under NAME by one rename. A killed pull leaves
 * `.pull-NAME`, from which the next one goes on. One thread at a time for each model folder. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "serve/pull_source.h"
#include "serve/pull_supply.h"

struct pull_result {
    char name[MODEL_NAME_BYTES];
    bool already; /* it was there, and nothing was done */
    uint64_t bytes;
    struct pull_supplied supplied;
};

/* `directory` is made where it is missing. ERROR_UNAVAILABLE where another pull of the same model runs. */
bool pull_model(const char *directory, const char *source, const struct pull_options *options,
                struct pull_result *ret, struct error *error);
