/* ONNX's AttributeProto -> struct attribute. Types and lists of graphs are known by name only. */
#include <string.h>

#include "onnx/reader.h"

enum {
    ATTRIBUTE_NAME = 1,
    ATTRIBUTE_FIELD_F = 2,
    ATTRIBUTE_FIELD_I = 3,
    ATTRIBUTE_FIELD_S = 4,
    ATTRIBUTE_FIELD_T = 5,
    ATTRIBUTE_FIELD_G = 6,
    ATTRIBUTE_FIELD_FLOATS = 7,
    ATTRIBUTE_FIELD_INTS = 8,
    ATTRIBUTE_FIELD_STRINGS = 9,
    ATTRIBUTE_FIELD_TYPE = 20,
    ATTRIBUTE_FIELD_REFERENCE = 21,
};

/* The scalar fields; the repeated ones are read once the kind is known. */
struct scan {
    struct protobuf name, s, t, g, reference;
    uint64_t type, i;
    uint32_t f;
    uint32_t seen; /* bit n: field n is present */
};

static bool scan_fields(struct protobuf message, struct scan *ret, struct error *error) {
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&message, &field, error)) > 0) {
        bool is_bytes = field.wire == WIRE_BYTES;
        if (field.number < 32)
            ret->seen |= 1u << field.number;
        if (field.number == ATTRIBUTE_NAME && is_bytes)
            ret->name = field.bytes;
        else if (field.number == ATTRIBUTE_FIELD_S && is_bytes)
            ret->s = field.bytes;
        else if (field.number == ATTRIBUTE_FIELD_T && is_bytes)
            ret->t = field.bytes;
        else if (field.number == ATTRIBUTE_FIELD_G && is_bytes)
            ret->g = field.bytes;
        else if (field.number == ATTRIBUTE_FIELD_REFERENCE && is_bytes)
            ret->reference = field.bytes;
        else if (field.number == ATTRIBUTE_FIELD_I && field.wire == WIRE_VARINT)
            ret->i = field.scalar;
        else if (field.number == ATTRIBUTE_FIELD_F && field.wire == WIRE_FIXED32)
            ret->f = (uint32_t)field.scalar;
        else if (field.number == ATTRIBUTE_FIELD_TYPE && field.wire == WIRE_VARINT)
            ret->type = field.scalar;
    }

    return step == 0;
}

/* The kind, from AttributeType; for files without it, from the field that is present. */
static enum attribute_kind find_kind(const struct scan *scan) {
    static const enum attribute_kind kinds[] = {
        [1] = ATTRIBUTE_FLOAT, [2] = ATTRIBUTE_INT,    [3] = ATTRIBUTE_STRING, [4] = ATTRIBUTE_TENSOR,
        [5] = ATTRIBUTE_GRAPH, [6] = ATTRIBUTE_FLOATS, [7] = ATTRIBUTE_INTS,   [8] = ATTRIBUTE_STRINGS,
    };
    static const uint32_t fields[] = {
        [1] = ATTRIBUTE_FIELD_F,    [2] = ATTRIBUTE_FIELD_I,       [3] = ATTRIBUTE_FIELD_S,
        [4] = ATTRIBUTE_FIELD_T,    [5] = ATTRIBUTE_FIELD_G,       [6] = ATTRIBUTE_FIELD_FLOATS,
        [7] = ATTRIBUTE_FIELD_INTS, [8] = ATTRIBUTE_FIELD_STRINGS,
    };
    size_t count = sizeof kinds / sizeof *kinds;

    if (scan->seen & 1u << ATTRIBUTE_FIELD_REFERENCE)
        return ATTRIBUTE_OTHER;
    if (scan->type)
        return scan->type < count && kinds[scan->type] ? kinds[scan->type] : ATTRIBUTE_OTHER;

    for (size_t i = 1; i < count; i++)
        if (fields[i] && scan->seen & 1u << fields[i])
            return kinds[i];

    return ATTRIBUTE_OTHER;
}

static bool no_memory(struct onnx_reader *reader) {
    return error_set(reader->error, ERROR_MEMORY, "not enough memory for an attribute");
}

static bool read_numbers(struct onnx_reader *reader, struct protobuf message, struct attribute *ret) {
    bool floats = ret->kind == ATTRIBUTE_FLOATS;
    uint32_t number = floats ? ATTRIBUTE_FIELD_FLOATS : ATTRIBUTE_FIELD_INTS;
    enum wire wire = floats ? WIRE_FIXED32 : WIRE_VARINT;
    size_t size = floats ? sizeof(float) : sizeof(int64_t);
    int64_t count = protobuf_count(message, number, wire, reader->error);
    if (count < 0)
        return false;

    void *numbers = arena_allocate_array(reader->graph->arena, (size_t)count + 1, size);
    if (!numbers)
        return no_memory(reader);
    if (!protobuf_narrow_numbers(message, number, wire, numbers, size, count, reader->error))
        return false;

    ret->count = (size_t)count;
    if (floats)
        ret->floats = numbers;
    else
        ret->ints = numbers;

    return true;
}

