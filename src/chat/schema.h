/* A JSON Schema as rules of an automaton. Used inside chat/ only. */
#pragma once
#include <jansson.h>

#include "chat/automaton.h"

struct schema_reader;

/* Rules for values that fit schemas of the document `root`, which must outlive the reader. NULL: no memory.
 */
struct schema_reader *schema_reader_create(struct automaton *automaton, json_t *root);
void schema_reader_free(struct schema_reader *reader);

/* Rules that are asked for from now on are parts of another document. */
void schema_reader_enter(struct schema_reader *reader, json_t *root);

/* The rule for a part of the document, named `path` in messages; NULL as the schema: any object. Rules are
 * finished by schema_reader_finish. NO_NODE: no memory. */
uint32_t schema_rule(struct schema_reader *reader, json_t *schema, const char *path);

/* ERROR_INVALID: "#/properties/age: 'multipleOf' is not supported". */
bool schema_reader_finish(struct schema_reader *reader, struct error *error);
