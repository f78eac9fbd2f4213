/* Parts of a constraint that come from keywords of a JSON Schema. Each makes nodes that go on to `next`, and
 * returns the first of them; NO_NODE with an error that does not name the place. Used inside chat/ only. */
#pragma once
#include <jansson.h>

#include "chat/automaton.h"

/* A number of `schema` within its minimum, maximum, exclusiveMinimum and exclusiveMaximum. */
uint32_t schema_number(struct automaton *automaton, json_t *schema, bool integer, uint32_t next,
                       struct error *error);

/* A string, after its opening quote, that has a match of `pattern`: characters, classes, groups, |, *, +, ?,
 * {m,n}, ^ and $ at the ends. ERROR_INVALID tells what else it has. */
uint32_t schema_pattern(struct automaton *automaton, const char *pattern, uint32_t next, struct error *error);

/* The pattern for a format; NULL: it is not supported. */
const char *schema_format(const char *name);
