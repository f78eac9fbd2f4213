/* Inside model/: the small JSON files of a model folder. */
#pragma once
#include <jansson.h>

#include "base/error.h"

/* Parse a file of at most LIMIT_CONFIG_BYTES. NULL with ERROR_NOT_FOUND where there is none, with
 * ERROR_MODEL, naming file and line, where it is not JSON of the wanted kind. Free with json_decref. */
json_t *config_read(const char *path, json_type type, struct error *error);
