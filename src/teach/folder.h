/* Inside teach/: what was taught, written as a model folder. */
#pragma once
#include <jansson.h>

#include "teach/teach.h"

/* The folder appears at `output` in one step, or not at all: it is put together beside it under a hidden
 * name, and loaded once to see that it gives photos the same preprocessing. ERROR_INVALID: `output` exists,
 * and replace is false. */
bool teach_folder_write(const struct model *base, const struct teach_options *options,
                        const struct teach_result *result, struct error *error);

/* Is there room for it? ERROR_INVALID where something is there that must not be replaced. */
bool teach_folder_check(const struct teach_options *options, struct error *error);

/* The text of README.md, malloc'ed; NULL when memory is out. */
char *teach_card(const struct model *base, const struct teach_options *options,
                 const struct teach_result *result);
/* taught.json; NULL when memory is out. */
json_t *teach_report(const struct model *base, const struct teach_options *options,
                     const struct teach_result *result);
