/* What a model may write: JSON that fits a JSON Schema, kept by masking tokens.
 *
 * A schema becomes an automaton over bytes with a stack. Whatever it lets through can be completed, so a
 * model never runs into a wall; what has been completed fits the schema. A keyword that is not supported is
 * refused by name, never ignored. Compared with the schema it is stricter in these points only: properties
 * that are not named are written only where additionalProperties allows them; values nest at most
 * CONSTRAINT_DEPTH deep; numbers have at most 18 digits before and after the point; between values there is
 * at most a blank, or a line end and 32 blanks; enum and const are written as compact JSON. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "chat/token_trie.h"

/* Immutable once created: any thread. */
struct constraint;
/* How far a text is; one thread at a time. */
struct constraint_state;

/* For a JSON Schema. ERROR_INVALID names the place and the keyword: "#/properties/age: 'multipleOf' is not
 * supported". */
struct constraint *constraint_create(const char *schema, size_t size, struct error *error);
/* Any JSON object. */
struct constraint *constraint_create_object(struct error *error);
void constraint_free(struct constraint *constraint);

/* At the beginning of the text. It refers to the constraint. NULL when memory is out. */
struct constraint_state *constraint_state_create(const struct constraint *constraint);
struct constraint_state *constraint_state_copy(const struct constraint_state *state);
void constraint_state_free(struct constraint_state *state);

/* The text goes on with `bytes`. False, and nothing changes, where it may not. */
bool constraint_advance(struct constraint_state *state, const char *bytes, size_t size);
/* May the text end here? */
bool constraint_can_end(const struct constraint_state *state);
/* Must it? */
bool constraint_must_end(const struct constraint_state *state);

/* Set the logits of all tokens that may not come next to -INFINITY. ends[end_count]: the tokens that end a
 * text, allowed where it may end. False where no token is left, which a vocabulary that has all single bytes
 * does not know; or when memory is out, and the logits are as they were. */
bool constraint_mask(struct constraint_state *state, const struct token_trie *trie, const int32_t *ends,
                     int end_count, float *logits);
