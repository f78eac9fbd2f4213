/* What guichet inspect tells of a language model. One thread. */
#pragma once
#include <stdbool.h>

#include "model/folder.h"

/* Print it, as a table or as one line of JSON. False, with an error, where the file cannot be read. */
bool inspect_language(const struct model_files *files, bool json, struct error *error);
