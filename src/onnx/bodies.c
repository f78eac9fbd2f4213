/* Graphs within the graph: the bodies of branches and loops, and functions of the file's own, which take the
 * place of the nodes that call them. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "onnx/reader.h"

#define LIMIT_BODY_DEPTH 16               /* calls and bodies in each other */
#define LIMIT_FUNCTION_BYTES (256u << 20) /* of functions' bodies, each as often as it is called */

enum { MODEL_FUNCTIONS = 25 };
enum {
    FUNCTION_NAME = 1,
    FUNCTION_INPUT = 4,
    FUNCTION_OUTPUT = 5,
    FUNCTION_NODE = 7,
    FUNCTION_OPSET_IMPORT = 9,
    FUNCTION_DOMAIN = 10,
    FUNCTION_OVERLOAD = 13,
};

static bool inner_init(struct onnx_reader *inner, const struct onnx_reader *reader) {
    *inner = (struct onnx_reader){.graph = graph_create(),
                                  .root = reader->root,
                                  .external = reader->external,
                                  .depth = reader->depth + 1,
                                  .error = reader->error};
    return inner->graph || error_set(reader->error, ERROR_MEMORY, "not enough memory for its graph");
}

static bool depth_check(struct onnx_reader *reader) {
    return reader->depth < LIMIT_BODY_DEPTH ||
           error_set(reader->error, ERROR_MODEL, "more than %d graphs within each other", LIMIT_BODY_DEPTH);
}

/* --- Branches and loops --- */

static bool copy_imports(struct onnx_reader *inner, const struct graph *graph) {
    for (int i = 0; i < graph->import_count; i++)
        if (!graph_add_import(inner->graph, graph->imports[i].domain, graph->imports[i].version))
            return reader_no_memory(inner);
    return true;
}

/* What nothing in the body defines comes from around it: another input of the body. */
static bool capture_values(struct onnx_reader *inner, struct onnx_reader *outer) {
    int count = inner->graph->value_count;
    inner->captured = calloc((size_t)count + 1, sizeof(struct value *));
    if (!inner->captured)
        return reader_no_memory(inner);

    for (int i = 0; i < count; i++) {
        struct value *value = inner->graph->values[i];
        if (value->is_defined || (!value->use_count && !value->is_output))
            continue;

        const uint8_t *name = (const uint8_t *)value->name;
        struct protobuf bytes = {name, name, name + strlen(value->name), 0};
        struct value *around = reader_value(outer, &bytes);
        if (!around)
            return false;

        value->is_defined = true;
        value->dtype = DTYPE_UNKNOWN;
        value->shape = SHAPE_UNKNOWN;
        if (!graph_add_input(inner->graph, value))
            return reader_no_memory(inner);
        inner->captured[inner->captured_count++] = around;
    }

    return true;
}

static bool add_captured(struct onnx_reader *reader, const struct onnx_reader *inner, struct node *node) {
    for (int i = 0; i < inner->captured_count; i++)
        if (!node_set_input(reader->graph, node, node->input_count, inner->captured[i]))
            return reader_no_memory(reader);
    return true;
}

bool reader_read_body(struct onnx_reader *reader, struct protobuf message, struct attribute *ret) {
    struct onnx_reader inner;
    struct node *node = reader->graph->last;
    if (!depth_check(reader) || !inner_init(&inner, reader))
        return false;

    inner.outer = reader;
    inner.call = reader->call;
    inner.called = reader->called;
    ret->first_captured = node->input_count;

    bool done = copy_imports(&inner, reader->graph) && reader_read_graph(&inner, message) &&
                capture_values(&inner, reader) && add_captured(reader, &inner, node);
    if (done) {
        ret->graph = inner.graph;
        ret->captured_count = inner.captured_count;
        graph_own_body(reader->graph, inner.graph);
    } else {
        graph_free(inner.graph);
    }

    reader_release(&inner);
    return done;
}

/* --- Functions --- */

static bool describe_function(struct onnx_reader *reader, struct protobuf message,
                              struct onnx_function *ret) {
    struct protobuf name = reader_find_string(message, FUNCTION_NAME),
                    domain = reader_find_string(message, FUNCTION_DOMAIN),
                    overload = reader_find_string(message, FUNCTION_OVERLOAD);

    ret->message = message;
    return reader_copy_name(reader, &name, "a function", &ret->name) &&
           reader_copy_name(reader, &domain, "a function's domain", &ret->domain) &&
           reader_copy_name(reader, &overload, "a function's overload", &ret->overload);
}

