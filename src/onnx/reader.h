/* What the parts of the ONNX reader share. Used inside onnx/ only. A reader belongs to one thread. */
#pragma once
#include "graph/graph.h"
#include "onnx/names.h"
#include "onnx/tensor_proto.h"

struct external_file {
    char *location;
    struct file_map map; /* the graph's */
};

struct onnx_reader {
    struct graph *graph;
    struct names names;
    const char *path; /* of the model's file; NULL when it comes from memory */
    char *folder;     /* its folder, resolved; found with the first external tensor */
    uint64_t mapped;  /* bytes, against LIMIT_MODEL_BYTES */
    struct external_file *files;
    int file_count;
    struct value **list; /* scratch for a node's inputs and outputs */
    size_t list_capacity;
    struct error *error;
};

/* Give a mapping to the graph; it is closed on failure. `name`: see struct graph; copied. */
bool reader_hold_map(struct onnx_reader *reader, struct file_map *map, const char *name);
/* Find the bytes of an external tensor; map its file if that is not mapped yet. */
bool reader_find_external(struct onnx_reader *reader, const struct tensor_proto *tensor, const uint8_t **ret);
/* The elements of a tensor, in the map if they may stay there; NULL data for strings. False on failure. */
bool reader_place_tensor(struct onnx_reader *reader, struct tensor_proto *tensor, struct tensor *ret);
/* A copy of a name; refused if it is too long or not text. `what` is for the message. */
bool reader_copy_name(struct onnx_reader *reader, const struct protobuf *bytes, const char *what,
                      const char **ret);
/* AttributeProto to attribute. Errors do not name the node. */
bool reader_read_attribute(struct onnx_reader *reader, struct protobuf message, struct attribute *ret);
