/* ImageNet's class names and preprocessing, written into a model folder that has none of its own. Any thread;
 * one at a time for each folder. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct model_defaults {
    int class_count;    /* of the network's first output; 0: not known */
    bool labels;        /* class names were written into config.json */
    bool preprocessing; /* preprocessor_config.json was written */
};

/* Read `folder`/model.onnx with its external data, and write what is missing where the network has 1000
 * classes (or 1001, the first being "background"). Other networks are left as they are. ERROR_MODEL names the
 * position where the network, or the field where config.json, is damaged. */
bool model_defaults_write(const char *folder, struct model_defaults *ret, struct error *error);
