/* A model from the network into a model directory: complete, or not at all. Blocking.
 *
 * Files arrive in `.pull-NAME` inside the directory (names that begin with a dot are never models), are
 * checked, completed by the defaults their source lacks, and published as NAME by one rename. A killed pull
 * leaves `.pull-NAME`, from which the next one resumes. One pull of a name runs at a time, across processes.
 * Another variant of a language model joins those that are there.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "hub/source.h"
#include "model/defaults.h"

struct pull_result {
    char name[MODEL_NAME_BYTES];
    bool already;                      /* the model existed, and nothing was done */
    bool added;                        /* it existed, and got another variant */
    char variant[MODEL_NAME_PART + 1]; /* of a language model; "" */
    uint64_t bytes;
    struct model_defaults defaults; /* what was added to a network */
};

/* `directory` is created where it is missing. ERROR_UNAVAILABLE where another pull of this model runs. Else
 * the errors of pull_source_parse, pull_source_list_files, download_file and model_defaults_write. */
bool pull_model(const char *directory, const char *source, const struct pull_options *options,
                struct pull_result *ret, struct error *error);
