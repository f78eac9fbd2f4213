/* What reads a JSON Schema: a file for types, one for choices and references, one for the rest. Used inside
 * chat/ only. A function that gives a node gives NO_NODE with reader->error, or when memory is out. */
#pragma once
#include <jansson.h>

#include "base/arena.h"
#include "chat/schema.h"

/* A rule that is known of; its node leads to what it is once it has been read. */
struct schema_rule {
    json_t *root;   /* of the document that it is a part of */
    json_t *schema; /* one of the document's, or one of the reader's marks */
    const char *path;
    uint32_t node;
};

struct schema_reader {
    struct automaton *automaton;
    json_t *root;
    json_t *any, *object; /* marks: any value; any object */
    struct arena *arena;
    struct schema_rule *rules;
    size_t count, capacity, read;
    const char *path; /* of the rule that is being read */
    struct error *error;
};

/* The rule for a part of the schema that is being read: reader->path/name. */
uint32_t schema_part_rule(struct schema_reader *reader, json_t *schema, const char *name);
/* ERROR_INVALID: "path: what is wrong", of a format with one %s. */
uint32_t schema_refuse(struct schema_reader *reader, const char *format, const char *what);

/* Values of the types that a schema names, or else its keywords; those of 'enum' and 'const'. */
uint32_t schema_read_types(struct schema_reader *reader, json_t *schema);
uint32_t schema_read_given(struct schema_reader *reader, json_t *schema);
uint32_t schema_read_object(struct schema_reader *reader, json_t *schema);
/* The types as bits; 0 with an error. Types of numbers overlap. */
unsigned schema_types(struct schema_reader *reader, json_t *schema);
bool schema_types_overlap(unsigned a, unsigned b);

uint32_t schema_read_reference(struct schema_reader *reader, json_t *reference);
/* keyword: anyOf, oneOf, allOf. */
uint32_t schema_read_choice(struct schema_reader *reader, json_t *choices, const char *keyword);
