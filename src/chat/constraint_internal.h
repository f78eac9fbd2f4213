/* Constraints that are more than one value of JSON. Used inside chat/ only. */
#pragma once
#include "chat/constraint.h"
#include "chat/schema.h"

/* Makes nodes that go on to `end`, with the rules of the reader; the first of them. */
typedef uint32_t (*constraint_builder)(struct automaton *automaton, struct schema_reader *reader,
                                       uint32_t end, void *data);

/* `root`: the document that references are within; NULL: none. */
struct constraint *constraint_build(json_t *root, constraint_builder build, void *data, struct error *error);
