#include "chat/schema.h"

#include <stdlib.h>
#include <string.h>

#include "chat/schema_reader.h"

/* --- Rules ------------------------------------------------------------------------------------------------
 */

struct schema_reader *schema_reader_create(struct automaton *automaton, json_t *root) {
    struct schema_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return NULL;
    *reader = (struct schema_reader){.automaton = automaton,
                                     .root = root,
                                     .any = json_object(),
                                     .object = json_object(),
                                     .arena = arena_create()};
    if (reader->any && reader->object && reader->arena)
        return reader;
    schema_reader_free(reader);
    return NULL;
}

void schema_reader_free(struct schema_reader *reader) {
    if (!reader)
        return;
    json_decref(reader->any);
    json_decref(reader->object);
    arena_free(reader->arena);
    free(reader->rules);
    free(reader);
}

void schema_reader_enter(struct schema_reader *reader, json_t *root) {
    reader->root = root;
}

uint32_t schema_rule(struct schema_reader *reader, json_t *schema, const char *path) {
    schema = schema ? schema : reader->object;
    for (size_t i = 0; i < reader->count; i++)
        if (reader->rules[i].schema == schema)
            return reader->rules[i].node;

    if (reader->count == reader->capacity) {
        size_t capacity = reader->capacity ? 2 * reader->capacity : 16;
        struct schema_rule *grown = realloc(reader->rules, capacity * sizeof *grown);
        if (!grown)
            return NO_NODE;
        reader->rules = grown;
        reader->capacity = capacity;
    }
    const char *copy = arena_copy_string(reader->arena, path, strlen(path));
    uint32_t node = copy ? automaton_node(reader->automaton, NODE_JUMP, NO_NODE, 0, 0) : NO_NODE;
    if (node)
        reader->rules[reader->count++] = (struct schema_rule){reader->root, schema, copy, node};
    return node;
}

/* A part of the schema that is being read. */
uint32_t schema_part_rule(struct schema_reader *reader, json_t *schema, const char *name) {
    const char *path = arena_printf(reader->arena, "%.200s/%.80s", reader->path, name);
    return path ? schema_rule(reader, schema, path) : NO_NODE;
}

uint32_t schema_refuse(struct schema_reader *reader, const char *format, const char *what) {
    struct error problem;
    (error_set)(&problem, ERROR_INVALID, format, what);
    error_set(reader->error, ERROR_INVALID, "%.280s: %.160s", reader->path, problem.message);
    return NO_NODE;
}
/* --- Keywords ---------------------------------------------------------------------------------------------
 */

/* The first character tells where a keyword may stand: '-' anywhere, it limits nothing; 'c' alone: a
 * combination; 'g': given values, beside 'type'; 't': beside others. */
static const char *const keywords[] = {"-$schema",
                                       "-$id",
                                       "-$comment",
                                       "-$defs",
                                       "-definitions",
                                       "-title",
                                       "-description",
                                       "-default",
                                       "-examples",
                                       "-deprecated",
                                       "-readOnly",
                                       "-writeOnly",
                                       "c$ref",
                                       "canyOf",
                                       "coneOf",
                                       "callOf",
                                       "genum",
                                       "gconst",
                                       "ttype",
                                       "tproperties",
                                       "trequired",
                                       "tadditionalProperties",
                                       "titems",
                                       "tminItems",
                                       "tmaxItems",
                                       "tminLength",
                                       "tmaxLength",
                                       "tpattern",
                                       "tformat",
                                       "tminimum",
                                       "tmaximum",
                                       "texclusiveMinimum",
                                       "texclusiveMaximum"};

/* The kind of a schema by its keywords; 0 with an error. */
static char kind_of(struct schema_reader *reader, json_t *schema) {
    const char *key, *first = "";
    json_t *value;
    char kind = 't';

    json_object_foreach(schema, key, value) {
        char found = 0;
        for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
            if (strcmp(key, keywords[i] + 1) == 0)
                found = keywords[i][0];
        if (!found && strcmp(key, "uniqueItems") == 0 && json_is_false(value))
            found = '-';
        if (!found)
            return (char)schema_refuse(reader, "'%.60s' is not supported", key);
        if (found == '-' || (strcmp(key, "type") == 0 && kind == 'g'))
            continue;
        bool joins = !*first || (found == 't' && kind == 't') ||
                     (found == 'g' && kind != 'c' && strcmp(first, "type") == 0) ||
                     (found == 'g' && kind == 'g');
        if (!joins)
            return (char)schema_refuse(reader, "'%.60s' beside other keywords is not supported",
                                       found == 't' ? first : key);
        if (!*first || found != 't')
            kind = found;
        first = *first && strcmp(first, "type") != 0 ? first : key;
    }
    return kind;
}

static uint32_t read_schema(struct schema_reader *reader, json_t *schema) {
    static const char *const combinations[] = {"anyOf", "oneOf", "allOf"};
    if (schema == reader->object)
        return schema_read_object(reader, schema);
    if (json_is_true(schema))
        return schema_read_types(reader, reader->any);
    if (!json_is_object(schema))
        return schema_refuse(reader, "%s", "this is no schema that anything fits");

    char kind = kind_of(reader, schema);
    if (kind == 'g')
        return schema_read_given(reader, schema);
    if (kind == 't')
        return schema_read_types(reader, schema);
    if (kind == 'c' && json_object_get(schema, "$ref"))
        return schema_read_reference(reader, json_object_get(schema, "$ref"));
    for (size_t i = 0; kind == 'c' && i < sizeof combinations / sizeof *combinations; i++)
        if (json_object_get(schema, combinations[i]))
            return schema_read_choice(reader, json_object_get(schema, combinations[i]), combinations[i]);
    return NO_NODE;
}

bool schema_reader_finish(struct schema_reader *reader, struct error *error) {
    reader->error = error;
    error->code = ERROR_NONE;

    for (; reader->read < reader->count; reader->read++) {
        reader->path = reader->rules[reader->read].path;
        reader->root = reader->rules[reader->read].root;
        uint32_t rule = reader->rules[reader->read].node,
                 start = read_schema(reader, reader->rules[reader->read].schema);
        if (error->code)
            return false;
        if (reader->automaton->failed)
            return automaton_check(reader->automaton, error);
        if (!start)
            return error_set(error, ERROR_MEMORY, "not enough memory for the schema");
        reader->automaton->nodes[rule].next = start;
    }
    return true;
}
