/* ModelProto and GraphProto -> struct graph. */
#include "onnx/reader.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/cleanup.h"
#include "onnx/foreign.h"
#include "onnx/onnx.h"
#include "onnx/value_info.h"

#define IR_VERSION_OLDEST 3 /* the first version whose files name their opsets */
#define IR_VERSION_NEWEST 13

enum { MODEL_IR_VERSION = 1, MODEL_PRODUCER = 2, MODEL_GRAPH = 7, MODEL_OPSET_IMPORT = 8 };
enum {
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    GRAPH_VALUE_INFO = 13,
    GRAPH_SPARSE_INITIALIZER = 15,
};
enum {
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP_TYPE = 4,
    NODE_ATTRIBUTE = 5,
    NODE_DOMAIN = 7,
    NODE_OVERLOAD = 8,
};

bool reader_no_memory(struct onnx_reader *reader) {
    return error_set(reader->error, ERROR_MEMORY, "not enough memory for its graph");
}

bool reader_copy_name(struct onnx_reader *reader, const struct protobuf *bytes, const char *what,
                      const char **ret) {
    if (!protobuf_is_name(bytes))
        return error_set(reader->error, ERROR_MODEL,
                         "the name of %s is longer than %d bytes, or not UTF-8 text", what, LIMIT_NAME_BYTES);

    size_t size = (size_t)(bytes->end - bytes->at);
    const char *name = size ? arena_copy_string(reader->graph->arena, (const char *)bytes->at, size) : "";
    if (!name)
        return reader_no_memory(reader);

    *ret = name;

    return true;
}

bool reader_place_tensor(struct onnx_reader *reader, struct tensor_proto *tensor, struct tensor *ret) {
    void *data = NULL;
    if (tensor->is_external && !external_find(reader->external, tensor, &tensor->raw))
        return false;

    size_t size = dtype_size(tensor->dtype);
    bool stays = tensor->raw && tensor->bytes && !tensor->packed && (uintptr_t)tensor->raw % size == 0 &&
                 tensor->dtype != DTYPE_BOOL;
    if (stays) {
        data = (void *)tensor->raw;
    } else if (tensor->dtype != DTYPE_STRING) {
        data = graph_own_memory(reader->graph, tensor->bytes);
        if (!data)
            return error_set(reader->error, ERROR_MEMORY, "not enough memory for %zu bytes", tensor->bytes);
        if (!tensor_proto_fill(tensor, data, reader->error))
            return false;

        if (tensor->raw && reader->external->path)
            file_map_discard(tensor->raw, tensor_proto_stored(tensor));
    }

    *ret = (struct tensor){tensor->dtype, tensor->shape, data};

    return true;
}

/* The value of that name, added if there is none yet. NULL with an error. */
struct value *reader_value(struct onnx_reader *reader, const struct protobuf *bytes) {
    char name[LIMIT_NAME_BYTES + 1];
    size_t size = (size_t)(bytes->end - bytes->at);

    if (!protobuf_is_name(bytes)) {
        error_set(reader->error, ERROR_MODEL, "the name of a value is longer than %d bytes, or not text",
                  LIMIT_NAME_BYTES);
        return NULL;
    }

    if (size)
        memcpy(name, bytes->at, size);
    name[size] = 0;

    struct value *value = names_find(&reader->names, name);
    if (value)
        return value;
    if (reader->graph->value_count >= LIMIT_MODEL_VALUES) {
        error_set(reader->error, ERROR_MODEL, "more than %d values", LIMIT_MODEL_VALUES);
        return NULL;
    }

    value = graph_add_value(reader->graph, name);
    if (!value || !names_add(&reader->names, value)) {
        reader_no_memory(reader);
        return NULL;
    }

    return value;
}

/* The same for a value that is defined here, for the first time. */
struct value *reader_define(struct onnx_reader *reader, const struct protobuf *bytes) {
    struct value *value = reader_value(reader, bytes);
    if (value && value->is_defined) {
        error_set(reader->error, ERROR_MODEL, "value '%.128s' is defined twice", value->name);
        return NULL;
    }

