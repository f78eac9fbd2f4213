/* What the verbs for language models share. One thread. */
#pragma once
#include "base/cleanup.h"
#include "cli/cli.h"
#include "llm/context.h"
#include "llm/sampler.h"
#include "model/folder.h"

DEFINE_FREEP(struct gguf, gguf)
DEFINE_FREEP(struct llm_model, llm_model)
DEFINE_FREEP(struct llm_context, llm_context)

/* A language model by name or path (model/find.h): where it is, all of it, or its file, which may hold a
 * vocabulary only. NULL: the default one, `tales`, else the first that is installed. ERROR_INVALID for a
 * model of another kind. */
bool language_find(const char *name, struct model_files *ret, struct error *error);
struct llm_model *language_load(const char *name, struct error *error);
struct gguf *language_open(const char *name, struct error *error);
/* Is it the path of a file that is no model, a template perhaps? */
bool language_is_other_file(const char *name);

/* The tokens of a text, with BOS in front where the model's texts begin with it. */
bool language_encode(const struct llm_model *model, const char *text, size_t size, struct token_list *ret,
                     struct error *error);

enum { LANGUAGE_ROWS = 256 /* tokens of a prompt that are run at once */ };

/* What --precision says; NULL: auto. False, with the exit status, after a message. */
bool language_precision(const struct command *command, const char *text, enum llm_precision *ret,
                        int *ret_exit);

/* What --seed says; less than 0: a random one. */
bool language_seed(double given, uint64_t *ret, struct error *error);

/* Run tokens [0, count) of a sequence, of its prompt or steps of its own, LANGUAGE_ROWS at a time; `each`
 * gets the logits of token `index` where it is at least `first`. The logits may be changed. */
typedef void (*language_each)(void *data, size_t index, float *logits);
bool language_run(struct llm_context *context, struct llm_sequence *sequence, const int32_t *tokens,
                  size_t count, bool is_prompt, size_t first, language_each each, void *data,
                  struct error *error);

/* What the logits of a sequence's last token lead to. language_pick, a language_each, sets `token`. */
struct language_next {
    struct sampler *sampler;
    int32_t token;
};
void language_pick(void *next, size_t index, float *logits);

struct stages;
/* convert_folder, and the result is loaded once before it takes its name: a folder that lacks tensors, or has
 * them in other shapes, is an error and leaves no file. A file at `output` that is no GGUF file is not
 * replaced. */
bool cli_convert(const char *folder, const char *output, const char *name, struct stages *stages,
                 struct error *error);
