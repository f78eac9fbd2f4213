/* What the verbs that run a network share. One thread. */
#pragma once
#include "cli/cli.h"
#include "model/model.h"

/* From --precision (NULL: auto) and --threads (0: all processors). False: a usage error was printed; return
 * *ret_exit. */
bool cli_engine_options(const struct command *command, const char *precision, int threads,
                        struct engine_options *ret, int *ret_exit);
/* Where a baked file was refused (baked for another processor, say): say so, and write a current one in its
 * place. */
void cli_refresh_baked(struct model *model);
/* A model by name or path (NULL: the default one), perhaps with ":variant". */
struct model *cli_model_load(const char *name, const struct engine_options *options, struct error *error);
/* The same for verbs that run any network, photos or not (model_takes_photos). */
struct model *cli_network_load(const char *name, const struct engine_options *options, struct error *error);