    if (value)
        value->is_defined = true;
    return value;
}

/* The first string field of that number, empty if there is none. For error messages, so damage is ignored. */
struct protobuf reader_find_string(struct protobuf message, uint32_t number) {
    struct protobuf_field field;
    struct error ignored;
    while (protobuf_next(&message, &field, &ignored) > 0)
        if (field.number == number && field.wire == WIRE_BYTES)
            return field.bytes;

    return (struct protobuf){message.base, message.base, message.base, 0};
}

/* Prefix the error with "initializer 'w': ". */
static bool prefix_name(struct onnx_reader *reader, const char *what, struct protobuf message,
                        uint32_t number) {
    struct protobuf name = reader_find_string(message, number);
    size_t size = (size_t)(name.end - name.at);
    if (!size || size > 128 || !protobuf_is_name(&name))
        return error_prefix(reader->error, "%s", what);

    return error_prefix(reader->error, "%s '%.*s'", what, (int)size, (const char *)name.at);
}

static bool read_initializer(struct onnx_reader *reader, struct protobuf message) {
    struct tensor_proto proto;
    struct tensor *tensor = arena_allocate(reader->graph->arena, sizeof *tensor);
    if (!tensor)
        return reader_no_memory(reader);

    struct value *value = NULL;
    if (!tensor_proto_read(message, &proto, reader->error))
        goto failed;
    if (proto.name.at == proto.name.end)
        return error_set(reader->error, ERROR_MODEL, "an initializer has no name");

    value = reader_define(reader, &proto.name);
    if (!value || !reader_place_tensor(reader, &proto, tensor))
        goto failed;

    value->dtype = tensor->dtype;
    value->shape = tensor->shape;
    value->constant = tensor;
    return true;
failed:

    return prefix_name(reader, "initializer", message, 8);
}

static void value_describe(struct value *value, const struct value_info *info) {
    if (value->constant)
        return; /* its own data says it better */
    value->dtype = info->dtype;
    value->shape = info->shape;
}

static bool read_input(struct onnx_reader *reader, struct protobuf message) {
    struct value_info info;
    if (!value_info_read(message, &info, reader->error))
        return prefix_name(reader, "input", message, 1);
    if (info.name.at == info.name.end)
        return error_set(reader->error, ERROR_MODEL, "an input has no name");

    struct value *value = reader_value(reader, &info.name);
    if (!value)
        return false;

    if (value->constant)
        return true; /* IR version 3 lists initializers as inputs, too: defaults, and constants here */
    if (!reader_define(reader, &info.name))
        return error_prefix(reader->error, "input");

    value_describe(value, &info);

    return graph_add_input(reader->graph, value) || reader_no_memory(reader);
}

static bool read_output(struct onnx_reader *reader, struct protobuf message) {
    struct value_info info;
    if (!value_info_read(message, &info, reader->error))
        return prefix_name(reader, "output", message, 1);

    struct value *value = reader_value(reader, &info.name);
    if (!value)
        return false;
    if (!value->is_defined && !reader->outer)
        return error_set(reader->error, ERROR_MODEL, "no node computes output '%.128s'", value->name);

    if (!value->is_input)
        value_describe(value, &info);

    return graph_add_output(reader->graph, value) || reader_no_memory(reader);
}

/* Shapes of intermediate values; names without a value are left over from some tool. */
static bool read_between(struct onnx_reader *reader, struct protobuf message) {
    struct value_info info;
    if (!value_info_read(message, &info, reader->error))
        return prefix_name(reader, "value", message, 1);
    if (!protobuf_is_name(&info.name))
        return true;

    char name[LIMIT_NAME_BYTES + 1];
    size_t size = (size_t)(info.name.end - info.name.at);
    if (size)
        memcpy(name, info.name.at, size);
    name[size] = 0;

    struct value *value = names_find(&reader->names, name);
    if (value && !value->is_input)
        value_describe(value, &info);

    return true;
}

/* The values of a node's inputs or outputs, into the scratch list from `start`; "" is NULL. Returns how many,
 * without those left out at the end; -1 with an error. */
