/* Which files a network names as those of its weights, without loading it. Any thread. */
#pragma once
#include <stdbool.h>

#include "base/error.h"

/* Call `found` with the name of each tensor's file, as the network has it: often the same one many times,
 * perhaps with slashes, and whatever a stranger wrote. Ends with false where `found` does, and for what is no
 * ONNX file. */
bool onnx_external_names(const char *path, bool (*found)(void *context, const char *name), void *context,
                         struct error *error);
