/* What a model may be called: as a folder, in a URL, in a session and in a label of a metric. Any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define MODEL_NAME_PART 64                             /* characters before the ':', and as many after it */
#define MODEL_NAME_BYTES (MODEL_NAME_PART * 2 + 1 + 1) /* the longest name, with its NUL */
#define MODEL_NAME_RULE "at most 64 letters, digits, '-', '_' and '.', with a letter or digit first"

/* NAME or NAME:VARIANT, `length` bytes that need no NUL. Each of the two keeps MODEL_NAME_RULE (ASCII only).
 */
bool model_name_valid(const char *name, size_t length);

/* The same without ":VARIANT": the name of a folder, or of a variant. */
bool model_folder_name_valid(const char *name);