static int read_values(struct onnx_reader *reader, struct protobuf message, uint32_t number, size_t start) {
    struct protobuf_field field;
    size_t count = start, kept = start;
    int step;

    while ((step = protobuf_next(&message, &field, reader->error)) > 0) {
        if (field.number != number || field.wire != WIRE_BYTES)
            continue;
        if (count - start >= LIMIT_MODEL_VALUES) {
            error_set(reader->error, ERROR_MODEL, "more than %d inputs or outputs", LIMIT_MODEL_VALUES);
            return -1;
        }

        if (count == reader->list_capacity) {
            size_t capacity = count ? count * 2 : 64;
            struct value **list = reallocarray(reader->list, capacity, sizeof *list);
            if (!list) {
                reader_no_memory(reader);
                return -1;
            }

            reader->list = list;
            reader->list_capacity = capacity;
        }

        struct value *value = NULL;
        if (field.bytes.at < field.bytes.end) {
            value = number == NODE_OUTPUT ? reader_define(reader, &field.bytes)
                                          : reader_value(reader, &field.bytes);
            if (!value)
                return -1;
            kept = count + 1;
        }

        reader->list[count++] = value;
    }

    return step < 0 ? -1 : (int)(kept - start);
}

static bool read_attributes(struct onnx_reader *reader, struct protobuf message, struct node *node) {
    struct protobuf walk = message;
    struct protobuf_field field;
    int count = 0, step;

    while ((step = protobuf_next(&walk, &field, reader->error)) > 0)
        count += field.number == NODE_ATTRIBUTE && field.wire == WIRE_BYTES;

    if (step < 0)
        return false;

    node->attributes =
        arena_allocate_array(reader->graph->arena, (size_t)count + 1, sizeof *node->attributes);
    if (!node->attributes)
        return reader_no_memory(reader);

    while ((step = protobuf_next(&message, &field, reader->error)) > 0) {
        if (field.number != NODE_ATTRIBUTE || field.wire != WIRE_BYTES)
            continue;
        struct attribute *attribute = &node->attributes[node->attribute_count];
        if (!reader_read_attribute(reader, field.bytes, attribute))
            return false;
        node->attribute_count += attribute->name != NULL;
    }

    return step == 0;
}

static bool read_node(struct onnx_reader *reader, struct protobuf message) {
    if (reader->graph->node_count >= LIMIT_MODEL_NODES)
        return error_set(reader->error, ERROR_MODEL, "more than %d nodes", LIMIT_MODEL_NODES);
    const char *name = "", *op_type = "", *domain = "", *overload = "";
    struct protobuf walk = message;
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&walk, &field, reader->error)) > 0) {
        const char **text = field.number == NODE_NAME       ? &name
                            : field.number == NODE_OP_TYPE  ? &op_type
                            : field.number == NODE_DOMAIN   ? &domain
                            : field.number == NODE_OVERLOAD ? &overload
                                                            : NULL;
        if (text && field.wire == WIRE_BYTES && !reader_copy_name(reader, &field.bytes, "a node", text))
            return false;
    }

    if (step < 0)
        return false;
    if (!*op_type)
        return error_set(reader->error, ERROR_MODEL, "has no op_type");

    int inputs = read_values(reader, message, NODE_INPUT, 0);
    int outputs = inputs < 0 ? -1 : read_values(reader, message, NODE_OUTPUT, (size_t)inputs);
    if (outputs < 0)
        return false;

    struct value **list = reader->list;
    struct node *node = graph_add_node(reader->graph, NULL, domain, op_type, name, list, inputs,
                                       list ? list + inputs : NULL, outputs);
    if (!node)
        return reader_no_memory(reader);

    bool called;
    return read_attributes(reader, message, node) && reader_call_function(reader, node, overload, &called);
}

/* Prefix the error with "node 'conv1' (Conv): ", or with its number if it has no name. */
static bool prefix_node(struct onnx_reader *reader, struct protobuf message, int position) {
    struct protobuf name = reader_find_string(message, NODE_NAME);
    if (name.at == name.end)
        error_prefix(reader->error, "node %d", position);
    else
        prefix_name(reader, "node", message, NODE_NAME);
    return false;
}

