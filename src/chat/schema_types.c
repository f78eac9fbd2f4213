/* Objects, arrays, strings, numbers, and values that are given. */
#include "chat/schema_reader.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "chat/schema_parts.h"

static uint32_t node(struct schema_reader *reader, enum node_op op, uint32_t next, uint32_t a, uint32_t b) {
    return automaton_node(reader->automaton, op, next, a, b);
}

static uint32_t space(struct schema_reader *reader, uint32_t next) {
    return node(reader, NODE_SPACE, next, 0, 0);
}

static uint32_t byte(struct schema_reader *reader, char c, uint32_t next) {
    return automaton_byte(reader->automaton, (uint8_t)c, next);
}

static uint32_t either(struct schema_reader *reader, uint32_t a, uint32_t b) {
    uint32_t ways[] = {a, b};
    return automaton_split(reader->automaton, ways, 2);
}

static uint32_t finish(struct schema_reader *reader) {
    return node(reader, NODE_RETURN, NO_NODE, 0, 0);
}
/* --- Objects and arrays -----------------------------------------------------------------------------------
 */

/* An object's keys are in the automaton already; `object` is its index. */
static uint32_t object_nodes(struct schema_reader *reader, uint32_t object, uint32_t after) {
    struct automaton *automaton = reader->automaton;
    uint32_t close = node(reader, NODE_CLOSE, space(reader, byte(reader, '}', finish(reader))), object, 0);
    uint32_t key = node(reader, NODE_KEY, NO_NODE, object, 0);

    if (!automaton->failed && automaton->objects[object].free_value)
        key = either(reader, key, node(reader, NODE_FREE, NO_NODE, object, 0));
    key = space(reader, byte(reader, '"', key));

    uint32_t more = either(reader, close, node(reader, NODE_MORE, byte(reader, ',', key), object, 0));
    if (!automaton->failed)
        automaton->nodes[after].next = more;
    return byte(reader, '{', either(reader, close, node(reader, NODE_MORE, key, object, 0)));
}

/* ": VALUE", then `after`. */
static uint32_t member(struct schema_reader *reader, uint32_t rule, uint32_t after) {
    return byte(reader, ':', space(reader, node(reader, NODE_CALL, after, rule, 0)));
}

static bool add_key(struct schema_reader *reader, uint32_t object, const char *key, uint32_t rule,
                    uint32_t after) {
    struct automaton *automaton = reader->automaton;
    json_t *text = json_string(key);
    char *written = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
    uint32_t value = rule ? member(reader, rule, after) : NO_NODE;
    bool done = written && value && !automaton->failed;

    if (done) {
        int index = automaton->objects[object].count++;
        automaton->objects[object].values[index] = value;
        automaton->objects[object].rules[index] = rule;
        automaton_add_word(automaton, automaton->objects[object].words, written + 1, strlen(written + 1),
                           index);
    }
    free(written);
    json_decref(text);
    return done;
}

/* The index of a key among `properties`; -1: it is not there. */
static int key_index(json_t *properties, const char *wanted) {
    const char *key;
    json_t *value;
    int index = 0;
    json_object_foreach(properties, key, value) {
        if (strcmp(key, wanted) == 0)
            return index;
        index++;
    }
    return -1;
}

static bool add_properties(struct schema_reader *reader, json_t *properties, uint32_t object,
                           uint32_t after) {
    const char *key;
    json_t *value;
    if (json_object_size(properties) > OBJECT_PROPERTIES)
        return schema_refuse(reader, "more than %s properties are not supported", "64");

    json_object_foreach(properties, key, value) {
        const char *name = arena_printf(reader->arena, "properties/%.60s", key);
        uint32_t rule = json_is_false(value) ? NO_NODE
                        : name               ? schema_part_rule(reader, value, name)
                                             : NO_NODE;
        if (json_is_false(value))
            return schema_refuse(reader, "the property '%.60s' is false, which is not supported", key);
        if (!add_key(reader, object, key, rule, after))
            return false;
    }
    return true;
}

