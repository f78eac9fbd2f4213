/* References, and choices between schemas. */
#include "chat/schema_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* A part of the document by its JSON Pointer (RFC 6901) behind '#'; NULL: there is none. */
static json_t *resolve(json_t *root, const char *reference) {
    if (*reference != '#')
        return NULL;

    json_t *at = root;
    for (const char *from = reference + 1; *from && at;) {
        char token[256];
        size_t size = 0;
        if (*from++ != '/')
            return NULL;
        for (; *from && *from != '/' && size + 1 < sizeof token; from++) {
            bool escaped = from[0] == '~' && (from[1] == '0' || from[1] == '1');
            token[size++] = escaped ? (from[1] == '0' ? '~' : '/') : *from;
            from += escaped;
        }
        if (*from && *from != '/')
            return NULL;
        token[size] = 0;
        char *end;
        at = json_is_array(at) ? json_array_get(at, strtoul(token, &end, 10)) : json_object_get(at, token);
    }
    return at;
}

uint32_t schema_read_reference(struct schema_reader *reader, json_t *reference) {
    const char *text = json_string_value(reference);
    json_t *target = text ? resolve(reader->root, text) : NULL;
    if (!target)
        return schema_refuse(reader, "'$ref' names no part of this schema: '%.80s'", text ? text : "");

    uint32_t rule = schema_rule(reader, target, text);
    return rule ? automaton_node(reader->automaton, NODE_JUMP, rule, 0, 0) : NO_NODE;
}

/* What a schema is once references are followed; NULL where they do not end. */
static json_t *behind_references(struct schema_reader *reader, json_t *schema) {
    for (int i = 0; schema && i < 64; i++) {
        const char *text = json_string_value(json_object_get(schema, "$ref"));
        if (!text)
            return schema;
        schema = resolve(reader->root, text);
    }
    return NULL;
}

/* Values that both are given and differ. */
static bool given_values_differ(json_t *a, json_t *b) {
    json_t *ones[] = {json_object_get(a, "enum"), json_object_get(b, "enum")},
           *constants[] = {json_object_get(a, "const"), json_object_get(b, "const")};
    size_t counts[2];
    for (int i = 0; i < 2; i++) {
        counts[i] = ones[i] ? json_array_size(ones[i]) : 1;
        if (!ones[i] && !constants[i])
            return false;
    }
    for (size_t i = 0; i < counts[0]; i++)
        for (size_t j = 0; j < counts[1]; j++) {
            json_t *x = ones[0] ? json_array_get(ones[0], i) : constants[0],
                   *y = ones[1] ? json_array_get(ones[1], j) : constants[1];
            if (json_equal(x, y) || (json_is_number(x) && json_is_number(y)))
                return false;
        }
    return true;
}

static bool is_required(json_t *schema, const char *key) {
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(schema, "required"), i,
                       name) if (json_is_string(name) &&
                                 strcmp(json_string_value(name), key) == 0) return true;
    return false;
}

/* Does no value fit both? Told by types, by values, or by a property that both require. */
static bool exclude_each_other(struct schema_reader *reader, json_t *a, json_t *b) {
    a = behind_references(reader, a);
    b = behind_references(reader, b);
    if (!json_is_object(a) || !json_is_object(b))
        return false;
    if (given_values_differ(a, b))
        return true;

    json_t *type_a = json_object_get(a, "type"), *type_b = json_object_get(b, "type"), *value;
    if (type_a && type_b) {
        if (!schema_types_overlap(schema_types(reader, a), schema_types(reader, b)))
            return true;
    }
    const char *key;
    json_object_foreach(json_object_get(a, "properties"), key, value) {
        json_t *other = json_object_get(json_object_get(b, "properties"), key);
        if (type_a && json_equal(type_a, type_b) && other && is_required(a, key) && is_required(b, key) &&
            given_values_differ(behind_references(reader, value), behind_references(reader, other)))
            return true;
    }
    return false;
}

uint32_t schema_read_choice(struct schema_reader *reader, json_t *choices, const char *keyword) {
    uint32_t ways[LIMIT_SCHEMA_CHOICES];
    size_t count = json_array_size(choices);
    if (!json_is_array(choices) || count == 0 || count > LIMIT_SCHEMA_CHOICES)
        return schema_refuse(reader, "'%s' is no list of 1 to 64 schemas", keyword);
    if (strcmp(keyword, "allOf") == 0 && count > 1)
        return schema_refuse(reader, "'%s' of more than one schema is not supported", keyword);

    for (size_t i = 0; i < count; i++) {
        const char *name = arena_printf(reader->arena, "%s/%zu", keyword, i);
        uint32_t rule = name ? schema_part_rule(reader, json_array_get(choices, i), name) : NO_NODE;
        if (!rule)
            return NO_NODE;
        ways[i] = automaton_node(reader->automaton, NODE_JUMP, rule, 0, 0);
        for (size_t j = 0; j < i && strcmp(keyword, "oneOf") == 0; j++)
            if (!exclude_each_other(reader, json_array_get(choices, i), json_array_get(choices, j)))
                return schema_refuse(
                    reader, "%s",
                    "'oneOf' is supported where types, or a required property with 'const' or 'enum', "
                    "tell its schemas apart: 'anyOf' may do");
    }
    return automaton_split(reader->automaton, ways, count);
}
