/* Conversations with a language model: its chat template, prompts as tokens, and the tokens that end a turn.
 * Immutable: any thread. The model must outlive it. */
#pragma once
#include "chat/template.h"
#include "llm/model.h"

struct dialogue;

/* ERROR_MODEL: keys of the file that are not as they should be. A template that cannot be read is told by
 * dialogue_render. */
struct dialogue *dialogue_create(const struct llm_model *model, struct error *error);
void dialogue_free(struct dialogue *dialogue); /* takes NULL */

/* The prompt of a conversation: see struct chat_variables. ERROR_INVALID: the model has no chat template, or
 * it refuses the conversation. */
bool dialogue_render(const struct dialogue *dialogue, const json_t *conversation, struct chat_prompt *ret,
                     struct error *error);
/* Append a prompt's tokens, BOS included, where texts of the model begin with it. Special tokens are found in
 * what the template wrote alone; what the conversation says is text, whatever it looks like. */
bool dialogue_encode(const struct dialogue *dialogue, const struct chat_prompt *prompt,
                     struct token_list *list, struct error *error);
/* The same for a plain text, all of it from outside. */
bool dialogue_encode_text(const struct dialogue *dialogue, const char *text, size_t size,
                          struct token_list *list, struct error *error);

/* Append the text of a token of an answer: control tokens have none, but for the marks of a thought. */
void dialogue_decode(const struct dialogue *dialogue, int32_t token, struct buffer *ret);

/* Is the turn, or the text, over with this token? */
bool dialogue_ends(const struct dialogue *dialogue, int32_t token);
/* All such tokens: [*ret_count]. */
const int32_t *dialogue_end_tokens(const struct dialogue *dialogue, int *ret_count);
/* Does the model think aloud, between <think> and </think>? And has the prompt begun that already? */
bool dialogue_thinks(const struct dialogue *dialogue);
bool dialogue_prompt_thinks(const struct chat_prompt *prompt);