/* Keys that are required without being described may have any value. */
static bool add_required(struct schema_reader *reader, json_t *properties, json_t *required, json_t *others,
                         uint32_t object, uint32_t after) {
    struct automaton *automaton = reader->automaton;
    size_t i;
    json_t *name;

    json_array_foreach(required, i, name) {
        if (!json_is_string(name))
            return schema_refuse(reader, "%s", "'required' has what is no string");
        int index = key_index(properties, json_string_value(name));
        bool again = false;
        for (size_t j = 0; j < i; j++)
            again |= json_equal(json_array_get(required, j), name) == 1;
        if (index < 0 && again)
            continue;
        if (index < 0) {
            index = automaton->objects[object].count;
            if (index >= OBJECT_PROPERTIES)
                return schema_refuse(reader, "more than %s properties are not supported", "64");
            if (json_is_false(others))
                return schema_refuse(reader, "'%.60s' is required, and no property may have that name",
                                     json_string_value(name));
            uint32_t rule = others && !json_is_true(others)
                                ? schema_part_rule(reader, others, "additionalProperties")
                                : schema_rule(reader, reader->any, "any value");
            if (!add_key(reader, object, json_string_value(name), rule, after))
                return false;
        }
        automaton->objects[object].required |= 1ull << index;
    }
    return true;
}

uint32_t schema_read_object(struct schema_reader *reader, json_t *schema) {
    struct automaton *automaton = reader->automaton;
    json_t *properties = json_object_get(schema, "properties"),
           *required = json_object_get(schema, "required"),
           *others = json_object_get(schema, "additionalProperties");
    bool open = others ? !json_is_false(others) : !properties && !required;
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required)))
        return schema_refuse(reader, "%s", "'properties' must be an object, and 'required' an array");

    uint32_t object = automaton_object(automaton), words = automaton_words(automaton),
             after = node(reader, NODE_JUMP, NO_NODE, 0, 0), free_rule = NO_NODE;
    if (automaton->failed)
        return NO_NODE;
    automaton->objects[object].words = words;
    if (!add_properties(reader, properties, object, after) ||
        !add_required(reader, properties, required, others, object, after))
        return NO_NODE;

    if (open) {
        free_rule = others && !json_is_true(others) ? schema_part_rule(reader, others, "additionalProperties")
                                                    : schema_rule(reader, reader->any, "any value");
        uint32_t value = free_rule ? member(reader, free_rule, after) : NO_NODE;
        if (!value)
            return NO_NODE;
        automaton->objects[object].free_value = value;
        automaton->objects[object].free_rule = free_rule;
    }
    return object_nodes(reader, object, after);
}

/* A count among the keywords; `missing` where it is not there. False where it is none. */
static bool read_count(struct schema_reader *reader, json_t *schema, const char *keyword, uint32_t missing,
                       uint32_t *ret) {
    json_t *value = json_object_get(schema, keyword);
    double number = json_number_value(value);
    if (!value) {
        *ret = missing;
        return true;
    }
    if (!json_is_number(value) || number < 0 || number > 1e9 || number != (double)(uint32_t)number)
        return schema_refuse(reader, "'%s' is no whole number up to 1000000000", keyword);
    *ret = (uint32_t)number;
    return true;
}

static uint32_t read_array(struct schema_reader *reader, json_t *schema) {
    json_t *items = json_object_get(schema, "items");
    uint32_t least = 0, most = 0;
    if (!read_count(reader, schema, "minItems", 0, &least) ||
        !read_count(reader, schema, "maxItems", UINT32_MAX, &most))
        return NO_NODE;
    if (json_is_array(items))
        return schema_refuse(reader, "%s", "'items' as a list of schemas is not supported");
    if (json_is_false(items))
        most = 0;
    if (least > most)
        return schema_refuse(reader, "%s", "'minItems' is above 'maxItems'");

    uint32_t close = space(reader, byte(reader, ']', finish(reader)));
    if (most == 0)
        return byte(reader, '[', close);
    uint32_t rule = items && !json_is_true(items) ? schema_part_rule(reader, items, "items")
                                                  : schema_rule(reader, reader->any, "any value");
    if (!rule)
        return NO_NODE;
    uint32_t after = node(reader, NODE_JUMP, NO_NODE, 0, 0);
    uint32_t item = space(reader, node(reader, NODE_CALL, node(reader, NODE_COUNT, after, 0, 0), rule, 0));
    uint32_t more = either(reader, node(reader, NODE_LEAST, close, least, 0),
                           node(reader, NODE_MOST, byte(reader, ',', item), most, 0));
    if (!reader->automaton->failed)
        reader->automaton->nodes[after].next = more;
    return byte(reader, '[', least ? item : either(reader, close, item));
}

