/* The intermediate representation between an ONNX file and a plan: values, and the nodes that compute them.
 *
 * Everything belongs to the graph's arena and is freed with graph_free; constant data may lie in a mapped
 * file, which the graph keeps open. One thread at a time builds and rewrites a graph; any number may read a
 * finished one. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/file.h"
#include "tensor/post_op.h"
#include "tensor/tensor.h"

struct op_def; /* ops/operator.h */
struct node;

enum attribute_kind {
    ATTRIBUTE_INT = 1,
    ATTRIBUTE_FLOAT,
    ATTRIBUTE_STRING,
    ATTRIBUTE_INTS,
    ATTRIBUTE_FLOATS,
    ATTRIBUTE_STRINGS,
    ATTRIBUTE_TENSOR,
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_OTHER, /* lists of graphs, sparse tensors, types: only their name is kept */
};

struct attribute {
    const char *name;
    enum attribute_kind kind;
    int64_t i;
    float f;
    const char *s;              /* NUL-terminated */
    size_t count;               /* of ints, floats, strings */
    const int64_t *ints;        /* [count] */
    const float *floats;        /* [count] */
    const char *const *strings; /* [count] */
    const struct tensor *tensor;
    /* Of a branch or a loop. What it takes from the graph around it are its last inputs: they stand for the
     * node's inputs from `first_captured` on. */
    struct graph *graph;
    int first_captured, captured_count;
};

/* One use of a value: input `input` of `node`. */
struct use {
    struct node *node;
    int input;
};

struct value {
    const char *name; /* never NULL; "" for nameless */
    enum dtype dtype;
    struct shape shape;            /* as far as it is known; SHAPE_UNKNOWN if not at all */
    const struct tensor *constant; /* an initializer or a folded result; else NULL */
    struct node *producer;         /* NULL for inputs and constants */
    struct use *uses;              /* [use_count], kept by node_set_input and node_remove */
    int use_count, use_capacity;
    bool is_input;   /* of the graph */
    bool is_output;  /* of the graph; kept even without uses */
    int id;          /* dense: 0 … graph->value_count - 1 */
    bool is_defined; /* for onnx/reader.c: something in the file defines it */
};

/* What a fused operation does to its result, in order, element by element. */
struct post_op {
    enum post_op_kind kind;
    float alpha, beta;
    int input; /* which input of the node is the operand (ADD, MULTIPLY); else -1 */
};

#define NODE_POST_OPS 8

struct node {
    const char *op_type;          /* "Conv" */
    const char *domain;           /* "" for ONNX's own */
    const char *name;             /* never NULL; made from op_type and a number where the file has none */
    int opset;                    /* version imported for the domain */
    const struct op_def *op;      /* found by operators_bind; NULL before */
    struct attribute *attributes; /* [attribute_count] */
    int attribute_count;
    struct value **inputs; /* [input_count]; NULL where an optional input is left out */
    int input_count, input_capacity;
    struct value **outputs; /* [output_count]; NULL where left out */
    int output_count;
    struct post_op post_ops[NODE_POST_OPS];
    int post_op_count;
    const void *parameters;       /* what operator_prepare decoded; NULL before */
    struct node *previous, *next; /* in topological order */
    int mark;                     /* for graph.c, while it sorts; for passes/, enum node_part */
};

struct opset_import {
    const char *domain;
    int version;
};

struct graph {
    struct arena *arena;
    const char *name, *producer;
    struct opset_import *imports;
    int import_count;
    struct node *first, *last; /* topological order */
    int node_count;
    int nodes_made;        /* ever; the next number for a node without a name */
    struct value **values; /* [value_count] by id */
    int value_count, value_capacity;
    struct value **inputs; /* without initializers */
    int input_count;
    struct value **outputs;
    int output_count;
    struct file_map *maps;  /* the file, and its external data */
    const char **map_names; /* [map_count] relative to the file's folder; NULL: the file itself */
    int map_count;
    void **owned; /* malloc'ed constant data, freed with the graph */
    int owned_count, owned_capacity;
    struct graph *bodies; /* of branches, loops and functions, for a list; freed with the graph */
    struct graph *next_body;
};

struct graph *graph_create(void);
void graph_free(struct graph *graph);

static inline void graph_freep(struct graph **graph) {
    graph_free(*graph);
}

/* Set the opset version of a domain ("" or "ai.onnx" for ONNX's own) for nodes added later; the last call for
 * a domain counts. */
