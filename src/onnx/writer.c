/* struct graph to ONNX file. Everything but the initializers' elements is put together in memory; the
 * elements are written to the file from where they lie. Protobuf writes a message's length before it, so the
 * lengths are added up first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "onnx/names.h"
#include "onnx/onnx.h"
#include "onnx/tensor_proto.h"

#define IR_VERSION 8
#define FILE_LIMIT INT32_MAX /* the most that other protobuf readers accept */

/* Elements to insert after `offset` bytes of the text. */
struct splice {
    size_t offset, size;
    const void *data;
};

struct onnx_writer {
    const struct graph *graph;
    struct buffer head;       /* of the file, before the graph */
    struct buffer text, part; /* of the GraphProto; of the message being made */
    struct splice *splices;
    size_t splice_count, splice_capacity;
    size_t total;       /* bytes of all splices */
    const char **names; /* [value_count]: what each value is called in the file */
    struct error *error;
};

static bool no_memory(struct onnx_writer *writer) {
    return error_set(writer->error, ERROR_MEMORY, "not enough memory to write the graph");
}

static bool value_is_written(const struct value *value) {
    return value->is_input || value->is_output || value->producer || value->use_count;
}

/* Names are unique in a file, and folded constants have none: a value without a unique name gets a new one.
 */
static bool choose_names(struct onnx_writer *writer, struct names *taken, struct arena *arena) {
    const struct graph *graph = writer->graph;
    writer->names = arena_allocate_array(arena, (size_t)graph->value_count + 1, sizeof *writer->names);

    struct value *stand_ins = arena_allocate_array(arena, (size_t)graph->value_count + 1, sizeof *stand_ins);
    if (!writer->names || !stand_ins)
        return no_memory(writer);

    /* Inputs and outputs first: callers know their names. */
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < graph->value_count; i++) {
            const struct value *value = graph->values[i];
            bool is_known = value->is_input || value->is_output;
            if (!value_is_written(value) || is_known != (round == 0))
                continue;
            const char *name = value->name;
            for (int attempt = 0; name && (!*name || names_find(taken, name)); attempt++)
                name = arena_printf(arena, "%s#%d.%d", value->name, i, attempt);
            stand_ins[i].name = name;
            if (!name || !names_add(taken, &stand_ins[i]))
                return no_memory(writer);
            writer->names[i] = name;
        }

    return true;
}

static bool add_splice(struct onnx_writer *writer, const void *data, size_t size) {
    if (writer->splice_count == writer->splice_capacity) {
        size_t capacity = writer->splice_capacity ? writer->splice_capacity * 2 : 256;
        struct splice *splices = reallocarray(writer->splices, capacity, sizeof *splices);
        if (!splices)
            return no_memory(writer);
        writer->splices = splices;
        writer->splice_capacity = capacity;
    }

    writer->splices[writer->splice_count++] = (struct splice){writer->text.size, size, data};
    writer->total += size;
    return true;
}

static bool check_tensor(struct onnx_writer *writer, const struct tensor *tensor) {
    return tensor_proto_data_type(tensor->dtype) && tensor->dtype != DTYPE_STRING &&
                   shape_elements(&tensor->shape) >= 0
               ? true
               : error_set(writer->error, ERROR_MODEL, "a %s tensor cannot be written",
                           dtype_name(tensor->dtype));
}

/* The head of a TensorProto: all but raw_data. */
static void put_tensor_head(struct buffer *buffer, const struct tensor *tensor, const char *name) {
    for (int i = 0; i < tensor->shape.rank; i++)
        protobuf_put_int(buffer, 1, tensor->shape.dims[i]);
    protobuf_put_int(buffer, 2, tensor_proto_data_type(tensor->dtype));
    if (name)
        protobuf_put_string(buffer, 8, name);
}

static bool put_initializer(struct onnx_writer *writer, const struct value *value) {
    const struct tensor *tensor = value->constant;
    const char *name = writer->names[value->id];
    if (!check_tensor(writer, tensor))
        return error_prefix(writer->error, "initializer '%.128s'", name);

    size_t bytes = tensor_bytes(tensor);
    struct buffer *part = &writer->part;
    part->size = 0;
    put_tensor_head(part, tensor, name);
    protobuf_put_length(part, 9, bytes);
    protobuf_put_length(&writer->text, 5, part->size + bytes);
    buffer_append(&writer->text, part->bytes, part->size);

    return !bytes || add_splice(writer, tensor->data, bytes);
}

