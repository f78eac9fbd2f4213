/* A language model as Hugging Face keeps it (config.json, tokenizer.json, safetensors) to a GGUF file with
 * the same weights. One thread. */
#pragma once
#include "base/error.h"
#include "base/progress.h"

/* Does the folder have config.json and safetensors? */
bool convert_is_folder(const char *folder);
/* Write `output`. `name` becomes general.name. ERROR_MODEL says what is missing or not supported;
 * ERROR_UNAVAILABLE: stopped by progress. */
bool convert_folder(const char *folder, const char *output, const char *name, progress_report progress,
                    void *context, struct error *error);
/* "F16", "BF16" or "F32": the type of most weights. */
bool convert_folder_type(const char *folder, const char **ret, struct error *error);