/* --- Values -----------------------------------------------------------------------------------------------
 */

static uint32_t read_string(struct schema_reader *reader, json_t *schema) {
    json_t *pattern = json_object_get(schema, "pattern"), *format = json_object_get(schema, "format");
    const char *text = json_string_value(pattern);
    uint32_t least = 0, most = 0;
    if (!read_count(reader, schema, "minLength", 0, &least) ||
        !read_count(reader, schema, "maxLength", UINT32_MAX, &most))
        return NO_NODE;
    if (least > most)
        return schema_refuse(reader, "%s", "'minLength' is above 'maxLength'");
    if (!pattern && !format)
        return byte(reader, '"', node(reader, NODE_TEXT, finish(reader), least, most));

    if ((pattern && format) || least || most != UINT32_MAX)
        return schema_refuse(reader, "%s", "only one of 'pattern', 'format', and a length is supported");
    if (format) {
        text = json_is_string(format) ? schema_format(json_string_value(format)) : NULL;
        if (!text)
            return schema_refuse(reader,
                                 "the format '%.60s' is not supported: date, time, date-time and uuid are",
                                 json_is_string(format) ? json_string_value(format) : "");
    }
    if (!text)
        return schema_refuse(reader, "%s", "'pattern' is no string");
    uint32_t start = schema_pattern(reader->automaton, text, finish(reader), reader->error);
    if (!start)
        error_prefix(reader->error, "%.280s", reader->path);
    return start ? byte(reader, '"', start) : NO_NODE;
}

static uint32_t read_number(struct schema_reader *reader, json_t *schema, bool integer) {
    uint32_t start = schema_number(reader->automaton, schema, integer, finish(reader), reader->error);
    if (!start)
        error_prefix(reader->error, "%.280s", reader->path);
    return start;
}

static const char *const types[] = {"object", "array", "string", "number", "integer", "boolean", "null"};
enum { OBJECT, ARRAY, STRING, NUMBER, INTEGER, BOOLEAN, NULL_TYPE, TYPES };

static uint32_t literal(struct schema_reader *reader, const char *text) {
    return automaton_literal(reader->automaton, text, strlen(text), finish(reader));
}

static uint32_t read_type(struct schema_reader *reader, json_t *schema, int type) {
    switch (type) {
    case OBJECT:
        return schema_read_object(reader, schema);
    case ARRAY:
        return read_array(reader, schema);
    case STRING:
        return read_string(reader, schema);
    case NUMBER:
    case INTEGER:
        return read_number(reader, schema, type == INTEGER);
    case BOOLEAN:
        return either(reader, literal(reader, "true"), literal(reader, "false"));
    default:
        return literal(reader, "null");
    }
}

