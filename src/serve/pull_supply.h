/* What a pulled network lacks to be a model: is it a network at all, its labels, its recipe for photos. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

struct pull_supplied {
    int classes;         /* of the network's first output; 0: not known */
    bool labels, recipe; /* ImageNet's were written, as the source had none */
};

/* Read `folder`/model.onnx, its external data included (ERROR_MODEL with the place where it is damaged), and
 * write ImageNet's labels into config.json and ImageNet's recipe into preprocessor_config.json where they are
 * missing and the network has 1000 classes (or 1001, the first being "background"). */
bool pull_supply(const char *folder, struct pull_supplied *ret, struct error *error);
