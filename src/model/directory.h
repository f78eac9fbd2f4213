/* Where a person's models live, and what a model may be called. */
#pragma once
#include <stdbool.h>

/* $GUICHET_MODELS, else $XDG_DATA_HOME/guichet/models, else ~/.local/share/guichet/models. malloc'ed; NULL
 * when there is neither a variable nor a home (or no memory). */
char *model_directory_default(void);

/* A name that is safe as a folder, in an address and in a label of a metric: letters, digits, '-', '_' and
 * '.', beginning with a letter or digit, at most MODEL_NAME_BYTES - 1 of them. */
#define MODEL_NAME_BYTES 65
bool model_name_valid(const char *name);