/* As bits; 0 with an error. Without 'type', the keywords that are there tell. */
unsigned schema_types(struct schema_reader *reader, json_t *schema) {
    json_t *type = json_object_get(schema, "type"), *one;
    unsigned bits = 0;
    size_t count = json_is_array(type) ? json_array_size(type) : 1;

    for (size_t i = 0; type && i < count; i++) {
        one = json_is_array(type) ? json_array_get(type, i) : type;
        unsigned bit = 0;
        for (int j = 0; j < TYPES; j++)
            if (json_is_string(one) && strcmp(json_string_value(one), types[j]) == 0)
                bit = 1u << j;
        if (!bit)
            return schema_refuse(reader, "the type '%.60s' is none of JSON Schema's",
                                 json_is_string(one) ? json_string_value(one) : "");
        bits |= bit;
    }
    if (bits & 1u << NUMBER)
        bits &= ~(1u << INTEGER);
    if (bits || type)
        return bits ? bits : schema_refuse(reader, "%s", "'type' is an empty list");

    static const struct {
        const char *keyword;
        int type;
    } tells[] = {{"properties", OBJECT},
                 {"required", OBJECT},
                 {"additionalProperties", OBJECT},
                 {"items", ARRAY},
                 {"minItems", ARRAY},
                 {"maxItems", ARRAY},
                 {"pattern", STRING},
                 {"format", STRING},
                 {"minLength", STRING},
                 {"maxLength", STRING},
                 {"minimum", NUMBER},
                 {"maximum", NUMBER},
                 {"exclusiveMinimum", NUMBER},
                 {"exclusiveMaximum", NUMBER}};
    for (size_t i = 0; i < sizeof tells / sizeof *tells; i++)
        if (json_object_get(schema, tells[i].keyword))
            bits |= 1u << tells[i].type;
    return bits ? bits : (1u << TYPES) - 1 - (1u << INTEGER);
}

uint32_t schema_read_types(struct schema_reader *reader, json_t *schema) {
    uint32_t ways[TYPES];
    size_t count = 0;
    unsigned bits = schema_types(reader, schema);

    for (int type = 0; type < TYPES; type++)
        if (bits >> type & 1) {
            uint32_t start = read_type(reader, schema, type);
            if (!start)
                return NO_NODE;
            ways[count++] = start;
        }
    return count ? automaton_split(reader->automaton, ways, count) : NO_NODE;
}

bool schema_types_overlap(unsigned a, unsigned b) {
    unsigned numbers = 1u << NUMBER | 1u << INTEGER;
    return (a & b) || ((a & numbers) && (b & numbers));
}

/* --- Values that are given --------------------------------------------------------------------------------
 */

/* As JSON writers put it: with as few digits as tell the number. NULL: no memory. */
static char *write_value(json_t *value) {
    for (size_t precision = 15;; precision++) {
        size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(precision);
        char *text = json_dumps(value, flags);
        json_t *again = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        bool same = precision == 17 || !text || json_equal(again, value);
        json_decref(again);
        if (same)
            return text;
        free(text);
    }
}

static bool is_of_types(json_t *value, unsigned bits) {
    int type = json_is_object(value)    ? OBJECT
               : json_is_array(value)   ? ARRAY
               : json_is_string(value)  ? STRING
               : json_is_integer(value) ? INTEGER
               : json_is_real(value)    ? NUMBER
               : json_is_boolean(value) ? BOOLEAN
                                        : NULL_TYPE;
    return bits >> type & 1 || (type == INTEGER && bits >> NUMBER & 1);
}

uint32_t schema_read_given(struct schema_reader *reader, json_t *schema) {
    json_t *values = json_object_get(schema, "enum"), *constant = json_object_get(schema, "const");
    unsigned bits = json_object_get(schema, "type") ? schema_types(reader, schema) : UINT32_MAX;
    size_t count = values ? json_array_size(values) : 1, kept = 0;
    if (values && constant)
        return schema_refuse(reader, "%s", "'enum' beside 'const' is not supported");
    if (values && !json_is_array(values))
        return schema_refuse(reader, "%s", "'enum' is no list");
    if (!bits)
        return NO_NODE;

    uint32_t words = automaton_words(reader->automaton);
    for (size_t i = 0; words && i < count; i++) {
        json_t *value = values ? json_array_get(values, i) : constant;
        char *text = is_of_types(value, bits) ? write_value(value) : NULL;
        if (text) {
            automaton_add_word(reader->automaton, words, text, strlen(text), 0);
            kept++;
        }
        free(text);
    }
    if (words && !kept)
        return schema_refuse(reader, "%s", "no value that is given has the 'type'");
    return node(reader, NODE_WORD, finish(reader), words, 0);
}