/* Pass every field of one number in the message to `read`. */
static bool each_field(struct onnx_reader *reader, struct protobuf message, uint32_t number,
                       bool (*read)(struct onnx_reader *, struct protobuf)) {
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&message, &field, reader->error)) > 0)
        if (field.number == number && field.wire == WIRE_BYTES && !read(reader, field.bytes))
            return false;

    return step == 0;
}

bool reader_check_defined(struct onnx_reader *reader) {
    for (const struct node *node = reader->graph->first; node; node = node->next)
        for (int i = 0; i < node->input_count; i++)
            if (node->inputs[i] && !node->inputs[i]->is_defined)
                return error_set(reader->error, ERROR_MODEL,
                                 "node '%.128s' (%.64s): input '%.128s' is not defined", node->name,
                                 node->op_type, node->inputs[i]->name);
    return true;
}

bool reader_read_nodes(struct onnx_reader *reader, struct protobuf graph, uint32_t number) {
    struct protobuf_field field;
    int step, position = 0;

    while ((step = protobuf_next(&graph, &field, reader->error)) > 0) {
        if (field.number != number || field.wire != WIRE_BYTES)
            continue;
        if (!read_node(reader, field.bytes))
            return prefix_node(reader, field.bytes, position);
        position++;
    }

    return step == 0;
}

static bool refuse_sparse(struct onnx_reader *reader, struct protobuf message) {
    return error_set(reader->error, ERROR_MODEL, "sparse initializers are not supported");
}

bool reader_read_graph(struct onnx_reader *reader, struct protobuf message) {
    struct graph *graph = reader->graph;
    struct protobuf name = reader_find_string(message, GRAPH_NAME);
    if (protobuf_is_name(&name) && !reader_copy_name(reader, &name, "the graph", &graph->name))
        return false;
    if (!each_field(reader, message, GRAPH_SPARSE_INITIALIZER, refuse_sparse) ||
        !each_field(reader, message, GRAPH_INITIALIZER, read_initializer) ||
        !each_field(reader, message, GRAPH_INPUT, read_input) ||
        !reader_read_nodes(reader, message, GRAPH_NODE) ||
        !each_field(reader, message, GRAPH_VALUE_INFO, read_between) ||
        !each_field(reader, message, GRAPH_OUTPUT, read_output) ||
        (!reader->outer && !reader_check_defined(reader)))
        return false;

    if (!graph->output_count)
        return error_set(reader->error, ERROR_MODEL, "the graph has no outputs");
    return graph_sort(graph, reader->error);
}

static bool read_import(struct onnx_reader *reader, struct protobuf message) {
    struct protobuf domain = reader_find_string(message, 1);
    struct protobuf_field field;
    const char *name = "";
    uint64_t version = 0;
    int step;

    while ((step = protobuf_next(&message, &field, reader->error)) > 0)
        if (field.number == 2 && field.wire == WIRE_VARINT)
            version = field.scalar;

    if (step < 0 || !reader_copy_name(reader, &domain, "an opset", &name))
        return false;
    if (version < 1 || version > 10000)
        return error_set(reader->error, ERROR_MODEL, "opset '%.64s' has the invalid version %" PRIu64, name,
                         version);

    return graph_add_import(reader->graph, name, (int)version) || reader_no_memory(reader);
}

bool reader_read_imports(struct onnx_reader *reader, struct protobuf message, uint32_t number) {
    return each_field(reader, message, number, read_import);
}