bool reader_list_functions(struct onnx_reader *reader, struct protobuf model) {
    struct protobuf walk = model;
    struct protobuf_field field;
    int count = 0, step;

    while ((step = protobuf_next(&walk, &field, reader->error)) > 0)
        count += field.number == MODEL_FUNCTIONS && field.wire == WIRE_BYTES;
    if (step < 0)
        return false;

    reader->functions =
        arena_allocate_array(reader->graph->arena, (size_t)count + 1, sizeof *reader->functions);
    if (!reader->functions)
        return reader_no_memory(reader);

    while ((step = protobuf_next(&model, &field, reader->error)) > 0)
        if (field.number == MODEL_FUNCTIONS && field.wire == WIRE_BYTES &&
            !describe_function(reader, field.bytes, &reader->functions[reader->function_count++]))
            return false;

    return step == 0;
}

static const struct onnx_function *find_function(const struct onnx_reader *root, const struct node *node,
                                                 const char *overload) {
    for (int i = 0; i < root->function_count; i++) {
        const struct onnx_function *function = &root->functions[i];
        if (strcmp(function->name, node->op_type) == 0 && strcmp(function->domain, node->domain) == 0 &&
            strcmp(function->overload, overload) == 0)
            return function;
    }
    return NULL;
}

/* Formal inputs (before the nodes are read) or outputs (after). */
static bool read_formals(struct onnx_reader *inner, struct protobuf message, uint32_t number) {
    struct protobuf_field field;
    int step;

    while ((step = protobuf_next(&message, &field, inner->error)) > 0) {
        if (field.number != number || field.wire != WIRE_BYTES)
            continue;

        bool input = number == FUNCTION_INPUT;
        struct value *value = input ? reader_define(inner, &field.bytes) : reader_value(inner, &field.bytes);
        if (!value)
            return false;
        if (!value->is_defined)
            return error_set(inner->error, ERROR_MODEL, "no node computes output '%.128s'", value->name);
        if (!(input ? graph_add_input : graph_add_output)(inner->graph, value))
            return reader_no_memory(inner);
    }

    return step == 0;
}

static bool read_function(struct onnx_reader *inner, struct protobuf message) {
    return reader_read_imports(inner, message, FUNCTION_OPSET_IMPORT) &&
           read_formals(inner, message, FUNCTION_INPUT) && reader_read_nodes(inner, message, FUNCTION_NODE) &&
           read_formals(inner, message, FUNCTION_OUTPUT) && reader_check_defined(inner) &&
           graph_sort(inner->graph, inner->error);
}

/* The body instead of the node. */
static bool inline_call(struct onnx_reader *reader, struct node *node, struct graph *body) {
    struct value **inputs = calloc((size_t)body->input_count + 1, sizeof(struct value *));
    bool fits = node->input_count <= body->input_count && node->output_count <= body->output_count,
         done = false;

    if (!fits)
        error_set(reader->error, ERROR_MODEL, "has %d inputs and %d outputs, its function %d and %d",
                  node->input_count, node->output_count, body->input_count, body->output_count);
    for (int i = 0; inputs && i < body->input_count; i++)
        inputs[i] = node_input(node, i);
    if (fits) {
        done = inputs && graph_inline_body(reader->graph, node, body, inputs);
        if (!done)
            error_set(reader->error, ERROR_MEMORY, "not enough memory or room (%d nodes) for its function",
                      LIMIT_MODEL_NODES);
    }

    free(inputs);
    return done;
}

bool reader_call_function(struct onnx_reader *reader, struct node *node, const char *overload,
                          bool *ret_done) {
    struct onnx_reader *root = reader->root;
    const struct onnx_function *function = find_function(root, node, overload);
    *ret_done = function != NULL;
    if (!function)
        return true;

    struct onnx_reader inner;
    root->function_bytes += (size_t)(function->message.end - function->message.at) + 64;
    if (root->function_bytes > LIMIT_FUNCTION_BYTES)
        return error_set(reader->error, ERROR_MODEL, "the file's functions expand to more than %u MB",
                         LIMIT_FUNCTION_BYTES >> 20);
    if (!depth_check(reader) || !inner_init(&inner, reader))
        return false;

    inner.call = node;
    inner.called = function->message;
    bool done = read_function(&inner, function->message);
    graph_own_body(reader->graph, inner.graph);
    done = done && inline_call(reader, node, inner.graph);
    reader_release(&inner);
    return done;
}
