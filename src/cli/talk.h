/* A conversation with a language model in this process. Keys and values of what was said stay: a turn
 * computes what is new. One thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#include "llm/context.h"
#include "llm/sampler.h"
#include "model/folder.h"

struct talk;

struct talk_options {
    struct sampler_options sampler;
    int64_t context; /* tokens of the conversation; 0: as guichet.json says, else the model's, at most 8192 */
    int tokens;      /* of an answer, at most; 0: what there is room for */
    int threads;
    enum llm_precision precision;
};

/* ERROR_INVALID where the model has no chat template. */
struct talk *talk_create(const struct model_files *files, const struct talk_options *options,
                         struct error *error);
void talk_free(struct talk *talk); /* takes NULL */

/* A piece of an answer, which may end within a character. False: stop here. It is also called while the
 * prompt is computed, with no bytes. */
typedef bool (*talk_piece)(void *data, const char *bytes, size_t size);

enum talk_end {
    TALK_DONE,    /* the model ended its turn */
    TALK_LENGTH,  /* as many tokens as an answer may have */
    TALK_FULL,    /* the context is full */
    TALK_STOPPED, /* by the caller */
};

/* Say something, and get the answer. On failure nothing was said. ERROR_INVALID: it does not fit the context,
 * with the numbers; or what the template raises. */
bool talk_say(struct talk *talk, const char *words, talk_piece piece, void *data, enum talk_end *ret_end,
              struct error *error);
/* Another answer to what was said last. ERROR_INVALID where nothing was. */
bool talk_again(struct talk *talk, talk_piece piece, void *data, enum talk_end *ret_end, struct error *error);
/* What the model is told beforehand; "": nothing. Counts from the next answer on. False when memory is out,
 * or it is not UTF-8. */
bool talk_set_system(struct talk *talk, const char *text);
bool talk_set_temperature(struct talk *talk, double temperature, struct error *error);
/* Forget all that was said. */
void talk_reset(struct talk *talk);
