/* guichet run --image: a photo in, a picture out. One thread. */
#pragma once
#include "model/model.h"

/* Put the photo (a path, a URL, or "-") into the model's one input, write the first output that is a picture
 * to `path` as PNG, and print what was assumed of both. ERROR_MODEL, ERROR_INVALID: it takes no photo, or no
 * output is a picture. */
bool run_image(struct model *model, const char *photo, const char *path, struct error *error);