bool graph_add_import(struct graph *graph, const char *domain, int version);
int graph_opset(const struct graph *graph, const char *domain); /* 0 if the domain is not imported */
/* Make a value the graph's next input or output. False when memory is out. */
bool graph_add_input(struct graph *graph, struct value *value);
bool graph_add_output(struct graph *graph, struct value *value);

/* NULL when memory is out or LIMIT_MODEL_VALUES is reached. `name` is copied. */
struct value *graph_add_value(struct graph *graph, const char *name);
/* A constant; `data` is not copied and must live as long as the graph (its arena, a map, or
 * graph_own_memory). */
struct value *graph_add_constant(struct graph *graph, const char *name, enum dtype dtype,
                                 const struct shape *shape, void *data);
/* Bytes of the constants that nodes use; one that two nodes use counts twice. */
size_t graph_constant_bytes(const struct graph *graph);
/* 64-byte aligned memory that is freed with the graph. NULL when memory is out. */
void *graph_own_memory(struct graph *graph, size_t bytes);

/* Add a node before `before` (NULL: at the end). Strings are copied; inputs may hold NULL; each output's
 * producer is set. Without a name (NULL or empty) the node gets one. NULL when memory is out or
 * LIMIT_MODEL_NODES is reached. */
struct node *graph_add_node(struct graph *graph, struct node *before, const char *domain, const char *op_type,
                            const char *name, struct value *const *inputs, int input_count,
                            struct value *const *outputs, int output_count);
/* Remove a node: its outputs lose their producer, its inputs a use. */
void graph_remove_node(struct graph *graph, struct node *node);
/* Move `node` right before `before`. */
void graph_move_node(struct graph *graph, struct node *node, struct node *before);
/* `to` takes over every use of `from`, also as an output of the graph. An output keeps its name: the two
 * values exchange theirs, unless `to` is an input or an output itself. False when memory is out. */
bool graph_replace_value(struct graph *graph, struct value *from, struct value *to);
/* Remove the nodes whose outputs have no use; returns how many. */
int graph_remove_dead_nodes(struct graph *graph);
/* Put the nodes in topological order; ERROR_MODEL naming a node on a cycle. */
bool graph_sort(struct graph *graph, struct error *error);

/* Change or append (input == input_count) an input. False when memory is out. */
bool node_set_input(struct graph *graph, struct node *node, int input, struct value *value);
struct value *node_input(const struct node *node, int input); /* NULL past the end */

/* Attributes; `fallback` is ONNX's default, for a node without the attribute. */
const struct attribute *node_attribute(const struct node *node, const char *name);
int64_t node_int(const struct node *node, const char *name, int64_t fallback);
float node_float(const struct node *node, const char *name, float fallback);
const char *node_string(const struct node *node, const char *name, const char *fallback);
/* Returns the count and points *ret at the integers; 0 and NULL if there are none. */
size_t node_ints(const struct node *node, const char *name, const int64_t **ret);
bool node_set_int(struct graph *graph, struct node *node, const char *name, int64_t value);
bool node_set_ints(struct graph *graph, struct node *node, const char *name, const int64_t *ints,
                   size_t count);
bool node_set_float(struct graph *graph, struct node *node, const char *name, float value);
/* The attributes of another node (of any graph) as a list of the node's own; what it points at is shared. */
bool node_copy_attributes(struct graph *graph, struct node *node, const struct node *original);
bool node_is(const struct node *node, const char *op_type); /* in ONNX's own domain */

/* A constant's single element as a float; false if the value (which may be NULL) is not a constant of one
 * element. */
bool value_scalar(const struct value *value, float *ret);
/* A constant of one element that equals `expected` to within 1e-6. */
bool value_is_scalar(const struct value *value, float expected);

/* From now on `body` is freed with `graph`, whose attributes may point at it. */
void graph_own_body(struct graph *graph, struct graph *body);
/* The body of a branch (or a function) in place of the node: inputs[i], values of `graph`, stand for the
 * body's inputs; the node's outputs are the body's first ones. Operators that the body has bound stay bound;
 * what is added to them is an Identity that is not. The node is removed. False when memory or room is out. */
bool graph_inline_body(struct graph *graph, struct node *node, const struct graph *body,
                       struct value *const *inputs);

/* A deep copy of nodes and values. Constant data and maps are shared: they belong to `graph`, which must
 * outlive the copy. */
struct graph *graph_clone(const struct graph *graph);
