/* What the parts of the ONNX reader share. Used inside onnx/ only. A reader belongs to one thread. */
#pragma once
#include "graph/graph.h"
#include "onnx/names.h"
#include "onnx/tensor_proto.h"

struct external_file {
    char *location;
    struct file_map map; /* the graph's */
};

/* The model's file and those beside it that its tensors lie in: maps that the file's graph keeps. */
struct external_files {
    struct graph *graph;
    const char *path; /* of the model's file; NULL when it comes from memory */
    char *folder;     /* its folder, resolved; found with the first external tensor */
    char *real;       /* … and the file itself, where that is a link */
    uint64_t mapped;  /* bytes, against LIMIT_MODEL_BYTES */
    struct external_file *files;
    int file_count;
    struct error *error;
};

/* A FunctionProto of the file. Strings live in the outermost graph's arena. */
struct onnx_function {
    const char *domain, *name, *overload;
    struct protobuf message;
};

/* One graph being read: the file's, or (with `root` and mostly `outer`) the body of a branch, a loop or a
 * function. */
struct onnx_reader {
    struct graph *graph;
    struct onnx_reader *root;  /* the outermost; itself there */
    struct onnx_reader *outer; /* whose values a body may use by name; NULL for functions */
    const struct node *call;   /* of the function whose body this is, or lies in; NULL outside */
    struct protobuf called;    /* … and that function's message */
    int depth;                 /* bodies around this one */
    struct value **captured;   /* [captured_count] values of `outer` that a body takes, in order */
    int captured_count;
    struct onnx_function *functions; /* [function_count], of the root; in its arena */
    int function_count;
    size_t function_bytes; /* of the root: read so far, body by body */
    struct names names;
    struct external_files *external; /* the root's */
    struct value **list;             /* scratch for a node's inputs and outputs */
    size_t list_capacity;
    struct error *error;
};

/* Give a mapping to the graph; it is closed on failure. `name`: see struct graph; copied. */
bool external_hold_map(struct external_files *external, struct file_map *map, const char *name);
/* Find the bytes of an external tensor; map its file if that is not mapped yet. */
bool external_find(struct external_files *external, const struct tensor_proto *tensor, const uint8_t **ret);
void external_release(struct external_files *external);
/* The elements of a tensor, in the map if they may stay there; NULL data for strings. False on failure. */
bool reader_place_tensor(struct onnx_reader *reader, struct tensor_proto *tensor, struct tensor *ret);
/* A copy of a name; refused if it is too long or not text. `what` is for the message. */
bool reader_copy_name(struct onnx_reader *reader, const struct protobuf *bytes, const char *what,
                      const char **ret);
/* AttributeProto to attribute; ret->name stays NULL where it stands for one that the call of a function
 * leaves out. Errors do not name the node. */
bool reader_read_attribute(struct onnx_reader *reader, struct protobuf message, struct attribute *ret);
/* The GraphProto of an attribute of the reader's last node, which gains the values that the body takes from
 * around it as inputs. */
bool reader_read_body(struct onnx_reader *reader, struct protobuf message, struct attribute *ret);
/* What reader.c has for bodies.c. */
bool reader_read_graph(struct onnx_reader *reader, struct protobuf message);
bool reader_read_nodes(struct onnx_reader *reader, struct protobuf message, uint32_t number);
bool reader_read_imports(struct onnx_reader *reader, struct protobuf message, uint32_t number);
bool reader_check_defined(struct onnx_reader *reader);
bool reader_no_memory(struct onnx_reader *reader);
struct value *reader_value(struct onnx_reader *reader, const struct protobuf *bytes);
struct value *reader_define(struct onnx_reader *reader, const struct protobuf *bytes);
struct protobuf reader_find_string(struct protobuf message, uint32_t number);
void reader_release(struct onnx_reader *reader);
/* FunctionProtos of the file (bodies.c). */
bool reader_list_functions(struct onnx_reader *reader, struct protobuf model);
/* A node that calls a function: its body takes the node's place. *ret_done false: it calls none. */
bool reader_call_function(struct onnx_reader *reader, struct node *node, const char *overload,
                          bool *ret_done);
