/* Inside model/: the small JSON files of a model folder. */
#pragma once
#include <jansson.h>

#include "base/error.h"

/* Parse a file of at most LIMIT_CONFIG_BYTES; the caller owns the reference. NULL: ERROR_NOT_FOUND, or
 * ERROR_MODEL naming file and line where it is not JSON of this type. Any thread. */
json_t *config_read(const char *path, json_type type, struct error *error);