/* A TensorProto inside an attribute. Its elements are few, and copied. */
static bool put_attribute_tensor(struct onnx_writer *writer, struct buffer *buffer,
                                 const struct tensor *tensor) {
    cleanup(buffer_release) struct buffer inner = {0};
    if (!check_tensor(writer, tensor))
        return false;

    put_tensor_head(&inner, tensor, NULL);
    protobuf_put_bytes(&inner, 9, tensor->data, tensor_bytes(tensor));
    protobuf_put_bytes(buffer, 5, inner.bytes, inner.size);

    return !inner.failed || no_memory(writer);
}

static bool put_attribute(struct onnx_writer *writer, struct buffer *node,
                          const struct attribute *attribute) {
    static const int types[] = {
        [ATTRIBUTE_FLOAT] = 1,  [ATTRIBUTE_INT] = 2,  [ATTRIBUTE_STRING] = 3,  [ATTRIBUTE_TENSOR] = 4,
        [ATTRIBUTE_FLOATS] = 6, [ATTRIBUTE_INTS] = 7, [ATTRIBUTE_STRINGS] = 8,
    };
    cleanup(buffer_release) struct buffer inner = {0};
    protobuf_put_string(&inner, 1, attribute->name);

    switch (attribute->kind) {

    case ATTRIBUTE_INT:
        protobuf_put_int(&inner, 3, attribute->i);
        break;
    case ATTRIBUTE_FLOAT:
        protobuf_put_float(&inner, 2, attribute->f);
        break;
    case ATTRIBUTE_STRING:
        protobuf_put_string(&inner, 4, attribute->s);
        break;
    case ATTRIBUTE_INTS:
        for (size_t i = 0; i < attribute->count; i++)
            protobuf_put_int(&inner, 8, attribute->ints[i]);
        break;
    case ATTRIBUTE_FLOATS:
        for (size_t i = 0; i < attribute->count; i++)
            protobuf_put_float(&inner, 7, attribute->floats[i]);
        break;
    case ATTRIBUTE_STRINGS:
        for (size_t i = 0; i < attribute->count; i++)
            protobuf_put_string(&inner, 9, attribute->strings[i]);
        break;
    case ATTRIBUTE_TENSOR:
        if (!put_attribute_tensor(writer, &inner, attribute->tensor))
            return false;
        break;
    case ATTRIBUTE_GRAPH:
    case ATTRIBUTE_OTHER:
        return error_set(writer->error, ERROR_MODEL, "attribute '%.64s' is of a kind that cannot be written",
                         attribute->name);
    }

    protobuf_put_int(&inner, 20, types[attribute->kind]);
    protobuf_put_bytes(node, 5, inner.bytes, inner.size);

    return !inner.failed || no_memory(writer);
}

static bool put_node(struct onnx_writer *writer, const struct node *node) {
    struct buffer *part = &writer->part;
    part->size = 0;
    if (node->post_op_count)
        return error_set(writer->error, ERROR_MODEL,
                         "node '%.128s' (%.64s) is fused: fused nodes cannot be written as ONNX", node->name,
                         node->op_type);

    for (int i = 0; i < node->input_count; i++)
        protobuf_put_string(part, 1, node->inputs[i] ? writer->names[node->inputs[i]->id] : "");
    for (int i = 0; i < node->output_count; i++)
        protobuf_put_string(part, 2, node->outputs[i] ? writer->names[node->outputs[i]->id] : "");

    protobuf_put_string(part, 3, node->name);
    protobuf_put_string(part, 4, node->op_type);
    for (int i = 0; i < node->attribute_count; i++)
        if (!put_attribute(writer, part, &node->attributes[i]))
            return error_prefix(writer->error, "node '%.128s' (%.64s)", node->name, node->op_type);

    if (*node->domain)
        protobuf_put_string(part, 7, node->domain);
    protobuf_put_bytes(&writer->text, 1, part->bytes, part->size);

    return true;
}

