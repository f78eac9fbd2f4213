/* Used inside gguf/ only. */
#pragma once
#include "base/json.h"
#include "gguf/writer.h"

/* Keys of the tokenizer, from tokenizer.json and tokenizer_config.json. `vocabulary`: rows of the embedding,
 * for which tokens are made up where there are fewer. */
bool convert_tokenizer(struct gguf_writer *writer, const char *folder, const json_t *config,
                       size_t vocabulary, struct error *error);
/* A JSON file of the folder; NULL with ERROR_NOT_FOUND where there is none. */
json_t *convert_read_json(const char *folder, const char *name, uint64_t limit, struct error *error);