static char *copy_text(struct onnx_reader *reader, const struct protobuf *bytes) {
    return arena_copy_string(reader->graph->arena, (const char *)bytes->at, (size_t)(bytes->end - bytes->at));
}

static bool read_strings(struct onnx_reader *reader, struct protobuf message, struct attribute *ret) {
    struct protobuf walk = message;
    struct protobuf_field field;
    size_t count = 0;
    int step;

    while ((step = protobuf_next(&walk, &field, reader->error)) > 0)
        count += field.number == ATTRIBUTE_FIELD_STRINGS && field.wire == WIRE_BYTES;

    const char **strings = arena_allocate_array(reader->graph->arena, count + 1, sizeof *strings);
    if (step < 0 || !strings)
        return step < 0 ? false : no_memory(reader);

    for (walk = message, count = 0; (step = protobuf_next(&walk, &field, reader->error)) > 0;)
        if (field.number == ATTRIBUTE_FIELD_STRINGS && field.wire == WIRE_BYTES &&
            !(strings[count++] = copy_text(reader, &field.bytes)))
            return no_memory(reader);

    ret->strings = strings;
    ret->count = count;

    return step == 0;
}

static bool read_tensor(struct onnx_reader *reader, struct protobuf message, struct attribute *ret) {
    struct tensor *tensor = arena_allocate(reader->graph->arena, sizeof *tensor);
    if (!tensor)
        return no_memory(reader);

    struct tensor_proto proto;
    if (!tensor_proto_read(message, &proto, reader->error) || !reader_place_tensor(reader, &proto, tensor))
        return false;

    ret->tensor = tensor;

    return true;
}

static bool read_content(struct onnx_reader *reader, struct protobuf message, const struct scan *scan,
                         struct attribute *ret) {
    switch (ret->kind) {

    case ATTRIBUTE_INT:
        ret->i = (int64_t)scan->i;
        return true;
    case ATTRIBUTE_FLOAT:
        memcpy(&ret->f, &scan->f, sizeof ret->f);
        return true;
    case ATTRIBUTE_STRING:
        ret->s = scan->s.at ? copy_text(reader, &scan->s) : "";
        return ret->s || no_memory(reader);
    case ATTRIBUTE_INTS:
    case ATTRIBUTE_FLOATS:
        return read_numbers(reader, message, ret);
    case ATTRIBUTE_STRINGS:
        return read_strings(reader, message, ret);
    case ATTRIBUTE_TENSOR:
        return read_tensor(reader, scan->t, ret);
    case ATTRIBUTE_GRAPH:
        return reader_read_body(reader, scan->g, ret);
    case ATTRIBUTE_OTHER:
        return true;
    }

    return true;
}

/* The function's own value for an attribute: its AttributeProto, empty where it has none. */
static struct protobuf find_default(struct protobuf function, const char *name) {
    enum { FUNCTION_ATTRIBUTE_PROTO = 11 };
    struct protobuf_field field;
    struct error ignored;

    while (protobuf_next(&function, &field, &ignored) > 0) {
        struct scan scan = {0};
        if (field.number != FUNCTION_ATTRIBUTE_PROTO || field.wire != WIRE_BYTES ||
            !scan_fields(field.bytes, &scan, &ignored))
            continue;
        size_t size = (size_t)(scan.name.end - scan.name.at);
        if (size == strlen(name) && size && memcmp(scan.name.at, name, size) == 0)
            return field.bytes;
    }

    return (struct protobuf){0};
}

/* An attribute that stands for one of the call, in a function's body. */
static bool resolve_reference(struct onnx_reader *reader, const struct scan *scan, const char *name,
                              struct attribute *ret) {
    const char *wanted;
    if (!reader_copy_name(reader, &scan->reference, "an attribute", &wanted))
        return false;

    const struct attribute *given = node_attribute(reader->call, wanted);
    *ret = (struct attribute){0};
    if (given) {
        *ret = *given;
        ret->name = name;
        return given->kind != ATTRIBUTE_GRAPH ||
               error_set(reader->error, ERROR_MODEL, "graphs as attributes of functions are not supported");
    }

    struct protobuf fallback = find_default(reader->called, wanted);
    if (!fallback.at)
        return true;
    struct scan own = {0};
    if (!scan_fields(fallback, &own, reader->error))
        return false;
    ret->name = name;
    ret->kind = own.seen & 1u << ATTRIBUTE_FIELD_G ? ATTRIBUTE_OTHER : find_kind(&own);
    return read_content(reader, fallback, &own, ret);
}

bool reader_read_attribute(struct onnx_reader *reader, struct protobuf message, struct attribute *ret) {
    struct scan scan = {0};
    struct attribute attribute = {0};
    if (!scan_fields(message, &scan, reader->error) ||
        !reader_copy_name(reader, &scan.name, "an attribute", &attribute.name))
        return false;
    if (reader->call && scan.reference.at < scan.reference.end)
        return resolve_reference(reader, &scan, attribute.name, ret);

    attribute.kind = find_kind(&scan);
    if (!read_content(reader, message, &scan, &attribute))
        return error_prefix(reader->error, "attribute '%.64s'", attribute.name);

    *ret = attribute;

    return true;
}