/* ValueInfoProto; a free dimension is an empty one. */
static void put_value_info(struct onnx_writer *writer, uint32_t number, const struct value *value) {
    cleanup(buffer_release) struct buffer shape = {0}, tensor = {0}, type = {0};
    for (int i = 0; i < value->shape.rank; i++) {
        cleanup(buffer_release) struct buffer dim = {0};
        if (value->shape.dims[i] >= 0)
            protobuf_put_int(&dim, 1, value->shape.dims[i]);
        protobuf_put_bytes(&shape, 1, dim.bytes, dim.size);
        shape.failed |= dim.failed;
    }

    protobuf_put_int(&tensor, 1, tensor_proto_data_type(value->dtype));
    if (value->shape.rank >= 0)
        protobuf_put_bytes(&tensor, 2, shape.bytes, shape.size);
    protobuf_put_bytes(&type, 1, tensor.bytes, tensor.size);

    struct buffer *part = &writer->part;
    part->size = 0;
    protobuf_put_string(part, 1, writer->names[value->id]);
    protobuf_put_bytes(part, 2, type.bytes, type.size);
    protobuf_put_bytes(&writer->text, number, part->bytes, part->size);
    writer->text.failed |= shape.failed || tensor.failed || type.failed;
}

static bool put_graph(struct onnx_writer *writer) {
    const struct graph *graph = writer->graph;
    for (const struct node *node = graph->first; node; node = node->next)
        if (!put_node(writer, node))
            return false;

    protobuf_put_string(&writer->text, 2, *graph->name ? graph->name : "graph");
    for (int i = 0; i < graph->value_count; i++) {
        const struct value *value = graph->values[i];
        if (value->constant && !value->producer && !value->is_input && value_is_written(value) &&
            !put_initializer(writer, value))
            return false;
    }

    for (int i = 0; i < graph->input_count; i++)
        put_value_info(writer, 11, graph->inputs[i]);
    for (int i = 0; i < graph->output_count; i++)
        put_value_info(writer, 12, graph->outputs[i]);

    return !(writer->text.failed || writer->part.failed) || no_memory(writer);
}

/* ModelProto up to the graph's length. */
static bool put_model_head(struct onnx_writer *writer, struct buffer *head) {
    const struct graph *graph = writer->graph;
    size_t size;
    if (!size_add(writer->text.size, writer->total, &size) || size > FILE_LIMIT - 65536)
        return error_set(writer->error, ERROR_TOO_LARGE,
                         "the model has %zu bytes, but an ONNX file without external data holds at most 2 GB",
                         writer->text.size + writer->total);

    protobuf_put_int(head, 1, IR_VERSION);
    protobuf_put_string(head, 2, "guichet");
    protobuf_put_string(head, 3, GUICHET_VERSION);

    for (int i = 0; i < graph->import_count; i++) {
        writer->part.size = 0;
        protobuf_put_string(&writer->part, 1, graph->imports[i].domain);
        protobuf_put_int(&writer->part, 2, graph->imports[i].version);
        protobuf_put_bytes(head, 8, writer->part.bytes, writer->part.size);
    }

    protobuf_put_length(head, 7, size);

    return !(head->failed || writer->part.failed) || no_memory(writer);
}

static bool send_graph(const void *context, FILE *file) {
    const struct onnx_writer *writer = context;
    const struct buffer *head = &writer->head;
    bool done = fwrite(head->bytes, 1, head->size, file) == head->size;
    size_t sent = 0;

    for (size_t i = 0; i < writer->splice_count && done; i++) {
        const struct splice *splice = &writer->splices[i];
        size_t text = splice->offset - sent;
        done = fwrite(writer->text.bytes + sent, 1, text, file) == text &&
               fwrite(splice->data, 1, splice->size, file) == splice->size;
        sent = splice->offset;
    }

    size_t rest = writer->text.size - sent;
    return done && (!rest || fwrite(writer->text.bytes + sent, 1, rest, file) == rest);
}

bool onnx_graph_write(const struct graph *graph, const char *path, struct error *error) {
    struct onnx_writer writer = {.graph = graph, .error = error};
    struct names taken = {0};
    struct arena *arena = arena_create();
    bool made = arena ? choose_names(&writer, &taken, arena) && put_graph(&writer) &&
                            put_model_head(&writer, &writer.head)
                      : no_memory(&writer);
    bool done = made ? file_write_with(path, send_graph, &writer, error) : error_prefix(error, "%s", path);

    buffer_release(&writer.head);
    buffer_release(&writer.text);
    buffer_release(&writer.part);
    free(writer.splices);
    names_release(&taken);
    arena_free(arena);

    return done;
}