static bool read_model(struct onnx_reader *reader, struct protobuf message) {
    struct protobuf walk = message, graph = {0};
    struct protobuf_field field;
    int64_t ir_version = 0;
    int step;

    while ((step = protobuf_next(&walk, &field, reader->error)) > 0) {
        if (field.number == MODEL_IR_VERSION && field.wire == WIRE_VARINT)
            ir_version = (int64_t)field.scalar;
        else if (field.number == MODEL_GRAPH && field.wire == WIRE_BYTES && graph.at)
            return error_set(reader->error, ERROR_MODEL, "has two graphs");
        else if (field.number == MODEL_GRAPH && field.wire == WIRE_BYTES)
            graph = field.bytes;
    }

    if (step < 0)
        return false;
    if (ir_version < 1 || !graph.at)
        return error_set(reader->error, ERROR_MODEL, "not an ONNX model: it has no %s",
                         graph.at ? "IR version" : "graph");
    if (ir_version < IR_VERSION_OLDEST || ir_version > IR_VERSION_NEWEST)
        return error_set(reader->error, ERROR_MODEL, "IR version %" PRId64 " is not supported: %d to %d are",
                         ir_version, IR_VERSION_OLDEST, IR_VERSION_NEWEST);
    if (!reader_read_imports(reader, message, MODEL_OPSET_IMPORT))
        return false;
    if (!reader->graph->import_count)
        return error_set(reader->error, ERROR_MODEL, "it has no opset_import");

    struct protobuf producer = reader_find_string(message, MODEL_PRODUCER);
    if (protobuf_is_name(&producer) &&
        !reader_copy_name(reader, &producer, "the producer", &reader->graph->producer))
        return false;

    return reader_list_functions(reader, message) && reader_read_graph(reader, graph);
}

void reader_release(struct onnx_reader *reader) {
    names_release(&reader->names);
    free(reader->list);
    free(reader->captured);
}

static struct graph *read_bytes(struct onnx_reader *reader, const char *name, const uint8_t *bytes,
                                size_t size) {
    reader->root = reader;
    bool done =
        reader->graph && read_model(reader, (struct protobuf){bytes, bytes, size ? bytes + size : bytes, 0});
    reader_release(reader);
    external_release(reader->external);
    if (done)
        return reader->graph;

    graph_free(reader->graph);
    error_prefix(reader->error, "%s", name);

    return NULL;
}

struct graph *onnx_graph_read(const char *path, struct error *error) {
    struct file_map map;
    if (!onnx_map_open(path, &map, error))
        return NULL;

    struct external_files external = {.graph = graph_create(), .path = path, .error = error};
    struct onnx_reader reader = {.graph = external.graph, .external = &external, .error = error};
    if (!reader.graph) {
        file_map_close(&map);
        error_set(error, ERROR_MEMORY, "%s: not enough memory for its graph", path);
        return NULL;
    }

    if (!external_hold_map(&external, &map, NULL)) {
        graph_free(reader.graph);
        return NULL;
    }

    return read_bytes(&reader, path, map.bytes, map.size);
}

struct graph *onnx_graph_read_memory(const char *name, const uint8_t *bytes, size_t size,
                                     struct error *error) {
    struct external_files external = {.graph = graph_create(), .error = error};
    struct onnx_reader reader = {.graph = external.graph, .external = &external, .error = error};
    if (!reader.graph) {
        error_set(error, ERROR_MEMORY, "%s: not enough memory for its graph", name);
        return NULL;
    }
    return read_bytes(&reader, name, bytes, size);
}

bool onnx_tensor_read(const char *path, struct tensor *ret, struct error *error) {
    struct file_map map;
    if (!file_map_open(path, LIMIT_MODEL_BYTES, &map, error))
        return false;

    struct tensor_proto proto;
    struct protobuf message = {map.bytes, map.bytes, map.bytes ? map.bytes + map.size : NULL, 0};
    void *data = NULL;
    bool done = tensor_proto_read(message, &proto, error);

    if (done && proto.is_external)
        done = error_set(error, ERROR_MODEL, "its data is in another file");
    if (done && proto.dtype != DTYPE_STRING) {
        data = aligned_alloc(64, size_align(proto.bytes ? proto.bytes : 1, 64));
        done = data ? tensor_proto_fill(&proto, data, error) : error_set(error, ERROR_MEMORY, "no memory");
    }

    file_map_close(&map);
    if (!done) {
        free(data);
        return error_prefix(error, "%s", path);
    }

    *ret = (struct tensor){proto.dtype, proto.shape, data};

    return true;
}
